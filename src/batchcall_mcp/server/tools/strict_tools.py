"""Tools that refuse what they do not know, published in schemas without noise, failing in texts a model can act on.

The SDK (mcp 2.3) drops unknown arguments, answers with pydantic's raw text and prefixes every failure. For a tool that
makes phones ring that is dangerous: `{"limt": 3}` would call everybody. All of it is put right through public API.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.types import CallToolResult, InputRequiredResult, TextContent, ToolAnnotations
from pydantic import BeforeValidator, ConfigDict, ValidationError, create_model, model_validator
from pydantic_core import PydanticCustomError

from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.server.lifespan import Opener, ProcessLifespan
from batchcall_mcp.server.sessions import Acceptance
from batchcall_mcp.server.tools.schemas import ArgumentSchema, open_objects, result_adapter, result_schema
from batchcall_mcp.server.tools.validation_errors import describe_arguments, nearest, quoted, sentence
from batchcall_mcp.text import printable_lines


class StrictArguments(ArgModelBase):
    """The base of every tool's arguments. A null for an argument that has a default is the same as leaving it out."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {name: value for name, value in data.items() if value is not None or name not in optional}


class StrictMetadata(FuncMetadata):
    """Takes a list or object that came as a JSON string (Claude Desktop); leaves nulls out of results."""

    def pre_parse_json(self, data: dict[str, Any]) -> dict[str, Any]:
        """The arguments, nested ones as objects; what may be meant as text stays text."""
        parsed = dict(data)
        for name, field in self.arg_model.model_fields.items():
            value = parsed.get(name)
            if isinstance(value, str) and value.lstrip()[:1] in {"[", "{"} and str not in _members(field.annotation):
                try:
                    parsed[name] = json.loads(value)
                except (ValueError, RecursionError):
                    continue  # not JSON: validation says what was expected
        return parsed

    def convert_result(self, result: Any) -> CallToolResult | InputRequiredResult:
        """A tool's own CallToolResult, checked, or a model as compact JSON."""
        if self.output_model is None or isinstance(result, CallToolResult | InputRequiredResult):
            return super().convert_result(result)
        adapter = result_adapter(self.output_model)
        written = adapter.dump_python(adapter.validate_python(result), mode="json", by_alias=True, exclude_none=True)
        text = json.dumps(written, ensure_ascii=False, separators=(",", ":"))
        return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=written)


def strict_tool(
    fn: Callable[..., Any],
    *,
    name: str,
    title: str,
    description: str,
    annotations: ToolAnnotations | None,
    drop: Collection[str] = (),
    require: Collection[str] = (),
    retype: Mapping[str, Any] | None = None,
    meta: dict[str, Any] | None = None,
) -> Tool:
    """Make a tool of an async function.

    Args:
        fn: Its parameters are the arguments, one annotated `Context` excepted. It returns a pydantic model or
            dataclass, `Annotated[CallToolResult, Model]`, or plain `CallToolResult` (no structured result); each may be
            in a union with `InputRequiredResult`.
        name: As the model calls it.
        title: For people.
        description: For the model.
        annotations: The four hints.
        drop: Parameters that are no arguments here; their defaults are used, and they are refused like unknown ones.
        require: Parameters that must be given although the function has a default.
        retype: Other annotations for some parameters, as for an enum that this backend has less of.
        meta: `_meta` of the tool.

    Raises:
        TypeError: for a signature that cannot be published strictly: a nested model that ignores unknown fields (give
            it `extra="forbid"`; dataclasses need nothing), a dropped parameter without a default, no return annotation.
    """
    signature = inspect.signature(fn, eval_str=True)
    retype = retype or {}
    unknown = {*drop, *require, *retype} - set(signature.parameters)
    if unknown:
        raise TypeError(f"{name} has no parameter {', '.join(sorted(unknown))}")
    fields: dict[str, Any] = {}
    context_parameter = None
    for parameter in signature.parameters.values():
        if _is_context(parameter.annotation):
            context_parameter = parameter.name
        elif parameter.name in drop:
            if parameter.default is parameter.empty:
                raise TypeError(f"{name}: {parameter.name} has no default, so it cannot be dropped")
        else:
            annotation = retype.get(parameter.name, parameter.annotation)
            no_default = parameter.default is parameter.empty or parameter.name in require
            fields[parameter.name] = (_exact(annotation), ... if no_default else parameter.default)
    arguments = create_model(f"{name}_arguments", __base__=StrictArguments, **fields)
    parameters = arguments.model_json_schema(schema_generator=ArgumentSchema)
    if leaks := open_objects(parameters):
        raise TypeError(f"{name}: {', '.join(leaks)} would let unknown arguments pass; give the model extra='forbid'")
    result = _result_model(name, signature.return_annotation)
    return Tool(
        fn=fn,
        name=name,
        title=title,
        description=description,
        parameters=parameters,
        fn_metadata=StrictMetadata(
            arg_model=arguments,
            output_schema=None if result is None else result_schema(result),
            output_model=result,
        ),
        is_async=inspect.iscoroutinefunction(fn),
        context_kwarg=context_parameter,
        annotations=annotations,
        meta=meta,
    )


class StrictServer(MCPServer[Any]):
    """An MCPServer whose failures are texts that a model can act on, and whose lifespan can be held for a process.

    `needs_secret` says whether callers have a secret beside their key (`Capabilities.needs_secret`), `accepted` which
    key pairs the backend accepts; None where there is no backend to ask.
    """

    accepted: Acceptance | None = None

    def __init__(
        self,
        name: str,
        *,
        tools: list[Tool],
        lifespan: Opener | None = None,
        needs_secret: bool = True,
        **settings: Any,
    ) -> None:
        self.needs_secret = needs_secret
        self._process_lifespan = None if lifespan is None else ProcessLifespan(lifespan)
        self._tools_by_name = {tool.name: tool for tool in tools}
        super().__init__(name, tools=tools, lifespan=self._process_lifespan, **settings)

    def held_open(self) -> AbstractAsyncContextManager[None]:
        """Opens the lifespan's state once for the process; connections that begin meanwhile share it."""
        return nullcontext() if self._process_lifespan is None else self._process_lifespan.hold(self)

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool.

        Raises:
            ToolError: whose text begins with `[code]`.
            UnexpectedToolError: for a defect; its text withholds what happened, the server's log has it.
            MCPError: passed through.
        """
        tool = self._tools_by_name.get(name)
        if tool is None:
            problem = sentence(f"There is no tool {quoted(name)}{nearest(name, self._tools_by_name)}")
            raise ToolError(printable_lines(f"[invalid_input] {problem} Nothing was sent."))
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError as error:
            expected = _expected(error)
            if expected is not None:
                raise ToolError(_text(expected)) from expected
            raise UnexpectedToolError(_defect(tool)) from error.__cause__
        except ToolError as error:
            cause = error.__cause__
            if isinstance(cause, ValidationError):
                raise ToolError(printable_lines(describe_arguments(cause, arguments, tool.parameters))) from cause
            raise ToolError(printable_lines(str(error).removeprefix(f"Error executing tool {name}: "))) from cause


def _text(error: BatchCallError) -> str:
    return printable_lines(f"[{error.code}] {error}")


def _expected(error: BaseException) -> BatchCallError | None:
    """The BatchCallError that a tool raised, also from inside a task group that held nothing else."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
        cause = cause.exceptions[0]
    return cause if isinstance(cause, BatchCallError) else None


def _defect(tool: Tool) -> str:
    if tool.annotations and tool.annotations.read_only_hint:
        known = "It only reads, so nothing was changed"
    else:
        known = "Nothing is known about what it did; look the batch call up before you call it again"
    return f"[internal_error] A defect in this server stopped {tool.name}. {known}. Details are in the server's log."


def _is_context(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, Context)


def _result_model(tool: str, annotation: Any) -> Any:
    arms = [arm for arm in _arms(annotation) if arm is not InputRequiredResult]
    if len(arms) != 1 or arms[0] is inspect.Signature.empty:
        raise TypeError(f"{tool} must be annotated to return one model, with or without InputRequiredResult")
    arm = arms[0]
    if arm is CallToolResult:
        return None
    if get_origin(arm) is Annotated and get_args(arm)[0] is CallToolResult:
        return get_args(arm)[1]
    if not isinstance(arm, type):
        raise TypeError(f"{tool} must return a model, not {arm}")
    return arm


def _arms(annotation: Any) -> tuple[Any, ...]:
    """The alternatives of a union, or the one type."""
    return get_args(annotation) if _is_union(annotation) else (annotation,)


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in {Union, UnionType}


def _members(annotation: Any) -> frozenset[Any]:
    """The plain types that an annotation accepts at its top."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if _is_union(annotation):
        return frozenset().union(*(_members(arm) for arm in get_args(annotation)))
    return frozenset({annotation})


def _exact(annotation: Any) -> Any:
    """Take from pydantic's leniency what is not lossless: true for 1, and yes, on, t or 1 for true."""
    members = _members(annotation)
    if bool in members:
        return Annotated[annotation, BeforeValidator(_only_true_or_false)] if str not in members else annotation
    if members & {int, float}:
        return Annotated[annotation, BeforeValidator(_no_boolean if float in members else _no_boolean_for_whole)]
    return annotation


def _only_true_or_false(value: Any) -> Any:
    words = {"true": True, "false": False}
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise PydanticCustomError("bool_type", "must be true or false")


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("float_type", "must be a number")
    return value


def _no_boolean_for_whole(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "must be a whole number")
    return value
