"""What exactly would happen if this request were sent: counts, places, hours, warnings. Pure.

What blocks, no confirmation cures. A warning is named in the question, and blocks where nobody is asked. A note is for
the person to read, and blocks nobody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Final

from pydantic import Field

from batchcall_mcp import number_plans
from batchcall_mcp.backends.base import At, Dials, Never
from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.backends.limits import moved_start
from batchcall_mcp.calling_hours import deciding_zones, is_timezone
from batchcall_mcp.guard.people import person, spoken_words, who_speaks
from batchcall_mcp.guard.preflight import recipient_warnings, undo
from batchcall_mcp.guard.preflight.calling_rules import ATTEMPTS_PER_DAY, LATE_BY
from batchcall_mcp.guard.preflight.cost import ANYBODY, CostLimits, Estimate, cost_blocks, most_dialled
from batchcall_mcp.guard.preflight.dates import broken_promises, call_dates, date_concerns, over_for_all, promises_note
from batchcall_mcp.guard.preflight.humanize import about, distance, in_words, minute
from batchcall_mcp.guard.preflight.listing import Places, Recorded, Size, Unlisted, unlisted
from batchcall_mcp.guard.preflight.local_time import LaunchTimes, launch_times, must_be_on
from batchcall_mcp.guard.preflight.recipient_warnings import NO_COUNTRY, Concern
from batchcall_mcp.guard.preflight.schedule import (
    Hours,
    Timetable,
    hours_warnings,
    is_readable,
    last_start,
    timetable,
)
from batchcall_mcp.guard.spending import Spent
from batchcall_mcp.guard.write_record import Newest
from batchcall_mcp.model import Agent, BatchCall, BatchCallRequest, BatchStatus, CallingWindow, CallTask
from batchcall_mcp.money import Money
from batchcall_mcp.recipients.validation import SkippedRow
from batchcall_mcp.text import quoted, shortened

_MOST_COUNTRIES = 10
_MOST_GROUPS = 20
_STILL_TO_COME = frozenset({BatchStatus.DRAFT, BatchStatus.SCHEDULED})
"""Of these, the time that a batch call has is that of its launch; of the others it is history."""

"""A task of which nothing is known."""
_STOP_SENTENCES = {
    "any_time": "You can stop it.",
    "pending_only": "You can stop the calls that are not dialled yet.",
    "before_start": "Cannot be stopped once started.",
    "never": "Cannot be stopped once confirmed.",
}
_PAUSE, _PAUSED = "You can pause it:", "who is not dialled yet is then not called until it is resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneGroup:
    """Recipients whose candidate time zones are the same."""

    timezone: Annotated[str, Field(description="IANA zone; several joined by a slash where the number fits several")]
    calls: int
    opens: Annotated[datetime | None, Field(description="when their calls may start, at the earliest")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What one request would do. `calls` None: the list could not be read."""

    calls: Annotated[int | None, Field(description="people who would be called")] = None
    max_dials: Annotated[int | None, Field(description="most dials, retries included")] = None
    dials_each: Annotated[int | None, Field(description="most dials of one person")] = None
    starts: Annotated[str | None, Field(description="now, a moment or a date; absent: no phone rings")] = None
    when: Annotated[str | None, Field(description="the same, on the called people's clocks")] = None
    first_start: Annotated[str | None, Field(description="of the first call, in words")] = None
    last_start: Annotated[str | None, Field(description="of the last call, about, without retries")] = None
    duration: Annotated[str | None, Field(description="without retries and waiting; assumes 2 minutes a call")] = None
    cost: Annotated[str | None, Field(description="about how much; assumes the same")] = None
    rows_read: int | None = None
    skipped_rows: Annotated[Mapping[str, int], Field(description="rows skipped, by reason")] = field(
        default_factory=dict
    )
    skipped_before: Annotated[Mapping[str, int], Field(description="rows skipped when the list was made")] = field(
        default_factory=dict
    )
    countries: Annotated[Mapping[str, int], Field(description="calls by country, the largest ten")] = field(
        default_factory=dict
    )
    country_count: int | None = None
    time_zones: Annotated[int | None, Field(description="different time zones, at least")] = None
    groups: tuple[ZoneGroup, ...] = ()
    can_stop: Annotated[str | None, Field(description="what can be stopped, and until when")] = None
    simulated: Annotated[bool | None, Field(description="true: no real phone rings")] = None
    notes: Annotated[tuple[str, ...], Field(description="worth knowing; block nothing")] = ()
    warnings: tuple[str, ...] = ()
    blocks: Annotated[tuple[str, ...], Field(description="reasons why this cannot be launched at all")] = ()
    concerns: Annotated[tuple[Concern, ...], Field(exclude=True)] = ()
    """The warnings, with whom each is about."""
    unusual: Annotated[tuple[str, ...], Field(exclude=True)] = ()
    """What the question says first, although it blocks nobody."""
    first: Annotated[str | None, Field(exclude=True)] = None
    """The first person on the list: enough to recognise, not to call."""
    agent: Annotated[str | None, Field(exclude=True)] = None
    """Who speaks, if that is known."""
    listed: Annotated[int | None, Field(exclude=True)] = None
    """People who wait, where only the first `calls` of them are called; None: all are, or nobody knows."""
    undo_seconds: Annotated[int, Field(exclude=True)] = 0
    """How long after the yes it starts, where it would start at once."""
    is_for_the_first: Annotated[bool, Field(exclude=True)] = False
    """It pauses after the first `calls` people."""
    places: Annotated[Places, Field(exclude=True)] = field(default_factory=Places)
    """Where all of them are, for those who cannot be read again."""
    takes_turns: Annotated[bool, Field(exclude=True)] = False
    """from_number stands for a pool of numbers that take turns."""
    estimate: Annotated[Estimate | None, Field(exclude=True)] = None
    """What `cost` is made of; None: no real phone rings."""
    begins: Annotated[str | None, Field(exclude=True)] = None
    """What the first person hears first, in quotes, if that is known."""
    refused: Annotated[int, Field(exclude=True)] = 0
    """How many of them the account behind the backend may not call: a warning names their countries or kinds."""
    calls_at_once: Annotated[int | None, Field(exclude=True)] = None
    """The most that the account behind the backend makes at once."""
    payer: Annotated[str | None, Field(exclude=True)] = None  # the note about it: a yes holds for that account alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the operator allows."""

    max_calls_per_launch: int | None
    calling_hours: CallingWindow
    max_calls_per_day: int | None = None
    attempts_per_day: int = ATTEMPTS_PER_DAY
    cost: CostLimits = field(default_factory=CostLimits)


@dataclass(frozen=True, slots=True)
class NotCompared:
    """Which of the other live batch calls were not compared with a list, of how many, and why (of the first)."""

    ids: tuple[str, ...]
    live: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What was found out in addition to the request, for the preflight. A default: not asked, nothing found."""

    listed_variables: Sequence[str] | None = None
    """That every task of this very list had when it was sent from here; None: not known here."""
    variables: tuple[str, ...] | None = None
    """That the agent needs; None: the backend does not report it."""
    agent: Agent | None = None
    """Who speaks, where the account reports it."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Rows by reason, skipped when the list that the backend holds was made."""
    changes: tuple[str, ...] = ()
    """What an update changes, in words."""
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Number -> id of a live batch call that will call it too. Numbers here and below are as `comparable` has them."""
    not_compared: NotCompared | None = None
    """Other live batch calls that may call the same people."""
    lately: Mapping[str, str] = field(default_factory=dict)
    """Number -> a launch of the last minutes that calls it too."""
    listed_dials: int | None = None
    """Most dials of a person of a list that the backend does not give back; None: it does, or that is not known."""
    recorded: Recorded = field(default_factory=Recorded)
    """What the ledger knows of the list that the backend holds, where the backend does not show it."""
    list_entry: int = 0
    """The ledger entry that last sent a list to the batch call; 0: none is known."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """Number -> dials of the last 24 hours sent through us, at most."""
    since: Newest = field(default_factory=lambda: Newest(0, 0))
    """The newest ledger entry when these people began to be compared with those of other launches."""
    calls_today: int = 0
    """Calls of other launches on the (UTC) day on which this one starts."""
    spent: Spent = field(default_factory=Spent)
    """What those may cost, where a limit of cost asks for it."""
    reported_price: Money | None = None
    """Of a minute, as the backend reports it."""
    do_not_call: Container[str] = frozenset()
    """The operator's list of today."""
    stopped_since: datetime | None = None
    """The emergency stop."""
    undo_seconds: int = 0
    """How long after the yes it starts, where it would start at once."""
    put_off_before: datetime | None = None
    """Instead of that: the moment until which an earlier try, which may have arrived, was put off."""
    cannot_wait: bool = False
    """The operator wants it to wait, and it cannot."""
    test: str | None = None
    """What a test call is, in a sentence."""
    unchecked: tuple[str, ...] = ()
    """Sentences: what could not be checked. They become warnings."""
    notes: tuple[str, ...] = ()
    """Sentences that the person should read, but that block nobody; `payer` is the one that says who pays."""
    payer: str | None = None
    calls_at_once: int | None = None
    """The most that the account behind the backend makes at once, where it says so."""
    may_be_called: frozenset[str] | None = None
    """The only countries that the account behind the backend may call; None: not known, or all."""


_NOTHING_FOUND = Surroundings()
_LONGEST_REASON: Final = 300


def preflight(
    *,
    request: BatchCallRequest,
    current: BatchCall | None,
    tasks: Sequence[CallTask] | None,
    skipped_rows: Sequence[SkippedRow],
    rows_read: int | None,
    dials: Dials,
    capabilities: Capabilities,
    limits: Limits,
    now: datetime,
    surroundings: Surroundings = _NOTHING_FOUND,
    listed: int | None = None,
    adds: bool = False,
    joined: Sequence[CallTask] = (),
) -> Preflight:
    """Judge one request.

    `tasks` are those that would be called; None if the backend's list could not be read. `listed`: how many tasks that
    list showed in all. Where the backend itself counts more, the others may be called too, and limits count them.
    `adds`: the tasks join those that the batch call has, which are `joined`.
    """
    launched = not isinstance(dials, Never)
    others = Unlisted()
    if launched and current is not None and request.tasks is None and listed is not None:
        others = unlisted(listed, current.counts.total, capabilities, surroundings.recorded)
    known = tasks is not None and others.people is not None
    size = Size.of(len(tasks or ()) + (others.people or 0) if known else None, request.first)
    calls = size.calls
    (counts_at, starts_at), dates = _start(dials, now), call_dates(request, current)
    moved = None if dates.first else moved_start(request.trigger_at, capabilities.limits, now)
    counts_at, starts_at = moved or counts_at, moved or starts_at
    batch_zone = request.timezone or (current.timezone if current else None)
    window = request.window or (current.window if current else None)
    hours = Hours.of(window, capabilities, limits.calling_hours, dates)
    lines = _lines(request, current, capabilities, surroundings.calls_at_once)
    countries, zones = _places(tasks or (), batch_zone, surroundings.recorded.places if others.are_known else None)
    table = size.part_of(timetable(zones.most_common(), hours, starts_at, lines), lines)
    times = launch_times(table, hours, starts_at, now, current.held_back if current else ())
    most_dials = _most_dials(request, current, capabilities, surroundings)
    dialled = most_dialled(tasks or (), most_dials, others.people or 0, calls)
    max_dials = None if not known else sum(each * people for each, people in dialled.items())
    estimate = _estimate(
        (calls, max_dials, map(most_dials, joined)) if launched else None,
        request,
        current,
        capabilities,
        limits,
        surroundings,
    )

    refused = recipient_warnings.refused(tasks or (), countries, surroundings.may_be_called)
    concerns = [*_not_checked(surroundings), *([others.concern] if others.concern else [])]
    notes = [*surroundings.notes, *([others.note] if others.note else [])]
    if tasks is None and launched:
        unread = "The list of tasks could not be read, so nothing of it was checked."
        concerns.append(Concern("list", unread, frozenset({"unread"})))
    elif tasks is not None:
        concerns += [*(() if adds else _shrinking(request, current)), *refused.concerns]
        concerns += _list_concerns(tasks, request, current, capabilities, surroundings)
        hidden = surroundings.recorded if others.people else Recorded()
        concerns += hidden.concerns(most_dials(ANYBODY), limits.attempts_per_day)
        concerns += recipient_warnings.attempts_concern(
            tasks, surroundings.attempts, most_dials, limits.attempts_per_day
        )
    if launched:
        late, only_a_little = _lateness(request, current, now)
        concerns += late
        notes += only_a_little
        concerns += _unreadable(window)
        concerns += (Concern("hours", sentence) for sentence in hours_warnings(table, hours, lines))
        concerns += date_concerns(tasks or (), table, hours, batch_zone, starts_at, now)
        notes += times.waits
        notes += [] if moved is None else [f"Its start moves up to {minute(moved)}."]
        notes += promises_note(tasks or (), now)
        notes += _undo(surroundings, times, later=bool(dates.first and table.first and table.first > now))
        notes += must_be_on(capabilities, later=starts_at > now)
        if capabilities.stop in ("before_start", "never") and not _how_to_stop(capabilities).startswith(_PAUSE):
            concerns.append(Concern("no_stop", _STOP_SENTENCES[capabilities.stop]))
            notes += ["Until it starts you can cancel it."] * (times.when != "now" and capabilities.stop != "never")

    return Preflight(
        calls=calls,
        max_dials=max_dials,
        dials_each=max((+dialled).keys(), default=None),
        starts=minute(moved) if launched and moved else _starts(dials, now),
        when=times.when if launched else None,
        first_start=in_words(table.first, now) if launched and table.first else None,
        last_start=last_start(table, now) if launched else None,
        duration=about(table.takes) if launched and table.takes else None,
        cost=estimate.words if estimate else None,
        estimate=estimate,
        rows_read=rows_read,
        skipped_rows=dict(Counter(str(row.kind) for row in skipped_rows)),
        skipped_before=dict(surroundings.skipped) if request.tasks is None else {},
        countries=dict(countries.most_common(_MOST_COUNTRIES)),
        country_count=None if not known else len(countries.keys() - {NO_COUNTRY}),
        time_zones=None if not known else _different(zones),
        groups=_shown(table),
        places=Places.of(countries, zones),
        takes_turns=capabilities.caller == "pool",
        can_stop=_how_to_stop(capabilities) if launched else None,
        simulated=_simulated(current, capabilities) or None,
        notes=tuple(notes),
        warnings=tuple(one.sentence for one in concerns),
        blocks=(
            *_blocks(calls, request, current, limits, surroundings, counts_at if launched else None),
            *(cost_blocks(estimate, limits.cost, surroundings.reported_price, surroundings.spent) if estimate else ()),
            *(_ended(tasks or (), table, hours, request, current, batch_zone, starts_at) if launched else ()),
        ),
        concerns=tuple(concerns),
        unusual=tuple(_unusual(surroundings, times, current)) if launched else (),
        first=person(tasks[0]) if tasks else None,
        listed=size.listed if size.is_for_the_first else None,
        is_for_the_first=size.is_for_the_first,
        undo_seconds=surroundings.undo_seconds,
        agent=who_speaks(surroundings.agent, request.agent_id or (current.agent_id if current else None), capabilities),
        begins=spoken_words(surroundings.agent, tasks[0]) if tasks else None,
        refused=refused.people,
        calls_at_once=surroundings.calls_at_once,
        payer=surroundings.payer,
    )


def _how_to_stop(capabilities: Capabilities) -> str:
    can_pause = Operation.PAUSE in capabilities.operations and capabilities.pause_stops
    pause = f"{_PAUSE} {capabilities.pause_effect or _PAUSED}."
    return pause if capabilities.stop == "never" and can_pause else _STOP_SENTENCES[capabilities.stop]


def _start(dials: Dials, now: datetime) -> tuple[datetime, datetime]:
    """The moment by whose day its calls count, and the one from which on somebody may be called."""
    if not isinstance(dials, At):
        return now, now
    return dials.counts_at(now), max(dials.may_begin, now)


def _not_checked(around: Surroundings) -> Iterator[Concern]:
    yield from recipient_warnings.unchecked(around.unchecked)
    missing = around.not_compared
    if missing is not None:
        yield recipient_warnings.not_compared(missing.ids, missing.live, missing.why)


def _unreadable(window: CallingWindow | None) -> Iterator[Concern]:
    if window is not None and not is_readable(window):
        zone = quoted(window.timezone.replace('"', "'"))
        yield Concern("hours", f"Its window has the time zone {zone}, which is not known: the window was not checked.")


def _undo(around: Surroundings, times: LaunchTimes, *, later: bool) -> Iterator[str]:
    """`later`: it is for a date, and nobody can be called yet."""
    if later:
        return
    if around.put_off_before is not None:
        yield undo.again(around.put_off_before)
    elif around.undo_seconds:
        yield undo.sentence(around.undo_seconds, rings=not times.nobody_before)
    elif around.cannot_wait:
        yield undo.CANNOT


def _estimate(
    launched: tuple[int | None, int | None, Iterable[int]] | None,
    request: BatchCallRequest,
    current: BatchCall | None,
    capabilities: Capabilities,
    limits: Limits,
    around: Surroundings,
) -> Estimate | None:
    """What it costs, as far as that is known; None: nothing, because no real phone rings.

    `launched`: calls, the most dials, and those of each person who is there already; None: it launches nothing.
    """
    if launched is None or _simulated(current, capabilities):
        return None
    calls, dials, there = launched
    why_more = None
    if current is not None and current.is_series:
        why_more = "it calls everybody again in each run of the series"
    elif current is not None and request.tasks is None and around.listed_dials is None:
        hidden = hides_retries(current, capabilities)
        why_more = "how often its people are dialled again is not known here" if hidden else None
    return Estimate.of(calls, dials, limits.cost.price(around.reported_price), why_more, there)


def hides_retries(current: BatchCall, capabilities: Capabilities) -> bool:
    """Whether a list that the backend holds may have retries that nobody sees."""
    can_retry = capabilities.retry_policy or capabilities.task_max_retries
    return can_retry and (current.hides_retry or not capabilities.returns_variables)


def _unusual(around: Surroundings, times: LaunchTimes, current: BatchCall | None) -> Iterable[str]:
    """What is to be read before anything else and blocks nobody."""
    if around.test:
        yield around.test
    if current is not None and current.status is BatchStatus.PAUSED and current.status_reason is not None:
        yield f"It was paused: {shortened(current.status_reason.text, _LONGEST_REASON)}"
    if around.changes:
        yield f"Change: {'; '.join(around.changes)}."
    if times.nobody_before:
        yield times.nobody_before


def _blocks(
    calls: int | None,
    request: BatchCallRequest,
    current: BatchCall | None,
    limits: Limits,
    surroundings: Surroundings,
    launch: datetime | None,
) -> list[str]:
    """What no confirmation cures. `calls` None: the list could not be read. `launch`: when; None: no phone rings."""
    found = []
    if calls == 0:
        found.append("no task is left to call")
    launched_from = current.from_number if current and launch else None
    from_number = request.from_number or launched_from
    if from_number is not None and not _looks_dialable(from_number):
        found.append(f"from_number {from_number!r} is not an E.164 number")
    if launch is None:
        return found
    if surroundings.stopped_since is not None:
        found.append(
            f"the emergency stop is on since {minute(surroundings.stopped_since)}; only the operator lifts it: "
            "`batchcall-mcp stop --clear`"
        )
    if calls is None and current is not None:
        calls = current.counts.total
    number = "an unknown number of" if calls is None else str(calls)
    launch_limit, day_limit = limits.max_calls_per_launch, limits.max_calls_per_day
    if launch_limit is not None and (calls is None or calls > launch_limit):
        found.append(f"{number} calls are more than BATCHCALL_MAX_CALLS_PER_LAUNCH={launch_limit}")
    if day_limit is not None and (calls is None or calls + surroundings.calls_today > day_limit):
        others = f" and {surroundings.calls_today} of other launches" if surroundings.calls_today else ""
        found.append(
            f"{number} calls{others} on {launch:%Y-%m-%d} (UTC) are more than BATCHCALL_MAX_CALLS_PER_DAY={day_limit}"
        )
    return found


def _ended(
    tasks: Sequence[CallTask],
    table: Timetable,
    hours: Hours,
    request: BatchCallRequest,
    current: BatchCall | None,
    batch_zone: str | None,
    starts_at: datetime,
) -> Iterator[str]:
    """What its dates and its end rule out."""
    over = over_for_all(table, hours, request, current, starts_at)
    if over is not None:
        yield over
        return
    broken = list(broken_promises(tasks, hours, batch_zone))
    if broken:
        more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
        yield f"a call-back is promised for when nobody is called any more: {broken[0]}{more}"


def _shrinking(request: BatchCallRequest, current: BatchCall | None) -> Iterator[Concern]:
    before = current.counts.total if current else None
    if request.tasks is not None and before is not None and before > len(request.tasks):
        yield Concern("list", f"The list shrinks from {before} to {len(request.tasks)}.")


def _list_concerns(
    tasks: Sequence[CallTask],
    request: BatchCallRequest,
    current: BatchCall | None,
    capabilities: Capabilities,
    surroundings: Surroundings,
) -> Iterator[Concern]:
    if capabilities.dynamic_variables:
        held = request.tasks is not None or current is None or capabilities.returns_variables
        yield from recipient_warnings.variables_concern(
            tasks, surroundings.variables, known=None if held else surroundings.listed_variables or ()
        )
    yield from recipient_warnings.number_concerns(
        tasks,
        from_number=request.from_number or (current.from_number if current else None),
        never=surroundings.do_not_call,
        lately=surroundings.lately,
        elsewhere=surroundings.elsewhere,
        own_id=current.batch_call_id if current else None,
    )


def _lateness(
    request: BatchCallRequest, current: BatchCall | None, now: datetime
) -> tuple[Sequence[Concern], Sequence[str]]:
    """That the time that was asked for is over: a concern, or a note where it is over by a little only."""
    if call_dates(request, current).first is not None:
        return (), ()
    named = request.trigger_at
    if named is None and current is not None and current.status in _STILL_TO_COME:
        named = current.scheduled_at
    if request.send_now or named is None or now - named < timedelta(seconds=1):
        return (), ()
    if now - named <= LATE_BY:
        return (), (f"The time {minute(named)} was {distance(now - named)} ago, so this means now.",)
    return (Concern("time", f"The time {minute(named)} is past, so this means now."),), ()


def _starts(dials: Dials, now: datetime) -> str | None:
    if isinstance(dials, Never):
        return None
    if isinstance(dials, At) and dials.on is not None:
        return dials.on.isoformat()
    return minute(dials.time) if isinstance(dials, At) and dials.time > now else "now"


def _lines(
    request: BatchCallRequest, current: BatchCall | None, capabilities: Capabilities, at_once: int | None
) -> int | None:
    """How many calls are made at once, to estimate with: a simulated carrier is as fast as it is set to be."""
    if _simulated(current, capabilities):
        return None
    asked = request.max_concurrency or (current.max_concurrency if current else None)
    return min(filter(None, (asked, at_once)), default=None)


def _simulated(current: BatchCall | None, capabilities: Capabilities) -> bool:
    return capabilities.simulated or (current is not None and current.simulated)


def _looks_dialable(number: str) -> bool:
    digits = number.removeprefix("+")
    return number.startswith("+") and digits.isascii() and digits.isdigit() and 6 <= len(digits) <= 15  # noqa: PLR2004 - E.164


def _most_dials(
    request: BatchCallRequest, current: BatchCall | None, capabilities: Capabilities, around: Surroundings
) -> Callable[[CallTask], int]:
    least = around.listed_dials or 1 if request.tasks is None else 1
    policy = request.retry or (current.retry if current else None)
    default = policy.max_retries if policy and capabilities.retry_policy else 0
    return lambda task: max(least, 1 + (default if task.max_retries is None else task.max_retries))


def _places(
    tasks: Sequence[CallTask], batch_zone: str | None, hidden: Places | None
) -> tuple[Counter[str], Counter[tuple[str, ...]]]:
    """As `places_of`, with those of people whom the backend does not show."""
    countries, zones = places_of(tasks, batch_zone)
    theirs = (hidden or Places()).counted()
    return countries + theirs[0], zones + theirs[1]


def places_of(tasks: Sequence[CallTask], batch_zone: str | None) -> tuple[Counter[str], Counter[tuple[str, ...]]]:
    """Tasks by country, and by the zones that decide for them; a zone that no clock has, which a backend may give, is
    none.
    """
    found = Counter((number_plans.place(task.to_number), task.timezone) for task in tasks)
    countries: Counter[str] = Counter()
    zones: Counter[tuple[str, ...]] = Counter()
    for (place, own), calls in found.items():
        countries[place.country or NO_COUNTRY] += calls
        zones[tuple(filter(is_timezone, deciding_zones(place.zones, own, batch_zone)))] += calls
    return countries, zones


def _different(counted: Iterable[tuple[str, ...]]) -> int:
    """At least so many zones: a number that fits several adds none if it may be in one that is counted."""
    seen: set[str] = set()
    found = 0
    for zones in sorted(counted, key=lambda zones: (len(zones), zones)):
        if zones and seen.isdisjoint(zones):
            seen.update(zones)
            found += 1
    return found


def _shown(table: Timetable) -> tuple[ZoneGroup, ...]:
    return tuple(
        ZoneGroup(timezone=_zone_name(group.zones), calls=group.calls, opens=group.opens)
        for group in table.groups[:_MOST_GROUPS]
    )


def _zone_name(zones: Sequence[str]) -> str:
    most_shown = 3
    shown = "/".join(zones[:most_shown]) if zones else "unknown"
    return shown + ("/…" if len(zones) > most_shown else "")
