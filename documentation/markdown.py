"""The Markdown of reference pages: tables, and JSON schemas in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_WORDS = {"integer": "whole number", "boolean": "true or false", "string": "text", "array": "list", "null": "null"}
_LIMITS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "more than {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "less than {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {} entries"),
    ("maxItems", "at most {} entries"),
)
_CODE = re.compile(r"`[^`]*`|\bBATCHCALL_[A-Z_]*[A-Z]\b|(?<![\w-])--[a-z][a-z-]+|\bX-[A-Z]+-[A-Z]+\b")
_MOST_VALUES = 20
MORE_ROWS = "…"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a column in which nothing stands is not there."""
    written = [[cell(text) for text in row] for row in rows]
    shown = [at for at in range(len(heads)) if at == 0 or any(row[at] for row in written)]
    lines = [[heads[at] for at in shown], ["---"] * len(shown), *([row[at] for at in shown] for row in written)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cell(text: str) -> str:
    """As one line that ends no column."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: object) -> str:
    return f"`{text}`"


def codes(values: Iterable[object]) -> str:
    return ", ".join(map(code, values))


def marked(text: str) -> str:
    """The text with variables, options and headers as code, where they are not yet."""
    return _CODE.sub(lambda found: found[0] if found[0].startswith("`") else code(found[0]), text)


def rows_of(schema: Mapping[str, Any], path: str = "") -> Iterable[tuple[str, Mapping[str, Any], bool]]:
    """Every field of an object and of the objects in it: its path, its schema, and whether it is required."""
    required = schema.get("required", [])
    for name, field in schema.get("properties", {}).items():
        here = f"{path}{name}"
        yield here, field, name in required
        inner = one_of(field)
        if inner.get("type") == "array":
            yield from rows_of(one_of(inner.get("items", {})), f"{here}[].")
        else:
            yield from rows_of(inner, f"{here}.")


def one_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema itself, or the one of its forms that is not null."""
    forms = [form for form in schema.get("anyOf", ()) if form.get("type") != "null"]
    return forms[0] if len(forms) == 1 else schema


def kind(schema: Mapping[str, Any]) -> str:
    """Type, unit or format, values and limits of a schema, in words."""
    schema = one_of(schema)
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    values = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    if values:
        return codes(values[:_MOST_VALUES]) + (f", {MORE_ROWS}" if len(values) > _MOST_VALUES else "")
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(kind(form) for form in schema["anyOf"] if form.get("type") != "null"))
    given = schema.get("type", "")
    words = [", ".join(_WORDS.get(one, one) for one in ([given] if isinstance(given, str) else given))]
    if given == "array" and schema.get("items"):
        words = [f"list of {kind(schema['items'])}"]
    if given == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        words = [f"object of {kind(schema['additionalProperties']) or 'values'}"]
    words += [schema["format"]] if schema.get("format") not in {None, "binary"} else []
    words += [_limit(name, text, schema[name]) for name, text in _LIMITS if name in schema]
    return ", ".join(word for word in words if word)


def _limit(name: str, text: str, value: float) -> str:
    return "not empty" if name in {"minLength", "minItems"} and value == 1 else text.format(number(value))


def number(value: float) -> str:
    """With thousands, and without a fraction that says nothing."""
    return f"{int(value):,}" if value == int(value) else str(value)
