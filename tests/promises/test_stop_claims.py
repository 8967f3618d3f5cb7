"""What stopped calls and what only took the request: no answer says more than the backend did."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from batchcall_mcp.guard.ledger.database import _LOCK
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.settings import Settings
from tests import forked
from tests.kills.scenes import Front
from tests.operator.processes import command, of_magpipe, of_zudu
from tests.postgresql import postgresql_url
from tests.server.transports import ROOT
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Person, number, playing, tomorrow_at

PEOPLE = [number(NEW_YORK, line) for line in (0, 1, 2)]


class Series(Magpipe):
    """As its source has it: `cancel` of a series ends its runs, `pause_series` does not, `list` hides them."""

    def _cancel(self, body: dict[str, Any]) -> dict[str, Any]:
        answer = super()._cancel(body)
        children = [one for one in self.batches.values() if one["parent_batch_id"] == body["batch_id"]]
        for child in children:
            super()._cancel({"batch_id": child["id"]})
        return answer | {"cancelled_children": len(children)}

    def with_a_run(self) -> tuple[str, str]:
        """A series and its run of today, which dials from now on."""
        parent = self.series(PEOPLE)
        run = self._stored({"name": "Weekly — Run #1", "caller_id": FROM}, PEOPLE, "running")
        run["parent_batch_id"] = parent
        return parent, run["id"]


async def test_an_emergency_stop_stops_the_run_of_a_series_that_is_dialling(tmp_path: Path) -> None:
    vendor = Series()
    parent, _ = vendor.with_a_run()
    async with vendor.served() as url:
        stopped = await command(of_magpipe(url, tmp_path), "stop")
    assert parent in stopped.out
    vendor.tick(vendor.now)
    assert vendor.dialled == [] or stopped.code == 1, stopped.out


async def test_a_paused_series_is_not_said_to_place_no_call_while_its_run_dials(tmp_path: Path) -> None:
    vendor = Series()
    parent, run = vendor.with_a_run()
    async with vendor.served() as url, playing("auto", backend="magpipe", url=url, api_key=magpipe.KEY) as model:
        told = await model.call("pause_batch_call", batch_call_id=parent)
    vendor.tick(vendor.now)
    assert vendor.dialled == PEOPLE
    assert vendor.batches[run]["status"] == "running"
    assert "no new call is placed" not in told["summary"], told["summary"]


class Stubborn(Zudu):
    """Takes the request to go back to a draft, and does not: its answer says how it stands."""

    stands = "SCHEDULED"

    async def _one(self, request: Request) -> Response:
        if request.method == "PATCH" and (await request.json()).get("status") == "draft":
            self._batch(request).status = self.stands
            return self._success("Batch call updated successfully", self._shown(self._batch(request)))
        return await super()._one(request)

    def scheduled(self) -> str:
        tasks = [zudu.Task(f"task_{at}", one, {}) for at, one in enumerate(PEOPLE)]
        trigger = int(tomorrow_at(9).timestamp() * 1000)
        body = {"from_number": FROM}
        self.batches["bc_1"] = zudu.Batch("bc_1", "org_first", self.now, body, "SCHEDULED", trigger, tasks)
        return "bc_1"


@pytest.mark.parametrize("stands", ["SCHEDULED", "SENT", "DISPATCHING"])
async def test_a_cancel_that_stopped_nothing_is_not_called_cancelled(stands: str, tmp_path: Path) -> None:
    """It is as it was; or its time has just come; or it is in a state that nobody knows."""
    vendor = Stubborn()
    vendor.stands = stands
    name = vendor.scheduled()
    account: dict[str, Any] = {"backend": "zudu", "api_key": zudu.KEY, "api_secret": zudu.SECRET}
    async with vendor.served() as url, playing("auto", url=url, data_dir=tmp_path, **account) as model:
        result = await model.client.call_tool("cancel_batch_call", {"batch_call_id": name})
    told = result.structured_content or {}
    assert result.is_error or told["result"] != "cancelled", told["summary"]


async def test_the_emergency_stop_does_not_call_cancelled_what_is_still_scheduled(tmp_path: Path) -> None:
    vendor = Stubborn()
    name = vendor.scheduled()
    async with vendor.served() as url:
        stopped = await command(of_zudu(url, tmp_path), "stop")
    vendor.tick(tomorrow_at(10))
    assert vendor.dialled == PEOPLE
    assert (stopped.code, f"not stopped: {name}" in stopped.out) == (1, True), stopped.out


async def test_a_pause_that_changed_nothing_is_not_called_paused(tmp_path: Path) -> None:
    """A server of the dialect that takes the request and goes on."""
    shown = {"data": {"batch_call_id": "bc", "status": "sent", "from_number": FROM, "total": 3}}

    async def answer(_request: Request) -> JSONResponse:
        return JSONResponse(shown)

    app = Starlette(routes=[Route("/batch-call/bc", answer), Route("/batch-call/bc/pause", answer, methods=["POST"])])
    account: dict[str, Any] = {"backend": "batchcall", "api_key": zudu.KEY, "api_secret": zudu.SECRET}
    async with listening(app) as url, playing("auto", url=url, data_dir=tmp_path, **account) as model:
        result = await model.client.call_tool("pause_batch_call", {"batch_call_id": "bc"})
    told = result.structured_content or {}
    assert result.is_error or (told["result"] != "paused" and "no new call" not in told["summary"]), told["summary"]


class Fails(Zudu):
    """Its second page of batch calls cannot be had."""

    async def _list(self, request: Request) -> Response:
        if int(request.query_params.get("page", 0)) > 0:
            return Response(status_code=404)
        return await super()._list(request)


async def test_what_was_listed_is_stopped_although_the_rest_of_the_list_cannot_be_read(tmp_path: Path) -> None:
    vendor = Fails()
    for at in range(150):
        tasks = [zudu.Task("task_0", PEOPLE[0], {})]
        batch = zudu.Batch(f"bc_{at}", "org_first", vendor.now, {"from_number": FROM}, "DRAFT", None, tasks)
        vendor.batches[f"bc_{at}"] = batch
    newest = max(vendor.batches.values(), key=lambda one: one.created)
    newest.status, newest.trigger = "SCHEDULED", int(tomorrow_at(9).timestamp() * 1000)
    async with vendor.served() as url:
        with anyio.fail_after(60):
            stopped = await command(of_zudu(url, tmp_path), "stop")
    vendor.tick(tomorrow_at(10))
    assert vendor.dialled == [], stopped.out + stopped.err


async def test_a_scheduled_batch_call_is_taken_back_on_a_server_of_the_plain_dialect(tmp_path: Path) -> None:
    """BATCHCALL_BACKEND=batchcall, and a server without our extensions: PATCH status=draft is the API's own way."""
    vendor = Zudu()
    tasks = [zudu.Task("task_0", PEOPLE[0], {})]
    trigger = int(tomorrow_at(9).timestamp() * 1000)
    body = {"from_number": FROM}
    vendor.batches["bc_1"] = zudu.Batch("bc_1", "org_first", vendor.now, body, "SCHEDULED", trigger, tasks)
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path) | {"BATCHCALL_BACKEND": "batchcall"}
        stopped = await command(there, "stop")
    vendor.tick(tomorrow_at(10))
    assert vendor.dialled == [], stopped.out + stopped.err


async def test_an_emergency_stop_tells_of_launches_whose_outcome_nobody_knows(tmp_path: Path) -> None:
    vendor = Zudu()
    front = Front(vendor.recording, lambda _method, path, _body: path.endswith("/execute"), lambda: None)
    account: dict[str, Any] = {
        "backend": "zudu",
        "api_key": zudu.KEY,
        "api_secret": zudu.SECRET,
        "calling_hours": "00:00-24:00",
    }
    async with listening(front) as url:
        async with playing("auto", Person(), url=url, data_dir=tmp_path, **account) as model:
            made = await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": PEOPLE[0]}])
            name = made["batch_call"]["batch_call_id"]
            front.trouble = "carried out later"
            start = {"batch_call_id": name, "trigger_timestamp": "now"}
            await model.refused("start_batch_call", "outcome_unknown", **start)
        stopped = await command(of_zudu(url, tmp_path), "stop")
        await front.catch_up()
    assert vendor.dialled == [PEOPLE[0]]
    assert name in stopped.out, stopped.out


async def test_an_emergency_stop_tries_to_cancel_what_it_could_not_pause(tmp_path: Path) -> None:
    """The server's pause is broken, its cancel is not."""
    state = {"batch_call_id": "bc", "status": "sent", "from_number": FROM, "total": 3}

    async def shown(_request: Request) -> JSONResponse:
        return JSONResponse({"data": state})

    async def listed(_request: Request) -> JSONResponse:
        return JSONResponse({"data": {"batch_calls": [state], "pagination": {"total_count": 1}}})

    async def pause(_request: Request) -> JSONResponse:
        return JSONResponse({"message": "x", "status": "error", "error": "no such column: paused_at"}, 500)

    async def cancel(_request: Request) -> JSONResponse:
        state["status"] = "cancelled"
        return JSONResponse({"data": state})

    routes = [
        Route("/batch-call/list", listed),
        Route("/batch-call/bc", shown),
        Route("/batch-call/bc/pause", pause, methods=["POST"]),
        Route("/batch-call/bc/cancel", cancel, methods=["POST"]),
    ]
    async with listening(Starlette(routes=routes)) as url:
        stopped = await command(of_zudu(url, tmp_path) | {"BATCHCALL_BACKEND": "batchcall"}, "stop")
    assert state["status"] == "cancelled", stopped.out


@pytest.mark.timeout(120)
async def test_an_emergency_stop_is_not_held_up_by_a_database_on_which_another_server_hangs(tmp_path: Path) -> None:
    vendor = Zudu()
    tasks = [zudu.Task("task_0", PEOPLE[0], {})]
    trigger = int(tomorrow_at(9).timestamp() * 1000)
    vendor.batches["bc_1"] = zudu.Batch(
        "bc_1", "org_first", vendor.now, {"from_number": FROM}, "SCHEDULED", trigger, tasks
    )
    database = postgresql_url()
    Ledger.open(Settings.model_validate({"data_dir": tmp_path, "database_url": database})).close()
    engine = sa.create_engine(sa.make_url(database).set(drivername="postgresql+psycopg"))
    async with vendor.served() as url:
        with engine.begin() as other:
            other.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            environment = dict(os.environ) | of_zudu(url, tmp_path, database_url=database)
            process = await anyio.open_process([*forked.program(), "stop"], env=environment, cwd=ROOT)
            with anyio.move_on_after(60):
                await process.wait()
            status = vendor.batches["bc_1"].status
            if process.returncode is None:
                process.kill()
            await process.aclose()
    engine.dispose()
    assert status == "DRAFT", f"after a minute it is still {status}"
