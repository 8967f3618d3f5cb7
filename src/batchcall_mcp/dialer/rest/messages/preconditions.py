"""`If-Match` (RFC 9110, 13.1.1): a write that is carried out only while a batch call is as the caller last read it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from batchcall_mcp.errors import IllegalTransition

_TAG: Final = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'


class PreconditionFailed(IllegalTransition):
    """The batch call is not as `If-Match` has it."""

    code = "precondition_failed"


@dataclass(frozen=True, slots=True)
class IfMatch:
    """The condition of a write: `*`, or the entity tags one of which must be the batch call's."""

    given: str

    @classmethod
    def of(cls, lines: Sequence[str]) -> IfMatch | None:
        """The condition of these header lines; None if there is none."""
        return cls(", ".join(lines).strip(" \t")) if lines else None

    def check(self, etag: str) -> None:
        """Go on only if the batch call that is there has one of the tags.

        A weak tag is never the same as a strong one here, and what is not a list of tags names none.

        Raises:
            PreconditionFailed: it has none of them.
        """
        if self.given == "*" or etag in self._tags():
            return
        raise PreconditionFailed(
            "The batch call is not as If-Match has it: it was changed since it was read. Nothing was changed. "
            "Read it, then decide again."
        )

    def _tags(self) -> list[str]:
        # A comma may stand inside a tag; an element of a list may be empty (RFC 9110, 5.6.1). Takes linear time.
        between = re.sub(_TAG, "\0", self.given).split(",")
        return re.findall(_TAG, self.given) if {one.strip(" \t") for one in between} <= {"", "\0"} else []
