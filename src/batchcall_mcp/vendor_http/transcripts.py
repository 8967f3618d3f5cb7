"""What was said in a call, as vendors write it down: a list of utterances, each with who said it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Literal

from batchcall_mcp.model import Turn
from batchcall_mcp.vendor_http.json_values import inside, moment, rows, seconds, text

MOST_CHARACTERS = 10_000
"""Of one utterance."""


def turns(
    value: Any,
    speakers: Mapping[str, Literal["agent", "person"]],
    *,
    by: str = "role",
    said: str = "message",
    at: str | Callable[[Mapping[str, Any]], Any] = "",
    begin: datetime | None = None,
) -> tuple[Turn, ...] | None:
    """The utterances of the speakers named; others (a prompt, a tool) say nothing in a call. None: no such list.

    `by`, `said` and `at` are paths in an entry; `at` is in seconds after the call was connected, or, with `begin`
    (when that was), a moment.
    """
    if not isinstance(value, list):
        return None
    found = []
    for row in rows(value)[0]:
        speaker, words = speakers.get((text(inside(row, by)) or "").lower()), text(inside(row, said), MOST_CHARACTERS)
        if speaker is not None and words is not None:
            when = at(row) if callable(at) else inside(row, at)
            if begin is not None and (clock := moment(when)) is not None:
                when = (clock - begin).total_seconds()
            found.append(Turn(speaker=speaker, text=words, at_seconds=seconds(when)))
    return tuple(found)


def turns_in(said: Any, agent: str = "assistant", person: str = "user") -> tuple[Turn, ...] | None:
    """The turns of a transcript that is one text, each in a line that begins with who speaks: `user: …`.

    What stands before the first of them is somebody else's. None: nothing was said.
    """
    if not isinstance(said, str) or text(said) is None:
        return None
    before, *parts = re.split(rf"(?im)^({agent}|{person})\s*:", said)
    spoken: list[tuple[Literal["agent", "person", "other"], str]] = [("other", before)]
    spoken += [
        ("person" if who.lower() == person else "agent", words)
        for who, words in zip(parts[::2], parts[1::2], strict=True)
    ]
    return tuple(Turn(speaker=who, text=words.strip()) for who, words in spoken if words.strip())
