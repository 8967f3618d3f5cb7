"""The tool surface is a contract: what a model reads changes only on purpose, stays small and says nothing untrue."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from mcp.types import ListToolsResult, Tool

from tests.server.contract import RENEW, RICHEST, SNAPSHOTS, SURFACES, Surface, files, merged, reported

MOST_BYTES = 13_200
"""Of names, descriptions and schemas of arguments: what a model reads, whatever it does."""
MOST_ON_WIRE = 38_000
MOST_TOOLS = 15

every_surface = pytest.mark.parametrize("surface", SURFACES, ids=str)
TRANSPORTS: tuple[Literal["stdio", "http"], ...] = ("stdio", "http")
OF_OTHERS = {"dynamic_variables", "max_retries", "batch_call"}


def test_what_a_client_reads_is_what_the_snapshots_hold() -> None:
    now = dict(files())
    kept = {path: path.read_text(encoding="utf-8") for path in SNAPSHOTS.rglob("*") if path.is_file()}
    drift = [
        line
        for path in sorted(now.keys() | kept.keys())
        for line in difflib.unified_diff(
            kept.get(path, "").splitlines(),
            now.get(path, "").splitlines(),
            f"{path.relative_to(SNAPSHOTS)} as agreed",
            f"{path.relative_to(SNAPSHOTS)} as it is",
            lineterm="",
        )
    ]
    assert not drift, "\n".join([f"The tools changed. If that is meant: {RENEW}, and read the diff.", *drift])


@every_surface
def test_the_snapshots_say_all_of_every_surface(surface: Surface) -> None:
    def kept(folder: str, name: str) -> Any:
        return json.loads((SNAPSHOTS / folder / f"{name}.json").read_text(encoding="utf-8"))

    richest = kept("surfaces", str(RICHEST))
    richest["tools"] = {name: kept("tools", name) for name in richest["order"]}
    assert merged(richest, kept("surfaces", str(surface)) if surface != RICHEST else {}) == surface.described()


@every_surface
def test_a_model_names_no_address_and_no_path_but_that_of_a_list(surface: Surface) -> None:
    """Where anything is sent to is the operator's; a list is read from the folders that he named."""
    named = {name for tool in surface.tools() for name in tool.input_schema["properties"]}
    assert {name for name in named if re.search("url|uri|host|address|path|folder|file|hook", name)} <= {
        "tasks_file",
        "add_tasks_file",
    }


@every_surface
def test_the_tools_cost_a_model_little(surface: Surface) -> None:
    tools = surface.tools()
    read = [{name: reported(tool)[name] for name in ("name", "description", "inputSchema")} for tool in tools]
    assert sum(map(size, read)) <= MOST_BYTES
    assert size(ListToolsResult(tools=tools).model_dump(mode="json", by_alias=True, exclude_none=True)) <= MOST_ON_WIRE
    assert len(tools) <= MOST_TOOLS
    assert len((surface.server().instructions or "").encode()) < 1024


@every_surface
def test_every_tool_has_a_title_and_says_what_it_does_to_the_world(surface: Surface) -> None:
    for tool in surface.tools():
        hints = tool.annotations
        assert tool.title, tool.name
        assert hints is not None
        given = (hints.read_only_hint, hints.destructive_hint, hints.idempotent_hint, hints.open_world_hint)
        assert None not in given, tool.name
        assert not (hints.read_only_hint and hints.destructive_hint), tool.name


@every_surface
def test_whatever_can_ring_a_phone_is_marked_destructive(surface: Surface) -> None:
    tools = {tool.name: tool for tool in surface.tools()}
    for name, tool in tools.items():
        if "confirmation_code" in tool.input_schema["properties"] and name != "retry_batch_call":
            assert tool.annotations is not None
            assert tool.annotations.destructive_hint, name


@every_surface
def test_arguments_are_closed_described_and_without_noise(surface: Surface) -> None:
    for tool in surface.tools():
        schema = tool.input_schema
        assert schema["additionalProperties"] is False, tool.name
        assert not {"anyOf", "oneOf", "allOf"} & schema.keys(), tool.name
        for name, argument in schema["properties"].items():
            assert argument.get("description"), f"{tool.name}.{name}"
        for node in nodes(schema):
            assert "title" not in node, tool.name
            assert {"type": "null"} not in node.get("anyOf", []), tool.name


@every_surface
def test_an_argument_is_described_as_what_it_is_in_that_tool(surface: Surface) -> None:
    tools = {tool.name: tool.input_schema["properties"] for tool in surface.tools()}
    assert tools["create_batch_call"]["tasks"]["description"] == "The people to call, in order"
    if "tasks" in tools.get("update_batch_call", {}):
        assert tools["update_batch_call"]["tasks"]["description"] == "Replaces the whole list"


@every_surface
def test_what_makes_or_launches_takes_an_idempotency_key_whatever_the_backend_keeps(surface: Surface) -> None:
    tools = surface.tools()
    takes = {tool.name for tool in tools if "idempotency_key" in tool.input_schema["properties"]}
    assert takes == {"create_batch_call", "start_batch_call", "retry_batch_call"} & {tool.name for tool in tools}


@every_surface
def test_every_result_is_described(surface: Surface) -> None:
    for tool in surface.tools():
        assert tool.output_schema is not None, tool.name
        assert tool.output_schema["type"] == "object", tool.name
        assert list(tool.output_schema["properties"])[:2] == ["summary", "next"], tool.name


@every_surface
def test_no_text_names_a_tool_or_an_argument_that_is_not_there(surface: Surface) -> None:
    tools = surface.tools()
    known = {tool.name for tool in tools} | OF_OTHERS
    for tool in tools:
        known |= tool.input_schema["properties"].keys()
        for schema in (tool.input_schema, tool.output_schema or {}):
            known |= set(re.findall(r'"([a-z]+(?:_[a-z]+)+)"', json.dumps(schema)))
    for where, text in texts(surface, tools):
        named = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", text))
        assert named <= known, f"{where} names {named - known}"


@pytest.mark.parametrize(
    ("surface", "absent"),
    [
        (Surface("zudu"), {"pause_batch_call", "resume_batch_call"}),
        (Surface("magpipe"), {"delete_batch_call"}),
        (Surface("dialer"), set()),
        (Surface("batchcall"), set()),
    ],
    ids=["zudu", "magpipe", "dialer", "batchcall"],
)
def test_what_the_backend_cannot_do_is_not_there(surface: Surface, absent: set[str]) -> None:
    everything = {tool.name for tool in Surface("dialer").tools()}
    assert everything - {tool.name for tool in surface.tools()} == absent


def test_zudu_promises_neither_a_pause_nor_a_retry_that_dials() -> None:
    tools = {tool.name: tool for tool in Surface("zudu").tools()}
    assert not [where for where, text in texts(Surface("zudu"), list(tools.values())) if "pause" in text.lower()]
    assert "NEW draft" in (tools["retry_batch_call"].description or "")
    assert "cannot stop calls once" in (tools["cancel_batch_call"].description or "")
    assert "max_concurrency" not in tools["create_batch_call"].input_schema["properties"]


def test_magpipe_starts_at_once_only_and_schedules_when_created() -> None:
    tools = {tool.name: tool.input_schema["properties"] for tool in Surface("magpipe").tools()}
    assert tools["start_batch_call"]["trigger_timestamp"].get("const") == "now"
    assert {"trigger_timestamp", "confirmation_code"} <= tools["create_batch_call"].keys()


def test_a_list_is_a_file_over_every_transport_and_over_http_an_uploaded_one() -> None:
    """That no name reaches the server's disk is held by `tests/server/test_files.py`."""
    described = [
        {tool.name: tool for tool in Surface("dialer", transport).tools()}["create_batch_call"].input_schema
        for transport in TRANSPORTS
    ]
    assert described[0] == described[1]
    assert "over HTTP its name from POST /files" in described[0]["properties"]["tasks_file"]["description"]


def size(value: Any) -> int:
    """Bytes of its JSON."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def texts(surface: Surface, tools: list[Tool]) -> Iterator[tuple[str, str]]:
    """Everything that is said in words, and where."""
    yield "instructions", surface.server().instructions or ""
    for tool in tools:
        yield tool.name, tool.description or ""
        for name, argument in tool.input_schema["properties"].items():
            yield f"{tool.name}.{name}", argument["description"]


def nodes(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema; the names of properties are no keywords."""
    if isinstance(schema, list):
        for part in schema:
            yield from nodes(part)
    elif isinstance(schema, dict):
        yield schema
        for key, part in schema.items():
            for inner in part.values() if key in {"properties", "$defs"} else [part]:
                if key not in {"enum", "default"}:
                    yield from nodes(inner)
