"""The calling rules that hold where nobody says otherwise, as data. Safe defaults, not legal advice.

`docs/calling-rules.md` lists them for operators; a test holds that page, the settings and the dialer to this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

CALLING_HOURS: Final = "08:00-21:00"
"""On the called person's own clock. The hours of the US rule on telephone solicitation, 47 CFR 64.1200(c)(1)."""

ATTEMPTS_PER_DAY: Final = 3
"""Dials of one number within any 24 hours, over all batch calls. A choice of ours."""

LATE_BY: Final = timedelta(minutes=5)
"""A time that is over by no more than this means now without a warning: a cron job is late, not wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallingRule:
    """One rule: what the dialer in this package does for it, what is done on any other backend, what changes it."""

    rule: str
    dialer: str
    others: str
    changed_by: str


RULES: Final = (
    CallingRule(
        rule=f"A call starts within {CALLING_HOURS} of the called person's own time",
        dialer="kept at every attempt: it waits for the next opening",
        others="warned of before the launch",
        changed_by="`BATCHCALL_CALLING_HOURS`; the `window` of one batch call",
    ),
    CallingRule(
        rule="A number whose time zone is not known is not called by guess",
        dialer="kept: skipped, with the reason",
        others="warned of before the launch",
        changed_by="a `timezone` for the task or the batch call",
    ),
    CallingRule(
        rule=f"At most {ATTEMPTS_PER_DAY} attempts at a number in 24 hours, over all batch calls",
        dialer="kept at every attempt: it waits until the oldest is a day old",
        others="warned of before the launch, from what this server sent",
        changed_by="nothing",
    ),
    CallingRule(
        rule="Nobody on the do-not-call list is called",
        dialer="skipped in a new list, and again at every attempt",
        others="skipped in a new list; warned of before the launch of one that is stored",
        changed_by="the files of `BATCHCALL_DO_NOT_CALL`; `POST /do-not-call` of the dialer",
    ),
    CallingRule(
        rule="Who asks not to be called again is not called again",
        dialer="kept, for the organisation, from the outcome of that call on, where the carrier reports it",
        others="not known here",
        changed_by="nothing",
    ),
    CallingRule(
        rule="With `BATCHCALL_REQUIRE_CONSENT` nobody is called whose column does not say yes",
        dialer="skipped when the list is read",
        others="skipped when the list is read",
        changed_by="the column in the list",
    ),
    CallingRule(
        rule="With `BATCHCALL_PREDIAL_URL` nobody is dialled without a yes of your own service",
        dialer="kept at every attempt: without a clear answer it waits; a no is skipped",
        others="refused at the start",
        changed_by="nothing",
    ),
    CallingRule(
        rule=f"A start time more than {LATE_BY // timedelta(minutes=1)} minutes in the past is asked about",
        dialer="warned of before the launch",
        others="warned of before the launch",
        changed_by="nothing",
    ),
)
