"""What a model and a client read of the server, as files that a person reviews.

`tools/<tool>.json` is a tool on the richest backend, `results/<Model>.json` the schema of a result, and
`surfaces/<backend>.json` what differs elsewhere, as a JSON merge patch (RFC 7386): null means that it is not there.
`python -m tests.server.renew_snapshots` writes them; `test_contract` fails when they differ.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import anyio
from mcp.types import Tool

from batchcall_mcp.backends.registry import BUILT_IN
from batchcall_mcp.server.app import BatchCallServer, build_server
from batchcall_mcp.server.tools.registry import TOOLS
from batchcall_mcp.server.tools.schemas import names_and_types, result_schema
from batchcall_mcp.server.tools.strict_tools import result_model
from batchcall_mcp.settings import Settings
from tests.vendors.talking import found

SNAPSHOTS = Path(__file__).parent / "snapshots"
RENEW = "python -m tests.server.renew_snapshots"
RESULTS = {spec.name: result_model(spec.handler) for spec in TOOLS}


@dataclass(frozen=True)
class Surface:
    """One backend, over one kind of transport."""

    backend: str
    transport: Literal["stdio", "http"] = "stdio"

    def __str__(self) -> str:
        return self.backend if self.transport == "stdio" else f"{self.backend}-over-http"

    def server(self) -> BatchCallServer:
        """The server with default settings; nothing of it is started."""
        with found():
            return build_server(Settings(backend=self.backend), transport=self.transport)

    def tools(self) -> list[Tool]:
        """The tools as tools/list gives them."""
        return anyio.run(self.server().list_tools)

    def described(self) -> dict[str, Any]:
        """All of it, with the name of each result in place of its schema."""
        tools = self.tools()
        return {
            "instructions": self.server().instructions,
            "order": [tool.name for tool in tools],
            "tools": {tool.name: reported(tool) | {"outputSchema": _result_of(tool)} for tool in tools},
        }


RICHEST = Surface("dialer")
SURFACES = (
    RICHEST,
    *(Surface(name) for name in BUILT_IN if name != RICHEST.backend),
    Surface("talking"),
    Surface("dialer", "http"),
)
"""`talking` is the tests' own, and stands for vendors that keep what was said."""


def reported(tool: Tool) -> dict[str, Any]:
    """A tool as it goes over the wire."""
    return tool.model_dump(mode="json", by_alias=True, exclude_none=True)


def files() -> Iterator[tuple[Path, str]]:
    """Path and text of every snapshot."""
    richest = RICHEST.described()
    for name, tool in richest["tools"].items():
        yield SNAPSHOTS / "tools" / f"{name}.json", _written(tool)
    for model in {model for model in RESULTS.values() if model is not None}:
        yield SNAPSHOTS / "results" / f"{model.__name__}.json", _written(result_schema(model))
    for surface in SURFACES:
        found = {**richest, "tools": {}} if surface is RICHEST else difference(richest, surface.described())
        yield SNAPSHOTS / "surfaces" / f"{surface}.json", _written(found)


def difference(from_: dict[str, Any], to: dict[str, Any]) -> dict[str, Any]:
    """The merge patch that makes one object of another."""
    found: dict[str, Any] = {name: None for name in from_ if name not in to}
    for name, value in to.items():
        before = from_.get(name)
        if isinstance(before, dict) and isinstance(value, dict):
            if inner := difference(before, value):
                found[name] = inner
        elif before != value:
            found[name] = value
    return found


def merged(to: Any, patch: Any) -> Any:
    """What a merge patch makes of a value."""
    if not isinstance(patch, dict):
        return patch
    made = dict(to) if isinstance(to, dict) else {}
    for name, value in patch.items():
        made[name] = merged(made.get(name), value)
    return {name: value for name, value in made.items() if value is not None}


def _result_of(tool: Tool) -> str:
    """The name of a tool's result, if the tool publishes the schema of that result, or its names and types."""
    model = RESULTS[tool.name]
    assert model is not None
    whole = result_schema(model)
    forms = {f"results/{model.__name__}.json": whole, f"names and types of {model.__name__}": names_and_types(whole)}
    return next(form for form, schema in forms.items() if schema == tool.output_schema)


def _written(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
