"""A review of the emergency stop: "Nothing is live." (exit 0) while something is, or while nobody was asked."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.settings import Settings
from tests.operator.gate import Gate, starts
from tests.operator.processes import LONGEST_S, aged, command, of_magpipe, of_zudu, serving, variables
from tests.operator.test_stop import PEOPLE, TASKS, draft, until
from tests.operator.test_stop_drills import CLEAR, start, without_key
from tests.postgresql import postgresql_url
from tests.promises.test_stop_claims import Stubborn
from tests.vendors import zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import Recording, listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, Person, tomorrow_at


async def test_a_second_stop_in_a_folder_without_a_ledger_still_knows_nothing(tmp_path: Path) -> None:
    """A wrong folder: the first run makes the ledger that the second one takes for the servers'."""
    for _ in range(2):
        stopped = await command(variables(tmp_path / "typo"), "stop")
        assert (stopped.code, CLEAR in stopped.out) == (1, False), stopped.out


async def test_a_second_stop_after_the_data_folder_was_deleted_still_knows_nothing(tmp_path: Path) -> None:
    vendor, folder = Zudu(), tmp_path / "data"
    async with vendor.served() as url, serving(of_zudu(url, folder), Person()) as model:
        await start(model, "November", TASKS)
        shutil.rmtree(folder)
        for _ in range(2):
            stopped = await command(without_key(of_zudu(url, folder)), "stop")
            assert (stopped.code, CLEAR in stopped.out) == (1, False), stopped.out
    assert vendor.dialled == PEOPLE


async def test_a_ledger_that_this_command_has_made_in_a_database_knows_nothing(tmp_path: Path) -> None:
    """BATCHCALL_DATABASE_URL names another database of the server than the one that is meant."""
    stopped = await command(variables(tmp_path, database_url=postgresql_url()), "stop")
    assert (stopped.code, CLEAR in stopped.out) == (1, False), stopped.out


async def test_a_database_that_is_named_and_in_which_no_dialer_is_is_not_an_all_clear(tmp_path: Path) -> None:
    Ledger.open(Settings.model_validate({"data_dir": tmp_path})).close()
    stopped = await command(variables(tmp_path), "stop", "--database-url", postgresql_url())
    assert (stopped.code, CLEAR in stopped.out) == (1, False), stopped.out


async def test_a_cancel_that_stopped_nothing_hides_no_launch(tmp_path: Path) -> None:
    """The tool says that it is still scheduled; the command, that it was cancelled."""
    vendor = Stubborn()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there, Person()) as model:
            launch = await draft(model, "November")
            launch["trigger_timestamp"] = tomorrow_at(9).isoformat()
            await model.call("start_batch_call", **launch)
            name = launch["batch_call_id"]
            assert (await model.client.call_tool("cancel_batch_call", {"batch_call_id": name})).is_error
        stopped = await command(without_key(there), "stop")
    vendor.tick(tomorrow_at(10))
    assert vendor.dialled == PEOPLE
    assert (stopped.code, name in stopped.out, CLEAR in stopped.out) == (3, True, False), stopped.out


async def test_a_cancel_that_overtook_a_launch_hides_it_not(tmp_path: Path) -> None:
    """The start was on its way when the cancel was answered, and arrived after it."""
    vendor = Zudu()
    gate = Gate(vendor.recording, starts)
    async with listening(gate) as url:
        there = of_zudu(url, tmp_path)
        async with serving(there, Person()) as model, anyio.create_task_group() as group:
            launch = await draft(model, "November")
            name = launch["batch_call_id"]
            await model.call("start_batch_call", **launch | {"trigger_timestamp": tomorrow_at(9).isoformat()})
            group.start_soon(partial(model.client.call_tool, "start_batch_call", launch))
            with anyio.fail_after(LONGEST_S):
                await gate.arrived.wait()
            assert (await model.call("cancel_batch_call", batch_call_id=name))["result"] == "cancelled"
            gate.opened.set()
            await until(lambda: bool(vendor.dialled))
        stopped = await command(without_key(there), "stop")
    assert vendor.dialled == PEOPLE
    assert (stopped.code, name in stopped.out, CLEAR in stopped.out) == (3, True, False), stopped.out


class _Astray:
    """A vendor behind a proxy that says 404 to everything while it `is_astray`."""

    def __init__(self, recording: Recording) -> None:
        self._recording, self.is_astray = recording, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.is_astray:
            await Response("default backend - 404", status_code=404)(scope, receive, send)
        else:
            await self._recording(scope, receive, send)


async def test_a_404_of_everything_is_not_the_end_of_a_batch_call(tmp_path: Path) -> None:
    """What one run was told while nothing could be asked, the next one must not believe."""
    vendor = Zudu()
    astray = _Astray(vendor.recording)
    async with listening(astray) as url:
        there = of_zudu(url, tmp_path)
        async with serving(there, Person()) as model:
            launch = await draft(model, "November")
            name = launch["batch_call_id"]
            await model.call("start_batch_call", **launch | {"trigger_timestamp": tomorrow_at(9).isoformat()})
        aged(tmp_path)
        astray.is_astray = True
        first = await command(there, "stop")
        assert (first.code, CLEAR in first.out) == (1, False)
        astray.is_astray = False
        stopped = await command(without_key(there), "stop")
    vendor.tick(tomorrow_at(10))
    assert vendor.dialled == PEOPLE
    assert (stopped.code, name in stopped.out, CLEAR in stopped.out) == (3, True, False), stopped.out


async def test_a_finished_series_whose_last_run_dials_is_live(tmp_path: Path) -> None:
    vendor = Magpipe()
    async with vendor.served() as url:
        series = vendor.series(PEOPLE, "completed")
        run = vendor._stored({"name": "Run #2", "caller_id": FROM}, PEOPLE, "running")
        run["parent_batch_id"] = series
        there = of_magpipe(url, tmp_path)
        Ledger.open(Settings.model_validate({"data_dir": tmp_path})).close()
        stopped = await command(there, "stop")
    vendor.tick(vendor.now)
    assert vendor.dialled == [] or CLEAR not in stopped.out, stopped.out


class _SameIds(Zudu):
    """Two accounts, each with ids of its own that begin at 1: the same id means another batch call."""

    def __init__(self) -> None:
        super().__init__()
        self.others: dict[str, Zudu] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.recording(scope, receive, send)
            return
        key = Request(scope).headers.get("x-api-key", "")
        await self.others[key].recording(scope, receive, send)


async def test_what_is_over_in_one_account_is_not_over_in_another_with_the_same_ids(tmp_path: Path) -> None:
    first, second, both = Zudu(), Zudu(), _SameIds()
    both.others = {zudu.KEY: first, zudu.OTHER_KEY: second}
    async with listening(both) as url:
        there = of_zudu(url, tmp_path)
        other = there | {"BATCHCALL_API_KEY": zudu.OTHER_KEY, "BATCHCALL_API_SECRET": zudu.OTHER_SECRET}
        async with serving(there, Person()) as model:
            live = await start(model, "November", TASKS)
        async with serving(other, Person()) as model:
            over = await start(model, "December", [{"to_number": "+12125550177"}])
            second.finish(over, {})
            aged(tmp_path)
            await model.call("get_batch_call", batch_call_id=over)
        assert live == over
        stopped = await command(without_key(there), "stop")
    assert first.dialled == PEOPLE
    assert (stopped.code, CLEAR in stopped.out) == (3, False), stopped.out
    named = await _callers(tmp_path)
    assert named(live, stopped.out), stopped.out


async def _callers(folder: Path) -> Callable[[str, str], bool]:
    engine = sa.create_engine(f"sqlite:///{folder / 'ledger.db'}")
    with engine.connect() as tx:
        found = tx.exec_driver_sql("SELECT caller FROM writes WHERE dials ORDER BY write_id").scalars().all()
    engine.dispose()
    return lambda name, out: any(found[0][:12] in line and name in line for line in out.splitlines())


class _Garbled(Zudu):
    """Its list holds one entry whose id has another name."""

    async def _list(self, request: Request) -> Response:
        answer = await super()._list(request)
        content: Any = json.loads(bytes(answer.body))
        for one in content["data"]["batch_calls"]:
            one["uuid"] = one.pop("batch_call_id")
        return JSONResponse(content)


async def test_a_list_that_could_not_be_read_is_not_an_all_clear(tmp_path: Path) -> None:
    """The backend says that there is one, and nothing of what it shows of it can be read."""
    vendor = _Garbled()
    tasks = [zudu.Task(f"task_{at}", one, {}) for at, one in enumerate(PEOPLE)]
    trigger = int(tomorrow_at(9).timestamp() * 1000)
    vendor.batches["bc_1"] = zudu.Batch(
        "bc_1", "org_first", vendor.now, {"from_number": FROM}, "SCHEDULED", trigger, tasks
    )
    Ledger.open(Settings.model_validate({"data_dir": tmp_path})).close()
    async with vendor.served() as url:
        stopped = await command(of_zudu(url, tmp_path), "stop")
    assert (stopped.code, CLEAR in stopped.out) == (1, False), stopped.out


async def test_a_ledger_in_the_data_folder_is_looked_at_too_where_another_is_set(tmp_path: Path) -> None:
    """A team moved to PostgreSQL; what was launched before is in the file, and rings."""
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there, Person()) as model:
            name = await start(model, "November", TASKS)
        database = postgresql_url()
        Ledger.open(Settings.model_validate({"data_dir": tmp_path, "database_url": database})).close()
        stopped = await command(without_key(there) | {"BATCHCALL_DATABASE_URL": database}, "stop")
    assert (name in stopped.out, CLEAR in stopped.out) == (True, False), stopped.out
