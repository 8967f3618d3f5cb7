"""JSON schemas of arguments and results as a model should read them: nothing in them that says nothing."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

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
        """Every default is published but null, and a list, which the description has where it matters."""
        if isinstance(schema.get("default", ...), list | tuple | None):
            return self.generate_inner(schema["schema"])
        return super().default_schema(schema)

    def generate(self, schema: core_schema.CoreSchema, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        """The whole schema without references, which some clients do not follow. No model of ours contains itself."""
        whole = super().generate(schema, mode)
        plain: JsonSchemaValue = _plain(whole, whole.get("$defs", {}))
        return plain


class ResultSchema(ArgumentSchema):
    """The same for results, which have neither nulls nor defaults: a field that may be null is not required."""

    def field_is_required(self, field: Any, total: bool) -> bool:  # noqa: FBT001 - pydantic's signature
        return super().field_is_required(field, total) and field["schema"]["type"] != "nullable"

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Defaults are how results are made, not what they say."""
        return self.generate_inner(schema["schema"])


@lru_cache(maxsize=64)
def result_schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema(schema_generator=ResultSchema, mode="serialization")


def names_and_types(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of a result's schema for the tools after the first that returns it: it is true, and small."""
    fields = {name: {"type": one["type"]} if "type" in one else {} for name, one in schema["properties"].items()}
    return {"properties": fields, "required": schema["required"], "type": "object"}


def open_objects(schema: Any, path: str = "") -> list[str]:
    """Where a schema has an object with named properties that would let unknown ones pass."""
    if isinstance(schema, list):
        return [found for part in schema for found in open_objects(part, path)]
    if not isinstance(schema, Mapping):
        return []
    found = [path or "arguments"] if "properties" in schema and schema.get("additionalProperties") is not False else []
    for key, part in schema.items():
        if key == "properties":
            found += [
                place for name, inner in part.items() for place in open_objects(inner, f"{path}.{name}".strip("."))
            ]
        elif key not in _VALUES:
            found += open_objects(part, path)
    return found


def _plain(node: Any, definitions: Mapping[str, Any]) -> Any:
    """Each definition where it is used, and none of the titles that pydantic makes of class names."""
    if isinstance(node, list):
        return [_plain(part, definitions) for part in node]
    if not isinstance(node, Mapping):
        return node
    if "$ref" in node:
        node = {**definitions[node["$ref"].removeprefix("#/$defs/")], **node}
    return {
        key: {name: _plain(inner, definitions) for name, inner in part.items()}  # a property may be named title
        if key == "properties"
        else part
        if key in _VALUES
        else _plain(part, definitions)
        for key, part in node.items()
        if key not in {"title", "$defs", "$ref"}
    }
