"""Attempts to ring somebody whom no answered question covered, to ring twice, to pass a limit, to hold up a stop."""

from __future__ import annotations

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.guard.delivery import write_sender
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.write_record import Entry, Intent, Overtaken, Shared, WriteState
from batchcall_mcp.recipients.phone.numbers import comparable, is_comparable
from batchcall_mcp.settings import Settings
from tests.guard.ledger.conftest import BEGIN, Clock
from tests.operator.processes import command, of_zudu
from tests.postgresql import postgresql_url
from tests.promises.test_what_was_approved import (
    ALWAYS,
    Between,
    confirmed,
    draft,
    two_servers,
)
from tests.promises.test_what_was_approved import ledger as shared_ledger
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, number, playing

PEOPLE = [number(NEW_YORK, line) for line in range(9)]
LONGEST_S = 10
MAGPIPE: dict[str, Any] = {
    "backend": "magpipe",
    "api_key": magpipe.KEY,
    "calling_hours": "00:00-24:00",
    "confirm": "code",
}
ledger = shared_ledger


# --- What the yes covers -------------------------------------------------------------------------------------------


class Reassigned(Magpipe):
    """The agent of the caller number can be changed in the vendor's own web application."""

    speaks = magpipe.AGENT

    async def _numbers(self, request: Request) -> Response:
        self._authenticate(request)
        number_of_it = {"phone_number": magpipe.NUMBER, "agent_id": self.speaks, "is_active": True}
        return JSONResponse({"numbers": [number_of_it], "total": 1})


class Speaking(Zudu):
    """What the agent says first can be changed there too."""

    begins = "Hi, this is the clinic."

    async def _agents(self, request: Request) -> Response:
        self._organization(request)
        return self._success(
            "Agents", {"agents": [{"agent_id": zudu.AGENT, "agent_name": "Reminder", "begin_message": self.begins}]}
        )


async def test_a_yes_to_one_agent_is_not_a_yes_to_another_one_that_speaks_on_the_same_number(tmp_path: Path) -> None:
    """Where the caller number decides who speaks, the batch call itself shows no difference."""
    vendor = Reassigned()
    async with vendor.served() as url, playing("auto", None, url=url, data_dir=tmp_path, **MAGPIPE) as model:
        start = await draft(model, PEOPLE[:2])
        asked = await model.call("start_batch_call", **start)
        vendor.speaks = magpipe.OTHER_AGENT
        told = await model.call("start_batch_call", **start, confirmation_code=asked["confirmation_code"])
    assert told["result"] == "confirmation_required", "another agent speaks than the one that was there"
    assert vendor.dialled == []


async def test_a_yes_to_what_the_agent_says_first_is_not_a_yes_to_something_else(tmp_path: Path) -> None:
    """The question shows the first words that are spoken."""
    vendor = Speaking()
    async with vendor.served() as url, two_servers(url, data_dir=str(tmp_path)) as (model, _):
        start = await draft(model, PEOPLE[:2])
        asked = await model.call("start_batch_call", **start)
        assert "this is the clinic" in asked["summary"]
        vendor.begins = "Hi, you owe us money."
        told = await model.call("start_batch_call", **start, confirmation_code=asked["confirmation_code"])
    assert told["result"] == "confirmation_required", "another text is spoken than the one that was shown"
    assert vendor.dialled == []


async def test_a_yes_is_not_good_for_variables_that_replaced_those_of_the_list_after_the_question(
    ledger: dict[str, str],
) -> None:
    """The backend does not give variables back: only the ledger knows that the list was sent again."""
    vendor = Zudu()
    async with vendor.served() as url, two_servers(url, **ledger) as (a, b):
        people = [{"to_number": one, "dynamic_variables": {"name": "Ann"}} for one in PEOPLE[:2]]
        made = await a.call("create_batch_call", from_number=FROM, tasks=people)
        start = {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}
        asked = await a.call("start_batch_call", **start)
        others = [one | {"dynamic_variables": {"name": "and you owe us 10,000 dollars"}} for one in people]
        await b.call("update_batch_call", batch_call_id=start["batch_call_id"], tasks=others)
        told = await a.call("start_batch_call", **start, confirmation_code=asked["confirmation_code"])
    assert told["result"] == "confirmation_required", "the list was replaced after the question"
    assert vendor.dialled == []


# --- Nobody is called twice ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("over", [True, False], ids=["all of it is over", "only that person was reached"])
async def test_who_was_called_by_another_launch_since_the_question_is_asked_about_although_that_call_is_over(
    over: bool, ledger: dict[str, str]
) -> None:
    """One account. Asked at 0:00; the other launch comes at 0:30 and reaches her at 1:30; the yes comes at 5:00."""
    vendor = Zudu()
    async with vendor.served() as url, two_servers(url, **ledger) as (a, b):
        mine, theirs = await draft(a, PEOPLE[:3]), await draft(b, PEOPLE[2:5])
        asked = await b.call("start_batch_call", **theirs)
        await confirmed(a, "start_batch_call", mine)
        other = vendor.batches[mine["batch_call_id"]]
        if over:
            vendor.finish(mine["batch_call_id"], {})
        else:
            next(task for task in other.tasks if task.to_number == PEOPLE[2]).status = "COMPLETED"
        told = await b.call("start_batch_call", **theirs, confirmation_code=asked["confirmation_code"])
    assert told["result"] == "confirmation_required", "no answered question covers a second call of hers"
    assert Counter(vendor.dialled)[PEOPLE[2]] == 1


async def test_two_servers_whose_batch_calls_have_equal_ids_are_told_apart(ledger: dict[str, str]) -> None:
    """Two accounts at two vendors: both simulators number their batch calls from 1."""
    vendors = Zudu(), Zudu()
    of_one: dict[str, Any] = ALWAYS | {"api_key": zudu.KEY, "api_secret": zudu.SECRET} | ledger
    async with (
        vendors[0].served() as first,
        vendors[1].served() as second,
        playing("auto", None, url=first, **of_one) as a,
        playing("auto", None, url=second, **of_one) as b,
    ):
        mine, theirs = await draft(a, PEOPLE[:3]), await draft(b, PEOPLE[2:5])
        assert mine["batch_call_id"] == theirs["batch_call_id"], "the case that is tested"
        await confirmed(a, "start_batch_call", mine)
        asked = await b.call("start_batch_call", **theirs)
    assert "in another launch of the last minutes" in asked["summary"]


async def test_the_limit_of_a_day_counts_batch_calls_of_two_servers_with_equal_ids_both(
    ledger: dict[str, str],
) -> None:
    vendors = Zudu(), Zudu()
    of_one: dict[str, Any] = ALWAYS | {"api_key": zudu.KEY, "api_secret": zudu.SECRET, "max_calls_per_day": "5"}
    async with (
        vendors[0].served() as first,
        vendors[1].served() as second,
        playing("auto", None, url=first, **of_one, **ledger) as a,
        playing("auto", None, url=second, **of_one, **ledger) as b,
    ):
        mine, theirs = await draft(a, PEOPLE[:3]), await draft(b, PEOPLE[:3])
        await confirmed(a, "start_batch_call", mine)
        text = await b.refused("start_batch_call", "invalid_input", **theirs)
    assert "BATCHCALL_MAX_CALLS_PER_DAY=5" in text


class AnyCase(Zudu):
    """Finds a batch call in whatever case its id is written, as databases with such a collation do."""

    def _batch(self, request: Request) -> zudu.Batch:
        request.path_params["id"] = request.path_params["id"].lower()
        return super()._batch(request)


async def test_a_change_does_not_land_on_a_launched_batch_call_whose_id_is_written_in_another_case(
    ledger: dict[str, str],
) -> None:
    """The answer is taken for one about the same batch call, so the ledger has to take it for the same too."""
    vendor = AnyCase()
    between = Between(vendor)
    async with listening(between) as url, two_servers(url, **ledger) as (a, b):
        start = await draft(a, PEOPLE[:1])
        launched = start | {"trigger_timestamp": "2030-01-01T10:00:00Z"}
        other = start["batch_call_id"].upper()
        between.after(
            lambda method, at, _key: method == "GET" and at == f"/batch-call/{other}",
            lambda: confirmed(a, "start_batch_call", launched),
        )
        everybody = [{"to_number": one} for one in PEOPLE]
        await b.client.call_tool("update_batch_call", {"batch_call_id": other, "tasks": everybody})
    assert [task.to_number for task in vendor.batches[start["batch_call_id"]].tasks] == PEOPLE[:1]


async def test_a_batch_call_is_not_another_one_because_its_id_is_written_in_another_case(tmp_path: Path) -> None:
    """It is scheduled and is moved: its own people are not in "another" batch call."""
    vendor = AnyCase()
    async with vendor.served() as url, two_servers(url, data_dir=str(tmp_path)) as (model, _):
        start = await draft(model, PEOPLE[:2]) | {"trigger_timestamp": "2030-01-01T10:00:00Z"}
        await confirmed(model, "start_batch_call", start)
        moved = start | {
            "trigger_timestamp": "2030-01-02T10:00:00Z",
            "batch_call_id": start["batch_call_id"].upper(),
        }
        text = await model.refused("start_batch_call", "unexpected_response", **moved)
    assert start["batch_call_id"] in text, "the spelling that the backend has"


@pytest.mark.parametrize(
    ("status", "task"), [("SCHEDULED", "QUEUED"), ("IN_PROGRESS", "PENDING")], ids=["of the person", "of all of it"]
)
async def test_who_waits_in_another_batch_call_in_a_state_that_nobody_knows_counts_as_about_to_be_called(
    status: str, task: str, tmp_path: Path
) -> None:
    """An unknown word means "may dial" everywhere else: in a start's own list, and for the emergency stop."""
    vendor = Zudu()
    for name, of_it, word in (("bc_1", "DRAFT", "PENDING"), ("bc_2", status, task)):
        tasks = [zudu.Task("task_0", PEOPLE[0], {}, word)]
        late = zudu._ms(vendor.now) + 10**9
        vendor.batches[name] = zudu.Batch(name, "org_first", vendor.now, {"from_number": FROM}, of_it, late, tasks)
    async with vendor.served() as url, two_servers(url, data_dir=str(tmp_path)) as (model, _):
        asked = await model.call("start_batch_call", batch_call_id="bc_1", trigger_timestamp="now")
    assert "in another live batch call (bc_2)" in asked["summary"]


class Unsorted(Zudu):
    """Pages without an order: the last person is on no page, and the first one on two."""

    async def _tasks(self, request: Request) -> Response:
        answer = await super()._tasks(request)
        batch = self._batch(request)
        shown = [
            {"task_id": one.task_id, "to_number": one.to_number, "status": one.status}
            for one in (*batch.tasks[:-1], batch.tasks[0])
        ]
        pagination = {"page": 0, "limit": 100, "total_count": len(shown)}
        del answer
        return self._success("Tasks retrieved successfully", {"tasks": shown, "pagination": pagination})


async def test_a_task_that_is_shown_twice_does_not_stand_for_one_that_is_not_shown(tmp_path: Path) -> None:
    """Three tasks in all, and three rows shown: two people. The third is called and nobody has looked at her."""
    vendor = Unsorted()
    async with vendor.served() as url, two_servers(url, data_dir=str(tmp_path)) as (model, _):
        asked = await model.call("start_batch_call", **await draft(model, PEOPLE[:3]))
    assert "says that this batch call has 3 tasks, but its list shows 2" in asked["summary"]


async def test_a_draft_that_is_replaced_is_sent_without_the_time_that_was_taken_back(tmp_path: Path) -> None:
    """`status: draft` with a time is two words that contradict each other, and one of them dials."""
    vendor = Zudu()
    async with vendor.served() as url, two_servers(url, data_dir=str(tmp_path)) as (model, _):
        start = await draft(model, PEOPLE[:2]) | {"trigger_timestamp": "2030-01-01T10:00:00Z"}
        await confirmed(model, "start_batch_call", start)
        await model.call("cancel_batch_call", batch_call_id=start["batch_call_id"])
        people = [{"to_number": one} for one in PEOPLE[:3]]
        await model.call("update_batch_call", batch_call_id=start["batch_call_id"], tasks=people)
    (put,) = [one for one in vendor.writes if one.method == "PUT"]
    assert "trigger_timestamp" not in put.json


async def test_a_retry_does_not_call_somebody_whom_the_same_batch_call_reached_at_the_second_try(
    tmp_path: Path,
) -> None:
    """She is in the list twice, in two spellings: one call failed and the other one reached her."""
    vendor = Magpipe()
    spelled = f"{PEOPLE[0][:2]} {PEOPLE[0][2:5]} {PEOPLE[0][5:]}"
    batch = vendor._stored({"name": "November", "caller_id": FROM}, [PEOPLE[0], spelled, PEOPLE[1]], "completed")
    for recipient, status in zip(vendor.recipients[batch["id"]], ("no_answer", "completed", "no_answer"), strict=True):
        recipient["status"] = status
    async with vendor.served() as url, playing("auto", None, url=url, data_dir=tmp_path, **MAGPIPE) as model:
        made = await model.call("retry_batch_call", batch_call_id=batch["id"])
    again = [one["phone_number"] for one in vendor.recipients[made["batch_call"]["batch_call_id"]]]
    assert again == [PEOPLE[1]]


# --- Numbers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("+44 (0)20 7946 0106", "+442079460106"),
        ("0044 (0) 20 7946 0106", "+442079460106"),
        ("+49 (0)30 1234567", "+49301234567"),
    ],
)
def test_a_trunk_zero_in_brackets_does_not_hide_a_number_from_the_do_not_call_list(written: str, meant: str) -> None:
    assert comparable(written) == meant


@pytest.mark.parametrize("written", ["+1 212 555 0124/68", "+49 30 123456/68"])
def test_two_numbers_in_one_field_are_not_read_as_a_third_one(written: str) -> None:
    assert not is_comparable(comparable(written)), "it is a concern, because nobody knows who would be called"


@pytest.mark.parametrize("written", ["2125550124", "(212) 555-0124", "7946 0106"])
def test_a_national_number_without_its_country_is_not_taken_for_one_of_another_country(written: str) -> None:
    """+212 555 0124 is too short for Morocco: the person of +1 212 555 0124, who must not be called, escapes."""
    assert not is_comparable(comparable(written))


# --- Stops ---------------------------------------------------------------------------------------------------------


@pytest.mark.sweep
@pytest.mark.parametrize("trouble", [500, 503, 429])
@pytest.mark.parametrize("tool", ["pause_batch_call", "cancel_batch_call"])
async def test_a_stop_is_sent_although_the_batch_call_cannot_be_read(tool: str, trouble: int, tmp_path: Path) -> None:
    """Phones ring, and the backend's reads are overloaded; what stops them is a write to an id that is known."""
    stopped: list[str] = []

    async def read(_request: Request) -> Response:
        return Response(status_code=trouble)

    async def write(request: Request) -> Response:
        stopped.append(request.url.path)
        status = "paused" if request.url.path.endswith("pause") else "cancelled"
        return JSONResponse({"data": {"batch_call_id": "bc", "status": status}})

    routes = [Route("/batch-call/bc", read), Route("/batch-call/bc/{action}", write, methods=["POST"])]
    account: dict[str, Any] = {"backend": "batchcall", "api_key": zudu.KEY, "api_secret": zudu.SECRET}
    async with (
        listening(Starlette(routes=routes)) as url,
        playing("auto", None, url=url, data_dir=tmp_path, request_timeout_s="2", **account) as model,
    ):
        await model.client.call_tool(tool, {"batch_call_id": "bc"})
    assert len(stopped) == 1


class Ordered(Zudu):
    """Notes what it was asked for, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.order: list[str] = []

    async def _list(self, request: Request) -> Response:
        self.order.append(f"page {request.query_params.get('page', 0)}")
        return await super()._list(request)

    async def _one(self, request: Request) -> Response:
        if request.method == "PATCH":
            self.order.append("stopped")
        return await super()._one(request)


async def test_the_emergency_stop_stops_what_it_has_seen_before_it_reads_on(tmp_path: Path) -> None:
    """A hundred pages at a backend that takes one request in ten seconds are a quarter of an hour of ringing."""
    vendor = Ordered()
    for at in range(250):
        tasks = [zudu.Task("task_0", PEOPLE[0], {})]
        made = vendor.now + timedelta(seconds=at)
        batch = zudu.Batch(f"bc_{at}", "org_first", made, {"from_number": FROM}, "DRAFT", None, tasks)
        vendor.batches[f"bc_{at}"] = batch
    batch.status, batch.trigger = "SCHEDULED", zudu._ms(vendor.now) + 10**9
    async with vendor.served() as url:
        await command(of_zudu(url, tmp_path), "stop")
    assert vendor.order.index("stopped") < vendor.order.index("page 1"), vendor.order


async def test_a_stop_does_not_wait_for_a_thread_while_launches_wait_for_the_ledger(tmp_path: Path) -> None:
    """As many calls as there are threads wait for a ledger that another process holds."""
    vendor = Magpipe()
    scheduled = vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE[:3], "scheduled")
    held = threading.Event()
    limiter = anyio.to_thread.current_default_thread_limiter()
    async with vendor.served() as url, playing("auto", None, url=url, data_dir=tmp_path, **MAGPIPE) as model:
        await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": PEOPLE[0]}])
        async with anyio.create_task_group() as group:
            for _ in range(int(limiter.total_tokens)):
                group.start_soon(partial(anyio.to_thread.run_sync, held.wait))
            await anyio.wait_all_tasks_blocked()
            with anyio.move_on_after(LONGEST_S):
                await model.client.call_tool("cancel_batch_call", {"batch_call_id": scheduled["id"]})
            held.set()
    assert scheduled["status"] == "cancelled"


@pytest.mark.timeout(120)
async def test_a_stop_reaches_the_dialer_of_this_process_while_as_many_launches_as_there_are_threads_wait(
    tmp_path: Path,
) -> None:
    """The dialer answers in threads of the same pool in which the launches wait for the ledger."""
    settings: dict[str, Any] = {"confirm": "code", "calling_hours": "00:00-24:00", "data_dir": tmp_path}
    async with playing("auto", None, **settings) as model:
        start = await draft(model, PEOPLE[:3]) | {"trigger_timestamp": "2099-01-01T10:00:00Z"}
        await confirmed(model, "start_batch_call", start)
        other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        told: list[Any] = []
        async with anyio.create_task_group() as group:
            threads = anyio.to_thread.current_default_thread_limiter()
            launches = int(threads.total_tokens)
            for at in range(launches):
                made = {"from_number": FROM, "name": f"{at}", "tasks": [{"to_number": PEOPLE[4]}]}
                group.start_soon(model.client.call_tool, "create_batch_call", made)
            with anyio.fail_after(LONGEST_S):  # each of them waits, in a thread of the pool or of those for writes
                while threads.borrowed_tokens + _at_the_ledger() < launches:  # noqa: ASYNC110
                    await anyio.sleep(0.01)
            with anyio.move_on_after(LONGEST_S):
                told.append(
                    await model.client.call_tool("cancel_batch_call", {"batch_call_id": start["batch_call_id"]})
                )
            other.close()
    assert told, "the stop waited for the launches"


def _at_the_ledger() -> int:
    """How many writes wait for it, each in a thread of theirs or for one."""
    writes = write_sender._WRITE_THREADS.statistics()
    return writes.borrowed_tokens + writes.tasks_waiting


# --- The ledger itself ---------------------------------------------------------------------------------------------

START = Intent(
    caller="a",
    backend="batchcall http://one",
    tool="start_batch_call",
    operation=Operation.START,
    fingerprint="s" * 64,
    batch_call_id="bc_1",
    dials=True,
    starts_at=BEGIN,
    calls=1,
    numbers=((PEOPLE[0], 1),),
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def opened(ledger: dict[str, str], clock: Clock) -> Iterator[Ledger]:
    """The ledger, opened without a server."""
    found = Ledger.open(Settings.model_validate(ledger), clock)
    yield found
    found.close()


def test_a_launch_that_is_sent_again_meanwhile_is_compared_like_a_new_one(opened: Ledger, clock: Clock) -> None:
    """Its entry is older than the other launch's preflight; its request, and its people, are not."""
    first = opened.writes.begin(START)
    assert isinstance(first, Entry)
    lost = opened.writes.finish(first.write_id, WriteState.UNKNOWN)
    clock.move(minutes=20)
    other = replace(START, caller="b", backend="zudu http://two", batch_call_id="bc_2", fingerprint="t" * 64)
    judged = replace(other, since=opened.history.newest())
    assert opened.history.launched_lately([PEOPLE[0]], simulated=False) == []
    again = opened.writes.take_over(lost, replace(START, since=opened.history.newest()))
    assert isinstance(again, Entry)
    assert isinstance(opened.writes.begin(judged), Shared)


@pytest.mark.parametrize("seconds", [605, 640])
def test_a_launch_that_was_recorded_while_a_question_was_prepared_is_seen_until_its_last_second(
    seconds: int, opened: Ledger, clock: Clock
) -> None:
    """The preflight reads for up to a minute before the question is asked, and the yes is good for ten minutes more.

    Two machines' clocks may be a minute apart besides.
    """
    assert isinstance(opened.writes.begin(START), Entry)
    clock.move(seconds=seconds)
    assert len(opened.history.launched_lately([PEOPLE[0]], simulated=False)) == 1


def test_who_was_being_called_when_a_launch_was_cancelled_was_called(opened: Ledger) -> None:
    """Calls in progress go on after a cancel, and some people were called before it."""
    launch = opened.writes.begin(START)
    assert isinstance(launch, Entry)
    opened.writes.finish(launch.write_id, WriteState.DONE, batch_call_id="bc_1", status="running")
    stop = replace(
        START, tool="cancel_batch_call", operation=Operation.CANCEL, fingerprint="c" * 64, dials=False, numbers=()
    )
    cancelled = opened.writes.begin(stop)
    assert isinstance(cancelled, Entry)
    opened.writes.finish(cancelled.write_id, WriteState.DONE, batch_call_id="bc_1", status="cancelled")
    assert len(opened.history.launched_lately([PEOPLE[0]], simulated=False)) == 1


def test_a_change_that_a_living_process_has_in_hand_stands_in_the_way_however_long_it_takes(
    opened: Ledger, clock: Clock
) -> None:
    """A laptop that sleeps after the record and before the request sends it when it wakes."""
    update = replace(
        START, tool="update_batch_call", operation=Operation.UPDATE, fingerprint="u" * 64, dials=False, numbers=()
    )
    change = opened.writes.begin(update)
    assert isinstance(change, Entry)
    clock.move(minutes=10)
    assert opened.writes.is_in_hand(change)
    assert isinstance(opened.writes.begin(replace(START, caller="b", seen=change.write_id)), Overtaken)


def test_the_limit_of_a_day_counts_people_whom_a_short_list_did_not_show(opened: Ledger) -> None:
    """Twice launched with one of three shown, another list each time: six people, of whom two are known."""
    for at, who in enumerate(PEOPLE[:2]):
        launch = replace(START, fingerprint=f"{at}" * 64, calls=3, numbers=((who, 1),), seen=at)
        entry = opened.writes.begin(launch)
        assert isinstance(entry, Entry)
        opened.writes.finish(entry.write_id, WriteState.DONE, batch_call_id="bc_1", status="scheduled")
    assert opened.history.calls_on(BEGIN) == 6


def test_a_ledger_that_fails_in_the_middle_of_the_numbers_says_so_and_keeps_nothing(
    tmp_path: Path, clock: Clock
) -> None:
    """PostgreSQL: COPY goes past SQLAlchemy, and so do its errors."""
    url = postgresql_url()
    found = Ledger.open(Settings.model_validate({"data_dir": tmp_path, "database_url": url}), clock)
    refuse = "BEGIN IF NEW.dials = 9 THEN RAISE EXCEPTION 'disk full'; END IF; RETURN NEW; END"
    with found.database.engine.begin() as connection:
        connection.execute(sa.text(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {refuse} $$"))
        connection.execute(
            sa.text("CREATE TRIGGER refuse BEFORE INSERT ON dialled FOR EACH ROW EXECUTE FUNCTION refuse()")
        )
    people = ((PEOPLE[0], 1), (PEOPLE[1], 9), (PEOPLE[2], 1))
    with pytest.raises(ConfigurationError, match="Nothing was sent"):
        found.writes.begin(replace(START, numbers=people))
    assert found.history.newest().write_id == 0
    found.close()
