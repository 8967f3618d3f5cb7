"""The tool surface, shaped by what the backend can do, what the operator allows and how the caller is connected."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.types import ToolAnnotations
from pydantic_core import to_jsonable_python

from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.batch_calls.writes.retry import dials_again
from batchcall_mcp.errors import NotConfirmed
from batchcall_mcp.guard.admission import Guard, allowed_in
from batchcall_mcp.guard.confirmation import recall
from batchcall_mcp.guard.delivery.write_sender import LaunchedMeanwhile
from batchcall_mcp.server.approvals.elicitation import QuestionToPut
from batchcall_mcp.server.service import Service
from batchcall_mcp.server.tools import read_tools, write_tools
from batchcall_mcp.server.tools.arguments import Code
from batchcall_mcp.server.tools.held import held
from batchcall_mcp.server.tools.schemas import names_and_types, result_schema
from batchcall_mcp.server.tools.strict_tools import (
    LateTools,
    StrictArguments,
    argument_model,
    result_model,
    strict_tool,
)
from batchcall_mcp.server.tools.tool_spec import Surface, ToolSpec
from batchcall_mcp.settings import Mode

TOOLS: tuple[ToolSpec, ...] = (
    read_tools.get_backend,
    read_tools.check_batch_call,
    write_tools.create_batch_call,
    write_tools.update_batch_call,
    read_tools.get_batch_call,
    read_tools.get_call,
    read_tools.list_batch_calls,
    write_tools.start_batch_call,
    write_tools.pause_batch_call,
    write_tools.resume_batch_call,
    write_tools.cancel_batch_call,
    write_tools.retry_batch_call,
    write_tools.delete_batch_call,
    read_tools.watch_batch_call,
    read_tools.export_batch_call,
)
_WITHOUT_THE_BACKENDS_HELP = (read_tools.get_backend, read_tools.check_batch_call, read_tools.list_batch_calls)
"""What there is also where nothing can be read: facts, a judged list, and what the ledger knows."""
_MOST_QUESTIONS = 5


def offered_names(capabilities: Capabilities, guard: Guard) -> frozenset[str]:
    """The tools that there are for one caller: on a backend, in the guard's mode. Pure."""
    return _names(capabilities, guard.mode)


@lru_cache(maxsize=64)
def _names(capabilities: Capabilities, mode: Mode) -> frozenset[str]:
    """Asked twice in each tool call."""
    return frozenset(spec.name for spec in TOOLS if _offered(spec, capabilities) and _allowed(spec, mode, capabilities))


def build_tools(service: Service) -> LateTools:
    """The tools of one server. A result is described by the first tool that returns it; the others name its fields."""
    names = offered_names(service.capabilities, service.guard)
    surface = Surface(service.capabilities, service.local, bool(service.settings.test_numbers))
    specs = [spec for spec in TOOLS if spec.name in names]

    def built(spec: ToolSpec) -> Tool:
        model = result_model(spec.handler)
        schema = result_schema(model)
        describes = next(one for one in specs if result_model(one.handler) is model)
        return _tool(spec, service, surface, schema if spec is describes else names_and_types(schema))

    return LateTools({spec.name: partial(built, spec) for spec in specs})


def _offered(spec: ToolSpec, capabilities: Capabilities) -> bool:
    if spec.operation is Operation.RETRY:  # where the backend cannot, we make a batch call of them
        return bool({Operation.RETRY, Operation.CREATE} & capabilities.operations)
    if spec.operation is Operation.START and capabilities.drafts == "none":
        return False
    if spec in _WITHOUT_THE_BACKENDS_HELP:
        return True
    return spec.operation in capabilities.operations


def _allowed(spec: ToolSpec, mode: Mode, capabilities: Capabilities) -> bool:
    if spec is read_tools.export_batch_call:
        return mode != "read-only"
    if mode == "draft" and spec.operation is Operation.RETRY:
        return not dials_again(capabilities)
    if mode == "draft" and spec.operation is Operation.CREATE and capabilities.drafts == "none":
        return False
    return allowed_in(mode, spec.operation)


def _tool(spec: ToolSpec, service: Service, surface: Surface, output_schema: dict[str, Any]) -> Tool:
    confirmed = spec.is_confirmed(surface.capabilities)
    code = {"confirmation_code": Code} if confirmed else {}
    arguments = argument_model(spec.name, spec.handler, surface, **code)
    return strict_tool(
        _served(spec, service, arguments, confirmed=confirmed),
        name=spec.name,
        title=spec.title,
        description=spec.described(surface.capabilities),
        annotations=ToolAnnotations(
            title=spec.title,
            read_only_hint=spec.read_only,
            destructive_hint=spec.destructive or confirmed,
            idempotent_hint=spec.idempotent,
            open_world_hint=True,
        ),
        arguments=arguments,
        shown=partial(held, capabilities=surface.capabilities),
        output_schema=output_schema,
        meta=spec.meta,
    )


def _served(
    spec: ToolSpec, service: Service, model: type[StrictArguments], *, confirmed: bool
) -> Callable[..., Awaitable[Any]]:
    """Give a handler its context (and progress), and a confirmed call the arguments that were confirmed."""
    defaults = {name: field.default for name, field in model.model_fields.items()}
    waits = "progress" in inspect.signature(spec.handler).parameters

    async def call(ctx: Context[Any, Any], confirmation_code: str | None = None, **arguments: Any) -> Any:
        changed = {name: value for name, value in arguments.items() if value is not None and value != defaults[name]}
        given: dict[str, Any] = to_jsonable_python(changed)
        context = await service.call_context(ctx, spec.name)
        tools = offered_names(context.backend.capabilities, context.guard)
        context = replace(context, arguments=given, confirmation_code=confirmation_code, tools=tools)
        if confirmation_code is not None and service.guard.confirm != "person":
            ledger = await service.ledger()
            shown = await recall(ledger.codes, ledger.hashed(context.caller), spec.name, confirmation_code, given)
            arguments = model.model_validate(shown.arguments).model_dump_one_level()
            arguments.pop("confirmation_code")
            context = replace(context, arguments=shown.arguments)
        handed_in = (context, _rising(ctx)) if waits else (context,)
        may_launch = confirmed and "batch_call_id" in arguments
        for _ in range(_MOST_QUESTIONS):
            turn = (context.caller, arguments["batch_call_id"]) if may_launch else None
            try:
                async with service.turns.setdefault(turn, anyio.Lock()) if turn else nullcontext():
                    return await spec.handler(*handed_in, **arguments)
            except LaunchedMeanwhile:
                continue  # nothing was sent; the next question names who is called twice
            except QuestionToPut as pending:
                asked = await pending.put()
                if asked is not None:
                    return asked
        raise NotConfirmed(
            f"What {spec.name} would launch changed during each of {_MOST_QUESTIONS} questions. Nothing was sent. "
            "Find out who changes it before you ask the person again."
        )

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
