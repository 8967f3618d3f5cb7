"""`batchcall-mcp init` without a terminal: what flags, variables and earlier runs say."""

from __future__ import annotations

import json
import re
import stat
import tomllib
from pathlib import Path

import anyio.to_thread
import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from batchcall_mcp.cli import cli
from batchcall_mcp.cli.setup.answers import CARRIERS
from batchcall_mcp.cli.setup.clients import CLIENTS, Client, Machine
from batchcall_mcp.dialer.carriers import registry
from batchcall_mcp.server.startup import load_settings_of_init
from batchcall_mcp.settings import Settings, settings_file
from tests.cli.conftest import contents
from tests.vendors import zudu
from tests.vendors.zudu import Zudu


def init(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["init", *arguments])


def entry(home: Path) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads((home / ".cursor/mcp.json").read_text("utf-8"))["mcpServers"][
        "batchcall"
    ]
    return found


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_dry_run_shows_the_change_of_each_client_and_writes_nothing(home: Path, client: Client) -> None:
    before = contents(home)
    ended = init("--backend", "dialer", "--client", client.name, "--dry-run")
    assert ended.exit_code == 0
    assert ended.output.count("\n+++ ") == 2
    assert "BATCHCALL_ENV_FILE" in ended.output
    assert ended.output.endswith("Dry run: nothing was written.\n")
    assert contents(home) == before
    assert not (home / "lists").exists()


def test_those_that_are_found_get_the_entry_and_the_folder_a_sample(home: Path) -> None:
    ended = init("--backend", "dialer", "--yes")
    assert ended.exit_code == 0
    assert "Found: Cursor, Codex." in ended.output
    assert "call the people in sample.csv" in ended.output
    assert entry(home)["env"] == {"BATCHCALL_ENV_FILE": str(settings_file())}
    codex = tomllib.loads((home / ".codex/config.toml").read_text("utf-8"))["mcp_servers"]["batchcall"]
    assert codex["env"] == entry(home)["env"]
    assert (home / "lists/sample.csv").is_file()
    assert stat.S_IMODE(settings_file().stat().st_mode) == 0o600
    assert stat.S_IMODE(settings_file().parent.stat().st_mode) == 0o700
    again = contents(home)
    ended = init("--backend", "dialer", "--yes")
    assert ended.output.endswith("Nothing to change.\n")
    assert contents(home) == again


def test_where_no_client_is_found_their_places_are_said(home: Path) -> None:
    for client in CLIENTS:
        for place in (client.file, *client.traces):
            folder = home / place
            if folder.is_dir():
                for one in folder.iterdir():
                    one.unlink()
                folder.rmdir()
    ended = init("--backend", "dialer", "--yes")
    assert ended.exit_code == 1
    assert "No MCP client was found here. Nothing was written." in ended.output
    assert all(str(client.path(Machine.this())) in ended.output for client in CLIENTS)
    assert init("--backend", "dialer", "--yes", "--client", "cursor").exit_code == 0


def test_without_a_terminal_nothing_is_assumed(home: Path) -> None:
    ended = init("--backend", "dialer")
    assert (ended.exit_code, "not a terminal" in ended.output) == (2, True)
    for arguments in (("--remove", "--backend", "zudu"), ("--client", "emacs")):
        assert init(*arguments, "--yes").exit_code == 2


async def run_init(*arguments: str) -> Result:
    """In a thread, because the vendor is served by this loop."""
    return await anyio.to_thread.run_sync(lambda: init(*arguments))


async def test_a_key_of_this_shell_goes_into_one_private_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHCALL_API_KEY", zudu.KEY)
    monkeypatch.setenv("BATCHCALL_API_SECRET", zudu.SECRET)
    vendor = Zudu()
    async with vendor.served() as url:
        ended = await run_init("--backend", "zudu", "--url", url, "--yes")
        assert ended.exit_code == 0, ended.output
        assert zudu.KEY not in ended.output
        assert "ok    batch calls: this key may read them." in ended.output
        for path in (home / ".cursor/mcp.json", home / ".codex/config.toml"):
            assert zudu.KEY not in path.read_text("utf-8")
        for name in ("API_KEY", "API_SECRET", "DATA_DIR", "FILES", "APPROVAL_PAGE"):
            monkeypatch.delenv(f"BATCHCALL_{name}", raising=False)
        kept = Settings.load(settings_file())
        assert (kept.backend, kept.url) == ("zudu", url)
        assert kept.api_secret is not None
        assert kept.api_secret.get_secret_value() == zudu.SECRET
        # A second run has it from there; another account does not get it.
        again = await run_init("--yes")
        assert again.output.endswith("Nothing to change.\n")
        elsewhere = await run_init("--yes", "--url", "http://127.0.0.1:9")
        assert "BATCHCALL_API_KEY is not set" in str(elsewhere.exception)  # it was typed for another address
    assert vendor.writes == []
    other = await run_init("--backend", "vapi", "--yes")
    assert (other.exit_code, isinstance(other.exception, Exception)) == (1, True)
    assert "BATCHCALL_API_KEY is not set, and vapi needs it. Nothing was written." in str(other.exception)
    assert (await run_init("--backend", "dialer", "--yes")).exit_code == 0
    text = settings_file().read_text("utf-8")
    assert (zudu.KEY in text, url in text, "BATCHCALL_BACKEND=dialer\n" in text) == (False, False, True)


async def test_a_wrong_key_writes_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHCALL_API_KEY", "sk_wrong_0123456789")
    monkeypatch.setenv("BATCHCALL_API_SECRET", zudu.SECRET)
    before = contents(home)
    async with Zudu().served() as url:
        ended = await run_init("--backend", "zudu", "--url", url, "--yes")
    assert ended.exit_code == 1
    assert "wrong account:" in ended.output
    assert "sk_wrong" not in ended.output
    assert ended.output.endswith("Nothing was written.\n")
    assert contents(home) == before


async def test_vs_code_alone_keeps_the_key_itself(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHCALL_API_KEY", zudu.KEY)
    monkeypatch.setenv("BATCHCALL_API_SECRET", zudu.SECRET)
    async with Zudu().served() as url:
        ended = await run_init("--backend", "zudu", "--url", url, "--yes", "--client", "vscode")
        assert ended.exit_code == 0, ended.output
        assert "VS Code asks for this at its first start" in ended.output
        assert all(zudu.KEY.encode() not in one for one in contents(home).values() if isinstance(one, bytes))
        # With exactly what the last lines name, `stop` and `approve` are at this account.
        said = ended.output.split("In a terminal, ")[1]
        assert said.startswith("`batchcall-mcp stop` and `approve` need it too. Set there ")
        assert set(re.findall(r"BATCHCALL_\w+", said)) == {
            f"BATCHCALL_{name}" for name in ("API_KEY", "API_SECRET", "ENV_FILE")
        }
        for name in ("DATA_DIR", "FILES", "APPROVAL_PAGE"):
            monkeypatch.delenv(f"BATCHCALL_{name}", raising=False)
        alone = load_settings_of_init()
        assert (alone.backend, alone.url) != ("zudu", url)
        monkeypatch.setenv("BATCHCALL_ENV_FILE", re.findall(r"BATCHCALL_ENV_FILE=(\S+),", said)[0])
        named = load_settings_of_init()
        assert (named.backend, named.url, named.api_key) == ("zudu", url, SecretStr(zudu.KEY))
        # With another client next to it, the file has it.
        assert (await run_init("--yes", "--client", "vscode", "--client", "cursor")).exit_code == 0
    assert zudu.KEY in settings_file().read_text("utf-8")


def test_remove_takes_the_entry_away_and_leaves_the_settings(home: Path) -> None:
    before = (home / ".cursor/mcp.json").read_bytes()
    assert init("--backend", "dialer", "--yes").exit_code == 0
    shown = init("--remove", "--dry-run")
    assert '-    "batchcall": {' in shown.output
    assert "batchcall" in (home / ".cursor/mcp.json").read_text("utf-8")
    ended = init("--remove", "--yes")
    assert ended.exit_code == 0
    assert f"{settings_file()} stays" in ended.output
    assert json.loads((home / ".cursor/mcp.json").read_bytes()) == json.loads(before)
    assert (home / ".codex/config.toml").read_text("utf-8") == ""
    assert init("--remove", "--yes").output.endswith("Nothing to change.\n")


def test_a_carrier_s_settings_go_with_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings_file().parent.mkdir(parents=True)
    kept = {"BACKEND": "dialer", "CARRIER": "retell", "CARRIER_KEY": "k_1", "COUNTRIES": "GB", "MODE": "draft"}
    lines = "".join(f"BATCHCALL_{name}={value}\n" for name, value in kept.items())
    settings_file().write_text(lines, encoding="utf-8")
    ended = init("--backend", "dialer", "--carrier", "simulated", "--yes")
    assert ended.exit_code == 0, ended.output
    text = settings_file().read_text("utf-8")
    assert text.startswith("BATCHCALL_BACKEND=dialer\nBATCHCALL_MODE=draft\n")
    assert "CARRIER" not in text
    assert "COUNTRIES" not in text
    refused = init("--backend", "vapi", "--carrier", "retell", "--yes")
    assert "A carrier belongs to the backend dialer" in str(refused.exception)


def test_the_needs_of_carriers_are_those_of_the_dialer() -> None:
    assert ("simulated", *CARRIERS) == tuple(sorted(registry.BUILT_IN, key=[*("simulated", *CARRIERS)].index))
    for name, needs in CARRIERS.items():
        given: dict[str, str] = {"BATCHCALL_CARRIER": name}
        for need in needs:
            with pytest.raises(Exception, match=need):
                registry.carrier_of(Settings.of(given))
            given[need] = __file__ if need == "BATCHCALL_AGENTS" else "AC0123"


def test_a_path_that_clients_would_change_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHCALL_ENV_FILE", str(home / "$mine.env"))
    ended = init("--backend", "dialer", "--yes")
    assert "holds a $, which MCP clients would replace" in str(ended.exception)


def test_what_is_in_the_file_and_not_ours_has_no_effect(home: Path) -> None:
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text("FILES=/nowhere\nPATH=/x\n", encoding="utf-8")
    (home / ".cursor/mcp.json").write_text('{"mcpServers": {"batchcall": {"env": {"PATH": "/bin"}}}}', "utf-8")
    ended = init("--backend", "dialer", "--client", "cursor", "--yes")
    assert ended.exit_code == 0, ended.output
    assert "/nowhere" not in ended.output.replace("FILES=/nowhere", "")
    assert entry(home)["env"]["PATH"] == "/bin"
    assert settings_file().read_text("utf-8").startswith("FILES=/nowhere\nPATH=/x\n")


def test_what_a_terminal_would_obey_is_not_shown(home: Path) -> None:
    (home / ".cursor/mcp.json").write_text('{"\x9b2J\u202e": 1, "mcpServers": {}}', "utf-8")
    ended = init("--backend", "dialer", "--client", "cursor", "--dry-run")
    assert ended.exit_code == 0
    assert {"\x9b", "\u202e"}.isdisjoint(ended.output)


def test_settings_with_which_a_server_would_not_start_are_not_written(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHCALL_CONFIRM", "off")
    before = contents(home)
    ended = init("--backend", "dialer", "--yes")
    assert "BATCHCALL_MAX_CALLS_PER_LAUNCH" in str(ended.exception)
    assert contents(home) == before
