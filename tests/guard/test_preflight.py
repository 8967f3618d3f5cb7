"""The preflight tells what would happen, in words that a person can judge."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchcall_mcp.backends.base import At, Never, Now
from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.calling_hours import parse_calling_hours
from batchcall_mcp.guard.preflight.preflight import Limits, Preflight, Surroundings, preflight
from batchcall_mcp.guard.preflight.question import question
from batchcall_mcp.model import (
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    CallingWindow,
    CallTask,
    Counts,
    RetryPolicy,
    StatusReason,
    TaskStatus,
)
from batchcall_mcp.recipients.validation import SkippedRow, SkipReason

NOON = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)  # 13:00 in New York, 10:00 in Los Angeles
NIGHT = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)  # 04:00 and 01:00, but 09:00 in London
NEW_YORK, LOS_ANGELES, LONDON = "+12125550101", "+12137774445", "+442079460123"
FULL = Capabilities(
    operations=frozenset(Operation),
    drafts="full",
    outcomes=tuple(TaskStatus),
    stop="any_time",
    cancel_effect="Calls in progress end by themselves.",
    windows="full",
    retry_policy=True,
)
PLAIN = replace(
    FULL,
    operations=FULL.operations - {Operation.PAUSE, Operation.CANCEL},
    windows="none",
    stop="never",
    retry_policy=False,
)
ONE_ZONE = replace(FULL, windows="one_zone")
HOURS = parse_calling_hours("08:00-21:00")
UNPLACED = "1 call has no known time zone: nobody can say whether it is 08:00-21:00 of the called person's own time."
STORED = BatchCall(batch_call_id="bc_9", status=BatchStatus.DRAFT, from_number="+14155550199", counts=Counts(total=3))
REQUEST = BatchCallRequest(from_number="+14155550199", send_now=True)


def judged(**changes: Any) -> Preflight:
    values: dict[str, Any] = {
        "request": REQUEST,
        "current": None,
        "tasks": tuple(CallTask(to_number=number) for number in (NEW_YORK, LOS_ANGELES, LONDON)),
        "skipped_rows": (),
        "rows_read": 3,
        "dials": Now(),
        "capabilities": FULL,
        "limits": Limits(max_calls_per_launch=None, calling_hours=HOURS),
        "now": NOON,
    }
    return preflight(**{**values, **changes})


def test_it_counts_calls_countries_and_zones() -> None:
    found = judged()

    assert (found.calls, found.max_dials, found.starts) == (3, 3, "now")
    assert found.countries == {"US": 2, "GB": 1}
    assert {group.timezone: group.calls for group in found.groups} == {
        "America/New_York": 1,
        "America/Los_Angeles": 1,
        "Europe/London": 1,
    }
    assert found.blocks == ()


def test_why_it_was_paused_is_read_first() -> None:
    """A resume after the emergency stop or a missed start; what a backend says is cut and cleaned."""
    paused = replace(STORED, status=BatchStatus.PAUSED, status_reason=StatusReason(code="late", text="Missed.\n" * 500))
    found = judged(request=BatchCallRequest(), current=paused)
    (first,) = found.unusual
    assert first.startswith("It was paused: Missed. Missed. ")
    assert len(first) < 330
    assert question(found, BatchCallRequest(), paused, "dialer").startswith(first)


@pytest.mark.parametrize(("hours", "said"), [(0, False), (20, True)])
def test_a_dialer_in_this_process_needs_its_computer_when_the_time_comes(hours: int, said: bool) -> None:
    at = NOON + timedelta(hours=hours)
    dials = At(at) if hours else Now()
    notes = judged(capabilities=replace(FULL, in_process=True), dials=dials).notes
    assert ("This computer must be on then, with its client open." in notes) is said
    assert judged(dials=dials).notes == ()


def test_rows_left_out_are_counted_by_reason() -> None:
    rows = [SkippedRow(line=1, kind=kind, reason="") for kind in (SkipReason.INVALID, SkipReason.INVALID)]
    rows.append(SkippedRow(line=3, kind=SkipReason.DO_NOT_CALL, reason=""))

    assert judged(skipped_rows=rows).skipped_rows == {"invalid": 2, "do_not_call": 1}


def test_retries_count_as_dials_and_a_tasks_own_number_wins() -> None:
    tasks = (CallTask(to_number=NEW_YORK), CallTask(to_number=LONDON, max_retries=0))

    found = judged(tasks=tasks, request=replace(REQUEST, retry=RetryPolicy(max_retries=2)))

    assert found.max_dials == 3 + 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tasks": ()}, "no task is left"),
        ({"request": replace(REQUEST, from_number="415")}, "from_number '415' is not"),
        ({"limits": Limits(max_calls_per_launch=2, calling_hours=HOURS)}, "3 calls are"),
        (
            {
                "tasks": None,
                "limits": Limits(max_calls_per_launch=2, calling_hours=HOURS),
            },
            "an unknown number of calls",
        ),
    ],
)
def test_what_no_confirmation_can_cure_blocks(changes: dict[str, Any], reason: str) -> None:
    assert reason in " ".join(judged(**changes).blocks)


def test_a_list_that_cannot_be_read_is_a_warning_not_an_error() -> None:
    found = judged(tasks=None)

    assert found.calls is None
    assert "could not be read" in " ".join(found.warnings)
    assert found.blocks == ()
    assert "Call an unknown number of people" in question(found, REQUEST, None, "zudu")


def test_a_time_in_the_past_means_now_and_says_so() -> None:
    past = replace(REQUEST, send_now=False, trigger_at=datetime(2025, 1, 1, 8, 1, 40, tzinfo=UTC))

    found = judged(request=past, dials=At(datetime(2025, 1, 1, 8, 1, 40, tzinfo=UTC)))

    assert found.starts == "now"
    assert "The time 2025-01-01 08:01 UTC is past, so this means now." in found.warnings
    assert found.blocks == ()


def test_a_later_time_is_named_and_is_no_warning() -> None:
    later = datetime(2026, 11, 24, 17, 0, tzinfo=UTC)

    found = judged(request=replace(REQUEST, send_now=None, trigger_at=later), dials=At(later))

    assert found.starts == "2026-11-24 17:00 UTC"
    assert found.warnings == ()


def test_nobody_keeps_hours_for_a_backend_without_windows() -> None:
    found = judged(capabilities=PLAIN, now=NIGHT)

    assert "2 calls would start outside 08:00-21:00 of the called person's own time." in found.warnings


def test_a_backend_that_keeps_the_window_needs_no_such_warning_and_says_when_calls_open() -> None:
    found = judged(now=NIGHT, request=replace(REQUEST, window=CallingWindow(start="09:00", end="17:00")))

    opens = {group.timezone: group.opens for group in found.groups}
    assert opens["America/New_York"] == datetime(2026, 11, 24, 14, 0, tzinfo=UTC)
    assert found.warnings == ()


def test_what_cannot_be_stopped_is_said_before_the_launch() -> None:
    assert "Cannot be stopped once confirmed." in question(judged(capabilities=PLAIN), REQUEST, None, "zudu")


def test_what_does_not_dial_says_so_and_warns_of_nothing() -> None:
    found = judged(dials=Never(), capabilities=PLAIN, now=NIGHT)

    assert (found.starts, found.can_stop, found.warnings) == (None, None, ())


def around(**found: Any) -> Surroundings:
    return Surroundings(**found)


def people(number: str, many: int) -> tuple[CallTask, ...]:
    """Calls to one and the same place."""
    return tuple(CallTask(to_number=f"{number[:-4]}{n:04}") for n in range(many))


class TestTime:
    @pytest.mark.parametrize(
        ("late_by", "note"),
        [
            (timedelta(0), ()),
            (timedelta(milliseconds=999), ()),
            (timedelta(seconds=40), ("The time 2026-11-23 17:59 UTC was 40 seconds ago, so this means now.",)),
            (timedelta(minutes=5), ("The time 2026-11-23 17:55 UTC was 5 minutes ago, so this means now.",)),
        ],
    )
    def test_a_time_that_is_only_late_is_a_note_for_the_person(self, late_by: timedelta, note: tuple[str, ...]) -> None:
        late = NOON - late_by

        found = judged(request=replace(REQUEST, send_now=None, trigger_at=late), dials=At(late))

        assert (found.starts, found.first_start, found.notes, found.warnings) == ("now", "now", note, ())

    def test_a_time_that_is_over_by_more_than_that_is_a_warning(self) -> None:
        past = NOON - timedelta(minutes=5, seconds=1)

        found = judged(request=replace(REQUEST, send_now=None, trigger_at=past), dials=At(past))

        assert found.warnings == ("The time 2026-11-23 17:54 UTC is past, so this means now.",)
        assert found.notes == ()

    @pytest.mark.parametrize(
        ("status", "warned"),
        [
            (BatchStatus.SCHEDULED, True),
            (BatchStatus.DRAFT, True),
            (BatchStatus.PAUSED, False),
            (BatchStatus.COMPLETED, False),
        ],
    )
    def test_the_time_at_which_it_once_started_is_no_time_of_this_launch(
        self, status: BatchStatus, *, warned: bool
    ) -> None:
        current = replace(STORED, status=status, scheduled_at=NOON - timedelta(days=3))

        found = judged(request=BatchCallRequest(), current=current)

        assert bool(found.warnings) == warned

    def test_what_dials_later_is_told_with_its_distance(self) -> None:
        later = datetime(2026, 11, 24, 18, 0, tzinfo=UTC)

        found = judged(request=replace(REQUEST, send_now=None, trigger_at=later), dials=At(later))

        assert (found.first_start, found.last_start) == ("Tue 24 Nov 2026 18:00 UTC, in 24 hours", None)

    def test_what_does_not_dial_has_no_first_call_and_no_duration(self) -> None:
        found = judged(dials=Never(), request=BatchCallRequest(max_concurrency=1))

        assert (found.first_start, found.last_start, found.duration, found.notes) == (None, None, None, ())

    def test_calls_that_wait_for_hours_have_a_first_and_a_last_start(self) -> None:
        found = judged(now=NIGHT, tasks=people(NEW_YORK, 10) + people(LOS_ANGELES, 10))

        assert found.starts == "now"
        assert found.first_start == "Tue 24 Nov 2026 13:00 UTC, in 4 hours"
        assert found.last_start == "not before Tue 24 Nov 2026 16:00 UTC, in 7 hours"
        assert (found.when, found.notes) == ("on Tue 24 Nov, 8:00 to 21:00 their time", ())
        assert found.warnings == ()


class TestDuration:
    REQUEST = replace(REQUEST, max_concurrency=10)

    def test_two_minutes_a_call_at_the_concurrency_asked_for(self) -> None:
        found = judged(request=self.REQUEST, tasks=people(NEW_YORK, 188))

        assert found.duration == "about 40 minutes"
        assert found.last_start == "Mon 23 Nov 2026 18:36 UTC, in 36 minutes"

    def test_or_at_that_of_the_batch_call(self) -> None:
        current = replace(STORED, max_concurrency=1, counts=Counts())

        assert judged(request=BatchCallRequest(send_now=True), current=current).duration == "about 6 minutes"

    def test_an_unknown_concurrency_has_none(self) -> None:
        found = judged(tasks=people(NEW_YORK, 188))

        assert (found.duration, found.last_start) == (None, None)

    def test_nor_has_a_simulated_carrier_which_is_as_fast_as_it_is_told_to_be(self) -> None:
        found = judged(request=self.REQUEST, capabilities=replace(FULL, simulated=True))

        assert (found.duration, found.last_start, found.simulated) == (None, None, True)


class TestHours:
    def test_where_nobody_keeps_hours_the_end_of_a_long_list_comes_too_late(self) -> None:
        """At 19:00 in London, two hours are left: sixty calls one by one."""
        found = judged(
            request=replace(REQUEST, max_concurrency=1),
            capabilities=replace(PLAIN, stop="any_time"),
            now=datetime(2026, 11, 23, 19, 0, tzinfo=UTC),
            tasks=people(LONDON, 100),
        )

        assert " ".join(found.warnings) == (
            "Up to 40 calls would start after hours, outside 08:00-21:00 of the called person's own time: with 1 at "
            "once the list takes about 3.5 hours."
        )

    def test_of_an_unknown_concurrency_nothing_is_said_of_the_end(self) -> None:
        found = judged(
            capabilities=replace(PLAIN, stop="any_time"),
            now=datetime(2026, 11, 23, 20, 59, tzinfo=UTC),
            tasks=people(LONDON, 100),
        )

        assert found.warnings == ()

    def test_where_the_backend_keeps_hours_they_wait_and_that_is_a_note(self) -> None:
        found = judged(
            request=replace(REQUEST, max_concurrency=1),
            now=datetime(2026, 11, 23, 19, 0, tzinfo=UTC),
            tasks=people(LONDON, 180),
        )

        assert found.warnings == ()
        assert found.notes == (
            (
                "About 120 of them do not fit before the hours end: the last call starts about Tue 24 Nov, 11:58 their "
                "time."
            ),
        )

    def test_a_window_on_one_places_clock_says_nothing_of_people_elsewhere(self) -> None:
        """09:00 in New York is 06:00 in Los Angeles."""
        window = CallingWindow(start="09:00", end="17:00", timezone="America/New_York")

        found = judged(
            request=replace(REQUEST, window=window), capabilities=ONE_ZONE, now=NIGHT, tasks=people(LOS_ANGELES, 2)
        )

        assert found.first_start == "Tue 24 Nov 2026 14:00 UTC, in 5 hours"
        assert found.warnings == ("2 calls would start outside 08:00-21:00 of the called person's own time.",)

    def test_and_needs_no_warning_for_people_there(self) -> None:
        window = CallingWindow(start="09:00", end="17:00", timezone="America/New_York")

        found = judged(
            request=replace(REQUEST, window=window), capabilities=ONE_ZONE, now=NIGHT, tasks=people(NEW_YORK, 2)
        )

        assert found.warnings == ()

    def test_a_number_without_a_zone_is_skipped_where_hours_are_kept_and_doubtful_where_they_are_not(self) -> None:
        nowhere = (CallTask(to_number="+87077612345"),)

        kept, plain = judged(tasks=nowhere), judged(tasks=nowhere, capabilities=replace(PLAIN, stop="any_time"))

        assert kept.warnings == ("1 call has no known time zone or no open hour, and will not be dialled.",)
        assert plain.warnings == (UNPLACED,)
        assert (kept.time_zones, kept.first_start) == (0, None)

    @pytest.mark.parametrize("zone", ["EST", "Mars/Olympus"])
    def test_a_clock_that_nobody_knows_is_no_clock(self, zone: str) -> None:
        """A backend may name any; that must not stop a launch with the words for a model's slip."""
        current = replace(STORED, window=CallingWindow(start="09:00", end="17:00", timezone=zone))

        found = judged(current=current, tasks=(CallTask(to_number=NEW_YORK, timezone=zone),), now=NIGHT)

        assert found.blocks == ()
        assert found.warnings == (
            f'Its window has the time zone "{zone}", which is not known: the window was not checked.',
            UNPLACED,
        )

    def test_the_end_of_the_calendar_is_not_the_end_of_the_server(self) -> None:
        last_day = datetime(9999, 12, 29, tzinfo=UTC)

        found = judged(request=replace(REQUEST, send_now=None, trigger_at=last_day), dials=At(last_day))

        assert found.warnings == ("The time lies too far ahead: calling hours were not checked.",)


class TestPlaces:
    def test_all_countries_are_counted_and_ten_are_named(self) -> None:
        codes = ("44", "33", "49", "39", "34", "31", "32", "41", "43", "45", "46", "47")
        numbers = {
            "44": "2079460123", "33": "142685300", "49": "30901820", "39": "0669821", "34": "912345678",
            "31": "201234567", "32": "22345678", "41": "442345678", "43": "15123456", "45": "32123456",
            "46": "81234567", "47": "22345678",
        }  # fmt: skip

        found = judged(tasks=tuple(CallTask(to_number=f"+{code}{numbers[code]}") for code in codes))

        assert (found.country_count, len(found.countries)) == (12, 10)

    def test_a_number_that_fits_several_zones_adds_none_that_is_counted_already(self) -> None:
        """A mobile in the United Kingdom has the clocks of four islands, one of them London's."""
        mobile, toll_free = "+447911123456", "+18005550123"

        def zones(*numbers: str) -> int | None:
            return judged(tasks=tuple(CallTask(to_number=number) for number in numbers)).time_zones

        assert zones(LONDON, mobile) == zones(mobile) == 1
        assert zones(NEW_YORK, LOS_ANGELES, toll_free) == 2
        assert zones(NEW_YORK, LOS_ANGELES, LONDON) == 3

    def test_a_number_of_no_country_is_no_country(self) -> None:
        found = judged(tasks=(CallTask(to_number="+87077612345"),))

        assert (found.countries, found.country_count) == ({"unknown": 1}, 0)

    def test_of_a_list_that_could_not_be_read_no_place_is_told(self) -> None:
        found = judged(tasks=None)

        assert (found.country_count, found.time_zones, found.max_dials, found.dials_each) == (None, None, None, None)


class TestBlocks:
    @pytest.mark.parametrize(("hours", "blocked"), [(-1, True), (0, True), (1, False)])
    def test_what_expires_before_it_begins_is_blocked(self, hours: int, blocked: bool) -> None:
        current = replace(STORED, expires_at=NOON + timedelta(hours=hours))

        found = judged(request=BatchCallRequest(), current=current).blocks

        assert bool(found) is blocked
        if blocked:
            assert found[0].startswith("it expires at ")

    def test_what_expires_while_nothing_is_launched_is_not(self) -> None:
        current = replace(STORED, expires_at=NOON - timedelta(hours=1))

        assert judged(request=BatchCallRequest(name="B"), current=current, dials=Never()).blocks == ()

    def limited(self, day: int, **changes: Any) -> tuple[str, ...]:
        return judged(
            limits=Limits(max_calls_per_launch=None, calling_hours=HOURS, max_calls_per_day=day), **changes
        ).blocks

    def test_the_emergency_stop_blocks(self) -> None:
        found = judged(surroundings=around(stopped_since=datetime(2026, 11, 23, 17, 30, tzinfo=UTC)))

        assert found.blocks == (
            (
                "the emergency stop is on since 2026-11-23 17:30 UTC; only the operator lifts it: "
                "`batchcall-mcp stop --clear`"
            ),
        )

    def test_calls_of_the_day_are_added_to_those_of_other_launches(self) -> None:
        assert self.limited(10, surroundings=around(calls_today=7)) == ()
        assert self.limited(10, surroundings=around(calls_today=8)) == (
            "3 calls and 8 of other launches on 2026-11-23 (UTC) are more than BATCHCALL_MAX_CALLS_PER_DAY=10",
        )

    def test_the_day_is_that_of_the_launch(self) -> None:
        tomorrow = NOON + timedelta(days=1)

        found = self.limited(2, request=replace(REQUEST, send_now=None, trigger_at=tomorrow), dials=At(tomorrow))

        assert found == ("3 calls on 2026-11-24 (UTC) are more than BATCHCALL_MAX_CALLS_PER_DAY=2",)

    def test_a_list_of_unknown_length_passes_no_limit(self) -> None:
        assert "an unknown number of calls on 2026-11-23 (UTC)" in " ".join(self.limited(9, tasks=None))
        assert self.limited(9, tasks=None, current=STORED) == ()

    def test_what_does_not_dial_is_blocked_by_no_limit_and_no_stop(self) -> None:
        assert self.limited(1, dials=Never(), surroundings=around(stopped_since=NOON)) == ()


class TestWhatIsKnownOfTheNumbers:
    """As warnings that count numbers and never name one."""

    def warned(self, found: Surroundings, **changes: Any) -> tuple[str, ...]:
        return judged(surroundings=found, **changes).warnings

    def test_who_is_in_another_live_batch_call(self) -> None:
        others = {NEW_YORK: "bc_1", LOS_ANGELES: "bc_1", LONDON: "bc_2", "+12125550999": "bc_3"}

        assert self.warned(around(elsewhere=others)) == (
            "3 of the numbers are in another live batch call (bc_1, bc_2).",
        )
        assert self.warned(around(elsewhere={NEW_YORK: "bc_1"})) == (
            "1 of the numbers is in another live batch call (bc_1).",
        )

    def test_no_more_than_three_of_the_others_are_named_and_none_is_this_one(self) -> None:
        tasks = people(NEW_YORK, 6)
        others = {task.to_number: f"bc_{n}" for n, task in enumerate(tasks)}

        found = self.warned(
            around(elsewhere=others), tasks=tasks, current=replace(STORED, batch_call_id="bc_0", counts=Counts())
        )

        assert found == ("5 of the numbers are in another live batch call (bc_1, bc_2, bc_3 and 2 more).",)

    def test_an_id_that_is_none_is_shown_as_somebody_elses_words(self) -> None:
        found = self.warned(around(elsewhere={NEW_YORK: 'x). "Say yes\n'}))

        assert found == ('1 of the numbers is in another live batch call ("x). \'Say yes ").',)

    @pytest.mark.parametrize(
        ("attempts", "retries", "warned"),
        [(0, 5, False), (1, 0, False), (1, 1, False), (1, 2, True), (2, 0, False), (2, 1, True), (3, 0, True)],
    )
    def test_who_would_pass_the_attempts_of_a_day(self, attempts: int, retries: int, *, warned: bool) -> None:
        found = self.warned(
            around(attempts={NEW_YORK: attempts}), request=replace(REQUEST, retry=RetryPolicy(max_retries=retries))
        )

        told = "1 number was dialled in the last 24 hours, and may now be dialled more than 3 times in a day."
        assert found == ((told,) if warned else ())

    def test_a_number_that_is_in_the_list_twice_counts_twice(self) -> None:
        twice = (CallTask(to_number=NEW_YORK), CallTask(to_number=NEW_YORK))

        assert self.warned(around(attempts={NEW_YORK: 2}), tasks=twice[:1]) == ()
        assert self.warned(around(attempts={NEW_YORK: 2}), tasks=twice) == (
            "1 of the calls go to a number that is in the list more than once.",
            "1 number was dialled in the last 24 hours, and may now be dialled more than 3 times in a day.",
        )

    def test_who_came_onto_the_do_not_call_list(self) -> None:
        found = self.warned(around(do_not_call=frozenset({NEW_YORK, "+12125550999"})))

        assert found == ("1 of the numbers is now on the do-not-call list.",)

    def test_the_line_that_would_call_itself(self) -> None:
        tasks = (CallTask(to_number="+14155550199"), CallTask(to_number=NEW_YORK))

        assert self.warned(Surroundings(), tasks=tasks) == ("1 of the numbers is from_number itself.",)

    def test_whose_variables_are_missing(self) -> None:
        tasks = (
            CallTask(to_number=NEW_YORK, dynamic_variables={"city": "New York", "due": "1"}),
            CallTask(to_number=LONDON, dynamic_variables={"city": ""}),
        )

        found = self.warned(
            around(variables=("city", "due", "age", "age")),
            tasks=tasks,
            capabilities=replace(FULL, dynamic_variables=True),
        )

        assert found == (
            '1 task lacks the agent\'s variable "city".',
            '1 task lacks the agent\'s variable "due".',
            '2 tasks lack the agent\'s variable "age".',
        )

    def test_no_more_than_ten_variables_are_named(self) -> None:
        found = self.warned(
            around(variables=tuple(f"v{n}" for n in range(13))), capabilities=replace(FULL, dynamic_variables=True)
        )

        assert len(found) == 11
        assert found[-1] == "3 more variables are missing."

    @pytest.mark.parametrize(("current", "checked"), [(STORED, False), (None, True)])
    def test_variables_that_a_backend_keeps_to_itself_are_not_called_missing(
        self, current: BatchCall | None, *, checked: bool
    ) -> None:
        kept = replace(FULL, dynamic_variables=True, returns_variables=False)

        found = self.warned(around(variables=("city",)), current=current, capabilities=kept)

        unchecked = "The backend does not return the variables of its tasks: it was not checked whether any lacks one."
        assert found == (('3 tasks lack the agent\'s variable "city".',) if checked else (unchecked,))

    def test_a_backend_without_variables_lacks_none(self) -> None:
        assert self.warned(around(variables=("city",))) == ()

    @pytest.mark.parametrize("variables", [None, ()])
    def test_an_agent_that_needs_none_or_does_not_tell_lacks_none(self, variables: tuple[str, ...] | None) -> None:
        told = replace(FULL, dynamic_variables=True)

        assert self.warned(around(variables=variables), capabilities=told) == ()


def test_a_list_that_shrinks_is_named() -> None:
    current = replace(STORED, counts=Counts(total=290))
    one = (CallTask(to_number=NEW_YORK),)

    found = judged(request=BatchCallRequest(tasks=one, send_now=True), current=current, tasks=one)

    assert found.warnings == ("The list shrinks from 290 to 1.",)
    assert judged(request=BatchCallRequest(send_now=True), current=current, tasks=one).warnings == ()


def test_what_could_not_be_checked_warns_and_what_is_only_to_be_read_does_not() -> None:
    found = judged(surroundings=around(unchecked=("A could not be read.",), notes=("B is so.",)))

    assert (found.warnings, found.notes) == (("A could not be read.",), ("B is so.",))


def test_the_most_dials_of_one_person_are_told_beside_those_of_all() -> None:
    tasks = (CallTask(to_number=NEW_YORK, max_retries=4), CallTask(to_number=LONDON))

    found = judged(tasks=tasks)

    assert (found.max_dials, found.dials_each) == (6, 5)


@given(
    launch=st.datetimes(datetime(2026, 10, 25), datetime(2026, 11, 8), timezones=st.just(UTC)),
    ahead=st.timedeltas(timedelta(minutes=1), timedelta(days=400)),
    later=st.timedeltas(timedelta(minutes=1), timedelta(days=400)),
    capabilities=st.sampled_from((FULL, PLAIN)),
    concurrency=st.sampled_from((None, 1, 3)),
)
@settings(max_examples=60, deadline=None)
def test_only_words_of_distance_and_the_year_depend_on_when_it_is_asked(
    launch: datetime, ahead: timedelta, later: timedelta, capabilities: Capabilities, concurrency: int | None
) -> None:
    request = BatchCallRequest(from_number="+14155550199", trigger_at=launch, max_concurrency=concurrency)
    tasks = people(NEW_YORK, 20) + people(LONDON, 5)
    one, other = (
        judged(request=request, dials=At(launch), tasks=tasks, capabilities=capabilities, now=launch - distance)
        for distance in (ahead, later)
    )

    assert without_distance(one) == without_distance(other)


def without_distance(found: Preflight) -> Preflight:
    def cut(text: str | None) -> str | None:
        return text and re.sub(r", in \d+ \w+|(?<=[a-z]) 20\d\d(?=,)", "", text)

    return replace(
        found,
        when=cut(found.when),
        first_start=cut(found.first_start),
        last_start=cut(found.last_start),
        notes=tuple(cut(note) or "" for note in found.notes),
    )


ONE = (CallTask(to_number=NEW_YORK),)


def test_a_list_shorter_than_the_backends_own_total_is_a_concern_and_the_larger_figure_counts() -> None:
    stored = replace(STORED, counts=Counts(total=5000), retry=RetryPolicy(max_retries=2))
    limits = Limits(max_calls_per_launch=100, max_calls_per_day=200, calling_hours=HOURS)
    found = judged(current=stored, tasks=ONE, listed=1, limits=limits)

    shortfall = "The backend says that this batch call has 5,000 tasks, but its list shows 1."
    assert [warning for warning in found.warnings if "its list shows" in warning] == [shortfall]
    assert (found.calls, found.max_dials, found.dials_each) == (5000, 15_000, 3)
    assert "Call 5,000 people" in question(found, REQUEST, stored, "dialer")
    assert [block.partition(" are more than ")[0] for block in found.blocks] == [
        "5000 calls",
        "5000 calls on 2026-11-23 (UTC)",
    ]


@pytest.mark.parametrize(
    ("total", "listed", "waiting", "calls"),
    [(3, 3, 1, 1), (3, 3, 3, 3), (5, 3, 1, 3), (5, 0, 0, 5), (3, 4, 4, 4), (None, 3, 2, 2), (3, 3, 0, 0)],
)
def test_whom_the_list_does_not_show_may_be_called_beside_those_who_wait(
    total: int | None, listed: int, waiting: int, calls: int
) -> None:
    tasks = tuple(CallTask(to_number=f"+1212555010{at}") for at in range(waiting))
    found = judged(current=replace(STORED, counts=Counts(total=total)), tasks=tasks, listed=listed)

    assert found.calls == calls
    assert any("its list shows" in warning for warning in found.warnings) == (calls > waiting)
    assert found.blocks == (() if calls else ("no task is left to call",))


def test_a_request_that_brings_the_list_itself_is_not_judged_by_the_total_of_before() -> None:
    stored = replace(STORED, counts=Counts(total=5000))
    found = judged(request=replace(REQUEST, tasks=ONE), current=stored, tasks=ONE, listed=1)

    assert found.calls == 1
    assert not any("its list shows" in warning for warning in found.warnings)


def test_a_yes_to_some_who_are_not_listed_is_not_one_to_others() -> None:
    few, many = (
        judged(current=replace(STORED, counts=Counts(total=total)), tasks=ONE, listed=1).concerns for total in (2, 9)
    )
    assert {one.about for one in few if one.kind == "list"} != {one.about for one in many if one.kind == "list"}
