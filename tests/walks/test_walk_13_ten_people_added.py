"""A walk: "call these ten as well": people are added to a batch call that runs, over stdio and over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from tests.server.transports import Way
from tests.tools.desk import SOME_WAYS, Person, opened, text_of
from tests.walks.stage import ALWAYS


@pytest.mark.parametrize("way", SOME_WAYS, ids=str)
def test_ten_people_are_added_to_a_running_batch_call(way: Way, tmp_path: Path) -> None:
    person = Person()
    with start_blocking_portal() as portal, opened(portal, way, tmp_path, person) as desk:
        # Their lines are busy, so it runs until they are dialled again in an hour.
        first, ten = desk.people(20, 7), desk.people(10)
        retry = {"max_retries": 1, "after_minutes": 60}
        name = {"batch_call_id": desk.draft(first, name="Reminders", window=ALWAYS, retry=retry)}
        desk.launch("start_batch_call", **name, trigger_timestamp="now")
        desk.until(lambda: desk.times_dialled(first) == 20)

        # Two of the rows are of people who were called a moment ago, and one is written twice.
        rows = [first[0], *ten, first[19], ten[3]]
        person.says = "no"
        text = desk.refused("update_batch_call", **name, add_tasks=rows)
        assert text.startswith("[not_confirmed]")
        assert person.questions[-1].startswith("Change: 10 people added to the 20 of this batch call.")
        assert 'Call 10 people (United States) now for "Reminders"' in person.questions[-1]
        assert "3 rows are skipped: 1 duplicate, 2 already there." in person.questions[-1]
        assert desk.counts(name["batch_call_id"])["total"] == 20

        person.says = "yes"
        added = desk.launch("update_batch_call", **name, add_tasks=rows)
        assert (added["result"], added["changed"]) == ("added", {"tasks": [20, 30]})
        assert [row["kind"] for row in added["skipped_rows"]] == ["already_there", "already_there", "duplicate"]
        desk.until(lambda: desk.times_dialled(ten) == 10)
        desk.until(lambda: desk.counts(name["batch_call_id"])["completed"] == 10)

        # The same call again, and in another order after their calls: nobody is asked about, nobody is called.
        asked = len(person.questions)
        for again in (rows, rows[::-1]):
            answer = desk.call("update_batch_call", **name, add_tasks=again)
            assert answer.get("replayed") or answer["result"] == "nothing_to_do"
        assert len(person.questions) == asked
        assert (desk.times_dialled(first), desk.times_dialled(ten)) == (20, 10)

        desk.call("cancel_batch_call", **name)
        late = desk.raw("update_batch_call", {**name, "add_tasks": desk.people(1)})
        assert late.is_error
        assert "create_batch_call makes a new draft of these people" in text_of(late)
        assert len(person.questions) == asked
