"""The tool surface, shaped by what the backend can do, what the operator allows and how the caller is connected."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, get_args, get_origin

from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.types import ToolAnnotations
from pydantic import Field, TypeAdapter
from pydantic_core import to_jsonable_python

from batchcall_mcp.backends.base import Capabilities, Operation
from batchcall_mcp.errors import NotConfirmed
from batchcall_mcp.guard.admission import Guard
from batchcall_mcp.guard.confirmation import recall
from batchcall_mcp.guard.delivery.write_sender import LaunchedMeanwhile
from batchcall_mcp.model import NOT_REACHED, TaskStatus
from batchcall_mcp.server.approvals.elicitation import QuestionToPut
from batchcall_mcp.server.service import Service
from batchcall_mcp.server.tools import read_tools, write_tools
from batchcall_mcp.server.tools.arguments import PlainTaskInput, TaskInput
from batchcall_mcp.server.tools.descriptions import DESCRIPTIONS
from batchcall_mcp.server.tools.strict_tools import strict_tool

Body = Callable[..., Awaitable[Any]]
_MOST_QUESTIONS = 5


@dataclass(frozen=True, slots=True)
class Spec:
    """One tool: its body, the operation it needs, and its hints."""

    body: Body
    operation: Operation
    title: str
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False


SPECS: tuple[Spec, ...] = (
    Spec(read_tools.get_backend, Operation.GET, "Backend and account", read_only=True, idempotent=True),
    Spec(read_tools.check_batch_call, Operation.GET, "Check a list or batch call", read_only=True, idempotent=True),
    Spec(write_tools.create_batch_call, Operation.CREATE, "Create a batch call"),
    Spec(write_tools.update_batch_call, Operation.UPDATE, "Update a batch call", destructive=True),
    Spec(read_tools.get_batch_call, Operation.GET, "Get a batch call", read_only=True, idempotent=True),
    Spec(read_tools.list_batch_calls, Operation.LIST, "List batch calls", read_only=True, idempotent=True),
    Spec(write_tools.start_batch_call, Operation.START, "Start a batch call", destructive=True),
    Spec(write_tools.pause_batch_call, Operation.PAUSE, "Pause a batch call", idempotent=True),
    Spec(write_tools.resume_batch_call, Operation.RESUME, "Resume a batch call", destructive=True),
    Spec(write_tools.cancel_batch_call, Operation.CANCEL, "Cancel a batch call", destructive=True, idempotent=True),
    Spec(write_tools.retry_batch_call, Operation.RETRY, "Retry who was not reached", destructive=True),
    Spec(write_tools.delete_batch_call, Operation.DELETE, "Delete a batch call", destructive=True, idempotent=True),
    Spec(read_tools.watch_batch_call, Operation.GET, "Watch a batch call", read_only=True, idempotent=True),
    Spec(read_tools.export_batch_call, Operation.GET, "Export a batch call"),
)


def build_tools(service: Service) -> list[Tool]:
    """The tools of one server."""
    capabilities = service.capabilities
    return [
        _tool(spec, service, capabilities)
        for spec in SPECS
        if _offered(spec, capabilities) and _allowed(spec, service.guard, capabilities)
    ]


def _offered(spec: Spec, capabilities: Capabilities) -> bool:
    if spec.operation is Operation.RETRY:  # where the backend cannot, we make a draft of them
        return Operation.RETRY in capabilities.operations or capabilities.drafts != "none"
    if spec.operation is Operation.START and capabilities.drafts == "none":
        return False
    return spec.operation in capabilities.operations


def _allowed(spec: Spec, guard: Guard, capabilities: Capabilities) -> bool:
    if spec.body is read_tools.export_batch_call:
        return guard.mode != "read-only"
    if guard.mode == "draft" and spec.operation is Operation.RETRY:
        return Operation.RETRY not in capabilities.operations
    return guard.allows(spec.operation)


def _tool(spec: Spec, service: Service, capabilities: Capabilities) -> Tool:
    name = spec.body.__name__
    parameters = inspect.signature(spec.body).parameters
    required = {"trigger_timestamp"} if name == "create_batch_call" and capabilities.drafts == "none" else set()
    destructive = spec.destructive or (name == "create_batch_call" and capabilities.drafts != "full")
    tool = strict_tool(
        _served(spec.body, service),
        name=name,
        title=spec.title,
        description=DESCRIPTIONS[name](capabilities),
        annotations=ToolAnnotations(
            title=spec.title,
            read_only_hint=spec.read_only,
            destructive_hint=destructive,
            idempotent_hint=spec.idempotent,
            open_world_hint=True,
        ),
        drop=_missing(name, capabilities, local_files=service.local) & parameters.keys(),
        require=required,
        retype=_retyped(spec.body, capabilities),
    )
    if name != "create_batch_call":
        tool.parameters = _shapes_told_once(tool.parameters)
    return tool


def _shapes_told_once(schema: dict[str, Any]) -> dict[str, Any]:
    """create_batch_call spells tasks, window and retry out; elsewhere their kind is enough. Validation is the same."""
    properties = dict(schema["properties"])
    for name in _SHAPES & properties.keys():
        kept = {key: properties[name][key] for key in ("type", "description") if key in properties[name]}
        items = {"items": {"type": "object"}} if kept.get("type") == "array" else {}
        properties[name] = kept | items
    used = json.dumps(properties)
    defs = {name: one for name, one in schema.get("$defs", {}).items() if f"#/$defs/{name}" in used}
    return (
        {key: value for key, value in schema.items() if key != "$defs"}
        | {"properties": properties}
        | ({"$defs": defs} if defs else {})
    )


def _missing(tool: str, capabilities: Capabilities, *, local_files: bool) -> set[str]:
    """Arguments that this backend, or a caller over HTTP, has no use for."""
    offered = {
        "tasks_file": local_files,
        "number_column": local_files,
        "window": capabilities.windows != "none",
        "max_concurrency": capabilities.max_concurrency is not None,
        "retry": capabilities.retry_policy,
        "include_variables": capabilities.returns_variables,
    }
    if tool == "create_batch_call":
        offered |= dict.fromkeys(("trigger_timestamp", "confirmation_code"), capabilities.drafts != "full")
    if tool == "retry_batch_call":
        list_again = capabilities.dynamic_variables and not capabilities.returns_variables
        offered["tasks_file"] = list_again and local_files
        offered["tasks"] = list_again and not local_files
        offered["confirmation_code"] = Operation.RETRY in capabilities.operations
    if tool == "export_batch_call":
        offered["task_status"] = local_files  # a resource is the whole export
    if tool == "update_batch_call":
        changeable = {"trigger_timestamp" if name == "trigger_at" else name for name in capabilities.update_fields}
        offered |= {name: name in changeable for name in _UPDATE_FIELDS}
        offered["tasks_file"] = local_files and "tasks" in changeable
        offered["timezone"] = bool(changeable & {"timezone", "trigger_timestamp"})
    return {name for name, so in offered.items() if not so}


_NOW_ONLY = "now: a stored draft cannot be scheduled here; create_batch_call takes a time"
_SHAPES = frozenset({"tasks", "window", "retry"})
_UPDATE_FIELDS = frozenset(
    {
        "from_number",
        "tasks",
        "name",
        "agent_id",
        "trigger_timestamp",
        "timezone",
        "status",
        "send_now",
        "window",
        "max_concurrency",
        "retry",
    }
)


def _retyped(body: Body, capabilities: Capabilities) -> dict[str, Any]:
    """Narrower types, where this backend has less. What is said of an argument stays the tool's own."""
    task = TaskInput if capabilities.dynamic_variables else PlainTaskInput
    told = {TaskStatus.PENDING, TaskStatus.CALLING, *capabilities.outcomes}
    words = [str(status) for status in TaskStatus if status in told]
    words += ["not_reached"] if told & NOT_REACHED else []
    narrower: dict[str, Any] = {"tasks": list[task] | None, "task_status": list[_one_of(words)] | None}  # type: ignore[valid-type, misc]  # types made at run time
    if body is write_tools.start_batch_call and capabilities.drafts == "start_now_only":
        narrower["trigger_timestamp"] = Annotated[Literal["now"], Field(description=_NOW_ONLY)]
    written = inspect.get_annotations(body, eval_str=True)
    return {
        name: kind if get_origin(kind) is Annotated else Annotated[kind, *get_args(written[name])[1:]]
        for name, kind in narrower.items()
        if name in written
    }


def _one_of(words: Sequence[str]) -> Any:
    """A Literal of words that are known only now."""
    return Literal.__getitem__(tuple(words))


def _served(body: Body, service: Service) -> Body:
    """Give a tool's body its context (and progress), and a confirmed call the arguments that were confirmed."""
    signature = inspect.signature(body, eval_str=True)
    own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in signature.parameters.values()]
    own = [one for one in own if one.name not in {"context", "progress"}]
    defaults = {one.name: one.default for one in own}
    name = body.__name__

    async def call(ctx: Context[Any, Any], **arguments: Any) -> Any:
        code = arguments.get("confirmation_code")
        given = {
            key: value
            for key, value in arguments.items()
            if value is not None and value != defaults[key] and key != "confirmation_code"
        }
        plain: dict[str, Any] = to_jsonable_python(given)
        context = await service.call_context(ctx, name, plain, code)
        if code is not None and service.guard.confirm != "person":
            ledger = await service.ledger()
            shown = await recall(ledger.codes, ledger.hashed(context.caller), name, code, plain)
            arguments |= {
                key: TypeAdapter(signature.parameters[key].annotation).validate_python(value)
                for key, value in shown.arguments.items()
            }
            context = replace(context, arguments=shown.arguments)
        if "progress" in signature.parameters:
            arguments["progress"] = _rising(ctx)
        may_launch = "confirmation_code" in defaults and "batch_call_id" in arguments
        for _ in range(_MOST_QUESTIONS):
            try:
                async with service.turn(context.caller, arguments["batch_call_id"]) if may_launch else nullcontext():
                    return await body(context, **arguments)
            except LaunchedMeanwhile:
                continue  # nothing was sent; the next question names who is called twice
            except QuestionToPut as pending:
                asked = await pending.put()
                if asked is not None:
                    return asked
        raise NotConfirmed(
            f"What {name} would launch changed during each of {_MOST_QUESTIONS} questions. Nothing was sent. "
            "Find out who changes it before you ask the person again."
        )

    mcp_context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=Context[Any, Any])
    call.__signature__ = signature.replace(parameters=[mcp_context, *own])  # type: ignore[attr-defined]  # what inspect.signature reads
    return call


def _rising(ctx: Context[Any, Any]) -> Callable[[float, float | None, str], Awaitable[None]]:
    """Progress as the protocol wants it: each notice greater than the last."""
    last = -1.0

    async def report(progress: float, total: float | None, message: str) -> None:
        nonlocal last
        if progress > last:
            last = progress
            await ctx.report_progress(progress, total, message)

    return report
