"""JSONL: one JSON object a line, shaped like a task or flat like a row of a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.recipients.files.columns import Columns, Layout, choose_columns
from batchcall_mcp.recipients.files.raw_rows import Broken, Candidate, Entry
from batchcall_mcp.recipients.files.text_files import checked_lines
from batchcall_mcp.text import quoted

_VARIABLES = "dynamic_variables"
_TASK_FIELDS = frozenset({"name", "timezone", "max_retries", "not_before"})
_MOST_SHAPES = 1000


class _Unusable(ValueError):
    """A value that is JSON but cannot be read as a row."""


class JsonObjects:
    """Offers each line as an entry; a line that is not an object is a broken one.

    With `dynamic_variables`, an object is a task: its variables are those, its other unknown keys, and its name unless
    they hold one. Without, every key but the number's is a variable, as in a table. The first object decides which key
    is the number's. Values are text: numbers as they are written, `true` and `false`, and null as an empty one.

    Raises:
        InvalidInput: while reading, if the file is a JSON array or its first object has no number.
    """

    def __init__(self, path: Path, layout: Layout) -> None:
        self._path = path
        self._layout = layout
        self._number: str | None = None
        self._shapes: dict[tuple[str, ...], Columns] = {}
        self._variables: dict[str, None] = {}
        self._special: dict[str, str] = {}
        self._mapped: dict[str, str] = {}

    def columns(self) -> Columns:
        return Columns(
            to_number=self._number or "",
            variables=tuple(self._variables),
            name=self._special.get("name"),
            timezone=self._special.get("timezone"),
            max_retries=self._special.get("max_retries"),
            not_before=self._special.get("not_before"),
            mapped=self._mapped,
        )

    def entries(self, file: TextIO) -> Iterator[Entry]:
        empty = True
        for line, text in enumerate(checked_lines(file, self._path), 1):
            if not text.strip():
                continue
            if empty and text.lstrip().startswith("["):
                raise InvalidInput(
                    f"{quoted(self._path.name)} is a JSON array; JSONL has one object on each line. Nothing was sent. "
                    "Use that format, or pass the array as tasks."
                )
            empty = False
            yield self._entry(line, text)
        if empty:
            raise InvalidInput(f"{quoted(self._path.name)} is empty. Nothing was sent. Add rows.")

    def _entry(self, line: int, text: str) -> Entry:
        try:
            fields = json.loads(
                text,
                object_pairs_hook=_without_repeats,
                parse_int=str,
                parse_float=str,
                parse_constant=_refuse_constant,
            )
            if not isinstance(fields, dict):
                return Broken(line, f"the line is not a JSON object: {quoted(text.strip())}")
            return self._candidate(line, fields)
        except json.JSONDecodeError as error:
            return Broken(line, f"the line is not JSON (character {error.pos + 1}): {quoted(text.strip())}")
        except _Unusable as error:
            return Broken(line, str(error))
        except RecursionError:
            return Broken(line, f"the line is nested too deeply: {quoted(text.strip())}")

    def _candidate(self, line: int, fields: dict[str, Any]) -> Entry:
        task_variables = fields.pop(_VARIABLES, None)
        if task_variables is not None and not isinstance(task_variables, dict):
            return Broken(line, f"{_VARIABLES} is not a JSON object")
        columns = self._columns_of(line, fields)
        if columns is None:
            return Broken(line, f"the object has no {quoted(self._number or '')}")
        texts = {key: _text(key, value) for key, value in fields.items()}
        number = texts[columns.to_number]
        named = {variable: texts[key] for variable, key in columns.sources()}
        variables = named if task_variables is None else _merged(named, task_variables)
        self._variables.update(dict.fromkeys(variables))
        return Candidate.of(line, number, named, columns.fields(), variables)

    def _columns_of(self, line: int, fields: dict[str, Any]) -> Columns | None:
        keys = tuple(fields)
        if keys in self._shapes:
            return self._shapes[keys]
        if self._number is None:
            columns = choose_columns(keys, self._layout, f"{quoted(self._path.name)}, line {line},")
            self._mapped = dict(columns.mapped)
            self._number = columns.to_number
        elif self._number in fields:
            # What the first object has, another may lack.
            mapped = {variable: key for variable, key in self._mapped.items() if key in fields}
            columns = choose_columns(keys, Layout(number_column=self._number, columns=mapped), quoted(self._path.name))
        else:
            return None
        for word in _TASK_FIELDS:
            if key := getattr(columns, word):
                self._special.setdefault(word, key)
        if len(self._shapes) < _MOST_SHAPES:
            self._shapes[keys] = columns
        return columns


def _merged(texts: dict[str, str], task_variables: dict[str, Any]) -> dict[str, str]:
    variables = {key: _text(key, value) for key, value in task_variables.items()}
    for key, value in texts.items():
        if key in variables:
            if key != "name" and variables[key] != value:
                raise _Unusable(f"{quoted(key)} appears in both the object and its {_VARIABLES}, with different values")
        elif value if key == "name" else key not in _TASK_FIELDS:
            variables[key] = value
    return variables


def _text(key: str, value: Any) -> str:
    match value:
        case str():
            return value
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case _:
            raise _Unusable(f"{quoted(key)} contains a list or an object; text is expected")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        repeated = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise _Unusable(f"{quoted(repeated)} appears twice in one object")
    return fields


def _refuse_constant(word: str) -> Any:
    raise _Unusable(f"{word} is not a JSON value")
