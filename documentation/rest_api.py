"""docs/rest-api.md: every operation and body of the dialer's REST API, from its OpenAPI document."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from batchcall_mcp.dialer.app import EmbeddedDialer
from documentation.markdown import code, codes, kind, marked, one_of, table

_ENVELOPE = "Success_"
_BASE = "BatchCall"
"""Several answers are a batch call and a few fields more."""
_METHODS = ("get", "post", "put", "patch", "delete")


def document() -> dict[str, Any]:
    """The OpenAPI document of a dialer that is not started."""
    with tempfile.TemporaryDirectory() as data:
        return EmbeddedDialer(Path(data)).app.openapi()


def render() -> str:
    """An overview, a section for each operation, then the objects in their bodies and answers."""
    described = document()
    found = list(_operations(described))
    rows = [(f"[`{method} {path}`](#{_anchor(one)})", _first(one)) for method, path, one in found]
    schemas = described["components"]["schemas"]
    shown = {name: one for name, one in schemas.items() if not name.startswith(_ENVELOPE)}
    return "\n".join(
        [
            table(("method and path", "what it does"), rows),
            *(_section(*one) for one in found),
            "## Objects\n",
            *(_object(name, one, shown) for name, one in sorted(shown.items())),
        ]
    )


def _operations(described: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in described["paths"].items():
        for method in _METHODS:
            if method in methods:
                yield method.upper(), path, methods[method]


def _section(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parameters = [
        (
            f"**{code(one['name'])}**" if one.get("required") else code(one["name"]),
            one["in"],
            kind(one["schema"]),
            _default(one["schema"]),
            _text(one) or _text(one["schema"]),
        )
        for one in operation.get("parameters", ())
    ]
    statuses = [status for status in operation["responses"] if status != "200"]
    lines = [
        f"## {_title(operation)}\n",
        f"{code(f'{method} {path}')}\n",
        f"{marked(operation.get('description', ''))}\n",
        *(
            [table(("parameter (bold: required)", "in", "type and limits", "default", "meaning"), parameters)]
            if parameters
            else []
        ),
        " ".join(
            [*_body(operation), *_answer(operation), f"Other statuses: {', '.join(statuses)}." if statuses else ""]
        )
        + "\n",
    ]
    return "\n".join(lines)


def _body(operation: Mapping[str, Any]) -> Iterator[str]:
    if body := operation.get("requestBody"):
        schema = body["content"]["application/json"]["schema"]
        yield f"Body: {kind(schema)}{'' if body.get('required') else ', may be empty'}."


def _answer(operation: Mapping[str, Any]) -> Iterator[str]:
    content: Mapping[str, Any] = operation["responses"]["200"].get("content", {})
    for media, one in content.items():
        name = one.get("schema", {}).get("$ref", "").rpartition("/")[2]
        if name.startswith(_ENVELOPE):
            data = name.removeprefix(_ENVELOPE).rstrip("_")
            yield "Answer: no `data`." if data == "NoneType" else f"Answer: `data` is [{data}](#{data.lower()})."
        elif name:
            yield f"Answer: [{name}](#{name.lower()})."
        elif media != "application/json":
            yield f"Answer: {code(media)}."


def _object(name: str, schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    properties: Mapping[str, Any] = schema.get("properties", {})
    base = schemas[_BASE]["properties"]
    extends = name != _BASE and base.keys() <= properties.keys() and all(properties[one] == base[one] for one in base)
    fields = {field: one for field, one in properties.items() if not (extends and field in base)}
    required = schema.get("required", ())
    return "\n".join(
        [
            f"### {name}\n",
            *([f"{marked(schema['description'])}\n"] if "description" in schema else []),
            *([f"It has every field of [{_BASE}](#{_BASE.lower()}), and these:\n"] if extends else []),
            table(
                ("field (bold: required or always there)", "type and limits", "default", "meaning"),
                _fields(fields, required),
            )
            if fields
            else f"One of {codes(schema.get('enum', ()))}.\n",
        ]
    )


def _fields(fields: Mapping[str, Any], required: Iterable[str]) -> Iterator[tuple[str, str, str, str]]:
    for name, schema in fields.items():
        always = name in required
        null = ", or null" if always and any(form.get("type") == "null" for form in schema.get("anyOf", ())) else ""
        yield f"**{code(name)}**" if always else code(name), kind(schema) + null, _default(schema), _text(schema)


def _default(schema: Mapping[str, Any]) -> str:
    value = schema.get("default")
    return "" if value in (None, [], {}) else code(json.dumps(value).strip('"'))


def _text(schema: Mapping[str, Any]) -> str:
    return marked(schema.get("description") or one_of(schema).get("description") or "")


def _title(operation: Mapping[str, Any]) -> str:
    return str(operation["summary"]).capitalize()


def _anchor(operation: Mapping[str, Any]) -> str:
    return _title(operation).lower().replace(" ", "-")


def _first(operation: Mapping[str, Any]) -> str:
    return marked(operation.get("description", "").partition("\n\n")[0])
