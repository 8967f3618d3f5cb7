"""Files that are not as they should be: named, with what to do, and nothing is written, not even into the others."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batchcall_mcp.cli import cli
from batchcall_mcp.cli.setup import env_file, files
from batchcall_mcp.cli.setup.problems import FileProblem
from tests.cli.conftest import GOOD, contents

NOBODY = 65534


def init(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["init", "--backend", "dialer", "--yes", *arguments])


def a_link(path: Path) -> None:
    target = path.with_name("elsewhere.json")
    target.write_bytes(GOOD)
    path.unlink()
    path.symlink_to(target)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda path: path.write_bytes(b"\xef\xbb\xbf" + GOOD), "begins with a byte-order mark. Save it as UTF-8"),
        (lambda path: path.write_bytes(GOOD.decode().encode("utf-16")), "is not UTF-8 text. Save it"),
        (lambda path: path.write_bytes(b"{ // mine\n}"), "line 1 has a comment, which this client's format does not"),
        (lambda path: path.write_bytes(b"{"), "is not valid JSON (line 1). Correct that line."),
        (a_link, "elsewhere.json, which may belong to something else. Replace the link"),
        (a_folder, "it is a folder. Move it away."),
        (a_pipe, "it is not an ordinary file."),
    ],
)
def test_an_odd_file_is_named_and_nothing_is_written(home: Path, made: Callable[[Path], object], said: str) -> None:
    path = home / ".cursor/mcp.json"
    made(path)
    before = contents(home) if not path.is_fifo() else {}
    ended = init()
    assert ended.exit_code == 1
    assert f"Cursor, {path}: " in ended.output
    assert said in ended.output
    assert "Nothing was written. Correct this, and run init again. Or name the other clients" in ended.output
    if before:
        assert contents(home) == before
    assert not (home / ".codex/config.toml").exists()
    assert init("--client", "codex").exit_code == 0


@pytest.mark.parametrize(("which", "mode"), [("mcp.json", 0o400), ("", 0o500)])
def test_what_may_not_be_written_is_said(home: Path, monkeypatch: pytest.MonkeyPatch, which: str, mode: int) -> None:
    """Root may write everything, so another user asks."""
    path = home / ".cursor" / which
    path.chmod(mode)
    asked = os.access
    monkeypatch.setattr(os, "access", lambda at, how: asked(at, how) and (Path(at) != path or not how & os.W_OK))
    ended = init("--client", "cursor")
    assert ended.exit_code == 1
    assert "may not be written. Make it writable" in ended.output
    assert not (home / ".config/batchcall-mcp").exists()


def test_a_folder_that_is_a_file_is_said(home: Path) -> None:
    (home / ".gemini").touch()
    ended = init("--client", "gemini")
    assert (ended.exit_code, f"{home}/.gemini is not a folder" in ended.output) == (1, True)


def test_a_broken_file_of_settings_is_said_first(home: Path) -> None:
    kept = home / ".config/batchcall-mcp/batchcall.env"
    kept.parent.mkdir(parents=True)
    kept.write_text("BATCHCALL_BACKEND='dialer\n", encoding="utf-8")
    ended = init()
    assert ended.exit_code == 1
    assert f"Settings, {kept}: line 1 is not NAME=value." in ended.output


def test_mode_and_back_up(home: Path) -> None:
    path = home / ".cursor/mcp.json"
    path.chmod(0o640)
    assert init("--client", "cursor").exit_code == 0
    (kept,) = path.parent.glob("mcp.json.*.bak")
    assert kept.read_bytes() == GOOD
    assert [stat.S_IMODE(one.stat().st_mode) for one in (path, kept)] == [0o640, 0o640]
    assert sorted(one.name for one in path.parent.iterdir()) == sorted([path.name, kept.name])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(home: Path) -> None:
    path = home / ".cursor/mcp.json"
    os.chown(path, NOBODY, NOBODY)
    assert init("--client", "cursor").exit_code == 0
    assert (path.stat().st_uid, path.stat().st_gid) == (NOBODY, NOBODY)


def test_a_file_that_changed_in_the_meantime_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mcp.json"
    path.write_bytes(GOOD)
    original = files.read(path)
    path.write_bytes(b"{}")
    with pytest.raises(FileProblem, match="changed in the meantime"):
        files.replace(original, "new")
    assert (path.read_bytes(), len(list(tmp_path.iterdir()))) == (b"{}", 1)


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mcp.json"
    path.write_bytes(GOOD)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    original = files.read(path)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileProblem, match="No space left"):
        files.replace(original, "new")
    assert (path.read_bytes(), len(list(tmp_path.iterdir()))) == (GOOD, 1)


def test_of_one_long_line_only_what_is_near_the_change_is_shown(tmp_path: Path) -> None:
    old = "[" + "1, " * 5000 + "2]"
    shown = list(files.difference(tmp_path, old, old.replace("2]", "3]")))
    assert max(map(len, shown)) < 300
    assert [line[-2:] for line in shown[-2:]] == ["2]", "3]"]


@pytest.mark.parametrize("value", ["a b", "it's", 'a"b', "a\\b", "C:\\Users\\me\\n", "#a", "a #b", "=", "ü", " ", "$X"])
def test_a_value_is_read_again_as_it_was_written(value: str) -> None:
    text = env_file.changed("# mine\nBATCHCALL_FILES=/x\n", {"BATCHCALL_FILES": value, "BATCHCALL_MODE": "draft"}, ())
    assert env_file.values_in(text) == {"BATCHCALL_FILES": value, "BATCHCALL_MODE": "draft"}
    assert text.startswith("# mine\n")


def test_a_value_that_cannot_be_kept_is_refused() -> None:
    with pytest.raises(FileProblem, match="cannot be kept"):
        env_file.changed("", {"BATCHCALL_FILES": "${HOME}/x"}, ())


def test_no_secret_of_the_settings_is_shown() -> None:
    text = (
        "# BATCHCALL_API_KEY=sk_old\nexport BATCHCALL_API_KEY='sk_1'\n\nBATCHCALL_MODE=draft # sk_2\n"
        "BATCHCALL_NOTIFY_URL=https://x/?t=sk_3\nOTHER=sk_4\nBATCHCALL_BACKEND=zudu\n"
    )
    shown = env_file.masked(text, {"BATCHCALL_API_KEY": "sk_0"})
    assert "sk_" not in shown
    assert "BATCHCALL_API_KEY=… (new)" in shown
    assert "BATCHCALL_BACKEND=zudu\n" in shown
