"""A page is opened in a graphical browser, from a child that has neither the protocol's pipes nor our secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchcall_mcp.server.approvals.browser import may_have_browser, open_in_browser

ADDRESS = "http://127.0.0.1:1/approve/secret"


@pytest.mark.parametrize(
    ("environment", "platform", "expected"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ""}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({"BROWSER": "firefox"}, "linux", True),
        ({}, "freebsd14", False),
        ({}, "darwin", True),
        ({}, "win32", True),
    ],
)
def test_a_unix_without_a_display_has_no_browser(environment: dict[str, str], platform: str, expected: bool) -> None:
    assert may_have_browser(environment, platform) is expected


def program(folder: Path, name: str, body: str) -> str:
    script = folder / name
    script.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    script.chmod(0o755)
    return str(script)


async def test_the_browser_gets_the_address_and_none_of_our_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen.txt"
    body = f'{{ echo "$1"; cat; env; }} > "{seen}"'
    monkeypatch.setenv("BROWSER", program(tmp_path, "browser", body))
    monkeypatch.setenv("BATCHCALL_API_KEY", "sk_secret")
    assert await open_in_browser(ADDRESS)
    text = seen.read_text(encoding="utf-8")
    assert text.splitlines()[0] == ADDRESS
    assert "BATCHCALL_" not in text
    assert "sk_secret" not in text


@pytest.mark.parametrize("name", ["lynx", "w3m", "www-browser"])
async def test_a_text_browser_is_not_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = tmp_path / "seen.txt"
    monkeypatch.setenv("BROWSER", program(tmp_path, name, f'echo "$1" > "{seen}"'))
    assert not await open_in_browser(ADDRESS)
    assert not seen.exists()


@pytest.mark.parametrize("body", ["exit 1", "exit 3"])
async def test_a_browser_that_fails_is_noticed(body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", program(tmp_path, "browser", body))
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not await open_in_browser(ADDRESS)


async def test_a_browser_that_is_not_there_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROWSER", "/nowhere/browser")
    assert not await open_in_browser(ADDRESS)


async def test_a_browser_that_stays_open_is_left_to_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that runs as long as its window is open."""
    monkeypatch.setenv("BROWSER", program(tmp_path, "browser", "exec sleep 8"))
    assert await open_in_browser(ADDRESS)
