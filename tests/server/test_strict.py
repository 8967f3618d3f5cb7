"""What a tool takes, what it publishes, and what a model reads when it was wrong."""

import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from mcp import Client
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, Field

from batchcall_mcp.errors import InvalidInput, NotFound
from batchcall_mcp.model import BatchStatus, CallingWindow
from batchcall_mcp.server.tools.strict_tools import (
    LateTools,
    OnlyIf,
    RequiredIf,
    StrictServer,
    TypedBy,
    argument_model,
    strict_tool,
)
from batchcall_mcp.server.tools.validation_errors import quoted

READS = ToolAnnotations(read_only_hint=True)
WRITES = ToolAnnotations(read_only_hint=False)


class Person(BaseModel, extra="forbid"):
    """One person."""

    to_number: str
    variables: dict[str, str] | None = None


class Answer(BaseModel):
    """What came in."""

    title: str
    number: int | None = None
    status: BatchStatus | None = None
    items: list[str] = []


async def call(
    people: list[Person],
    ctx: Context[Any, Any],
    limit: Annotated[int, Field(ge=1, le=100, description="how many")] = 20,
    title: str = "none",
    status: Literal["draft", "running"] | None = None,
    window: CallingWindow | None = None,
    at: str | int | None = None,
    ratio: float = 0.5,
    api_key: Annotated[str, Field(max_length=3)] = "",
    tags: list[str] | None = None,
    *,
    now: bool = False,
) -> Answer:
    return Answer(title=f"{len(people)} {limit} {title} {status} {window} {at!r} {ratio} {tags} {now}")


def tool(fn: Any, surface: str | None = None, **options: Any) -> Any:
    options = {"name": fn.__name__, "title": "T", "description": "D", "annotations": WRITES} | options
    return strict_tool(fn, arguments=argument_model("call", fn, surface), **options)


def server(fn: Any, **options: Any) -> StrictServer:
    return StrictServer("strict", version="1", tools=[tool(fn, **options)])


async def text_of(fn: Any, arguments: Mapping[str, Any], **options: Any) -> str:
    async with Client(server(fn, **options)) as client:
        result = await client.call_tool(options.get("name", fn.__name__), dict(arguments))
    assert isinstance(result.content[0], TextContent)
    assert bool(result.is_error) == result.content[0].text.startswith("[")
    return result.content[0].text


def test_the_published_arguments_say_nothing_twice() -> None:
    assert tool(call).parameters == snapshot(
        {
            "additionalProperties": False,
            "properties": {
                "people": {
                    "items": {
                        "additionalProperties": False,
                        "description": "One person.",
                        "properties": {
                            "to_number": {"type": "string"},
                            "variables": {"additionalProperties": {"type": "string"}, "type": "object"},
                        },
                        "required": ["to_number"],
                        "type": "object",
                    },
                    "type": "array",
                },
                "limit": {"default": 20, "description": "how many", "maximum": 100, "minimum": 1, "type": "integer"},
                "title": {"default": "none", "type": "string"},
                "status": {"enum": ["draft", "running"], "type": "string"},
                "window": {
                    "additionalProperties": False,
                    "description": "When calls may start: local times `HH:MM`, `end` up to `24:00`; an `end` before `start` runs over midnight.",  # noqa: E501
                    "properties": {
                        "start": {"type": "string"},
                        "end": {"type": "string"},
                        "days": {
                            "items": {"enum": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "type": "string"},
                            "type": "array",
                        },
                        "timezone": {
                            "default": "recipient",
                            "description": "recipient: each person's own zone; or one IANA name",
                            "type": "string",
                        },
                    },
                    "required": ["start", "end"],
                    "type": "object",
                },
                "at": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                "ratio": {"default": 0.5, "type": "number"},
                "api_key": {"default": "", "maxLength": 3, "type": "string"},
                "tags": {"items": {"type": "string"}, "type": "array"},
                "now": {"default": False, "type": "boolean"},
            },
            "required": ["people"],
            "type": "object",
        }
    )


def test_the_published_result_requires_only_what_is_always_there() -> None:
    assert tool(call).output_schema == snapshot(
        {
            "description": "What came in.",
            "properties": {
                "title": {"type": "string"},
                "number": {"type": "integer"},
                "status": {
                    "description": "State of a batch call. A backend's word that nobody knows is `unknown`, with the word in `backend_status`.",  # noqa: E501
                    "enum": [
                        "draft",
                        "scheduled",
                        "running",
                        "paused",
                        "completed",
                        "cancelled",
                        "failed",
                        "recurring",
                        "unknown",
                    ],
                    "type": "string",
                },
                "items": {"items": {"type": "string"}, "type": "array"},
            },
            "required": ["title"],
            "type": "object",
        }
    )


def test_no_schema_has_a_reference_which_some_clients_do_not_follow() -> None:
    class Both(BaseModel, extra="forbid"):
        first: Person
        second: Person

    async def uses(both: Both, person: Person) -> Answer:
        raise NotImplementedError

    schema = tool(uses).parameters
    assert "$" not in json.dumps(schema)
    assert schema["properties"]["both"]["properties"]["second"] == schema["properties"]["person"]


SENT = "Nothing was sent."
TO_NUMBER = f"unknown argument; did you mean to_number? {SENT}"
PERSON = {"to_number": "+14155550100"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "[invalid_input] people: is required. Nothing was sent."),
        (
            {"people": [], "limit": 500, "limt": 3},
            "[invalid_input] limit: must be at most 100 (got 500). limt: unknown argument; did you mean limit? " + SENT,
        ),
        (
            {"people": [{"to_numbr": "1"}]},
            f"[invalid_input] people[0].to_number: is required. people[0].to_numbr: {TO_NUMBER}",
        ),
        (
            {"people": [PERSON], "window": {"start": "9", "end": "10", "dayz": 1}},
            "[invalid_input] window.dayz: unknown argument; did you mean days? Nothing was sent.",
        ),
        (
            {"people": [PERSON], "window": {"start": "9", "end": "10", "days": ["mo"]}},
            "[invalid_input] window.days[0]: must be 'mon', 'tue', 'wed', 'thu', 'fri', 'sat' or 'sun' (got 'mo'). "
            + SENT,
        ),
        (
            {"people": [PERSON], "at": [1]},
            "[invalid_input] at: must be text or a whole number. Nothing was sent.",
        ),
        ({"people": "x"}, "[invalid_input] people: must be a list (got 'x'). Nothing was sent."),
        ({"people": ["x"]}, "[invalid_input] people[0]: must be an object (got 'x'). Nothing was sent."),
        (
            {"people": [PERSON], "title": 5},
            "[invalid_input] title: must be text (got 5). Nothing was sent.",
        ),
        (
            {"people": [PERSON], "limit": "many"},
            "[invalid_input] limit: must be a whole number (got 'many'). Nothing was sent.",
        ),
        (
            {"people": [PERSON], "limit": 2.5},
            "[invalid_input] limit: must be a whole number (got 2.5). Nothing was sent.",
        ),
        (
            {"people": [PERSON], "limit": True},
            "[invalid_input] limit: must be a whole number (got true). Nothing was sent.",
        ),
        (
            {"people": [PERSON], "ratio": False},
            "[invalid_input] ratio: must be a number (got false). Nothing was sent.",
        ),
        (
            {"people": [PERSON], "now": "yes"},
            "[invalid_input] now: must be true or false (got 'yes'). Nothing was sent.",
        ),
        (
            {"people": [PERSON], "now": 1},
            "[invalid_input] now: must be true or false (got 1). Nothing was sent.",
        ),
        (
            {"people": [PERSON], "api_key": "hunter2"},
            "[invalid_input] api_key: must have at most 3 characters. Nothing was sent.",
        ),
        (
            {"people": [PERSON], "status": "r" * 500},
            "[invalid_input] status: must be 'draft' or 'running' (got '" + "r" * 58 + "…). Nothing was sent.",
        ),
        (
            {"people": [{}] * 30},
            "[invalid_input] "
            + " ".join(f"people[{row}].to_number: is required." for row in range(10))
            + " And 20 more. Nothing was sent.",
        ),
    ],
)
async def test_wrong_arguments_are_named_with_the_reason(arguments: dict[str, Any], says: str) -> None:
    assert await text_of(call, arguments) == says


@pytest.mark.parametrize(
    ("arguments", "heard"),
    [
        ({}, "1 20 none None None None 0.5 None False"),
        ({"limit": "8"}, "1 8 none None None None 0.5 None False"),
        ({"limit": 8.0}, "1 8 none None None None 0.5 None False"),
        ({"now": "true"}, "1 20 none None None None 0.5 None True"),
        ({"at": "2026-11-23"}, "1 20 none None None '2026-11-23' 0.5 None False"),
        ({"at": 1763900000}, "1 20 none None None 1763900000 0.5 None False"),
        ({"at": '["a"]'}, "1 20 none None None '[\"a\"]' 0.5 None False"),
        ({"tags": '["a"]'}, "1 20 none None None None 0.5 ['a'] False"),
        ({"title": '{"a":1}'}, '1 20 {"a":1} None None None 0.5 None False'),
        ({"people": '[{"to_number": "1"}, {"to_number": "2"}]'}, "2 20 none None None None 0.5 None False"),
        (
            dict.fromkeys(["limit", "title", "status", "window", "at", "ratio", "api_key", "tags", "now"]),
            "1 20 none None None None 0.5 None False",
        ),
    ],
)
async def test_what_loses_nothing_is_taken(arguments: dict[str, Any], heard: str) -> None:
    async with Client(server(call)) as client:
        result = await client.call_tool("call", {"people": [PERSON]} | arguments)
    assert result.structured_content == {"title": heard}


async def shaped(
    limit: Annotated[int, OnlyIf(lambda surface: surface != "small")] = 20,
    title: Annotated[str, RequiredIf(lambda surface: surface == "titled"), Field(max_length=9)] = "none",
    status: Annotated[
        Literal["draft", "running"] | None,
        TypedBy(lambda surface: Literal["draft"] if surface == "small" else None),
        Field(description="of it"),
    ] = None,
) -> Answer:
    return Answer(title=f"{limit} {title} {status}")


async def test_an_argument_that_does_not_exist_here_is_refused_like_an_unknown_one_and_its_default_is_used() -> None:
    assert "limit" not in tool(shaped, "small").parameters["properties"]
    assert (await text_of(shaped, {"limit": 1}, surface="small")) == (
        "[invalid_input] limit: unknown argument; there are status, title. Nothing was sent."
    )
    assert "20 none" in await text_of(shaped, {}, surface="small")
    assert "1 none" in await text_of(shaped, {"limit": 1}, surface="large")


async def test_an_argument_can_be_required_on_one_surface() -> None:
    assert tool(shaped, "titled").parameters["required"] == ["title"]
    assert "required" not in tool(shaped, "small").parameters
    assert await text_of(shaped, {}, surface="titled") == "[invalid_input] title: is required. Nothing was sent."


async def test_an_argument_can_have_a_narrower_type_on_one_surface_and_keeps_its_default_and_description() -> None:
    made = tool(shaped, "small").parameters["properties"]["status"]
    assert made == {"const": "draft", "description": "of it", "type": "string"}
    assert await text_of(shaped, {"status": "running"}, surface="small") == (
        "[invalid_input] status: must be 'draft' (got 'running'). Nothing was sent."
    )
    assert "20 none draft" in await text_of(shaped, {"status": "draft"}, surface="small")
    assert "20 none None" in await text_of(shaped, {}, surface="small")
    assert "20 none running" in await text_of(shaped, {"status": "running"}, surface="large")


async def test_what_stands_before_the_slash_is_not_an_argument() -> None:
    async def handled(relay: str, /, name: str) -> Answer:
        raise NotImplementedError

    assert list(tool(handled).parameters["properties"]) == ["name"]


def test_signatures_that_cannot_be_strict_are_refused_when_the_tool_is_made() -> None:
    class Open(BaseModel):
        anything: str

    @dataclass
    class Closed:
        something: str

    async def leaky(one: Open) -> Answer:
        raise NotImplementedError

    async def tight(one: Closed) -> Answer:
        raise NotImplementedError

    async def absent(one: Annotated[str, OnlyIf(lambda _surface: False)]) -> Answer:
        raise NotImplementedError

    async def silent(one: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
        raise NotImplementedError

    with pytest.raises(TypeError, match="one would let unknown arguments pass"):
        tool(leaky)
    assert tool(tight).parameters["properties"]["one"]["additionalProperties"] is False
    with pytest.raises(TypeError, match="must be annotated to return one model"):
        tool(silent)
    with pytest.raises(TypeError, match="one has no default"):
        tool(absent)


async def test_a_result_is_compact_json_without_what_is_empty() -> None:
    assert await text_of(call, {"people": []}) == '{"title":"0 20 none None None None 0.5 None False"}'


async def test_an_error_of_the_tree_is_reported_with_its_code_and_without_a_prefix() -> None:
    async def fails(kind: str) -> CallToolResult:
        if kind == "tree":
            raise InvalidInput("Two rows are wrong. Nothing was sent.", ["row 1: x", "row 2: y"])
        if kind == "own":
            raise ToolError("[own] text")
        raise ExceptionGroup("task group", [NotFound("Gone. Nothing was changed.")])

    assert await text_of(fails, {"kind": "tree"}) == (
        "[invalid_input] Two rows are wrong. Nothing was sent.\n- row 1: x\n- row 2: y"
    )
    assert await text_of(fails, {"kind": "own"}) == "[own] text"
    assert await text_of(fails, {"kind": "group"}) == "[not_found] Gone. Nothing was changed."


@pytest.mark.parametrize(
    ("annotations", "known"),
    [
        (READS, "It only reads, so nothing was changed"),
        (WRITES, "Nothing is known about what it did; look the batch call up before you call it again"),
    ],
)
async def test_a_defect_says_what_is_known_and_nothing_of_itself(annotations: ToolAnnotations, known: str) -> None:
    async def breaks() -> CallToolResult:
        raise RuntimeError("password hunter2")

    assert await text_of(breaks, {}, annotations=annotations) == (
        f"[internal_error] A defect in this server stopped breaks. {known}. Details are in the server's log."
    )


async def test_an_unknown_tool_is_answered_with_the_nearest() -> None:
    async with Client(server(call, name="start_batch_call")) as client:
        result = await client.call_tool("start_batch_cal", {})
    assert isinstance(result.content[0], TextContent)
    assert result.content[0].text == (
        "[invalid_input] There is no tool 'start_batch_cal'; did you mean start_batch_call? Nothing was sent."
    )


async def test_a_late_tool_is_built_when_it_is_called_and_the_others_when_they_are_listed() -> None:
    built: list[str] = []

    def build(name: str) -> Any:
        built.append(name)
        return tool(call, name=name)

    names = ("first", "second", "third")
    served = StrictServer("strict", version="1", tools=LateTools({name: partial(build, name) for name in names}))
    assert served.tool_names == names
    assert built == []
    assert isinstance(await served.call_tool("second", {"people": []}), CallToolResult)
    with pytest.raises(ToolError, match="did you mean third"):
        await served.call_tool("thirt", {})
    assert built == ["second"]
    assert [one.name for one in await served.list_tools()] == [*names]
    assert built == ["second", "first", "third"]


@pytest.mark.parametrize("failure", [TypeError("password hunter2"), KeyError("call")])
async def test_a_late_tool_that_cannot_be_built_is_a_defect_that_did_nothing(failure: Exception) -> None:
    def build() -> Any:
        raise failure

    served = StrictServer("strict", version="1", tools=LateTools({"call": build}))
    counted: list[tuple[str, str]] = []
    served.calls.done = lambda name, ended, _: counted.append((name, ended))
    with pytest.raises(UnexpectedToolError) as raised:
        await served.call_tool("call", {})
    assert str(raised.value) == (
        "[internal_error] A defect in this server stopped call before it began, so nothing was changed. "
        "Details are in the server's log."
    )
    assert raised.value.__cause__ is failure
    assert counted == [("call", "internal_error")]


async def test_late_tools_are_listed_as_the_sdk_lists_its_own() -> None:
    described = tool(call, meta={"a": 1})
    late = StrictServer("strict", version="1", tools=LateTools({"call": lambda: described}))
    assert await late.list_tools() == await MCPServer("plain", tools=[described]).list_tools()


def test_threads_that_read_a_late_tool_at_once_get_the_same_one() -> None:
    ready = threading.Barrier(8)
    tools = LateTools({"call": lambda: tool(call)})

    def read(_: int) -> Any:
        ready.wait()
        return tools["call"]

    with ThreadPoolExecutor(8) as pool:
        assert len({id(one) for one in pool.map(read, range(8))}) == 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
async def test_no_argument_at_all_breaks_the_description(value: Any) -> None:
    text = await text_of(call, {"people": value, "window": value, str(value)[:20]: value})
    assert text.startswith(("[invalid_input] ", "{"))
    assert "pydantic" not in text


@given(st.text() | st.integers() | st.booleans() | st.none())
def test_a_quoted_value_is_short_and_printable(value: Any) -> None:
    assert len(quoted(value)) <= 60
    assert quoted(value).isprintable()
