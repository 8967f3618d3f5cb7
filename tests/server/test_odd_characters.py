"""Odd characters in what a model sends: answered with an error, never with silence, and never repeated raw."""

from __future__ import annotations

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from mcp import Client, MCPError

from batchcall_mcp.server.app import build_server
from batchcall_mcp.settings import Settings
from batchcall_mcp.text import quoted
from tests.operator.processes import variables
from tests.server.raw import raw_client
from tests.server.test_access import ACCEPT
from tests.server.transports import PAIR, Way, connected, served
from tests.walks.stage import FROM

HALVES = {
    "an argument": '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"get_batch_call","arguments":'
    '{"batch_call_id":"a\\ud800b"}}}',
    "a name of an argument": '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"get_batch_call",'
    '"arguments":{"\\udfff":"a"}}}',
    "the tool": '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"\\ud83d","arguments":{}}}',
    "the method": '{"jsonrpc":"2.0","id":7,"method":"\\ud83d"}',
}
ODD = "a\u202eb\x07\u2066c\x1bd\u2028e"
HIDDEN = "\u3164"


def is_raw(text: str) -> bool:
    return any(unicodedata.category(one) in {"Cc", "Cf", "Zl", "Zp"} for one in text if one != "\n")


@pytest.mark.parametrize("era", ["2025", "2026"])
async def test_half_a_character_over_stdio_is_answered_and_the_next_line_is_served(era: Any, tmp_path: Path) -> None:
    async with raw_client(variables(tmp_path), era, {}) as client:
        for what, line in HALVES.items():
            await client.write(line)
            answer = await client.read()
            assert answer["id"] == 7, what
            assert answer["error"]["code"] == -32600
            assert "half a character" in answer["error"]["message"]
            assert "Nothing was sent." in answer["error"]["message"]
        await client.write('{"jsonrpc":"2.0","id":"\\ud800","method":"ping"}')
        assert (await client.read())["id"] is None
        deep = '{"jsonrpc":"2.0","id":8,"method":"ping","params":{"a":' + "[" * 500 + "]" * 500 + "}}"
        await client.write(deep)
        assert "cannot be read as JSON" in (await client.read())["error"]["message"]
        listed = await client.result("list_batch_calls", {})
        assert listed["summary"]


async def test_half_a_character_over_http_is_answered() -> None:
    settings = Settings.load()
    with anyio.fail_after(60):
        async with (
            served(build_server(settings, transport="http"), settings, transport="http") as url,
            httpx2.AsyncClient(timeout=10, trust_env=False) as http,
        ):
            answer = await http.post(url + "/mcp", headers=ACCEPT | PAIR, content=HALVES["an argument"])
    assert answer.status_code == 400
    assert "error" in answer.json()


ASKED: list[tuple[str, dict[str, Any]]] = [
    *((tool, {"batch_call_id": ODD}) for tool in ("get_batch_call", "watch_batch_call", "pause_batch_call")),
    *((tool, {"batch_call_id": ODD}) for tool in ("cancel_batch_call", "delete_batch_call", "export_batch_call")),
    ("start_batch_call", {"batch_call_id": ODD, "trigger_timestamp": "now"}),
    ("start_batch_call", {"batch_call_id": "batch_call_1", "trigger_timestamp": ODD}),
    ("check_batch_call", {"from_number": FROM, "tasks": [], "window": {"start": ODD, "end": "17:00"}}),
    ("check_batch_call", {"from_number": FROM, "tasks": [], "window": {"start": "09:00", "end": ODD}}),
    (
        "check_batch_call",
        {"from_number": FROM, "tasks": [], "window": {"start": "09:00", "end": "17:00", "days": [ODD]}},
    ),
    (
        "check_batch_call",
        {"from_number": FROM, "tasks": [], "window": {"start": "09:00", "end": "17:00", "timezone": ODD}},
    ),
    ("check_batch_call", {"batch_call_id": "batch_call_1", "trigger_timestamp": ODD, "timezone": ODD}),
    ("create_batch_call", {"from_number": ODD, "tasks": [{"to_number": ODD}]}),
    ("create_batch_call", {"from_number": FROM, ODD: "a", "tasks": [{"to_number": FROM, ODD: "a"}]}),
    ("check_batch_call", {"tasks_file": ODD}),
    (ODD, {}),
]


@pytest.mark.parametrize(("tool", "arguments"), ASKED)
async def test_control_and_bidi_characters_never_come_back_raw(tool: str, arguments: dict[str, Any]) -> None:
    async with Client(build_server(Settings.load(), transport="stdio")) as client:
        answer = await client.call_tool(tool, arguments)
    assert answer.is_error
    assert not is_raw(getattr(answer.content[0], "text", "")), answer.content[0]


async def test_an_id_that_does_not_print_is_refused_before_anything_is_asked() -> None:
    async with Client(build_server(Settings.load(), transport="stdio")) as client:
        answer = await client.call_tool("get_batch_call", {"batch_call_id": "batch\u200b_1"})
    assert answer.is_error
    text = getattr(answer.content[0], "text", "")
    assert text.startswith("[invalid_input] batch_call_id: must hold only characters that print")
    assert "\\u200b" in text


async def test_a_resource_s_error_repeats_no_control_character() -> None:
    with anyio.fail_after(30):
        async with connected(
            Way("http", "auto"), build=lambda settings: build_server(settings, transport="http")
        ) as client:
            with pytest.raises(MCPError, match="Could not read") as caught:
                await client.read_resource("batchcall://batch-calls/a%E2%80%AEb%07c")
    assert not is_raw(str(caught.value))


async def test_no_error_holds_an_object_as_python_writes_it() -> None:
    wrong: list[Any] = ["zz", ["zz"], {"zz": 1}, 5.5, [{"zz": 1}], {"on": ["zz"]}, {"days": ["zz"]}]
    for backend in ("dialer", "zudu", "magpipe"):
        account = {} if backend == "dialer" else {"url": "http://127.0.0.1:9", "api_key": "k", "api_secret": "s"}
        settings = Settings.load().model_copy(update={"backend": backend, **account})
        async with Client(build_server(settings, transport="stdio")) as client:
            for tool in (await client.list_tools()).tools:
                for name in tool.input_schema["properties"]:
                    for value in wrong:
                        text = getattr((await client.call_tool(tool.name, {name: value})).content[0], "text", "")
                        assert not re.search(r"<\w+[ .]|\b[A-Z]\w+\(", text), (tool.name, name, value, text)


async def test_the_values_of_a_status_are_named_as_they_are_written() -> None:
    async with Client(build_server(Settings.load(), transport="stdio")) as client:
        answer = await client.call_tool("update_batch_call", {"batch_call_id": "b", "status": "zz"})
    assert "status: must be 'draft' or 'scheduled' (got 'zz')" in json.dumps(str(answer.content[0]))


@pytest.mark.sweep
@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://[evil]/", "http://\u2028", "://", "http://a]b"])
async def test_a_malformed_origin_is_403(origin: str) -> None:
    settings = Settings.load()
    async with (
        served(build_server(settings, transport="http"), settings) as url,
        httpx2.AsyncClient(timeout=10, trust_env=False) as http,
    ):
        headers = [(name.encode(), value.encode()) for name, value in (PAIR | {"Origin": origin}).items()]
        answer = await http.get(url + "/healthz", headers=headers)
    assert answer.status_code == 403


@pytest.mark.parametrize("blank", ["\u3164", "\u115f", "\u1160", "\uffa0", "\u2800", "\u034f", "\u17b4"])
def test_a_letter_that_shows_nothing_is_shown_as_a_space(blank: str) -> None:
    assert quoted(f"Ann{blank}Smith") == '"Ann Smith"'
