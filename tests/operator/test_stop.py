"""`batchcall-mcp stop`: from the moment it returns nothing is launched, and what is live is stopped where it can be."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import ClientRequestContext
from mcp.types import ElicitRequestParams, ElicitResult

from tests.operator.gate import Gate, starts
from tests.operator.processes import LONGEST_S, command, dialling, of_magpipe, of_zudu, serving, variables
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Era, Model, Person, dials, every_era, number, numbers, tomorrow_at

PEOPLE = [number(NEW_YORK, line) for line in (0, 1, 2)]
TASKS = [{"to_number": one} for one in PEOPLE]
MANY = numbers(2000)[::10]
"""All of them answer, and talk for 20 simulated seconds."""
STOPPED = "nothing is launched from now on"
REFUSED = "the emergency stop is on since "
PAIR = {"api_key": "sk_of_the_tests", "api_secret": "s3cr3t_of_the_tests"}


async def draft(model: Model, name: str, tasks: list[dict[str, str]] | None = None, **others: Any) -> dict[str, Any]:
    """The arguments that start a new draft now."""
    made = await model.call("create_batch_call", from_number=FROM, name=name, tasks=tasks or TASKS, **others)
    return {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}


@pytest.mark.sweep
@pytest.mark.parametrize("left", ["the row", "the file"])
async def test_a_running_server_refuses_launches_at_once(left: str, tmp_path: Path) -> None:
    vendor, person = Zudu(), Person()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there, person) as model:
            launch = await draft(model, "November")
            stopped = await command(there, "stop")
            assert (stopped.code, stopped.err) == (0, "")
            assert STOPPED in stopped.out
            assert "\nNothing is live.\n" in stopped.out
            if left == "the row":
                (tmp_path / "STOP").unlink()
            else:
                clear_the_row(tmp_path / "ledger.db")
            text = await model.refused("start_batch_call", "invalid_input", **launch)
            assert REFUSED in text
            assert "Nothing was sent" in text
            assert "batchcall-mcp stop --clear" in text
            assert person.questions == [], "no yes would help"
            (note,) = [one for one in (await model.call("get_backend"))["notes"] if "emergency" in one]
            assert note.endswith("nothing launches.")
    assert vendor.dialled == []


def clear_the_row(ledger: Path) -> None:
    connection = sqlite3.connect(ledger)
    with connection:
        assert connection.execute("DELETE FROM stops").rowcount == 1
    connection.close()


async def test_it_is_lifted_by_clear_alone_and_a_question_is_asked_again(tmp_path: Path) -> None:
    vendor, person = Zudu(), Person()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there, person) as model:
            launch = await draft(model, "November")
            for _ in range(2):
                await command(there, "stop")
            await model.refused("start_batch_call", "invalid_input", **launch)
            cleared = await command(there, "stop", "--clear")
            assert (cleared.code, cleared.err) == (0, "")
            assert "launches are possible again" in cleared.out
            assert not (tmp_path / "STOP").exists()
            assert (await model.call("start_batch_call", **launch))["result"] == "started"
    assert len(person.questions) == 1
    assert vendor.dialled == PEOPLE


@pytest.mark.sweep
@every_era
async def test_a_yes_that_was_asked_for_before_the_stop_launches_nothing(era: Era, tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        person = Slow(lambda: command(there, "stop"))
        async with serving(there, person, era) as model:
            launch = await draft(model, "November")
            assert REFUSED in await model.refused("start_batch_call", "invalid_input", **launch)
    assert len(person.questions) == 1
    assert vendor.dialled == []


class Slow(Person):
    """Says yes, after something has happened."""

    def __init__(self, meanwhile: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        await self._meanwhile()
        return await super().__call__(context, params)


async def test_a_launch_that_is_on_its_way_is_waited_for_or_told(tmp_path: Path) -> None:
    """It was recorded before the stop, and reaches the vendor after it."""
    vendor = Zudu()
    gate = Gate(vendor.recording, starts)
    async with listening(gate) as url:
        there = of_zudu(url, tmp_path, request_timeout_s="2")
        async with serving(there, Person()) as model, anyio.create_task_group() as group:
            launch = await draft(model, "November")
            group.start_soon(partial(model.client.call_tool, "start_batch_call", launch))
            with anyio.fail_after(LONGEST_S):
                await gate.arrived.wait()
            stopped = await command(there, "stop")
            gate.opened.set()
        await until(lambda: bool(vendor.dialled))
    assert (stopped.code, launch["batch_call_id"] in stopped.out) == (1, True)


@asynccontextmanager
async def at_work(where: str, folder: Path, **others: str) -> AsyncIterator[tuple[dict[str, str], Model, Path]]:
    """A dialer that dials, a model at a server on it, and where its carrier's record is."""
    settings = {"simulated_speed": "40", "calling_hours": "00:00-24:00"}
    async with AsyncExitStack() as stack:
        if where == "in the server":
            there, record = variables(folder, **settings, **others), folder
        else:
            record = folder / "dialer"
            url = await stack.enter_async_context(dialling(variables(record, **settings, **PAIR)))
            there = variables(folder / "server", backend="batchcall", url=url, **PAIR, **others)
        yield there, await stack.enter_async_context(serving(there, Person())), record


async def until(true: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    with anyio.fail_after(LONGEST_S):
        while not true():  # noqa: ASYNC110 - another process writes it
            await anyio.sleep(0.01)


@pytest.mark.sweep
@pytest.mark.parametrize("where", ["in the server", "of its own"])
async def test_after_it_has_returned_the_dialer_dials_nobody(where: str, tmp_path: Path) -> None:
    """Judged by the carrier's own record, once every call that was in progress has ended."""
    async with at_work(where, tmp_path) as (there, model, record):
        launch = await draft(model, "November", [{"to_number": one} for one in MANY], max_concurrency=5, window=ALWAYS)
        scheduled = await draft(model, "December", window=ALWAYS)
        scheduled["trigger_timestamp"] = tomorrow_at(9).isoformat()
        await model.call("start_batch_call", **scheduled)
        await model.call("start_batch_call", **launch)
        await until(lambda: dials(record).total() >= 10)

        stopped = await command(there, "stop")
        dialled = dials(record)
        assert (stopped.code, stopped.err) == (0, "")
        for one, was in ((launch, "running"), (scheduled, "scheduled")):
            assert f"paused: {one['batch_call_id']} (was {was})." in stopped.out
        with anyio.fail_after(LONGEST_S):
            while (shown := await batch_call(model, launch))["counts"]["calling"]:  # noqa: ASYNC110 - it has no event
                await anyio.sleep(0.01)
        assert dials(record) == dialled
        assert 10 <= dialled.total() < len(MANY)
        assert shown["status"] == "paused"

        # Lifting it dials nobody; what it paused goes on only when somebody says so.
        await command(there, "stop", "--clear")
        assert (await batch_call(model, launch))["status"] == "paused"
        assert (await batch_call(model, scheduled))["status"] == "paused"
        assert dials(record) == dialled
        await model.call("resume_batch_call", batch_call_id=launch["batch_call_id"])
        await until(lambda: dials(record).total() > dialled.total())
        await model.call("cancel_batch_call", batch_call_id=launch["batch_call_id"])
    assert max(dials(record).values()) == 1


async def batch_call(model: Model, launch: dict[str, Any]) -> dict[str, Any]:
    answer = await model.call("get_batch_call", batch_call_id=launch["batch_call_id"], limit=0)
    shown: dict[str, Any] = answer["batch_call"]
    return shown


async def test_drafts_reads_pauses_and_cancels_go_on_and_nothing_is_resumed(tmp_path: Path) -> None:
    """Anyone who can write the data folder can stop everything: an empty file STOP is enough."""
    async with at_work("in the server", tmp_path) as (_, model, record):
        many = [{"to_number": one} for one in MANY]
        launch = await draft(model, "November", many, max_concurrency=5, window=ALWAYS)
        name = {"batch_call_id": launch["batch_call_id"]}
        await model.call("start_batch_call", **launch)
        (tmp_path / "STOP").touch()

        other = await draft(model, "December", window=ALWAYS)
        assert (await model.call("list_batch_calls"))["batch_calls"][0]["name"] == "December"
        checked = await model.call("check_batch_call", from_number=FROM, tasks=TASKS)
        assert [one for one in checked["preflight"]["blocks"] if one.startswith(REFUSED)]
        changed = await model.call("update_batch_call", batch_call_id=other["batch_call_id"], name="January")
        assert changed["result"] == "updated"
        assert REFUSED in await model.refused("start_batch_call", "invalid_input", **other)

        stopped = (await model.call("get_batch_call", **name, limit=0))["batch_call"]
        assert (stopped["status"], stopped["status_reason"]["code"]) == ("paused", "stopped")
        listed = (await model.call("list_batch_calls"))["batch_calls"]
        assert [one["status"] for one in listed] == ["draft", "paused"]
        watched = await model.call("watch_batch_call", **name)
        assert "The emergency stop paused it." in watched["summary"]
        assert (await model.call("pause_batch_call", **name))["result"] == "nothing_to_do"
        assert REFUSED in await model.refused("resume_batch_call", "invalid_input", **name)
        assert (await model.call("cancel_batch_call", **name))["result"] == "cancelled"
        assert (await model.call("delete_batch_call", batch_call_id=other["batch_call_id"]))["result"] == "deleted"
        assert (await batch_call(model, launch))["status"] == "cancelled"
    assert dials(record).total() < len(MANY)


async def test_zudu_withdraws_what_is_scheduled_and_is_said_not_to_stop_what_runs(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there, Person()) as model:
            scheduled, running = await draft(model, "tomorrow"), await draft(model, "now")
            idle = await draft(model, "never")
            await model.call("start_batch_call", **scheduled | {"trigger_timestamp": tomorrow_at(9).isoformat()})
            await model.call("start_batch_call", **running)
            writes = len(vendor.writes)
            # A server that may change nothing has an operator who may.
            stopped = await command(there | {"BATCHCALL_MODE": "read-only"}, "stop")
    assert stopped.code == 1
    assert f"cancelled: {scheduled['batch_call_id']} (was scheduled).\n" in stopped.out
    (line,) = [one for one in stopped.out.splitlines() if one.startswith("not stopped: ")]
    assert line.startswith(f"not stopped: {running['batch_call_id']} (was running). Could not cancel batch call ")
    assert "Zudu cannot stop calls of a batch call that has started" in line
    assert idle["batch_call_id"] not in stopped.out
    assert len(vendor.writes) == writes + 1
    vendor.tick(tomorrow_at(10))
    assert vendor.dialled == PEOPLE


async def test_magpipe_cancels_what_is_live_and_a_series_with_its_runs(tmp_path: Path) -> None:
    vendor = Magpipe()
    async with vendor.served() as url:
        there = of_magpipe(url, tmp_path, mode="read-only")
        ids = {
            status: vendor._stored({"name": status, "caller_id": FROM}, PEOPLE, status)["id"]
            for status in ("draft", "scheduled", "running", "completed")
        }
        ids["recurring"] = vendor.series(PEOPLE)
        stopped = await command(there, "stop")
    assert (stopped.code, stopped.err) == (0, "")
    *lines, people = stopped.out.splitlines()[1:-1]
    assert sorted(lines) == sorted(
        [
            f"cancelled: {ids['scheduled']} (was scheduled).",
            f"cancelled: {ids['running']} (was running).",
            f"cancelled: {ids['recurring']} (was recurring).",
        ]
    )
    assert people.startswith("People: 0 called, 0 in a call, 9 never called. ")
    assert {status: vendor.batches[one]["status"] for status, one in ids.items()} == {
        "draft": "draft",
        "scheduled": "cancelled",
        "running": "cancelled",
        "completed": "completed",
        "recurring": "cancelled",
    }
    vendor.tick(tomorrow_at(10))
    assert vendor.dialled == []


async def test_a_database_that_cannot_be_opened_holds_up_neither_the_file_nor_what_is_live(tmp_path: Path) -> None:
    """The server has its own way to the ledger, and sees the file."""
    vendor = Magpipe()
    scheduled = vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE, "scheduled")
    waiting = vendor._stored({"name": "December", "caller_id": FROM}, PEOPLE, "draft")
    async with vendor.served() as url:
        there = of_magpipe(url, tmp_path)
        nowhere = {"BATCHCALL_DATABASE_URL": "postgresql://nobody:s3cr3t@127.0.0.1:9/none"}
        async with serving(there, person := Person()) as model:
            stopped = await command(there | nowhere, "stop")
            assert stopped.code == 1
            assert STOPPED in stopped.out
            assert f"cancelled: {scheduled['id']} (was scheduled).\n" in stopped.out
            assert "Other machines on the ledger do not know of the stop: " in stopped.err
            assert "s3cr3t" not in stopped.out + stopped.err
            launch = {"batch_call_id": waiting["id"], "trigger_timestamp": "now"}
            assert REFUSED in await model.refused("start_batch_call", "invalid_input", **launch)
            # It is not lifted by half.
            cleared = await command(there | nowhere, "stop", "--clear")
            assert (cleared.code, cleared.out) == (2, "")
            assert REFUSED in await model.refused("start_batch_call", "invalid_input", **launch)
    assert person.questions == []
    assert vendor.dialled == []


async def test_a_broken_ledger_stops_every_launch_and_no_stop(tmp_path: Path) -> None:
    vendor = Magpipe()
    scheduled = vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE, "scheduled")
    waiting = vendor._stored({"name": "December", "caller_id": FROM}, PEOPLE, "draft")
    (tmp_path / "ledger.db").write_bytes(b"no database " * 1000)
    async with vendor.served() as url:
        there = of_magpipe(url, tmp_path)
        stopped = await command(there, "stop")
        assert stopped.code == 1
        assert f"cancelled: {scheduled['id']} (was scheduled).\n" in stopped.out
        assert (tmp_path / "STOP").exists()
        async with serving(there, Person()) as model:
            launch = {"batch_call_id": waiting["id"], "trigger_timestamp": "now"}
            text = await model.refused("start_batch_call", "configuration_error", **launch)
            assert "Nothing was sent" in text
            assert (await model.call("cancel_batch_call", batch_call_id=waiting["id"]))["result"] == "cancelled"
    assert vendor.dialled == []


async def test_a_backend_that_cannot_be_asked_is_said_and_launches_stop_all_the_same(tmp_path: Path) -> None:
    async with Zudu().served() as url:
        stopped = await command(of_zudu(url, tmp_path, api_secret="another"), "stop")
    assert stopped.code == 1
    assert STOPPED in stopped.out
    assert (tmp_path / "STOP").exists()
    assert stopped.err.startswith("Not every live batch call could be stopped: ")
    assert "another" not in stopped.out + stopped.err
    assert "Nothing is live" not in stopped.out
    assert stopped.out.endswith("`batchcall-mcp stop --clear` lifts the stop.\n")


async def test_what_is_written_nowhere_is_not_called_a_stop(tmp_path: Path) -> None:
    """The place of the data folder is taken by a file. What is live is stopped all the same."""
    (taken := tmp_path / "data").write_text("")
    vendor = Magpipe()
    scheduled = vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE, "scheduled")
    async with vendor.served() as url:
        stopped = await command(of_magpipe(url, taken), "stop")
    assert stopped.code == 1
    assert STOPPED not in stopped.out
    assert stopped.out.startswith("NOT STOPPED: launches are still possible.")
    assert f"cancelled: {scheduled['id']} (was scheduled).\n" in stopped.out
    assert "--clear" not in stopped.out
    assert f"The file {taken / 'STOP'} could not be made: " in stopped.err
