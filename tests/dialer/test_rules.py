"""The dialer's decisions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import product
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.dialer.domain import rules
from batchcall_mcp.dialer.domain.rules import Action, Launch, Redialing, RetryRule, State
from batchcall_mcp.errors import IllegalTransition, InvalidInput
from batchcall_mcp.model import TaskStatus

NOW = datetime(2026, 11, 23, 20, 0, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
MINUTE = timedelta(minutes=1)
MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
ZONES = st.sampled_from(["America/Los_Angeles", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe", "UTC"])

D, SCH, SENT, P, COM, CAN, F = State
ALLOWED = {
    Action.EDIT: {D: D, SCH: SCH},
    Action.APPEND: {D: D, SCH: SCH, SENT: SENT, P: P},
    Action.DRAFT: {D: D, SCH: D},
    Action.SCHEDULE: {D: SCH, SCH: SCH},
    Action.EXECUTE: {D: SENT, SCH: SENT},
    Action.PAUSE: {SCH: P, SENT: P, P: P},
    Action.RESUME: {P: SENT, SENT: SENT},
    Action.CANCEL: {SCH: CAN, SENT: CAN, P: CAN, CAN: CAN},
    Action.RETRY: {SENT: SENT, COM: SENT},
    Action.DELETE: {D: D, COM: COM, CAN: CAN, F: F},
}


@pytest.mark.parametrize(("action", "state"), list(product(Action, State)))
def test_every_action_in_every_state(action: Action, state: State) -> None:
    """What the table does not name is refused, and the text says the status and what would do."""
    expected = ALLOWED[action].get(state)
    if expected is not None:
        assert rules.transition(action, state) is expected
        return
    with pytest.raises(IllegalTransition, match=f"Cannot {action} .* status {state}.*Nothing was changed"):
        rules.transition(action, state)


@pytest.mark.parametrize(
    ("status", "send_now", "trigger_at", "expected"),
    [
        (None, None, None, Launch(D, None)),
        (None, False, None, Launch(D, None)),
        (None, None, LATER, Launch(SCH, LATER)),
        (None, True, None, Launch(SENT, None)),
        (None, True, LATER, Launch(SENT, LATER)),
        (State.DRAFT, None, None, Launch(D, None)),
        (State.DRAFT, False, LATER, Launch(D, LATER)),
        (State.SCHEDULED, False, LATER, Launch(SCH, LATER)),
        (State.SCHEDULED, True, LATER, Launch(SENT, LATER)),
        (State.SENT, None, None, Launch(SENT, None)),
    ],
)
def test_when_to_dial(
    status: State | None, send_now: bool | None, trigger_at: datetime | None, expected: Launch
) -> None:
    """What does not say when is a draft."""
    assert rules.launch(status, send_now=send_now, trigger_at=trigger_at) == expected


@pytest.mark.parametrize(("status", "send_now"), [(State.DRAFT, True), (State.SCHEDULED, None)])
def test_contradictions_are_refused(status: State, send_now: bool | None) -> None:
    """A draft that dials, a schedule without a time."""
    with pytest.raises(InvalidInput, match="Nothing was changed"):
        rules.launch(status, send_now=send_now, trigger_at=None)


def test_a_partial_update_may_schedule_at_the_time_that_is_stored() -> None:
    """`status: scheduled` alone, on a draft that has a time."""
    assert rules.launch(State.SCHEDULED, send_now=None, trigger_at=None, stored=LATER) == Launch(SCH, LATER)


def redial(redialing: Redialing, outcome: TaskStatus, attempts: int, max_retries: int | None = None) -> datetime | None:
    return rules.redial_at(
        redialing,
        outcome,
        attempts=attempts,
        max_retries=max_retries,
        zone="America/Los_Angeles",
        now=NOW,
        default_delay=MINUTE,
    )


@given(st.integers(0, 10), st.integers(1, 12), st.sampled_from(TaskStatus))
def test_redials_are_counted_after_the_first_dial(limit: int, attempts: int, outcome: TaskStatus) -> None:
    """Of no answer and busy, by default, and never more than `max_retries`."""
    again = redial(Redialing(max_retries=limit), outcome, attempts)
    expected = attempts <= limit and outcome in {TaskStatus.NO_ANSWER, TaskStatus.BUSY}
    assert again == (NOW + MINUTE if expected else None)


def test_a_task_s_own_limit_wins() -> None:
    """In both directions."""
    assert redial(Redialing(max_retries=0), TaskStatus.BUSY, 1, max_retries=1) is not None
    assert redial(Redialing(max_retries=5), TaskStatus.BUSY, 1, max_retries=0) is None


def test_rules_choose_outcome_and_time() -> None:
    """After a delay, or at a local time; an outcome without a rule is final."""
    redialing = Redialing(
        max_retries=1,
        rules=(
            RetryRule(outcome=TaskStatus.VOICEMAIL, after_minutes=120),
            RetryRule(outcome=TaskStatus.BUSY, at="13:00"),
        ),
    )
    assert redial(redialing, TaskStatus.VOICEMAIL, 1) == NOW + timedelta(hours=2)
    assert redial(redialing, TaskStatus.BUSY, 1) == datetime(2026, 11, 23, 21, 0, tzinfo=UTC)
    assert redial(redialing, TaskStatus.NO_ANSWER, 1) is None


def test_a_crash_is_redialled_only_by_a_rule_that_names_it() -> None:
    """Nobody knows whether that person was already spoken to."""
    assert redial(Redialing(max_retries=9), TaskStatus.INTERRUPTED, 1) is None
    named = Redialing(max_retries=9, rules=(RetryRule(outcome=TaskStatus.INTERRUPTED, after_minutes=0),))
    assert redial(named, TaskStatus.INTERRUPTED, 1) == NOW


@given(MOMENTS, ZONES, st.integers(0, 23), st.integers(0, 59))
def test_the_next_local_time_is_the_next_one(now: datetime, zone: str, hour: int, minute: int) -> None:
    """It is later, and within a day; two, where the clock skips it on the first."""
    found = rules.next_local_time(f"{hour:02d}:{minute:02d}", zone, now)
    assert now < found <= now + timedelta(hours=49)


@given(MOMENTS, st.sampled_from(["Asia/Kolkata", "America/Phoenix", "UTC"]), st.integers(0, 23), st.integers(0, 59))
def test_clocks_there_show_the_next_local_time(now: datetime, zone: str, hour: int, minute: int) -> None:
    """In zones that skip no time."""
    local = rules.next_local_time(f"{hour:02d}:{minute:02d}", zone, now).astimezone(ZoneInfo(zone))
    assert (local.hour, local.minute, local.second) == (hour, minute, 0)


@given(st.lists(st.timedeltas(timedelta(0), timedelta(hours=48)), max_size=8), st.integers(1, 4))
def test_the_daily_cap_holds_at_every_moment(ages: list[timedelta], cap: int) -> None:
    """Before the moment it gives there are `cap` dials in the 24 hours before; at that moment fewer."""
    started = [NOW - age for age in ages]
    until = rules.capped_until(started, NOW, cap)

    def recent(moment: datetime) -> int:
        return sum(moment - timedelta(hours=24) < start <= moment for start in started)

    if until is None:
        assert recent(NOW) < cap
    else:
        assert recent(NOW) >= cap
        assert until > NOW
        assert recent(until) < cap
        assert recent(until - timedelta(microseconds=1)) >= cap


@given(st.lists(st.integers(0, 60), max_size=12), st.integers(0, 80))
def test_lines_are_shared_fairly_and_none_is_wasted(wanted: list[int], room: int) -> None:
    """Nobody gets more than asked for, all that can be used is used, and the smallest wish is not starved."""
    shares = rules.fair_shares(wanted, room)
    assert all(0 <= share <= wish for share, wish in zip(shares, wanted, strict=True))
    assert sum(shares) == min(room, sum(wanted))
    if wanted and room >= len(wanted):
        assert all(share > 0 for share, wish in zip(shares, wanted, strict=True) if wish)


@pytest.mark.parametrize(
    ("quiet", "expected"),
    [
        (("22:00", "08:00"), ("08:00", "22:00")),
        (("12:00", "13:00"), ("13:00", "12:00")),
        (("00:00", "08:00"), ("08:00", "24:00")),
        (("22:00", "24:00"), ("00:00", "22:00")),
    ],
)
def test_quiet_hours_leave_the_other_hours(quiet: tuple[str, str], expected: tuple[str, str]) -> None:
    """The vendor's closed hours become our open ones, over midnight too."""
    assert rules.open_hours(*quiet) == expected


@pytest.mark.parametrize("quiet", [("08:00", "08:00"), ("00:00", "24:00")])
def test_quiet_hours_that_leave_nothing_are_refused(quiet: tuple[str, str]) -> None:
    """Or that could mean the whole day."""
    with pytest.raises(InvalidInput, match="quiet_hours"):
        rules.open_hours(*quiet)
