"""What the schemas of arguments publish is what the backend can hold, and what it cannot hold is refused in words.

Both are asked about every field that a request can have, on every backend, and on backends that differ from the richest
one in a single capability. A new field of a task, a window, a retry rule, a request or of `Capabilities` fails here
until somebody says which it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from mcp import Client
from mcp.types import TextContent
from pydantic import SecretStr

from batchcall_mcp.backends.capabilities import Capabilities, Limits, unsupported
from batchcall_mcp.backends.registry import BUILT_IN, backend_class
from batchcall_mcp.backends.rest_api.dialer import DialerBackend
from batchcall_mcp.model import BatchCallRequest, CallingWindow, CallTask, RetryPolicy
from batchcall_mcp.server.app import build_server
from batchcall_mcp.server.tools import write_tools
from batchcall_mcp.server.tools.arguments import TaskInput
from batchcall_mcp.server.tools.held import held
from batchcall_mcp.server.tools.schemas import ArgumentSchema
from batchcall_mcp.server.tools.strict_tools import argument_model
from batchcall_mcp.server.tools.tool_spec import Surface, ToolSpec
from batchcall_mcp.settings import Settings
from tests.vendors.talking import TalkingBackend

NUMBER = "+14155550123"
FROM = {"from_number": "+14155550100"}
LATER = datetime(2036, 1, 2, 9, tzinfo=UTC)
CREATE, START = write_tools.create_batch_call, write_tools.start_batch_call
RICHEST = DialerBackend.capabilities


@dataclass(frozen=True)
class Case:
    """One field, as the arguments of a tool have it and as the backend is asked for it."""

    arguments: dict[str, Any]
    request: BatchCallRequest
    tool: ToolSpec = CREATE


def of_task(name: str, given: Any, meant: Any = None) -> Case:
    task = {"to_number": NUMBER} | {name: given}
    meant = given if meant is None else meant
    return Case({**FROM, "tasks": [task]}, BatchCallRequest(tasks=(CallTask(**{"to_number": NUMBER, name: meant}),)))


def of_window(**more: Any) -> Case:
    window = {"start": "09:00", "end": "17:00", **more}
    meant: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in window.items()}
    return Case({**FROM, "tasks": [], "window": window}, BatchCallRequest(window=CallingWindow(**meant)))


def of_retry(**more: Any) -> Case:
    rule = {"max_retries": 2, **more}
    meant: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in rule.items()}
    return Case({**FROM, "tasks": [], "retry": rule}, BatchCallRequest(retry=RetryPolicy(**meant)))


def of_start(name: str, given: Any, **meant: Any) -> Case:
    arguments = {"batch_call_id": "bc_1", "trigger_timestamp": "now", name: given}
    return Case(arguments, BatchCallRequest(**(meant or {name: given})), START)


def of_create(name: str, given: Any, **meant: Any) -> Case:
    return Case({**FROM, "tasks": [], name: given}, BatchCallRequest(**(meant or {name: given})))


ZONE = {"timezone": "America/New_York"}
CASES = {
    "tasks.to_number": of_task("to_number", NUMBER),
    "tasks.name": of_task("name", "Ann"),
    "tasks.dynamic_variables": of_task("dynamic_variables", {"first": "Ann"}),
    "tasks.max_retries": of_task("max_retries", 1),
    "tasks.timezone": of_task("timezone", "Europe/Berlin"),
    "tasks.not_before": of_task("not_before", LATER.isoformat(), LATER),
    "window.start in each person's own zone": of_window(),
    "window.end": of_window(**ZONE),
    "window.timezone": of_window(**ZONE),
    "window.timezone of UTC": of_window(timezone="UTC"),
    "window.days": of_window(days=["mon"]),
    "window.days in one zone": of_window(days=["mon"], **ZONE),
    "window.days in UTC": of_window(days=["mon"], timezone="UTC"),
    "retry.max_retries": of_retry(on=["no_answer"]),
    "retry.on": of_retry(on=["busy"]),
    "retry.on voicemail": of_retry(on=["no_answer", "voicemail"]),
    "retry.on failed": of_retry(on=["failed"]),
    "retry.after_minutes": of_retry(on=["busy"], after_minutes=30),
    "retry.at": of_retry(on=["busy"], at="10:00"),
    "from_number": of_create("from_number", "+14155550100"),
    "tasks": of_create("tasks", [], tasks=()),
    "name": of_create("name", "Renewals"),
    "agent_id": of_create("agent_id", "agent-1"),
    "timezone": of_create("timezone", "Europe/Berlin"),
    "window": of_window(**ZONE),
    "max_concurrency": of_create("max_concurrency", 2),
    "max_concurrency of a hundred": of_create("max_concurrency", 100),
    "retry": of_retry(on=["busy"]),
    "ends_at": of_create("ends_at", LATER.isoformat(), ends_at=LATER),
    "ends_at of a start": of_start("ends_at", LATER.isoformat(), ends_at=LATER),
    "first": of_start("first", 5),
}
OTHERWISE = {
    "trigger_at": "trigger_timestamp of create exists by `drafts`",
    "trigger_on": "a date and a time are both text",
    "ends_on": "a date and a time are both text",
    "send_now": "update has it by `update_fields`",
    "status": "update has it by `update_fields`",
    "retry_of": "made here",
    "test_of": "made here",
}
"""Fields of a request that no rule of `held` is about, and why."""

POORER: dict[str, tuple[Any, ...]] = {
    "windows": ("one_zone", "utc", "none"),
    "window_days": (False,),
    "max_concurrency": (None, 5),
    "ends": ("none",),
    "not_before": (False,),
    "dynamic_variables": (False,),
    "task_names": (False,),
    "task_timezones": (False,),
    "task_max_retries": (False,),
    "retry_policy": (False,),
    "retry_at": (False,),
    "limits": (Limits(retries=1), Limits(retry_minutes=20)),
    "retry_outcomes": (("no_answer", "busy"), ("busy",)),
    "first": (False,),
}
"""What a backend may lack of what is published: each value makes some field unsupported."""
SAYS_NOTHING_OF_FIELDS = {
    *("operations", "drafts", "update_fields", "trigger_dates", "returns_variables", "outcomes"),  # tools, enums, types
    *("task_page_size", "over_midnight", "tasks_reported"),  # sizes; how it is read
    *("required", "retry", "caller", "task_ids"),  # how its requests are made
    *("stop", "cancel_effect", "pause_stops", "idempotency", "agent"),
    *("needs_secret", "key_begins", "keys_kept", "pause_effect", "simulated", "in_process"),
    *("limitations", "results", "prices"),
}
BACKENDS = {name: backend_class(name).capabilities for name in BUILT_IN}
BACKENDS["talking"] = TalkingBackend.capabilities
BACKENDS |= {
    f"without {name}: {value}": replace(RICHEST, **{name: value}) for name, values in POORER.items() for value in values
}
every_backend = pytest.mark.parametrize("name", BACKENDS)


def published(spec: ToolSpec, capabilities: Capabilities) -> dict[str, Any]:
    model = argument_model(spec.name, spec.handler, Surface(capabilities, local_files=True))
    return held(model.model_json_schema(schema_generator=ArgumentSchema), capabilities)


def needed_by(capabilities: Capabilities) -> dict[str, Any]:
    """What a create has to say there in any case."""
    when = {"trigger_timestamp": "now"} if capabilities.drafts == "none" else {}
    return when | {field: CASES[field].arguments[field] for field in capabilities.required}


@every_backend
def test_what_is_published_is_what_the_backend_can_hold(name: str) -> None:
    capabilities = BACKENDS[name]
    needed = needed_by(capabilities)
    validators = {tool.name: Draft202012Validator(published(tool, capabilities)) for tool in (CREATE, START)}
    for field, case in CASES.items():
        always = needed if case.tool is CREATE else {}
        says = validators[case.tool.name].is_valid(always | case.arguments)
        assert says == (not unsupported(case.request, capabilities)), f"{field} is {'' if says else 'not '}published"
    # A zone is text: that "recipient" is none of them, only its absence can say.
    assert ("recipient" in json.dumps(published(CREATE, capabilities))) == (capabilities.windows == "full")


def test_every_field_of_a_request_has_its_case() -> None:
    named = {field.split()[0] for field in CASES}
    assert {f"tasks.{field}" for field in TaskInput.model_fields} <= named
    assert {f"window.{field.name}" for field in fields(CallingWindow)} <= named
    assert {f"retry.{field.name}" for field in fields(RetryPolicy)} <= named
    assert {field.name for field in fields(BatchCallRequest)} <= named | OTHERWISE.keys()


def test_every_capability_is_known_to_shape_fields_or_not_to() -> None:
    assert {field.name for field in fields(Capabilities)} <= POORER.keys() | SAYS_NOTHING_OF_FIELDS
    for name, capabilities in BACKENDS.items():
        if name.startswith("without"):
            assert [field for field, case in CASES.items() if unsupported(case.request, capabilities)], name


@pytest.mark.parametrize("backend", BUILT_IN)
async def test_what_is_not_published_is_refused_with_what_the_backend_can_hold(backend: str) -> None:
    """Through the tool itself, so that what tools/list gives is what was asked above. Nothing is sent."""
    pair: dict[str, Any] = {"api_key": SecretStr("key"), "api_secret": SecretStr("secret")}
    key = {} if backend == "dialer" else pair
    capabilities = backend_class(backend).capabilities
    async with Client(build_server(Settings(backend=backend, **key), transport="stdio")) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert (START.name in tools) == (capabilities.drafts != "none")
        for spec in (CREATE, START)[: 1 + (START.name in tools)]:
            shown = tools[spec.name].input_schema["properties"]
            code = {name: shown[name] for name in shown if name == "confirmation_code"}
            assert shown == published(spec, capabilities)["properties"] | code
        for field, case in CASES.items():
            problems = unsupported(case.request, capabilities)
            if problems and case.tool is CREATE:
                people = case.arguments["tasks"] or [{"to_number": NUMBER}]
                arguments = needed_by(capabilities) | case.arguments | {"tasks": people}
                answer = await client.call_tool("create_batch_call", arguments)
                assert isinstance(answer.content[0], TextContent)
                assert answer.content[0].text.startswith(f"[not_supported] {backend} cannot hold this: "), field
                assert problems[0] in answer.content[0].text
