"""Holds a file to the schema that a registry or a client has published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft7Validator, Draft202012Validator  # type: ignore[import-untyped]

SCHEMAS = Path(__file__).parents[1] / "schemas"


def problems(value: Any, schema: str) -> list[str]:
    """What the schema says against it; nothing if it is accepted."""
    published = json.loads((SCHEMAS / f"{schema}.json").read_text(encoding="utf-8"))
    judge = Draft202012Validator if "2020-12" in published["$schema"] else Draft7Validator
    found = judge(published, format_checker=judge.FORMAT_CHECKER).iter_errors(value)
    return [f"{one.json_path}: {one.message[:200]}" for one in found]
