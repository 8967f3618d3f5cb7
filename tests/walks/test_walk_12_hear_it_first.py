"""Walk 9: hear it first, then twenty people, then all. And time to think again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.server.transports import Way
from tests.tools.desk import SOME_WAYS, Desk, Person, opened
from tests.walks.stage import numbers

MINE = "+14155550110"
PEOPLE = numbers(30)
TASKS = [
    {"to_number": one, "name": f"Person {at}", "dynamic_variables": {"day": f"day {at}"}}
    for at, one in enumerate(PEOPLE)
]


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


def paused(desk: Desk, batch_call_id: str) -> dict[str, object]:
    desk.until(lambda: desk.status(batch_call_id) == "paused")
    found: dict[str, object] = desk.call("get_batch_call", batch_call_id=batch_call_id, limit=0)["batch_call"]
    return found


@pytest.mark.parametrize("way", SOME_WAYS, ids=str)
def test_hear_it_first_then_twenty_then_all(portal: BlockingPortal, way: Way, tmp_path: Path) -> None:
    person = Person()
    with opened(portal, way, tmp_path, person, {"BATCHCALL_TEST_NUMBERS": MINE}) as desk:
        draft = {"batch_call_id": desk.draft(TASKS, name="Visits", agent_id="reminders")}

        heard = desk.call("start_batch_call", **draft, test_number=MINE)
        assert heard["result"] == "started"
        assert heard["batch_call"]["test_of"] == draft["batch_call_id"]
        assert person.questions[0].startswith(
            f"Test call: only +1 … 110 rings, with the first row of {draft['batch_call_id']} "
            '("day": "day 0"). Nobody of its list is called. Call 1 person (United States) now for "Test of Visits"'
        )
        desk.finished(heard["batch_call"]["batch_call_id"])
        assert desk.dialled() == [MINE]
        told = desk.call("get_batch_call", batch_call_id=heard["batch_call"]["batch_call_id"], include_variables=True)
        assert [(one["name"], one["dynamic_variables"]) for one in told["tasks"]] == [("Person 0", {"day": "day 0"})]
        assert told["batch_call"]["agent_id"] == "reminders"
        # Again at once: neither the number nor the same request stands in the way.
        again = desk.call("start_batch_call", **draft, test_number=MINE)
        assert (again["result"], "replayed" in again) == ("started", False)
        desk.finished(again["batch_call"]["batch_call_id"])
        assert desk.status(**draft) == "draft"

        begun = desk.call("start_batch_call", **draft, trigger_timestamp="now", first=20)
        assert begun["result"] == "started"
        assert "After the first 20 people it pauses" in begun["summary"]
        assert 'Call 20 of 30 people (United States) now for "Visits"' in person.questions[2]
        assert "The others are called only after you resume it." in person.questions[2]
        now = paused(desk, **draft)
        assert now["status_reason"] == {
            "code": "first_done",
            "text": "The first 20 people were called, as it was started for; 10 others wait. Resume it to call them.",
        }
        assert Counter(desk.dialled()) == Counter([MINE, MINE, *PEOPLE[:20]])

        assert desk.call("resume_batch_call", **draft)["result"] == "resumed"
        assert person.questions[3].startswith("It was paused: The first 20 people were called")
        assert "Call 10 people (United States) now" in person.questions[3]
        desk.finished(**draft)
        assert Counter(desk.dialled()) == Counter([MINE, MINE, *PEOPLE])
        assert len(person.questions) == 4


@pytest.mark.parametrize("way", SOME_WAYS, ids=str)
def test_a_launch_can_be_cancelled_until_it_begins(portal: BlockingPortal, way: Way, tmp_path: Path) -> None:
    person = Person()
    with opened(portal, way, tmp_path, person, {"BATCHCALL_UNDO_SECONDS": "3600"}) as desk:
        draft = {"batch_call_id": desk.draft(TASKS)}
        begun = desk.call("start_batch_call", **draft, trigger_timestamp="now", first=20)
        assert "Phones ring 3,600 seconds after your yes; cancel_batch_call stops it until then." in person.questions[0]
        assert begun["result"] == "scheduled"
        assert begun["batch_call"]["status"] == "scheduled"
        assert begun["batch_call"]["first"] == 20
        assert any(
            note.startswith("It starts at ") and f"cancel_batch_call with {draft['batch_call_id']}" in note
            for note in begun["notes"]
        )
        # The same call again is the same launch: it moves nothing.
        same = desk.call("start_batch_call", **draft, trigger_timestamp="now", first=20)
        assert (same["replayed"], same["result"]) == (True, "scheduled")
        assert same["batch_call"]["scheduled_at"] == begun["batch_call"]["scheduled_at"]
        assert desk.call("cancel_batch_call", **draft)["batch_call"]["status"] == "cancelled"
        assert desk.dialled() == []
        assert len(person.questions) == 1
