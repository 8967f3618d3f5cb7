"""JSON schemas of arguments and results as a model should read them: nothing in them that says nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

_DEFS = "#/$defs/"
_NAMED = frozenset({"properties", "$defs"})
_VALUES = frozenset({"default", "examples", "enum", "const"})


class ArgumentSchema(GenerateJsonSchema):
    """pydantic's schema without titles made from names, and without null where it only means "not given"."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        """Never: the property's name says it."""
        return False

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """The type alone; a null is accepted all the same."""
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """A default is told, save null."""
        if schema.get("default", ...) is None:
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def generate(self, schema: core_schema.CoreSchema, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        """The whole schema; what is used once stands where it is used."""
        generated: JsonSchemaValue = _untitled(super().generate(schema, mode))
        return inlined(generated)


class ResultSchema(ArgumentSchema):
    """The same for results, where nulls and defaults are left out: a field that may be null is not required."""

    def field_is_required(self, field: Any, total: bool) -> bool:  # noqa: FBT001 - pydantic's signature
        """Whether every result has the field."""
        return super().field_is_required(field, total) and field["schema"]["type"] != "nullable"

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Defaults are how results are made, not what they say."""
        return self.generate_inner(schema["schema"])


@lru_cache(maxsize=64)
def result_adapter(model: Any) -> TypeAdapter[Any]:
    """Validates and writes results of a model; made once."""
    return TypeAdapter(model)


@lru_cache(maxsize=64)
def result_schema(model: Any) -> dict[str, Any]:
    """The published schema of a tool's structured result. One for all tools that return the same model."""
    return _root_inlined(result_adapter(model).json_schema(schema_generator=ResultSchema, mode="serialization"))


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Put each definition where it is used if the schema becomes smaller by it; recursive ones stay."""
    definitions: dict[str, Any] = schema.get("$defs", {})
    if not definitions:
        return schema
    uses = Counter(_references(schema))
    worth = {
        name: body
        for name, body in definitions.items()
        if (uses[name] == 1 or _is_smaller_inside(name, body, uses[name])) and not _is_recursive(name, definitions)
    }
    kept = {name: _replaced(body, worth) for name, body in definitions.items() if name not in worth}
    whole: dict[str, Any] = _replaced({key: part for key, part in schema.items() if key != "$defs"}, worth)
    return {"$defs": kept, **whole} if kept else whole


def open_objects(schema: Any, path: str = "") -> list[str]:
    """Where a schema has an object with named properties that would let unknown ones pass."""
    if isinstance(schema, list):
        return [found for part in schema for found in open_objects(part, path)]
    if not isinstance(schema, Mapping):
        return []
    found = [path or "arguments"] if "properties" in schema and schema.get("additionalProperties") is not False else []
    for key, part in schema.items():
        if key in _NAMED:
            found += [
                place for name, inner in part.items() for place in open_objects(inner, f"{path}.{name}".strip("."))
            ]
        elif key not in _VALUES:
            found += open_objects(part, path)
    return found


def _untitled(schema: Any) -> Any:
    """Without the titles that pydantic makes of class names; a property that is named title stays."""
    if isinstance(schema, list):
        return [_untitled(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {
        key: {name: _untitled(inner) for name, inner in part.items()}
        if key in _NAMED
        else part
        if key in _VALUES
        else _untitled(part)
        for key, part in schema.items()
        if key != "title"
    }


def _root_inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A result's schema needs `type: object` at its root, which a recursive model's has not."""
    reference = schema.pop("$ref", None)
    return schema if reference is None else {**schema["$defs"][reference.removeprefix(_DEFS)], **schema}


def _references(schema: Any) -> list[str]:
    if isinstance(schema, list):
        return [name for part in schema for name in _references(part)]
    if not isinstance(schema, dict):
        return []
    names = [name for part in schema.values() if isinstance(part, dict | list) for name in _references(part)]
    own = schema.get("$ref")
    return [*names, own.removeprefix(_DEFS)] if isinstance(own, str) else names


def _is_recursive(name: str, definitions: Mapping[str, Any]) -> bool:
    seen: set[str] = set()
    ahead = _references(definitions[name])
    while ahead:
        reached = ahead.pop()
        if reached == name:
            return True
        if reached not in seen:
            seen.add(reached)
            ahead += _references(definitions[reached])
    return False


def _is_smaller_inside(name: str, body: Any, uses: int) -> bool:
    reference, text = _size({"$ref": _DEFS + name}), _size(body)
    return uses * text <= uses * reference + text + len(name) + 4


def _replaced(schema: Any, bodies: Mapping[str, Any]) -> Any:
    if isinstance(schema, list):
        return [_replaced(part, bodies) for part in schema]
    if not isinstance(schema, dict):
        return schema
    rest = {key: _replaced(part, bodies) for key, part in schema.items()}
    name = str(rest.get("$ref", "")).removeprefix(_DEFS)
    if name not in bodies:
        return rest
    del rest["$ref"]
    return {**_replaced(bodies[name], bodies), **rest}


def _size(schema: Any) -> int:
    return len(json.dumps(schema, separators=(",", ":")))
