"""What a vendor's words of a refusal mean, where its HTTP status alone does not say it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from batchcall_mcp.dialer.carriers.base import AccountAtFault, CarrierUnavailable, Outcome
from batchcall_mcp.dialer.carriers.vendor_api import LATER_S
from batchcall_mcp.model import TaskStatus

_LONG_WAIT_S: Final = 600.0
_NONE: Final = re.compile(r"(?!)")


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalWords:
    """Patterns of words in lower case; of several that fit, the first counts.

    `later`: no free line; `slow`: a limit of the hour or the day. `at_fault`: every call of the batch call would be
    refused; `check` says what the operator has to look at. `permanent`: it is about this person's number.
    """

    title: str
    later: re.Pattern[str]
    slow: re.Pattern[str] = _NONE
    at_fault: re.Pattern[str]
    check: str
    permanent: re.Pattern[str]

    def judged(self, words: str, said: str, wait: float | None = None) -> Outcome:
        """What they mean for one call. `said`: a sentence to show; `wait`: the seconds that the vendor asks for.

        Raises:
            CarrierUnavailable, AccountAtFault: nobody is rung.
        """
        words = words.lower()
        if self.later.search(words) or self.slow.search(words):
            shortest = _LONG_WAIT_S if self.slow.search(words) else LATER_S
            why = f"{self.title} takes no more calls for the moment.{said}"
            raise CarrierUnavailable(why, retry_after=max(wait or 0.0, shortest), whole_account=True)
        if self.at_fault.search(words):
            raise AccountAtFault(f"{self.title} places no calls: check {self.check}.{said}")
        is_permanent = self.permanent.search(words) is not None
        return Outcome(TaskStatus.FAILED, f"{self.title} did not call.{said}", permanent=is_permanent)
