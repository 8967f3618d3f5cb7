"""What a yes, or an unattended launch, covers although nothing showed it; and a yes that is thrown away.

Each test fails on the code of 2026-11-27. Only the one about the yes in a terminal is new with the rewritten comparison
of live batch calls; the others were so before it, and break what docs/guarantees.md promises now.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from mcp.client import ClientRequestContext
from mcp.types import ElicitRequestParams, ElicitResult
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from batchcall_mcp.backends.rest_api.dialer import DialerBackend
from batchcall_mcp.dialer.storage import commands
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.model import TaskPage, TaskQuery
from tests.vendors import zudu
from tests.vendors.zudu import Zudu
from tests.walks.stage import (
    ALWAYS,
    FROM,
    NEW_YORK,
    Model,
    Person,
    every_era,
    number,
    numbers,
    playing,
    settings_of,
    tomorrow_at,
)

OFF = {"confirm": "off", "max_calls_per_launch": "10", "accept_no_stop": "true"}
MINE = [number(NEW_YORK, line) for line in (0, 1)]


class Meanwhile(Person):
    """Says yes to each question; while they think about the first, something happens."""

    def __init__(self, happens: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.happens = happens

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        if not self.questions:
            self.happens()
        return await super().__call__(context, params)


class Account(Zudu):
    """Its agent needs no variables, so that nothing else stands in the way of an unattended launch."""

    def put(self, name: str, status: str, people: list[str], age: timedelta = timedelta(0)) -> zudu.Batch:
        """Store a batch call; one that is scheduled is for tomorrow."""
        stored = [zudu.Task(f"{name}_{at}", one, {}) for at, one in enumerate(people)]
        trigger = int(tomorrow_at(9).timestamp() * 1000) if status == "SCHEDULED" else None
        body = {"from_number": FROM, "name": name}
        self.batches[name] = zudu.Batch(name, "org_first", self.now - age, body, status, trigger, stored)
        return self.batches[name]

    async def _agents(self, request: Request) -> Response:
        self._organization(request)
        return self._success("Agents retrieved successfully", {"agents": [{"agent_id": zudu.AGENT, "agent_name": "A"}]})


def at(vendor: str, home: Path, **options: Any) -> dict[str, Any]:
    account = {"backend": "zudu", "api_key": zudu.KEY, "api_secret": zudu.SECRET, "calling_hours": "00:00-24:00"}
    return {"url": vendor, "data_dir": home, **account, **options}


async def launched_unattended(vendor: Account, home: Path) -> list[str]:
    """Who is called when the draft of MINE is started where nobody is asked."""
    vendor.put("mine", "DRAFT", MINE)
    async with vendor.served() as url, playing("auto", **at(url, home, **OFF)) as model:
        await model.client.call_tool("start_batch_call", {"batch_call_id": "mine", "trigger_timestamp": "now"})
    return vendor.dialled


# People who are called twice: not compared, and nothing says so.


@every_era
async def test_somebody_whom_a_running_batch_call_is_about_to_call_is_found_although_it_dials_on(
    era: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The people who wait in a live batch call are read in pages of those who wait. Whoever is called between two pages
    moves the others up, and as many of them are in no page. It counts as compared: the question says nothing, and with
    the yes to it both batch calls call the same person.
    """
    people, person, moved = numbers(1200), Person(), []
    read = DialerBackend.tasks

    async def tasks(self: DialerBackend, batch_call_id: str, query: TaskQuery) -> TaskPage:
        if query.cursor is not None and batch_call_id == other:
            with closing(sqlite3.connect(tmp_path / "dialer.db")) as db, db:
                ended = "UPDATE tasks SET status = 'completed', due_at = NULL WHERE batch_call_id = ? AND position < 5"
                moved.append(db.execute(ended, [other]).rowcount)
        return await read(self, batch_call_id, query)

    async def draft(model: Model, to: list[str], **more: Any) -> str:
        rows = [{"to_number": one} for one in to]
        made = await model.call("create_batch_call", from_number=FROM, tasks=rows, window=ALWAYS, **more)
        return str(made["batch_call"]["batch_call_id"])

    async with playing(era, person=person, data_dir=tmp_path, simulated_speed="1") as model:
        other = await draft(model, people, max_concurrency=1)
        mine = await draft(model, [people[1002]])
        with closing(sqlite3.connect(tmp_path / "dialer.db")) as db, db:  # another client of the dialer starts it
            begun = "UPDATE batch_calls SET status = 'sent', started_at = created_at, launched_at = created_at"
            db.execute(f"{begun} WHERE batch_call_id = ?", [other])
        monkeypatch.setattr(DialerBackend, "tasks", tasks)
        await model.call("start_batch_call", batch_call_id=mine, trigger_timestamp="now")
    assert moved[0] == 5
    assert "1 of the numbers is in another live batch call" in person.questions[0]


class GarbledList(Account):
    """Its list shows the other batch call as something that is no object."""

    async def _list(self, request: Request) -> Response:
        held = json.loads((await super()._list(request)).body)
        rows = held["data"]["batch_calls"]
        held["data"]["batch_calls"] = [None if one["batch_call_id"] == "other" else one for one in rows]
        return JSONResponse(held)


class GarbledTasks(Account):
    """Its list of the tasks of the other batch call shows one as something that is no object."""

    async def _tasks(self, request: Request) -> Response:
        answer = await super()._tasks(request)
        if request.path_params["id"] != "other":
            return answer
        held = json.loads(answer.body)
        held["data"]["tasks"][0] = None
        return JSONResponse(held)


@pytest.mark.parametrize("kind", [GarbledList, GarbledTasks])
async def test_what_cannot_be_read_of_another_live_batch_call_is_not_compared(
    kind: type[Account], tmp_path: Path
) -> None:
    """Rows that cannot be read are dropped with a note (`page.notes`), which the comparison drops: the other batch
    call counts as compared, nothing refuses the unattended launch, and whoever is in both is called twice. The stop
    command takes such a row of the list for something that may dial.
    """
    vendor = kind()
    vendor.put("other", "SCHEDULED", [MINE[1], number(NEW_YORK, 70)])
    assert await launched_unattended(vendor, tmp_path) == []


async def test_an_old_live_batch_call_of_a_large_account_is_not_compared(tmp_path: Path) -> None:
    """Only the newest 2,000 batch calls are looked through. That is a note, which refuses nothing where nobody is asked
    ("what could not be checked" has to), and to which no yes is bound: whoever is in an older one is called twice.
    """
    vendor = Account()
    vendor.put("old", "SCHEDULED", MINE, timedelta(days=30))
    for one in range(2000):
        vendor.put(f"draft_{one}", "DRAFT", [number(NEW_YORK, 50)])
    assert await launched_unattended(vendor, tmp_path) == []


# A yes that covers more than was shown.


@every_era
async def test_a_yes_to_a_resume_covers_no_other_reason_of_the_pause(era: Any, tmp_path: Path) -> None:
    """The question says why the dialer paused a batch call, and the yes is not bound to it. Who agreed to go on after a
    pause of their own lets it go on after it was resumed elsewhere and paused because its calls fail: phones ring, and
    nobody was shown why they had stopped ringing.
    """

    def fails() -> None:
        store = Store.open(tmp_path / "dialer.db")
        with store.writing() as tx:
            tx.exec_driver_sql("UPDATE batch_calls SET status = 'sent', revision = revision + 1")  # resumed elsewhere
            ids = [row[0] for row in tx.exec_driver_sql("SELECT batch_call_id FROM batch_calls")]
            assert commands.pause(tx, ids, "failing", "11 of the last 20 calls failed.", store.now()) == ids
        store.close()

    person = Meanwhile()
    async with playing(era, person=person, data_dir=tmp_path, simulated_speed="1") as model:
        people = [{"to_number": one} for one in numbers(40)]
        made = await model.call("create_batch_call", from_number=FROM, tasks=people, window=ALWAYS, max_concurrency=1)
        which = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await model.call("start_batch_call", **which, trigger_timestamp="now")
        await model.call("pause_batch_call", **which)
        person.questions.clear()
        person.happens = fails
        await model.call("resume_batch_call", **which)
    assert "failed" not in person.questions[0]
    assert "It was paused: 11 of the last 20 calls failed." in person.questions[-1]


async def test_a_yes_to_the_loss_of_one_result_does_not_lose_three(tmp_path: Path) -> None:
    """The question before a deletion says how many results are lost, and the yes is not bound to that number: results
    that came while the person thought are lost with the others, and nobody was told of them.
    """
    vendor = Account()
    done = vendor.put("done", "COMPLETED", [number(NEW_YORK, line) for line in (0, 1, 2)])
    done.tasks[0].status = "COMPLETED"

    def two_more_are_called() -> None:
        for task in done.tasks:
            task.status = "COMPLETED"

    person = Meanwhile(two_more_are_called)
    async with vendor.served() as url, playing("auto", **at(url, tmp_path, person=person)) as model:
        await model.call("delete_batch_call", batch_call_id="done")
    assert "Results of 1 call are lost" in person.questions[0]
    assert "Results of 3 calls are lost" in person.questions[-1]


@every_era
async def test_a_yes_to_one_more_person_does_not_replace_a_list_that_nobody_was_shown(era: Any, tmp_path: Path) -> None:
    """The question says how a new list differs from the one that it replaces, and the yes is not bound to that: if
    somebody else gave the scheduled batch call as many other people meanwhile, a yes to "1 more" takes all of theirs
    out, and the people whom they had taken out are called.
    """
    people = [number(NEW_YORK, line) for line in range(10)]
    vendor = Account()
    vendor.put("soon", "SCHEDULED", people[:3])

    def others_are_put_in() -> None:
        vendor.put("soon", "SCHEDULED", people[5:8])

    person = Meanwhile(others_are_put_in)
    tasks = [{"to_number": one} for one in people[:4]]
    async with vendor.served() as url, playing(era, **at(url, tmp_path, person=person)) as model:
        await model.call("update_batch_call", batch_call_id="soon", tasks=tasks)
    assert "Change: 1 person added, of 3 before." in person.questions[0]
    assert "4 people added and 3 people removed, of 3 before." in person.questions[-1]


# A yes that is thrown away.


class Flaky(Account):
    """The tasks of one batch call cannot be read."""

    closed = ""

    async def _tasks(self, request: Request) -> Response:
        if request.path_params["id"] == self.closed:
            raise zudu.Refused(403, "Forbidden", "closed")
        return await super()._tasks(request)


async def test_a_yes_in_a_terminal_covers_what_its_question_named_as_not_compared(tmp_path: Path) -> None:
    """The call that comes after a yes in a terminal (or on the page, when the call did not wait for it) does not know
    which batch calls its question named: it compares all of them again, against "no more than the first look", and
    whatever this look could not read takes the yes away, each time anew. With 20 s for a large account that is another
    batch call at each look: people approve, and nothing is ever launched. Before the rewrite the first yes launched.
    """
    vendor = Flaky()
    vendor.put("other_1", "SCHEDULED", [number(NEW_YORK, 60)])
    vendor.put("other_2", "SCHEDULED", [number(NEW_YORK, 60)])
    vendor.put("mine", "DRAFT", MINE)
    said = []
    async with vendor.served() as url:
        options = at(url, tmp_path, approval_page="off")
        ledger = Ledger.open(settings_of({name.upper(): str(value) for name, value in options.items()}))
        async with playing("auto", **options) as model:
            for turn in range(4):
                vendor.closed = ("other_1", "other_2")[turn % 2]
                answer = await model.call("start_batch_call", batch_call_id="mine", trigger_timestamp="now")
                said.append(answer["result"])
                for approval in ledger.codes.approvals.waiting():  # as `batchcall-mcp approve` does
                    assert ledger.codes.approvals.approve(approval.approval_id)
        ledger.close()
    assert vendor.dialled == MINE, said


# An argument that is taken for another one.


@pytest.mark.parametrize(
    "given",
    [
        {"tasks": [{"to_number": MINE[0], "max_retries": True}]},
        {"tasks": [{"to_number": MINE[0]}], "retry": {"max_retries": True}},
        {"tasks": [{"to_number": MINE[0]}], "retry": {"max_retries": 2, "after_minutes": True}},
    ],
    ids=["of a task", "of the batch call", "after minutes"],
)
async def test_true_is_no_number_inside_an_object_either(given: dict[str, Any], tmp_path: Path) -> None:
    """max_concurrency=true is refused; inside tasks and retry true is one redial, or one minute: a phone rings a second
    time, after a minute, for a word that is no number.
    """
    async with playing("auto", data_dir=tmp_path) as model:
        await model.refused("create_batch_call", "invalid_input", from_number=FROM, window=ALWAYS, **given)
