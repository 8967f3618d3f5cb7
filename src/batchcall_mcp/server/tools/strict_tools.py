"""Tools that refuse what they do not know, published in schemas without noise, failing in texts a model can act on.

The SDK (mcp 2.3) drops unknown arguments, answers with pydantic's raw text, prefixes every failure, and opens a
server's lifespan once for each SSE connection. All of it is put right through public API. For a tool that makes phones
ring it would be dangerous: `{"limt": 3}` would call everybody.

The model of a tool's arguments is made from the parameters of its function, for one surface: what an argument depends
on stands in its annotation (`OnlyIf`, `RequiredIf`, `TypedBy`).
"""

from __future__ import annotations

import inspect
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import Annotated, Any, Final, TypeAlias, Union, get_args, get_origin

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError, UnexpectedToolError
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.types import CallToolResult, InputRequiredResult, ToolAnnotations
from mcp.types import Tool as MCPTool
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, create_model, model_validator
from pydantic_core import PydanticCustomError

from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.server.credentials import AcceptedPairs
from batchcall_mcp.server.tools.results import render
from batchcall_mcp.server.tools.schemas import ArgumentSchema, open_objects, result_schema
from batchcall_mcp.server.tools.tool_calls import UNKNOWN_TOOL, ToolCalls
from batchcall_mcp.server.tools.validation_errors import describe_arguments, nearest, quoted, sentence
from batchcall_mcp.text import printable_lines

_A_WORD_OF_JSON: Final = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]+)?")
_A_TOOL: Final = re.compile(r"\b[a-z]+_batch_calls?\b")


@dataclass(frozen=True, slots=True)
class OnlyIf:
    """The argument exists only where this holds; elsewhere it is refused like an unknown one. Several must all hold."""

    holds: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class RequiredIf:
    """The argument must be given where this holds, although the function has a default."""

    holds: Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class TypedBy:
    """The argument's type depends on the surface; None leaves the written one. What is said of it stays."""

    kind: Callable[[Any], Any]


class StrictArguments(ArgModelBase):
    """The base of every tool's arguments. A null for an argument that has a default is the same as none."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        optional = {name for name, field in cls.model_fields.items() if not field.is_required()}
        return {name: value for name, value in data.items() if value is not None or name not in optional}


class StrictMetadata(FuncMetadata):
    """Takes a list or object that came as a JSON string (Claude Desktop); renders results."""

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
        return result if isinstance(result, CallToolResult | InputRequiredResult) else render(result)


def argument_model(name: str, fn: Callable[..., Any], surface: object = None, **more: Any) -> type[StrictArguments]:
    """The model of a tool's arguments: the parameters of `fn`, without a Context and those that are positional only.

    The conditions in the annotations are asked about the surface. `more` are further arguments, all optional, by name.

    Raises:
        TypeError: a parameter without a default does not exist on this surface.
    """
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(fn, eval_str=True).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY or _is_context(parameter.annotation):
            continue
        written, *said = _parted(parameter.annotation)
        required = parameter.default is parameter.empty
        if not all(one.holds(surface) for one in said if isinstance(one, OnlyIf)):
            if required:
                raise TypeError(f"{name}: {parameter.name} has no default, so it cannot be dropped")
            continue
        kinds = [one.kind(surface) for one in said if isinstance(one, TypedBy)]
        kind, *narrower = _parted(next((one for one in kinds if one is not None), written))
        plain = [one for one in said if not isinstance(one, OnlyIf | RequiredIf | TypedBy)] + narrower
        required = required or any(one.holds(surface) for one in said if isinstance(one, RequiredIf))
        annotation = Annotated[kind, *plain] if plain else kind
        fields[parameter.name] = (_exact(annotation), ... if required else parameter.default)
    fields |= {added: (annotation, None) for added, annotation in more.items()}
    return create_model(f"{name}_arguments", __base__=StrictArguments, **fields)


@cache
def result_model(fn: Callable[..., Any]) -> type[BaseModel] | None:
    """The model that a tool's function is annotated to return, alone or in a union with `InputRequiredResult`.

    None for a function that makes its protocol result itself.

    Raises:
        TypeError: it is not annotated with one model.
    """
    annotation = inspect.signature(fn, eval_str=True).return_annotation
    arms = [arm for arm in _arms(annotation) if arm is not InputRequiredResult]
    if len(arms) != 1 or not (isinstance(arms[0], type) and issubclass(arms[0], BaseModel)):
        raise TypeError(f"{fn.__name__} must be annotated to return one model, with or without InputRequiredResult")
    return None if arms[0] is CallToolResult else arms[0]


def strict_tool(
    fn: Callable[..., Any],
    *,
    name: str,
    title: str,
    description: str,
    annotations: ToolAnnotations | None,
    arguments: type[StrictArguments] | None = None,
    shown: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    output_schema: dict[str, Any] | None = None,
    meta: dict[str, Any] | None = None,
) -> Tool:
    """Make a tool of an async function: the title is for people, the description for the model.

    `fn` gets the arguments by name, and its `Context`. It returns a result model, or `CallToolResult` itself, each
    possibly in a union with `InputRequiredResult`. `arguments` and `output_schema` that are None are made from `fn`.
    `shown` says what is published of the schema of the arguments; all of it is accepted. `meta` is for the client.

    Raises:
        TypeError: the function cannot be published strictly: a nested model ignores unknown fields (give it
            `extra="forbid"`; dataclasses need nothing), or there is no return annotation.
    """
    arguments = arguments or argument_model(name, fn)
    if output_schema is None and (model := result_model(fn)) is not None:
        output_schema = result_schema(model)
    parameters = arguments.model_json_schema(schema_generator=ArgumentSchema)
    if leaks := open_objects(parameters):
        raise TypeError(f"{name}: {', '.join(leaks)} would let unknown arguments pass; give the model extra='forbid'")
    parameters = parameters if shown is None else shown(parameters)
    signature = inspect.signature(fn, eval_str=True)
    return Tool(
        fn=fn,
        name=name,
        title=title,
        description=description,
        parameters=parameters,
        fn_metadata=StrictMetadata(arg_model=arguments, output_schema=output_schema),
        is_async=True,
        context_kwarg=next((one.name for one in signature.parameters.values() if _is_context(one.annotation)), None),
        annotations=annotations,
        meta=meta,
    )


class LateTools(Mapping[str, Tool]):
    """Tools by name, in their order. Each is built when it is first read, once; a name alone builds nothing."""

    def __init__(self, builders: Mapping[str, Callable[[], Tool]]) -> None:
        self._builders = builders
        self._built: dict[str, Tool] = {}
        self._building = threading.Lock()

    def __getitem__(self, name: str) -> Tool:
        with self._building:
            if name not in self._built:
                self._built[name] = self._builders[name]()
            return self._built[name]

    def __contains__(self, name: object) -> bool:
        return name in self._builders

    def __iter__(self) -> Iterator[str]:
        return iter(self._builders)

    def __len__(self) -> int:
        return len(self._builders)


Opener: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]
"""Takes the server and opens (and later closes) its state."""


class StrictServer(MCPServer[Any]):
    """An MCPServer whose failures are texts that a model can act on, and whose state is opened once for a process.

    `needs_secret` says whether callers have a secret in addition to their key (`Capabilities.needs_secret`), `accepted`
    which key pairs the backend accepts. The SDK does not have `LateTools`, so it checks no header that their schemas
    name (`x-mcp-header`).
    """

    def __init__(
        self,
        name: str,
        *,
        tools: list[Tool] | LateTools,
        lifespan: Opener | None = None,
        needs_secret: bool = True,
        accepted: AcceptedPairs | None = None,
        **settings: Any,
    ) -> None:
        self.needs_secret = needs_secret
        self.accepted = accepted or AcceptedPairs()
        self._opener = lifespan or (lambda _server: nullcontext({}))
        self.calls = ToolCalls()
        self._held: list[Any] = []
        known = [] if isinstance(tools, LateTools) else tools
        self._tools_by_name: Mapping[str, Tool] = tools if isinstance(tools, LateTools) else _by_name(tools)
        super().__init__(name, tools=known, lifespan=self._connected, **settings)

    @asynccontextmanager
    async def held_open(self) -> AsyncIterator[None]:
        """Open the state now, and share it with every connection until this is left.

        Without it (stdio, in memory) each connection opens and closes its own, as the SDK means it.
        """
        async with self._opener(self) as state:
            self._held.append(state)
            try:
                yield
            finally:
                self._held.clear()

    @asynccontextmanager
    async def _connected(self, server: Any) -> AsyncIterator[Any]:
        if self._held:
            yield self._held[0]
            return
        async with self._opener(server) as state:
            yield state

    @property
    def tool_names(self) -> tuple[str, ...]:
        """Of all its tools, in their order."""
        return tuple(self._tools_by_name)

    def built(self, name: str) -> Tool:
        """One of `tool_names`, built now if it was not. Blocks."""
        return self._tools_by_name[name]

    def offered_to(self, context: Context[Any, Any] | None) -> frozenset[str]:  # noqa: ARG002 - for those that differ
        """The tools that the caller of one request may call."""
        return frozenset(self._tools_by_name)

    def refusal_of(self, name: str, context: Context[Any, Any] | None) -> BatchCallError | None:  # noqa: ARG002 - as above
        """Why the caller of one request may not call a tool that there is; None: they may."""
        return None

    def only_reads(self, name: str) -> bool:
        """Whether a tool changes nothing."""
        return _only_reads(self._tools_by_name[name])

    def arguments_of(self, name: str, texts: Mapping[str, str]) -> dict[str, Any]:
        """Arguments that a person typed as texts, as the tool's schema has them. What does not fit stays a text.

        A list may be typed with commas. A number, a list and an object may be typed as JSON.
        """
        tool = self._tools_by_name.get(name)
        known = {} if tool is None else tool.parameters.get("properties", {})
        return {argument: _typed(text, known.get(argument, {}).get("type")) for argument, text in texts.items()}

    def problem_with(self, name: str, arguments: Mapping[str, Any]) -> str | None:
        """What is wrong with a call as it is written, in the words of `call_tool`; None: nothing."""
        tool = self._tools_by_name.get(name)
        if tool is None:
            problem = sentence(f"There is no tool {quoted(name)}{nearest(name, self._tools_by_name)}")
            return printable_lines(f"[invalid_input] {problem} Nothing was sent.")
        try:
            tool.fn_metadata.arg_model.model_validate(tool.fn_metadata.pre_parse_json(dict(arguments)))
        except ValidationError as error:
            return printable_lines(describe_arguments(error, arguments, tool.parameters))
        return None

    async def list_tools(self) -> list[MCPTool]:
        """All tools, with their schemas."""
        return [_listed(tool) for tool in self._tools_by_name.values()]

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool.

        Raises:
            ToolError: whose text begins with `[code]`.
            UnexpectedToolError: for a defect; its text withholds what happened, the server's log has it.
            MCPError: passed through.
        """
        known = name if name in self._tools_by_name else UNKNOWN_TOOL
        return await self.calls.counted(known, self._called(name, arguments, context))

    async def _called(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None
    ) -> CallToolResult | InputRequiredResult:
        if name not in self._tools_by_name:
            raise ToolError(self.problem_with(name, arguments))
        refused = self.refusal_of(name, context)
        if refused is not None:
            raise ToolError(f"[{refused.code}] {refused}")
        try:
            tool = self._tools_by_name[name]
        except Exception as error:
            raise UnexpectedToolError(_defect(name, " before it began, so nothing was changed")) from error
        try:
            given = Context(mcp_server=self) if context is None else context
            result: CallToolResult | InputRequiredResult = await tool.run(arguments, given, convert_result=True)
            return result
        except UnexpectedToolError as error:
            expected = _expected(error)
            if expected is not None:
                text = f"[{expected.code}] {expected}{_not_offered(str(expected), self.offered_to(context))}"
                raise ToolError(printable_lines(text)) from expected
            raise UnexpectedToolError(_defect(name, _known_of(tool))) from error.__cause__
        except ToolError as error:
            cause = error.__cause__
            if isinstance(cause, ValidationError):
                raise ToolError(printable_lines(describe_arguments(cause, arguments, tool.parameters))) from cause
            raise ToolError(printable_lines(str(error).removeprefix(f"Error executing tool {name}: "))) from cause


def _by_name(tools: list[Tool]) -> dict[str, Tool]:
    return {tool.name: tool for tool in tools}


def _listed(tool: Tool) -> MCPTool:
    """As `MCPServer` lists it."""
    return MCPTool(
        name=tool.name,
        title=tool.title,
        description=tool.description,
        input_schema=tool.parameters,
        output_schema=tool.output_schema,
        annotations=tool.annotations,
        icons=tool.icons,
        _meta=tool.meta,
    )


def _typed(text: str, kind: str | None) -> Any:
    """What a text means where this type of JSON is expected; an object or list in JSON is read with the others."""
    if kind == "array" and text[:1] not in {"[", "{"}:
        return [one.strip() for one in text.split(",")]
    if kind in {"boolean", "integer", "number"} and _A_WORD_OF_JSON.fullmatch(text):
        return json.loads(text)
    return text


def _not_offered(text: str, tools: Iterable[str]) -> str:
    """A sentence about the tools that a text names and that there are not, for the backend or the operator's mode."""
    absent = sorted(set(_A_TOOL.findall(text)).difference(tools))
    return f" ({' and '.join(absent)}: not offered by this server.)" if absent else ""


def _expected(error: BaseException) -> BatchCallError | None:
    """The BatchCallError that a tool raised, also from inside a task group that held nothing else."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
        cause = cause.exceptions[0]
    return cause if isinstance(cause, BatchCallError) else None


def _defect(name: str, known: str) -> str:
    return f"[internal_error] A defect in this server stopped {name}{known}. Details are in the server's log."


def _known_of(tool: Tool) -> str:
    if _only_reads(tool):
        return ". It only reads, so nothing was changed"
    return ". Nothing is known about what it did; look the batch call up before you call it again"


def _only_reads(tool: Tool) -> bool:
    return bool(tool.annotations and tool.annotations.read_only_hint)


def _is_context(annotation: Any) -> bool:
    kind = get_origin(annotation) or annotation
    return isinstance(kind, type) and issubclass(kind, Context)


def _parted(annotation: Any) -> tuple[Any, ...]:
    """The type, and what is said of it."""
    return get_args(annotation) if get_origin(annotation) is Annotated else (annotation,)


def _arms(annotation: Any) -> Iterator[Any]:
    """The alternatives of a union, or the one type."""
    yield from get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)


def _members(annotation: Any) -> frozenset[Any]:
    """The plain types that an annotation accepts at its top."""
    kind = _parted(annotation)[0]
    arms = list(_arms(kind))
    return frozenset(arms) if arms == [kind] else frozenset().union(*map(_members, arms))


def _exact(annotation: Any) -> Any:
    """Take from pydantic's leniency what is not lossless: true for 1, and yes, on, t or 1 for true."""
    members = _members(annotation)
    if bool in members:
        return annotation if str in members else Annotated[annotation, BeforeValidator(_only_true_or_false)]
    if members & {int, float}:
        kind, what = ("float_type", "must be a number") if float in members else ("int_type", "must be a whole number")
        return Annotated[annotation, BeforeValidator(_not_boolean(kind, what))]
    return annotation


def _only_true_or_false(value: Any) -> Any:
    words = {"true": True, "false": False}
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise PydanticCustomError("bool_type", "must be true or false")


def _not_boolean(kind: Any, what: Any) -> Callable[[Any], Any]:
    def checked(value: Any) -> Any:
        if isinstance(value, bool):
            raise PydanticCustomError(kind, what)
        return value

    return checked
