"""One request to a vendor, as an adapter writes it down: JSON, a form of either kind, or bytes; nothing is sent."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from json import dumps
from typing import Any, TypeAlias
from urllib.parse import quote, urlencode

from batchcall_mcp.errors import InvalidInput, NotFound
from batchcall_mcp.model import CallTask

Params: TypeAlias = Mapping[str, str | int | list[str]]
"""Of a query; a list repeats its name."""
_LONGEST_ID = 200
"""Far over the ids of any vendor."""


@dataclass(frozen=True, slots=True)
class FormFile:
    """A file of a form: its name, what is in it, and its media type."""

    name: str
    content: bytes
    media_type: str = "text/csv"


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A method, a path under the backend's address, and what goes along.

    `json` is sent as JSON; `form` as multipart/form-data and `urlencoded` as application/x-www-form-urlencoded, in
    both of which a list repeats its name; `raw` as it is. With `may_be_empty`, a success without a body is an answer
    too; with `has_error`, a member `error` of a success belongs to what was asked for (why a batch call failed), and
    refuses nothing.
    """

    method: str
    path: str
    json: Any = None
    form: Mapping[str, str | list[str] | FormFile] | None = None
    urlencoded: Mapping[str, str | list[str]] | None = None
    raw: bytes | None = None
    query: Params | None = None
    headers: Mapping[str, str] | None = None
    may_be_empty: bool = False
    has_error: bool = False

    def at(self, **ids: str) -> HttpCall:
        """The same request with these ids in its path, for `{name}`.

        Raises:
            NotFound: an id that no batch call or call can have: ids come from a model, and must lead nowhere else.
        """
        return replace(self, path=self.path.format(**{name: path_part(value) for name, value in ids.items()}))

    def media_type(self) -> dict[str, str]:
        """The header that says what its body is, where the HTTP client does not say it itself."""
        if self.json is not None:
            return {"content-type": "application/json"}
        return {} if self.urlencoded is None else {"content-type": "application/x-www-form-urlencoded"}

    def body(self) -> dict[str, Any]:
        """As the HTTP client takes it: arguments of its request. Bytes, so another try sends the same again."""
        if self.json is not None:
            return {"content": dumps(self.json, separators=(",", ":")).encode("ascii")}
        if self.urlencoded is not None:
            return {"content": urlencode(self.urlencoded, doseq=True).encode("ascii")}
        if self.form is None:
            return {} if self.raw is None else {"content": self.raw}
        fields: list[tuple[str, tuple[str | None, str | bytes] | tuple[str, bytes, str]]] = []
        for name, value in self.form.items():
            if isinstance(value, FormFile):
                fields.append((name, (value.name, value.content, value.media_type)))
            else:
                fields += [(name, (None, one)) for one in ([value] if isinstance(value, str) else value)]
        return {"files": fields}


def path_part(value: str) -> str:
    """An id as one part of a path.

    Raises:
        NotFound: nothing can have it; nothing was sent.
    """
    if not value.strip(". ") or len(value) > _LONGEST_ID:
        raise NotFound("Nothing can have this id. Nothing was sent. Look the id up with list_batch_calls.")
    return quote(value, safe="")


def given(**members: Any) -> dict[str, Any]:
    """A JSON object of the members that are there."""
    return {name: value for name, value in members.items() if value is not None}


def csv_of(tasks: Iterable[CallTask], number: str) -> bytes:
    """A list as CSV in UTF-8: the numbers in the column `number`, then a column for each variable.

    Raises:
        InvalidInput: a variable has the name of that column; nothing was sent.
    """
    tasks = tuple(tasks)
    names = list(dict.fromkeys(name for task in tasks for name in task.dynamic_variables))
    if number in names:
        raise InvalidInput(
            f"dynamic_variables: {number} is the column of the numbers at this backend. Nothing was sent. Give the "
            "variable another name."
        )
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([number, *names])
    writer.writerows([task.to_number, *(task.dynamic_variables.get(name, "") for name in names)] for task in tasks)
    return text.getvalue().encode()
