"""Bodies with a task list of any length, read piece by piece: what is held at once does not grow with the list.

The tasks are checked chunk by chunk and kept, checked, in a file of their own; the transaction that stores them reads
that file. A lone half of a surrogate pair in a string comes out as `?`: so the parser has it.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter
from typing import IO, Any, Final, Generic, Self, TypeAlias, TypeVar, cast

import ijson  # type: ignore[import-untyped]
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from batchcall_mcp.dialer.domain.records import NewTask
from batchcall_mcp.dialer.rest.messages.mapping import NOT_VALID, Problems, new_tasks
from batchcall_mcp.dialer.rest.messages.request_models import TaskIn
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.text import shortened

Body = TypeVar("Body", bound=BaseModel)
Event: TypeAlias = tuple[str, Any]

CHUNK: Final = 1000
MOST_FIELDS: Final = 100
DEEPEST: Final = 100
MOST_VALUES: Final = 10_000
"""In one field, and in one task: 5 KB of dynamic variables hold fewer."""
_MOST_VALUES_AT_ONCE: Final = 100_000
_IN_MEMORY: Final = 1024 * 1024
_CONTAINERS: Final[Mapping[str, Callable[[], Any]]] = {"start_map": dict, "start_array": list}
_ENDS: Final = frozenset({"end_map", "end_array"})
_REASON: Final = re.compile(r"(?:parse|lexical) error: [^\\\n]*")
_ROW: Final = attrgetter(*(field.name for field in fields(NewTask)))
_TASKS: Final = cache(lambda: TypeAdapter(list[TaskIn]))
"""Built when a body comes, like its shape; two threads that build it at once make equal ones."""


@dataclass(frozen=True, slots=True)
class ReadBody(Generic[Body]):
    """A checked body; its `tasks` are the first chunk of the list at most, `task_count` counts all of them."""

    asked: Body
    task_count: int
    _first: list[NewTask]
    _rest: IO[bytes]

    def tasks(self, from_number: str) -> KeptTasks:
        """The whole list, to be dialled from `from_number`."""
        return KeptTasks(self.task_count, self._first, self._rest, from_number)


@dataclass(frozen=True, slots=True)
class KeptTasks:
    """A checked task list, its first chunk in memory and the rest in a file; read in order, any number of times.

    Raises:
        InvalidInput: after the last one, naming the rows that call `from_number`, which is known only now.
    """

    count: int
    first: list[NewTask]
    rest: IO[bytes]
    from_number: str

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[NewTask]:
        problems = Problems()
        for row, task in enumerate(self._all()):
            if task.to_number == self.from_number:
                problems.add(f"tasks.{row}.to_number: is the from_number")
            yield task
        problems.raise_any()

    def _all(self) -> Iterator[NewTask]:
        yield from self.first
        self.rest.seek(0)
        for line in self.rest:
            for row in from_json(line):
                yield NewTask(*row)


class BodyReader(AbstractContextManager["BodyReader"]):
    """Reads bodies; what it read is there until it is closed."""

    def __init__(self) -> None:
        # Closed in __exit__; an IO in all but name.
        self._rows = cast("IO[bytes]", tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._rows.close()

    def read(self, shape: type[Body], file: IO[bytes]) -> ReadBody[Body]:
        """Check a JSON body whose `tasks` may be many.

        Raises:
            InvalidInput: naming each field and row that is wrong, not known or missing.
        """
        file.seek(0)
        given: dict[str, Any] = {}
        later = Problems()
        count = 0
        try:
            for name, value, size in _pieces(file):
                if size == 0 or count == 0:
                    given[name] = value
                else:
                    self._keep(value, count, later)
                count += size
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise InvalidInput(NOT_VALID, [f"body: {_reason(str(error))}"]) from None
        problems = Problems()
        first: list[NewTask] = []
        try:
            asked = shape.model_validate_json(to_json(given))
            first = new_tasks(getattr(asked, "tasks", None) or (), 0, problems)
        except ValidationError as error:
            problems.of(error)
            problems.extend(later)
            raise problems.error() from None
        problems.extend(later)
        problems.raise_any()
        return ReadBody(asked, count, first, self._rows)

    def _keep(self, tasks: list[Any], first_row: int, problems: Problems) -> None:
        try:
            checked = new_tasks(_TASKS().validate_json(to_json(tasks)), first_row, problems)
        except ValidationError as error:
            problems.of(error, first_row)
        else:
            self._rows.write(to_json([_ROW(task) for task in checked]) + b"\n")


def _reason(error: str) -> str:
    """The parser's words without the piece of the body that it quotes."""
    if "overflow" in error:
        return "holds a number that does not fit in 64 bits"
    found = _REASON.search(error)
    return f"is not JSON: {found[0].strip() if found else 'it is not UTF-8'}"


def _pieces(file: IO[bytes]) -> Iterator[tuple[str, Any, int]]:
    """Each field with its value; `tasks` in several pieces, with the number of tasks in each (0: not a task list)."""
    events: Iterator[Event] = iter(ijson.basic_parse(file, use_float=True))
    if next(events)[0] != "start_map":
        raise InvalidInput(NOT_VALID, ["body: is not a JSON object"])
    seen: set[str] = set()
    for event, name in events:
        if event == "end_map":
            break
        if name in seen or len(seen) == MOST_FIELDS:
            wrong = "is given twice" if name in seen else f"more than {MOST_FIELDS} fields are given"
            raise InvalidInput(NOT_VALID, [f"{shortened(name, 60)}: {wrong}"])
        seen.add(name)
        began = next(events)
        if name == "tasks" and began[0] == "start_array":
            for piece in _chunks(events):
                yield name, piece, len(piece)
        else:
            yield name, _value(began, events, shortened(name, 60))[0], 0
    for _ in events:  # to the end, so that what follows the object is refused
        continue


def _chunks(events: Iterator[Event]) -> Iterator[list[Any]]:
    """The items of an array that has begun, at most so many and so much at once; at least one chunk, maybe empty."""
    row = held = 0
    chunk: list[Any] = []
    for began in events:
        if began[0] == "end_array":
            break
        value, size = _value(began, events, f"tasks.{row}")
        chunk.append(value)
        row += 1
        held += size
        if len(chunk) == CHUNK or held >= _MOST_VALUES_AT_ONCE:
            yield chunk
            chunk, held = [], 0
    if chunk or row == 0:
        yield chunk


def _value(began: Event, events: Iterator[Event], where: str) -> tuple[Any, int]:
    """The value that begins with an event, and how many events it is made of."""
    event, value = began
    if event not in _CONTAINERS:
        return value, 1
    whole = _CONTAINERS[event]()
    # What is open, from outside to inside, each with the key at which it is (None: an array, or no key yet).
    containers: list[Any] = [whole]
    keys: list[str | None] = [None]
    size = 1
    while containers:
        event, value = next(events)
        size += 1
        inside = containers[-1]
        if event == "map_key":
            keys[-1] = value
            if value in inside:
                place = ".".join(key for key in keys if key is not None)
                raise InvalidInput(NOT_VALID, [f"{where}.{shortened(place, 200)}: is given twice"])
        elif event in _ENDS:
            containers.pop()
            keys.pop()
        else:
            made = _CONTAINERS[event]() if event in _CONTAINERS else value
            if isinstance(inside, dict):
                inside[keys[-1]] = made
            else:
                inside.append(made)
            if event in _CONTAINERS:
                containers.append(made)
                keys.append(None)
                if len(containers) > DEEPEST:
                    raise InvalidInput(NOT_VALID, [f"{where}: is nested more than {DEEPEST} deep"])
        if size > MOST_VALUES:
            raise InvalidInput(NOT_VALID, [f"{where}: is more than {MOST_VALUES} values"])
    return whole, size
