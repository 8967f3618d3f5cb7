"""`init` at a terminal, from the first question to a client that was started from what it has written."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from batchcall_mcp.cli.setup.clients import CLIENTS, Machine
from batchcall_mcp.cli.setup.json_text import JsonText
from batchcall_mcp.settings import Settings
from tests.carriers import twilio
from tests.operator.processes import command, terminal
from tests.vendors import zudu
from tests.vendors.zudu import Zudu


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of a person who has all six clients, and none of our variables."""
    for name in ("DATA_DIR", "FILES", "APPROVAL_PAGE"):
        monkeypatch.delenv(f"BATCHCALL_{name}")
    for name in ("CODEX_HOME", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    for folder in (".config/Claude", ".claude", ".cursor", ".config/Code/User", ".codex", ".gemini"):
        (tmp_path / folder).mkdir(parents=True)
    return {
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / ".config"),
        "XDG_DATA_HOME": str(tmp_path / ".local/share"),
        "XDG_DOCUMENTS_DIR": str(tmp_path / "Documents"),
        "TERM": "dumb",
    }


def entry_of(name: str, home: Path) -> dict[str, Any]:
    client = next(client for client in CLIENTS if client.name == name)
    text = client.path(Machine(home, home / ".config", {})).read_text(encoding="utf-8")
    document = tomllib.loads(text) if client.form == "toml" else JsonText(text, comments=True).value
    found: dict[str, Any] = document[client.key]["batchcall"]
    return found


async def test_a_person_sets_up_the_dialer_and_each_client_can_start_it(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / ".cursor/mcp.json").write_text('{"mcpServers": {"other": {"env": {"TOKEN": "t_other"}}}}', "utf-8")
    async with terminal(environment, "init") as screen:
        await screen.shows("Backend")
        await screen.types_on("")
        await screen.shows("Carrier (")
        await screen.types_on("")
        await screen.shows("Write this? [y/N]")
        assert not (tmp_path / ".gemini/settings.json").exists()
        assert await screen.types("y") == 0
    assert "Found: Claude Desktop, Claude Code, Cursor, VS Code, Codex, Gemini CLI." in screen.said
    assert "t_other" not in screen.said
    assert f"Made {tmp_path}/Documents/batchcall\r\n" in screen.said
    assert "INFO" not in screen.said
    entries = [entry_of(client.name, tmp_path) for client in CLIENTS]
    assert len({json.dumps([one["command"], one["args"], one["env"]]) for one in entries}) == 1
    assert (tmp_path / "Documents/batchcall/sample.csv").is_file()
    # As a client does it: nothing of this shell but what the SDK passes on, and the entry's own variables.
    parameters = StdioServerParameters(
        command=entries[0]["command"], args=entries[0]["args"], env=environment | entries[0]["env"]
    )
    with (tmp_path / "server.log").open("w", encoding="utf-8") as log:
        async with Client(stdio_client(parameters, errlog=log)) as client:
            names = [tool.name for tool in (await client.list_tools()).tools]
    assert {"get_backend", "create_batch_call", "start_batch_call"} <= set(names)


async def test_a_key_is_typed_unseen_and_doctor_approve_and_stop_find_it(
    environment: dict[str, str], tmp_path: Path
) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        async with terminal(environment, "init", "--backend", "zudu", "--url", url, "--client", "cursor") as screen:
            await screen.shows("API key of zudu: ")
            await screen.types_on("two words")
            await screen.shows(
                "while you type or paste it.\r\nAPI key of zudu: "
            )  # what is typed before is thrown away
            await screen.types_on(zudu.KEY)
            await screen.shows("API secret of zudu: ")
            await screen.types_on(zudu.SECRET)
            await screen.shows("Write this? [y/N]")
            assert await screen.types("y") == 0
        assert zudu.KEY not in screen.said
        assert zudu.SECRET not in screen.said
        kept = tmp_path / ".config/batchcall-mcp/batchcall.env"
        assert kept.stat().st_mode & 0o777 == 0o600
        assert f"BATCHCALL_API_SECRET={zudu.SECRET}\n" in kept.read_text("utf-8")
        looked = await command(environment, "doctor")
        assert (looked.code, f"settings from {kept}" in looked.err) == (0, True)
        assert "this key may read them" in looked.out
        await launch(environment, kept)
        before = len(vendor.requests)
        stopped = await command(environment, "stop")
        assert f"settings from {kept}" in stopped.err
        # Zudu cannot be stopped, which is said; but it was asked, with the key.
        assert [one.headers["x-api-key"] for one in vendor.requests[before:]] != []
        assert "key is missing" not in stopped.out + stopped.err, stopped
        # Where a variable is set, the file is not looked at: two halves of settings are never mixed.
        alone = await command(environment | {"BATCHCALL_MODE": "draft"}, "doctor")
        assert (str(kept) in alone.err, "dialer, in the process" in alone.out) == (False, True)


async def launch(environment: dict[str, str], kept: Path) -> None:
    """Call somebody through the account that was set up; a person approves it, without a variable of ours."""
    with_file = environment | {"BATCHCALL_ENV_FILE": str(kept)}  # as the client's entry has it
    draft = {"from_number": zudu.NUMBER, "agent_id": zudu.AGENT, "tasks": [{"to_number": "+12125550141"}]}
    made = await command(with_file, "call", "create_batch_call", json.dumps(draft))
    assert made.code == 0, made
    start = {"batch_call_id": json.loads(made.out)["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}
    asked = await command(with_file, "call", "start_batch_call", json.dumps(start))
    assert asked.code == 3, asked
    async with terminal(environment, "approve") as screen:
        await screen.shows("type the number of people who would be called")
        assert await screen.types("1") == 0
    started = await command(with_file, "call", "start_batch_call", json.dumps(start))
    assert started.code == 0, started


async def test_a_no_writes_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    def written() -> list[Path]:
        return [path for path in tmp_path.rglob("*") if path.is_file()]

    async with terminal(environment, "init", "--backend", "dialer", "--carrier", "simulated") as screen:
        await screen.shows("Write this? [y/N]")
        assert await screen.types("") == 1
    assert "Nothing was written." in screen.said
    assert written() == []


async def test_typed_alone_in_a_terminal_it_says_what_to_type(environment: dict[str, str]) -> None:
    async with terminal(environment) as screen:
        assert await screen.ends() == 2
    assert "batchcall-mcp init" in screen.said
    piped = await command(environment)  # a client's pipe, which is closed at once
    assert (piped.code, "Type one of these" in piped.err) == (0, False)


async def test_a_carrier_s_account_is_asked_for_and_kept_for_the_next_run(
    environment: dict[str, str], tmp_path: Path
) -> None:
    agents = tmp_path / "agents.toml"
    agents.write_text('[reminder]\nsay = "Hello."\n', encoding="utf-8")
    vendor = twilio.Twilio()
    async with vendor.served() as url:
        there = environment | {"BATCHCALL_CARRIER_URL": url}
        async with terminal(there, "init", "--client", "codex") as screen:
            await screen.shows("Backend")
            await screen.types_on("dialer")
            await screen.shows("Carrier (")
            await screen.types_on("twilio")
            await screen.shows("Key of the twilio account: ")
            await screen.types_on(twilio.KEY)
            await screen.shows("Secret of the twilio account: ")
            await screen.types_on(twilio.SECRET)
            await screen.shows("BATCHCALL_AGENTS, the file that says what is spoken: ")
            await screen.types_on(str(agents))
            await screen.shows("Write this? [y/N]")
            assert await screen.types("y") == 0
        assert "Twilio: real phones ring" in screen.said
        assert twilio.SECRET not in screen.said
        kept = Settings.load(tmp_path / ".config/batchcall-mcp/batchcall.env")
        assert (kept.carrier, kept.agents, kept.carrier_url) == ("twilio", agents, url)
        async with terminal(environment, "init", "--client", "codex") as screen:
            await screen.shows("Backend")
            await screen.types_on("")
            await screen.shows("Carrier (")
            await screen.types_on("")
            for name in ("Key", "Secret"):
                await screen.shows(f"{name} of the twilio account (Enter keeps the one of the last time): ")
                await screen.types_on("")
            await screen.shows("BATCHCALL_AGENTS")
            assert await screen.types("") == 0
        assert "Nothing to change." in screen.said
    assert vendor.writes == []


async def test_where_something_is_wrong_a_person_may_stop(environment: dict[str, str]) -> None:
    async with terminal(environment | {"BATCHCALL_API_SECRET": "s"}, "init", "--client", "cursor") as screen:
        await screen.shows("Backend")
        await screen.types_on("batchcall")
        await screen.shows("URL of the server [http://localhost:8080]: ")
        await screen.types_on("http://127.0.0.1:9")
        await screen.shows("API key of batchcall: ")
        await screen.types_on("k")
        await screen.shows("Something is wrong. Set it up all the same? [y/N]")
        assert await screen.types("n") == 1
    assert "Nothing was written." in screen.said
