"""docs/tools.md: every tool as the built-in dialer offers it over stdio, and what is different elsewhere."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import Any

import anyio
from mcp.types import Tool

from batchcall_mcp.backends.registry import BUILT_IN, backend_class
from batchcall_mcp.server.app import build_server
from batchcall_mcp.server.tools.registry import TOOLS
from batchcall_mcp.server.tools.schemas import result_schema
from batchcall_mcp.server.tools.strict_tools import argument_model, result_model
from batchcall_mcp.server.tools.tool_spec import Surface as ToolSurface
from batchcall_mcp.settings import Mode, Settings
from documentation.errors import codes_of
from documentation.markdown import code, codes, kind, number, rows_of, table

_DIALER = "dialer"
_WITH_CALLS = "vapi"
"""Keeps what was said, which the simulated carrier does not: it has the tool `get_call`."""
_TEST_NUMBER = ("+14155550123",)
_MODES: tuple[Mode, ...] = ("full", "draft", "read-only")
_HTTP = "over HTTP"
_ELSEWHERE = {"See create": "create_batch_call", "See get": "get_batch_call"}
_RESULTS = {spec.name: model for spec in TOOLS if (model := result_model(spec.handler)) is not None}


def render() -> str:
    """All tools, in the order in which a client lists them, then their results."""
    here = _tools(_WITH_CALLS) | _tools(_DIALER, test_numbers=_TEST_NUMBER)
    tools = [here[spec.name] for spec in TOOLS]
    return "\n".join([_overview(tools), *map(_section, tools), _results()])


@cache
def _tools(
    backend: str, mode: Mode = "full", *, http: bool = False, test_numbers: tuple[str, ...] = ()
) -> dict[str, Tool]:
    settings = Settings(backend=backend, mode=mode, test_numbers=test_numbers)
    server = build_server(settings, transport="http" if http else "stdio")
    return {tool.name: tool for tool in anyio.run(server.list_tools)}


def _surfaces() -> dict[str, dict[str, Tool]]:
    """What is compared with the built-in dialer."""
    return {code(name): _tools(name) for name in BUILT_IN} | {_HTTP: _tools(_DIALER, http=True)}


def _overview(tools: Iterable[Tool]) -> str:
    offered = {mode: _tools(_WITH_CALLS, mode).keys() | _tools(_DIALER, mode).keys() for mode in _MODES}
    rows = [
        (
            f"[`{tool.name}`](#{tool.name})",
            (tool.description or "").partition(". ")[0].rstrip("."),
            _hints(tool),
            codes(mode for mode in _MODES if tool.name in offered[mode]),
        )
        for tool in tools
    ]
    return table(("tool", "what it does", "annotations", "modes"), rows)


def _section(tool: Tool) -> str:
    result = _RESULTS[tool.name]
    schema = tool.input_schema
    rows = [
        (
            f"**{code(path)}**" if required else code(path),
            _type(tool.name, path, field),
            code(json.dumps(field["default"]).strip('"')) if "default" in field else "",
            _meaning(tool.name, path, field),
        )
        for path, field, required in rows_of(schema)
    ]
    errors = ["[those of every tool](errors.md)", *(f"[`{one}`](errors.md#{one})" for one in codes_of(tool))]
    shown = f"[{result.__name__}](#{result.__name__.lower()})"
    return "\n".join(
        [
            f"## {tool.name}\n",
            f"{tool.description}\n",
            f"Annotations: {_hints(tool)}. Result: {shown}. Errors: {', '.join(errors)}.\n",
            table(("argument (bold: required)", "type and limits", "default", "meaning"), rows),
            *_elsewhere(tool),
        ]
    )


def _meaning(tool: str, path: str, field: Mapping[str, Any]) -> str:
    """In full, where a model is referred to another tool to save its context."""
    text: str = field.get("description", "")
    if text in _ELSEWHERE:
        text = _tools(_DIALER)[_ELSEWHERE[text]].input_schema["properties"].get(path, {}).get("description", text)
    usual = (_tools(_DIALER) if tool in _tools(_DIALER) else _tools(_WITH_CALLS))[tool].input_schema["properties"]
    always = path.partition(".")[0].removesuffix("[]") in usual
    return text if always else f"{text}; only if `BATCHCALL_TEST_NUMBERS` is set"


def _type(tool: str, path: str, field: Mapping[str, Any]) -> str:
    """With the limits that are checked and not published, to save a model's context."""
    what, *limits = kind(field).split(", at ")
    unit = "entries" if what.startswith("list") else "characters"
    info = _model(tool).model_fields.get(path)
    for metadata in info.metadata if info else ():
        if least := getattr(metadata, "ge", None):
            limits.append(f"least {number(least)}")
        if most := getattr(metadata, "le", None):
            limits.append(f"most {number(most)}")
        if getattr(metadata, "min_length", None):
            what += ", not empty"
        if longest := getattr(metadata, "max_length", None):
            limits.append(f"most {number(longest)} {unit}")
    return ", at ".join([what, *sorted(dict.fromkeys(limits))])


@cache
def _model(tool: str) -> Any:
    (spec,) = (spec for spec in TOOLS if spec.name == tool)
    capabilities = backend_class(_DIALER if tool in _tools(_DIALER) else _WITH_CALLS).capabilities
    return argument_model(tool, spec.handler, ToolSurface(capabilities, local_files=True, test_numbers=True))


def _elsewhere(tool: Tool) -> Iterator[str]:
    """Where the tool, or one of its arguments, does not exist; and arguments that exist only elsewhere."""
    surfaces = {
        name: tools[tool.name].input_schema["properties"] for name, tools in _surfaces().items() if tool.name in tools
    }
    if without := [name for name in _surfaces() if name not in surfaces]:
        named = [f"{name} with the simulated carrier" if name == code(_DIALER) else name for name in without]
        yield f"Not available: {', '.join(name for name in named if name != _HTTP)}.\n"
    ours = [name for name in tool.input_schema["properties"] if any(name in there for there in surfaces.values())]
    added = dict.fromkeys(name for there in surfaces.values() for name in there if name not in ours)
    rows = [(code(name), ", ".join(at for at, there in surfaces.items() if name not in there), "") for name in ours]
    rows += [(code(name), "", ", ".join(at for at, there in surfaces.items() if name in there)) for name in added]
    if rows := [row for row in rows if row[1] or row[2]]:
        yield table(("argument", "not available", "only available"), rows)


def _results() -> str:
    """Every result, once."""
    models = {model.__name__: model for model in _RESULTS.values()}
    parts = ["## Results\n", "A field without a value is omitted. Times are in UTC (ISO 8601).\n"]
    for name, model in sorted(models.items()):
        fields = rows_of(result_schema(model))
        rows = [(code(path), kind(field), field.get("description", "")) for path, field, _ in fields]
        of = ", ".join(f"[`{tool}`](#{tool})" for tool, one in _RESULTS.items() if one is model)
        parts += [f"### {name}\n", f"{inspect.getdoc(model)} From {of}.\n", table(("field", "type", "meaning"), rows)]
    return "\n".join(parts)


def _hints(tool: Tool) -> str:
    given = tool.annotations
    if given is None or given.read_only_hint:
        return "reads only"
    words = ["destructive" if given.destructive_hint else "writes"]
    return ", ".join([*words, "idempotent"] if given.idempotent_hint else words)
