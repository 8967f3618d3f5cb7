"""What the dialer may do, and when: pure functions. Safe defaults, not legal advice."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo

from batchcall_mcp.errors import IllegalTransition, InvalidInput
from batchcall_mcp.model import TaskStatus

DAY: Final = timedelta(hours=24)
LOOKED_BACK: Final = 20
"""Of so many ended attempts half may not fail."""
SLOWEST: Final = 0.001
"""Calls per second: one call in 1,000 seconds."""
FASTEST: Final = 1000.0
_SKEW: Final = timedelta(seconds=1)
"""How far two machines' clocks may be apart for both to be believed."""
REDIALED_BY_DEFAULT: Final = frozenset({TaskStatus.NO_ANSWER, TaskStatus.BUSY})
REDIALABLE: Final = REDIALED_BY_DEFAULT | {TaskStatus.VOICEMAIL, TaskStatus.FAILED, TaskStatus.INTERRUPTED}
UNFINISHED: Final = frozenset({TaskStatus.PENDING, TaskStatus.CALLING})
ANSWERED: Final = frozenset({TaskStatus.COMPLETED, TaskStatus.VOICEMAIL})


class State(StrEnum):
    """State of a batch call in the dialect's words; `sent` is our `running`."""

    DRAFT = "draft"
    SCHEDULED = "scheduled"
    SENT = "sent"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Action(StrEnum):
    """What can be asked of a batch call, in the words of an error text."""

    EDIT = "change"
    APPEND = "add tasks to"
    DRAFT = "unschedule"
    SCHEDULE = "schedule"
    EXECUTE = "execute"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"
    RETRY = "retry"
    DELETE = "delete"


def _to(target: State, *sources: State) -> Mapping[State, State]:
    return MappingProxyType(dict.fromkeys(sources, target))


def _in(*states: State) -> Mapping[State, State]:
    return MappingProxyType({state: state for state in states})


TRANSITIONS: Final[Mapping[Action, Mapping[State, State]]] = MappingProxyType(
    {
        Action.EDIT: _in(State.DRAFT, State.SCHEDULED),
        Action.APPEND: _in(State.DRAFT, State.SCHEDULED, State.SENT, State.PAUSED),
        Action.DRAFT: _to(State.DRAFT, State.DRAFT, State.SCHEDULED),
        Action.SCHEDULE: _to(State.SCHEDULED, State.DRAFT, State.SCHEDULED),
        Action.EXECUTE: _to(State.SENT, State.DRAFT, State.SCHEDULED),
        # Asking for the state that is there changes nothing, so that pause, resume and cancel can be repeated.
        Action.PAUSE: _to(State.PAUSED, State.SCHEDULED, State.SENT, State.PAUSED),
        Action.RESUME: _to(State.SENT, State.PAUSED, State.SENT),
        Action.CANCEL: _to(State.CANCELLED, State.SCHEDULED, State.SENT, State.PAUSED, State.CANCELLED),
        Action.RETRY: _to(State.SENT, State.SENT, State.COMPLETED),
        Action.DELETE: _in(State.DRAFT, State.COMPLETED, State.CANCELLED, State.FAILED),
    }
)


def transition(action: Action, state: State) -> State:
    """The state after an action.

    Raises:
        IllegalTransition: naming the status and those in which the action is possible.
    """
    allowed = TRANSITIONS[action]
    if state not in allowed:
        raise IllegalTransition(
            f"Cannot {action} a batch call with status {state}; that is possible with status "
            f"{', '.join(allowed)}. Nothing was changed."
        )
    return allowed[state]


@dataclass(frozen=True, slots=True)
class Launch:
    """How a batch call stands after a write that says (or does not say) when to dial."""

    state: State
    scheduled_at: datetime | None


def launch(
    status: State | None, *, send_now: bool | None, trigger_at: datetime | None, stored: datetime | None = None
) -> Launch:
    """What `status`, `send_now` and a time mean together. None of them: a draft, unlike the vendor, who dials.

    `stored` is the time that the batch call already has, for a partial update.

    Raises:
        InvalidInput: if they contradict each other.
    """
    at = trigger_at or stored
    if status is State.DRAFT:
        if send_now:
            raise InvalidInput("send_now: true contradicts status: draft. Nothing was changed.")
        return Launch(State.DRAFT, at)
    if send_now or status is State.SENT:
        return Launch(State.SENT, at)
    if status is State.SCHEDULED and at is None:
        raise InvalidInput("status: scheduled needs a trigger_timestamp. Nothing was changed.")
    if status is State.SCHEDULED or trigger_at is not None:
        return Launch(State.SCHEDULED, at)
    return Launch(State.DRAFT, at)


def check_expiry(state: State, *, scheduled_at: int | None, expires_at: int | None, now: int) -> None:
    """A batch call must be able to dial before it expires; a draft may be past it until it is launched.

    All moments in one unit.

    Raises:
        InvalidInput: it would expire before its time, or has expired while something would dial.
    """
    if expires_at is None:
        return
    if state is not State.SENT and scheduled_at is not None and expires_at <= scheduled_at:
        raise InvalidInput("expires_timestamp: must be after the scheduled time. Nothing was changed.")
    if state is not State.DRAFT and expires_at <= now:
        raise InvalidInput(
            "expires_timestamp: has passed: nothing would be dialled. Nothing was changed; give a later one."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryRule:
    """Redial after `outcome`: so many minutes later, or at a local time `HH:MM` of the called person."""

    outcome: TaskStatus
    after_minutes: float | None = None
    at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redialing:
    """The retry policy of a batch call. `rules` empty = no answer and busy, after the dialer's own delay.

    `max_retries` are dials after the first; a task's own number wins over it.
    """

    max_retries: int = 0
    rules: tuple[RetryRule, ...] = ()


def redial_at(
    redialing: Redialing,
    outcome: TaskStatus,
    *,
    attempts: int,
    max_retries: int | None,
    zone: str,
    now: datetime,
    default_delay: timedelta,
) -> datetime | None:
    """When a task whose attempt number `attempts` just ended so is due again, or None: that was the last one.

    A crash (`interrupted`) is redialled only by a rule that names it. Window, do-not-call and the daily cap are
    checked when the time has come, not here.
    """
    limit = redialing.max_retries if max_retries is None else max_retries
    if attempts > limit:
        return None
    if not redialing.rules:
        return now + default_delay if outcome in REDIALED_BY_DEFAULT else None
    rule = next((rule for rule in redialing.rules if rule.outcome is outcome), None)
    if rule is None:
        return None
    if rule.at is not None:
        return next_local_time(rule.at, zone, now)
    return now + timedelta(minutes=rule.after_minutes or 0)


def next_local_time(clock: str, zone: str, now: datetime) -> datetime:
    """The first moment after `now` at which clocks in `zone` come to show `HH:MM`, in the zone of `now`.

    As with calling hours, a time that the clock skips in spring is not shown on that day, and one that it shows twice
    in autumn comes twice.
    """
    there, shown = ZoneInfo(zone), time.fromisoformat(clock)
    today = now.astimezone(there).date()
    # From yesterday on: where the clock goes back over midnight, yesterday comes again.
    moments = (
        datetime.combine(today + timedelta(days=days), shown.replace(fold=fold), there).astimezone(UTC)
        for days in range(-1, 5)
        for fold in (0, 1)
    )
    later = (moment for moment in moments if moment > now and _shows(moment.astimezone(there), shown))
    return min(later).astimezone(now.tzinfo)


def _shows(local: datetime, shown: time) -> bool:
    return (local.hour, local.minute) == (shown.hour, shown.minute)


def capped_until(started: Iterable[datetime], now: datetime, cap: int) -> datetime | None:
    """When a number that was dialled at `started` may be dialled again, or None: now.

    At most `cap` attempts within any 24 hours. A dial in the future of `now` counts too: the clock has jumped back, and
    that person's phone has rung all the same.
    """
    recent = sorted((moment for moment in started if moment > now - DAY), reverse=True)
    return recent[cap - 1] + DAY if len(recent) >= cap else None


def expired(expires_at: datetime | None, now: datetime) -> bool:
    """Whether a batch call's time is over: from `expires_at` on no call may start. None: it never is."""
    return expires_at is not None and now >= expires_at


def closes_before(expires_at: datetime | None, opens: datetime | None) -> bool:
    """Whether it is in vain to wait until `opens`, the next moment at which a call may start (None: there is none)."""
    return opens is None or expired(expires_at, opens)


def pace(calls_per_second: float) -> float:
    """Calls per second as they are kept to: what is stored may be from a version that took any number above 0."""
    return SLOWEST if math.isnan(calls_per_second) else min(max(calls_per_second, SLOWEST), FASTEST)


def paced(placed: Sequence[datetime], now: datetime, calls_per_second: float) -> tuple[int, datetime | None]:
    """How many more calls may be placed at `now`, and, if none, when the next one may be.

    No second, wherever it begins, holds more than the whole calls of `calls_per_second`; below 1, two calls are at
    least `1 / calls_per_second` seconds apart.

    Args:
        placed: when calls were placed, in any order; those of the last `1 / calls_per_second` seconds, at least those
            of the last second, have to be there.
        now: any moment. Calls up to a second later count (another machine's clock); what lies further in the future
            does not, because the clock has jumped back, and would else stop dialling for as long.
        calls_per_second: see `pace`.
    """
    calls_per_second = pace(calls_per_second)
    most = max(1, math.floor(calls_per_second))
    span = timedelta(microseconds=max(1_000_000, math.ceil(1_000_000 / calls_per_second)))
    recent = sorted((moment for moment in placed if now - span < moment <= now + _SKEW), reverse=True)
    if len(recent) < most:
        return most - len(recent), None
    return 0, recent[most - 1] + span


def apart_until(dialled_at: datetime | None, now: datetime, gap: timedelta) -> datetime | None:
    """When a number may be dialled that another batch call dialled last at `dialled_at`, or None: now.

    As with the daily cap, a dial in the future of `now` counts too.
    """
    return None if dialled_at is None or dialled_at + gap <= now else dialled_at + gap


def failing(last: Sequence[TaskStatus]) -> bool:
    """Whether too many of a batch call's last outcomes (the latest first) are `failed`; too few decide nothing."""
    return len(last) >= LOOKED_BACK and last[:LOOKED_BACK].count(TaskStatus.FAILED) * 2 >= LOOKED_BACK


def fair_shares(wanted: Sequence[int], room: int) -> list[int]:
    """Divide `room` lines among batch calls that could use `wanted` each, so that none starves."""
    shares = [0] * len(wanted)
    for place, index in enumerate(sorted(range(len(wanted)), key=wanted.__getitem__)):
        shares[index] = min(wanted[index], math.ceil(room / (len(wanted) - place)))
        room -= shares[index]
    return shares


def open_hours(quiet_start: str, quiet_end: str) -> tuple[str, str]:
    """The calling window that quiet hours leave, as (start, end).

    Raises:
        InvalidInput: if they leave the whole day or nothing.
    """
    start = "00:00" if quiet_end == "24:00" else quiet_end
    end = "24:00" if quiet_start == "00:00" else quiet_start
    if start == end or (start, end) == ("00:00", "24:00"):
        raise InvalidInput(
            "quiet_hours: start_time and end_time must differ and leave some hours. Nothing was changed."
        )
    return start, end
