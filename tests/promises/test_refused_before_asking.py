"""What the state of a batch call forbids is refused before a person is asked.

Every call that writes, on a batch call in every state, at every backend; the person says yes to all. A backend
that would refuse it for the state shows that a question was asked in vain. The dialer in this process and the one
elsewhere share their adapter: one call of each tool in each state is tried at both, half of the others at one of the
two. `make torture` tries all of them at both.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.model import WEEKDAYS
from tests.sampling import spread
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Model, Person, number, playing, tomorrow_at

PEOPLE = [number(NEW_YORK, line) for line in (0, 1, 7)]  # the last one is busy
TASKS = [{"to_number": one} for one in PEOPLE]
OTHERS = [{"to_number": number(NEW_YORK, line)} for line in (50, 51)]
SOME_DAY = tomorrow_at(9).isoformat()
NEVER_TODAY = {**ALWAYS, "days": [WEEKDAYS[(datetime.now(UTC) + timedelta(days=3)).weekday()]], "timezone": "UTC"}
NEW_YORK_DAY = {"start": "09:00", "end": "17:00", "timezone": "America/New_York"}

CALLS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "start now": ("start_batch_call", {"trigger_timestamp": "now"}),
    "start later": ("start_batch_call", {"trigger_timestamp": SOME_DAY}),
    "resume": ("resume_batch_call", {}),
    "retry": ("retry_batch_call", {}),
    "retry of the busy": ("retry_batch_call", {"task_status": ["busy"]}),
    "delete": ("delete_batch_call", {}),
    "name": ("update_batch_call", {"name": "Another"}),
    "tasks": ("update_batch_call", {"tasks": OTHERS}),
    "fewer tasks": ("update_batch_call", {"tasks": TASKS[:1]}),
    "agent": ("update_batch_call", {"agent_id": magpipe.AGENT}),
    "caller": ("update_batch_call", {"from_number": FROM}),
    "caller and tasks": ("update_batch_call", {"from_number": FROM, "tasks": OTHERS}),
    "window": ("update_batch_call", {"window": NEW_YORK_DAY}),
    "window in UTC": ("update_batch_call", {"window": {**NEW_YORK_DAY, "timezone": "UTC"}}),
    "window and tasks": ("update_batch_call", {"window": NEW_YORK_DAY, "tasks": OTHERS}),
    "retries": ("update_batch_call", {"retry": {"max_retries": 2, "after_minutes": 5}}),
    "retries at no time, with tasks": (
        "update_batch_call",
        {"retry": {"max_retries": 1, "on": ["busy"]}, "tasks": OTHERS},
    ),
    "lines": ("update_batch_call", {"max_concurrency": 3}),
    "time zone": ("update_batch_call", {"timezone": "America/Chicago"}),
    "a time": ("update_batch_call", {"trigger_timestamp": SOME_DAY}),
    "now": ("update_batch_call", {"send_now": True}),
    "now, to others": ("update_batch_call", {"send_now": True, "tasks": OTHERS}),
    "scheduled": ("update_batch_call", {"status": "scheduled", "trigger_timestamp": SOME_DAY}),
    "scheduled, others": ("update_batch_call", {"status": "scheduled", "trigger_timestamp": SOME_DAY, "tasks": OTHERS}),
    "back to draft": ("update_batch_call", {"status": "draft"}),
    "back to draft, others": ("update_batch_call", {"status": "draft", "tasks": OTHERS}),
}

Made = Callable[[Model, str, str], Awaitable[str]]


@dataclass(frozen=True)
class Place:
    """A backend, and how a batch call in any of its states is made there: by the model, in a state, under a name.

    `ended` removes all that were made, so that no launch is compared with those of other cases.
    """

    variables: dict[str, Any]
    states: tuple[str, ...]
    made: Made
    ended: Callable[[], None]


@asynccontextmanager
async def at_zudu(_home: Path) -> AsyncIterator[Place]:
    vendor = Zudu()
    new = itertools.count(1)

    async def made(_model: Model, state: str, _name: str) -> str:
        found = f"bc_{next(new)}"
        tasks = [zudu.Task(f"task_{at}", one, {}) for at, one in enumerate(PEOPLE)]
        if state not in {"DRAFT", "SCHEDULED"}:
            tasks[-1].status = "FAILED"
        trigger = int(tomorrow_at(9).timestamp() * 1000) if state == "SCHEDULED" else None
        vendor.batches[found] = zudu.Batch(found, "org_first", vendor.now, {"from_number": FROM}, state, trigger, tasks)
        return found

    async with vendor.served() as url:
        account = {"backend": "zudu", "url": url, "api_key": zudu.KEY, "api_secret": zudu.SECRET}
        yield Place(
            account, ("DRAFT", "SCHEDULED", "SENT", "COMPLETED", "FAILED", "ARCHIVED"), made, vendor.batches.clear
        )


@asynccontextmanager
async def at_magpipe(_home: Path) -> AsyncIterator[Place]:
    vendor = Magpipe()

    async def made(_model: Model, state: str, _name: str) -> str:
        if state in {"recurring", "paused"}:
            return vendor.series(PEOPLE, state)
        batch = vendor._stored({"name": state, "caller_id": FROM}, PEOPLE, state)
        if state not in {"draft", "scheduled"}:
            vendor.recipients[batch["id"]][-1]["status"] = "no_answer"
        return str(batch["id"])

    states = ("draft", "scheduled", "running", "paused", "completed", "cancelled", "failed", "recurring", "archived")
    async with vendor.served() as url:
        yield Place({"backend": "magpipe", "url": url, "api_key": magpipe.KEY}, states, made, vendor.batches.clear)


DIALERS = ("draft", "scheduled", "sent", "paused", "completed", "cancelled", "failed", "cancelled, one still calling")


def remove_all_at_the_dialer(home: Path) -> None:
    with closing(sqlite3.connect(home / "dialer.db", isolation_level=None)) as database:
        database.execute("PRAGMA busy_timeout = 5000")
        database.execute("PRAGMA foreign_keys = ON")
        database.execute("DELETE FROM batch_calls")


def made_at_the_dialer(home: Path) -> Made:
    """Made by the tools; what came of the calls is written into the dialer's database."""

    async def made(model: Model, state: str, name: str) -> str:
        answer = await model.call(
            "create_batch_call", from_number=FROM, tasks=TASKS, name=name, window=NEVER_TODAY, timezone="UTC"
        )
        found: str = answer["batch_call"]["batch_call_id"]
        if state == "scheduled":
            await model.call("start_batch_call", batch_call_id=found, trigger_timestamp=SOME_DAY)
        elif state in {"sent", "paused"}:
            await model.call("start_batch_call", batch_call_id=found, trigger_timestamp="now")
        if state == "paused":
            await model.call("pause_batch_call", batch_call_id=found)
        status, _, calling = state.partition(", ")
        with closing(sqlite3.connect(home / "dialer.db", isolation_level=None)) as database:
            database.execute("PRAGMA busy_timeout = 5000")
            if status in {"completed", "cancelled", "failed"}:
                database.execute(
                    "UPDATE tasks SET status = 'completed', due_at = NULL WHERE batch_call_id = ?", [found]
                )
                database.execute("UPDATE batch_calls SET status = ? WHERE batch_call_id = ?", [status, found])
            if status not in {"draft", "scheduled"}:
                database.execute(
                    "UPDATE tasks SET status = ?, due_at = NULL WHERE batch_call_id = ? AND to_number = ?",
                    ["calling" if calling else "busy", found, PEOPLE[-1]],
                )
        return found

    return made


@asynccontextmanager
async def at_the_dialer(home: Path) -> AsyncIterator[Place]:
    yield Place({}, DIALERS, made_at_the_dialer(home), partial(remove_all_at_the_dialer, home))


@asynccontextmanager
async def at_a_dialer_elsewhere(home: Path) -> AsyncIterator[Place]:
    async with playing("auto", None, data_dir=home) as model:  # makes its database and keys
        await model.call("list_batch_calls")
    dialer = EmbeddedDialer(home, simulated_speed=2000)
    key, secret = dialer.credentials
    async with listening(dialer.app) as url:
        account = {"backend": "batchcall", "url": url, "api_key": key, "api_secret": secret}
        yield Place(account, DIALERS, made_at_the_dialer(home), partial(remove_all_at_the_dialer, home))


ALL_LAUNCH = {"start_batch_call", "update_batch_call", "resume_batch_call", "retry_batch_call", "delete_batch_call"}
PLACES = {
    "dialer": (at_the_dialer, ALL_LAUNCH),
    "batchcall": (at_a_dialer_elsewhere, ALL_LAUNCH),
    "zudu": (at_zudu, {"start_batch_call", "update_batch_call", "delete_batch_call"}),
    "magpipe": (at_magpipe, {"start_batch_call", "update_batch_call", "resume_batch_call"}),
}
"""Each backend, and the tools whose questions a yes was worth something to: a table of refusals would prove nothing."""


def cases_of(backend: str, states: tuple[str, ...]) -> dict[str, list[str]]:
    """Which of the calls are tried at a backend, by state."""
    alike = ("dialer", "batchcall")
    cases = [(state, named) for state in states for named in CALLS]
    if backend in alike:
        cases = dict(spread(cases, alike, kind=lambda case: (case[0], CALLS[case[1]][0]), one_in=2))[backend]
    return {state: [named for of, named in cases if of == state] for state in states}


@pytest.mark.sweep
@pytest.mark.timeout(120)
@pytest.mark.parametrize("backend", PLACES)
async def test_no_question_is_asked_about_what_the_state_forbids(backend: str, tmp_path: Path) -> None:
    database_location, worth_asking = PLACES[backend]
    person = Person()
    in_vain: dict[str, str] = {}
    carried_out: set[str] = set()
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(database_location(tmp_path))
        model = await stack.enter_async_context(playing("auto", person, **{"data_dir": tmp_path} | place.variables))
        listed = (await model.client.list_tools()).tools
        taken = {tool.name: tool.input_schema["properties"].keys() for tool in listed}
        cases = cases_of(backend, place.states)
        for state in place.states:
            unchanged: str | None = None
            for named in cases[state]:
                tool, arguments = CALLS[named]
                if not arguments.keys() <= taken.get(tool, set()):
                    continue
                case = f"{named} of one that is {state}"
                batch_call_id = unchanged or await place.made(model, state, case)
                person.questions.clear()
                result = await model.client.call_tool(tool, {"batch_call_id": batch_call_id, **arguments})
                if person.questions and result.is_error:
                    in_vain[case] = str(result.content)
                if person.questions and not result.is_error:
                    carried_out.add(tool)
                # What is refused unasked is as it was: the next call may be made on the same one.
                unchanged = batch_call_id if result.is_error and not person.questions else None
                if unchanged is None:
                    place.ended()
            place.ended()
    assert in_vain == {}
    assert carried_out == worth_asking


async def test_no_question_is_asked_about_a_draft_whose_time_is_over(tmp_path: Path) -> None:
    """It expired over REST, whose field no tool sets; now and at a time after it, nobody would be called."""
    person = Person()
    async with at_the_dialer(tmp_path) as place, playing("auto", person, data_dir=tmp_path, **place.variables) as model:
        draft = await place.made(model, "draft", "over")
        later = await place.made(model, "draft", "over by then")
        with closing(sqlite3.connect(tmp_path / "dialer.db")) as database, database:
            for batch_call_id, hours in ((draft, -1), (later, 1)):
                at = round((datetime.now(UTC) + timedelta(hours=hours)).timestamp() * 1000)
                database.execute("UPDATE batch_calls SET expires_at = ? WHERE batch_call_id = ?", (at, batch_call_id))
        for batch_call_id, when in ((draft, "now"), (later, SOME_DAY)):
            call = {"batch_call_id": batch_call_id, "trigger_timestamp": when}
            result = await model.client.call_tool("start_batch_call", call)
            assert result.is_error
            assert "so nobody would be called" in str(result.content)
        assert person.questions == []
        found = await model.client.call_tool("start_batch_call", {"batch_call_id": later, "trigger_timestamp": "now"})
        assert not found.is_error
        assert len(person.questions) == 1
