"""A vendor's words for states as ours: a word that nobody knows is `unknown`, and is shown as it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Generic, TypeVar

from batchcall_mcp.model import NOT_REACHED, Counts, TaskStatus
from batchcall_mcp.vendor_http.json_values import inside, text, whole

S = TypeVar("S", bound=StrEnum)
_LONGEST_WORD = 100


class StatusMap(Generic[S]):
    """`words` by the vendor's word in lower case. `refine`: a second member that says more where it is known."""

    def __init__(
        self, words: Mapping[str, S], unknown: S, *, refine: tuple[str, Mapping[str, S]] | None = None
    ) -> None:
        self._words = words
        self._unknown = unknown
        self._member, self._refined = refine or ("", {})
        self._as_written = {word: (known, word if word != known else None) for word, known in words.items()}

    def of(self, word: Any) -> tuple[S, str | None]:
        """Our state for a word, and the word itself where it says something else."""
        if type(word) is str and (found := self._as_written.get(word)):
            return found
        raw = text(word, _LONGEST_WORD)
        lower = (raw or "").lower()
        known = self._words.get(lower, self._unknown)
        return known, raw if lower != known else None

    def read(self, data: Mapping[str, Any], member: str = "status") -> tuple[S, str | None]:
        """The state that a row of the vendor's says; the second member is shown with it."""
        known, word = self.of(inside(data, member))
        reason = text(inside(data, self._member), _LONGEST_WORD) if self._member else None
        if reason is None:
            return known, word
        if known is not self._unknown:  # a word that nobody knows may mean anything, whatever else is said
            known = self._refined.get(reason.lower(), known)
        return known, ": ".join(one for one in (word, reason) if one)

    @property
    def reported(self) -> tuple[S, ...]:
        """Our states that its words can lead to."""
        return tuple(dict.fromkeys([*self._words.values(), *self._refined.values()]))

    def counted(self, found: Any) -> Counter[S]:
        """How many there are of each of our states, out of an object that counts by the vendor's words."""
        counted: Counter[S] = Counter()
        for word, number in found.items() if isinstance(found, Mapping) else ():
            counted[self.of(word)[0]] += whole(number) or 0
        return +counted

    def words_for(self, statuses: Iterable[S]) -> list[str]:
        """The vendor's words for these states, sorted; states that are only known by the second member have none."""
        wanted = set(statuses)
        return sorted(word for word, status in self._words.items() if status in wanted)


_NOT_DIALLED = (TaskStatus.PENDING, TaskStatus.SKIPPED, TaskStatus.CANCELLED, TaskStatus.EXPIRED, TaskStatus.UNKNOWN)
_COUNTED = (
    *(TaskStatus.PENDING, TaskStatus.CALLING, TaskStatus.COMPLETED, TaskStatus.NO_ANSWER, TaskStatus.BUSY),
    *(TaskStatus.VOICEMAIL, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED),
)


def counts_of(statuses: Iterable[TaskStatus], reported: Iterable[TaskStatus], total: int | None = None) -> Counts:
    """Counts of a whole list, by its tasks' states; none of a state that the vendor never reports.

    `total`: what the vendor says itself, if that is more.
    """
    by_status, known = Counter(statuses), set(reported)
    listed = sum(by_status.values())
    return Counts(
        total=max(listed, total or 0),
        sent=listed - sum(by_status[status] for status in _NOT_DIALLED),
        not_reached=sum(by_status[status] for status in NOT_REACHED),
        **{status.value: by_status[status] for status in _COUNTED if status in known},
    )
