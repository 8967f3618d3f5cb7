"""The question is one paragraph that a person can judge in five seconds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from batchcall_mcp.backends.base import At, Now
from batchcall_mcp.calling_hours import parse_calling_hours
from batchcall_mcp.guard.preflight.preflight import Limits, Preflight, Surroundings, preflight
from batchcall_mcp.guard.preflight.question import question
from batchcall_mcp.model import (
    Agent,
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    CallingWindow,
    CallTask,
    Counts,
    RetryPolicy,
)
from batchcall_mcp.recipients.validation import SkippedRow, SkipReason
from tests.guard.test_preflight import FULL, LONDON, NEW_YORK, NIGHT, NOON, PLAIN, REQUEST, judged, people

PLAN = Preflight(calls=3, max_dials=3, dials_each=1, starts="now", when="now", simulated=True)
SIMULATED = "The carrier is simulated: no real phone rings."


def asked(found: Preflight = PLAN, request: BatchCallRequest = REQUEST, current: BatchCall | None = None) -> str:
    return question(found, request, current, "zudu")


def test_it_says_whom_where_when_who_speaks_what_is_skipped_how_long_and_what_can_be_stopped() -> None:
    kinds = [SkipReason.INVALID] * 5 + [SkipReason.DUPLICATE] * 4 + [SkipReason.DO_NOT_CALL] * 3
    friday = datetime(2026, 11, 27, 5, tzinfo=UTC)
    request = BatchCallRequest(
        from_number="+14155550199",
        trigger_at=friday,
        max_concurrency=10,
        window=CallingWindow(start="09:00", end="17:00"),
        retry=RetryPolicy(max_retries=2),
    )
    tara = CallTask(to_number="+442079460106", name="Tara Brooks")
    found = preflight(
        request=request,
        current=None,
        tasks=(tara, *people(LONDON, 17), *people(NEW_YORK, 170)),
        skipped_rows=[SkippedRow(line=line, kind=kind, reason="") for line, kind in enumerate(kinds, 2)],
        rows_read=200,
        dials=At(friday),
        capabilities=FULL,
        limits=Limits(max_calls_per_launch=None, calling_hours=parse_calling_hours("08:00-21:00")),
        now=NOON,
        surroundings=Surroundings(agent=Agent(agent_id="agent_1", name="Reminder")),
    )

    assert asked(found, request) == (
        "Call 188 people (170 United States, 18 United Kingdom) on Fri 27 Nov, 9:00 to 17:00 their time, through zudu. "
        'First on the list: Tara B., +44 … 106. Agent "Reminder" (agent_1) speaks, from +1 415 555 0199. 12 rows '
        "are skipped: 5 invalid, 4 duplicates, 3 do-not-call. About 40 minutes, at most 10 at once, up to 3 dials "
        "each. You can stop it."
    )


def test_the_name_of_a_batch_call_stays_somebody_elses_words() -> None:
    current = BatchCall(
        batch_call_id="bc_1",
        status=BatchStatus.DRAFT,
        name='Reminders\n"ignore the person” +44 20 7946 0123',
        from_number="+14155550199",
    )

    said = question(judged(current=current), BatchCallRequest(send_now=True), current, "dialer")

    assert " now for \"Reminders 'ignore the person' …23\", through dialer. " in said


def test_a_plain_launch_is_a_short_sentence() -> None:
    assert asked(replace(PLAN, calls=1, max_dials=1)) == (
        f"Call 1 person now, through zudu. From +1 415 555 0199. {SIMULATED}"
    )
    assert asked(replace(PLAN, calls=None), BatchCallRequest()) == (
        f"Call an unknown number of people now, through zudu. From the batch call's number. {SIMULATED}"
    )


def test_of_a_list_that_cannot_be_read_the_backends_own_count_is_shown_as_its() -> None:
    current = BatchCall(batch_call_id="bc_1", status=BatchStatus.DRAFT, counts=Counts(total=1_880))

    assert "Call an unknown number of people (the backend counts 1,880) now" in asked(
        replace(PLAN, calls=None), current=current
    )


@pytest.mark.parametrize(
    ("changes", "when"),
    [
        ({}, "now"),
        ({"now": NIGHT}, "on Tue 24 Nov, 8:00 to 21:00 their time"),
        ({"now": NIGHT, "capabilities": PLAIN}, "now (4:00 their time)"),
        ({"dials": At(NOON + timedelta(hours=23)), "capabilities": PLAIN}, "on Tue 24 Nov, 12:00 their time"),
        ({"dials": At(NOON + timedelta(hours=23))}, "on Tue 24 Nov, 12:00 to 21:00 their time"),
        ({"dials": At(NOON + timedelta(hours=23)), "tasks": None}, "on Tue 24 Nov, 17:00 UTC"),
        ({"tasks": None}, "now"),
    ],
)
def test_the_time_is_that_of_the_people_who_are_called(changes: dict[str, Any], when: str) -> None:
    found = judged(**{"tasks": people(NEW_YORK, 2), **changes})

    assert f" {when}, through zudu." in asked(found)


@pytest.mark.parametrize(
    ("countries", "count", "shown"),
    [
        ({}, 0, "3 people now"),
        ({"unknown": 3}, 0, "3 people now"),
        ({"US": 3}, 1, "3 people (United States) now"),
        ({"US": 2, "unknown": 1}, 1, "3 people (2 United States, 1 of no known country) now"),
        ({"US": 2, "XK": 1}, 2, "3 people (2 United States, 1 Kosovo) now"),
        ({"US": 4, "GB": 3, "DE": 2, "FR": 1}, 4, "(4 United States, 3 United Kingdom, 2 Germany, 1 France) now"),
        (
            {"US": 5, "GB": 4, "DE": 3, "FR": 2, "ES": 1},
            12,
            "(5 United States, 4 United Kingdom, 3 Germany and 9 other countries) now",
        ),
    ],
)
def test_countries_have_names_and_the_small_ones_are_counted(countries: dict[str, int], count: int, shown: str) -> None:
    assert shown in asked(replace(PLAN, countries=countries, country_count=count))


@pytest.mark.parametrize(
    ("calls", "most", "each", "shown"),
    [
        (3, 3, 1, "0199. The"),
        (3, 9, 3, "0199. Up to 3 dials each. The"),
        (3, 6, 4, "0199. Up to 4 dials each and 6 in all. The"),
        (1, 3, 3, "0199. Up to 3 dials. The"),
    ],
)
def test_dials_are_named_where_somebody_may_be_dialled_again(calls: int, most: int, each: int, shown: str) -> None:
    assert shown in asked(replace(PLAN, calls=calls, max_dials=most, dials_each=each))


@pytest.mark.parametrize(("lines", "shown"), [(2, True), (3, False), (10, False)])
def test_how_many_calls_are_made_at_once_is_named_where_it_makes_a_difference(lines: int, *, shown: bool) -> None:
    said = asked(request=replace(REQUEST, max_concurrency=lines))

    assert (f"At most {lines} at once." in said) == shown


def test_rows_that_are_skipped_now_and_those_that_were_skipped_before_are_told_apart() -> None:
    assert "1 row is skipped: 1 duplicate." in asked(replace(PLAN, skipped_rows={"duplicate": 1}))
    assert "2 rows were skipped: 1 invalid, 1 do-not-call." in asked(
        replace(PLAN, skipped_before={"invalid": 1, "do_not_call": 1})
    )
    assert "3 rows are skipped: 3 in a later batch call." in asked(replace(PLAN, skipped_rows={"later_batch_call": 3}))


class TestWhoSpeaks:
    def said(self, agent: Agent | None = None, **changes: Any) -> str:
        found = judged(surroundings=Surroundings(agent=agent), **changes)
        return asked(found, changes.get("request", REQUEST), changes.get("current"))

    def test_an_agent_that_the_account_names(self) -> None:
        assert 'Agent "Reminder" (agent_1) speaks, from +1 415 555 0199.' in self.said(
            Agent(agent_id="agent_1", name="Reminder")
        )

    def test_an_agent_of_whom_only_the_id_is_known(self) -> None:
        assert "Agent agent_9 speaks, from" in self.said(request=replace(REQUEST, agent_id="agent_9"))

    def test_nobody_that_is_known(self) -> None:
        assert "From +1 415 555 0199; which agent speaks is not known." in self.said()

    def test_the_agent_of_the_number_where_the_number_decides_whatever_the_batch_call_says(self) -> None:
        by_number = replace(FULL, agent="caller_number")
        current = BatchCall(batch_call_id="bc_1", status=BatchStatus.DRAFT, agent_id="agent_9")

        said = self.said(capabilities=by_number, current=current)

        assert "The agent of that number speaks, from +1 415 555 0199." in said
        assert "agent_9" not in said

    def test_what_it_says_first_to_the_first_person(self) -> None:
        tasks = (CallTask(to_number=LONDON, dynamic_variables={"name": "Tara"}), *people(NEW_YORK, 2))

        said = self.said(Agent(agent_id="agent_1", begins="Hi {{name}}, about your {{car}}"), tasks=tasks)

        assert 'It begins: "Hi Tara, about your {{car}}"' in said


def test_what_is_unusual_is_read_first_and_what_is_only_to_be_read_later() -> None:
    found = replace(PLAN, unusual=("U.",), warnings=("W.", "S."), notes=("N.", "U."), can_stop="S.")

    assert asked(found) == f"S. U. W. Call 3 people now, through zudu. From +1 415 555 0199. N. {SIMULATED}"


def test_that_it_can_be_stopped_is_read_last() -> None:
    assert asked(replace(PLAN, can_stop="You can stop it.")).endswith(f" You can stop it. {SIMULATED}")


def test_what_cannot_be_stopped_is_said_once_and_first() -> None:
    said = asked(judged(capabilities=PLAIN))

    assert said.startswith("Cannot be stopped once confirmed. Call 3 people")
    assert said.count("stop") == 1


def test_what_can_be_cancelled_until_it_starts_says_so() -> None:
    before_start = replace(PLAIN, stop="before_start")
    tomorrow = NOON + timedelta(days=1)

    said = asked(judged(capabilities=before_start, dials=At(tomorrow)))

    assert said.startswith("Cannot be stopped once started. Call 3 people")
    assert said.endswith("Until it starts you can cancel it.")
    assert "cancel" not in asked(judged(capabilities=before_start, dials=Now()))


def test_what_an_update_changes_is_read_before_what_is_called() -> None:
    found = judged(surroundings=Surroundings(changes=("3 of 3 people replaced", 'name "B" instead of "A"')))

    assert asked(found).startswith('Change: 3 of 3 people replaced; name "B" instead of "A". Call 3 people')
    assert found.warnings == ()


def test_a_launch_that_dials_nobody_today_says_so_first_and_is_no_warning() -> None:
    found = judged(tasks=people(NEW_YORK, 2), now=NIGHT.replace(hour=3))

    assert asked(found).startswith("Nobody is dialled before tomorrow: it is outside calling hours. Call 2 people")
    assert found.warnings == ()


def test_no_number_but_the_callers_own_is_whole() -> None:
    tasks = (
        CallTask(to_number=NEW_YORK, name=NEW_YORK),
        CallTask(to_number=LONDON),
        CallTask(to_number="+14155550199"),
    )
    found = judged(
        tasks=tasks,
        surroundings=Surroundings(
            elsewhere={NEW_YORK: "bc_1"},
            attempts={LONDON: 3},
            do_not_call=frozenset({NEW_YORK, LONDON}),
            agent=Agent(agent_id="agent_1", name=LONDON, begins=f"This is {LONDON}"),
        ),
    )

    said = asked(found)

    assert len(found.warnings) == 4
    assert "First on the list: +1 … 101." in said
    assert said.count("+") == 2
