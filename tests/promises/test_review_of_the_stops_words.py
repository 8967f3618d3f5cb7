"""A review of the emergency stop: what it says, when it says it, and what makes it end in a traceback."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from functools import partial
from pathlib import Path

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream
from starlette.requests import Request
from starlette.responses import Response

from batchcall_mcp.dialer.storage import stops
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.settings import STOP_FILE
from tests import forked
from tests.dialer.conftest import Caller, NewCaller, eventually, numbers
from tests.dialer.conftest import clock as clock  # noqa: PLC0414 - a fixture
from tests.dialer.conftest import new_caller as new_caller  # noqa: PLC0414 - a fixture
from tests.operator.firsts import DISK_FULL_FOR_PEOPLE, IMPATIENT
from tests.operator.gate import Gate
from tests.operator.processes import (
    LONGEST_S,
    Ended,
    aged,
    command,
    of_magpipe,
    of_zudu,
    serving,
    unmeasured,
    variables,
)
from tests.operator.test_stop import PEOPLE, TASKS, draft
from tests.operator.test_stop_drills import start
from tests.server.transports import ROOT
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, Person, tomorrow_at


async def test_what_was_stopped_is_said_before_the_people_are_read(tmp_path: Path) -> None:
    """A backend that stops, and then does not answer about its people: nobody learns that it was stopped."""
    vendor = Zudu()
    gate = Gate(vendor.recording, lambda method, path: method == "GET" and path.endswith("/tasks"))
    async with listening(gate) as url:
        there = of_zudu(url, tmp_path)
        gate.opened.set()
        async with serving(there, Person()) as model:
            launch = await draft(model, "November")
            await model.call("start_batch_call", **launch | {"trigger_timestamp": tomorrow_at(9).isoformat()})
        gate.opened, gate.arrived = anyio.Event(), anyio.Event()
        process = await anyio.open_process(
            [*forked.program(), "stop"], env=dict(os.environ) | there, cwd=ROOT, stdin=subprocess.DEVNULL
        )
        assert process.stdout is not None
        lines = BufferedByteReceiveStream(process.stdout)
        with anyio.fail_after(LONGEST_S):
            await gate.arrived.wait()
        try:
            with anyio.fail_after(LONGEST_S):
                first = await lines.receive_until(b"\n", 10_000)
                second = await lines.receive_until(b"\n", 10_000)
        finally:
            process.kill()
            gate.opened.set()
            await process.aclose()
    assert first.startswith(b"Stopped: ")
    assert second.startswith(f"cancelled: {launch['batch_call_id']}".encode()), second


async def test_a_ledger_that_is_held_leaves_no_traceback_and_hides_nothing(tmp_path: Path) -> None:
    """One batch call is over, which is to be remembered; another is cancelled, which is to be said."""
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there, Person()) as model:
            over = await start(model, "October", TASKS)
            vendor.finish(over, {})
            launch = await draft(model, "November")
            await model.call("start_batch_call", **launch | {"trigger_timestamp": tomorrow_at(9).isoformat()})
        aged(tmp_path)
        connection = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        stopped = await command(there | IMPATIENT, "stop")
        connection.close()
    assert "Traceback" not in stopped.err, stopped.err
    assert f"cancelled: {launch['batch_call_id']}" in stopped.out


class _Halved(Magpipe):
    """Its JSON is ASCII, as json.dumps makes it: it may hold half a surrogate pair, which UTF-8 may not."""

    async def _batch_calls(self, request: Request) -> Response:
        self._authenticate(request)
        body = await request.json()
        answered = {"list": self._list, "get": self._get, "cancel": self._cancel}[body["action"]](body)
        return Response(json.dumps(answered), media_type="application/json")


async def test_a_name_that_no_file_can_hold_is_no_traceback(tmp_path: Path) -> None:
    vendor = _Halved()
    batch = vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE, "running", ["\ud800", None, None])
    async with vendor.served() as url:
        stopped = await command(of_magpipe(url, tmp_path), "stop")
    assert "Traceback" not in stopped.err, stopped.err
    assert f"cancelled: {batch['id']}" in stopped.out


async def test_a_list_of_people_that_could_not_be_made_is_not_named(tmp_path: Path) -> None:
    (taken := tmp_path / "data").write_text("")
    vendor = Magpipe()
    vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE, "scheduled")
    async with vendor.served() as url:
        stopped = await command(of_magpipe(url, taken), "stop")
    assert "lists the people of each" not in stopped.out, stopped.out


async def test_a_list_of_people_on_a_full_disk_is_an_error_in_words(tmp_path: Path) -> None:
    """What was written is not on the disk before the file is closed."""
    vendor = Magpipe()
    for name in ("November", "December"):
        vendor._stored({"name": name, "caller_id": FROM}, [f"+1212555{line:04d}" for line in range(400)], "scheduled")
    async with vendor.served() as url:
        there = of_magpipe(url, tmp_path)
        with anyio.fail_after(LONGEST_S):
            ended = await anyio.run_process(
                [*forked.program(), "stop"], env=unmeasured() | there | DISK_FULL_FOR_PEOPLE, cwd=ROOT, check=False
            )
    out, err = ended.stdout.decode(), ended.stderr.decode()
    assert "Traceback" not in err, err
    assert ended.returncode == 1
    assert "lists the people of each" not in out, out


ESCAPES = "bc\nNothing is live.\n\u202e"


async def test_an_id_with_control_characters_does_not_come_out_raw(tmp_path: Path) -> None:
    """A backend chooses it; the operator reads a line of its making."""
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path, request_timeout_s="1")
        async with serving(there, Person()) as model:
            await start(model, "November", TASKS)
        connection = sqlite3.connect(tmp_path / "ledger.db")
        with connection:
            connection.execute("UPDATE writes SET batch_call_id = ?, state = 'unknown' WHERE dials", [ESCAPES])
        connection.close()
        stopped = await command(there, "stop")
    assert "not known: " in stopped.out
    assert "\nNothing is live.\n" not in stopped.out, stopped.out
    assert "\u202e" not in stopped.out


def cleared(caller: Caller) -> bool:
    store = Store.open_existing(caller.dialer._database, caller.clock)
    assert store is not None
    with store.reading() as tx:
        on = stops.since(tx) is not None
    store.close()
    return not on


async def test_a_dialer_that_runs_does_not_undo_the_clear(new_caller: NewCaller, tmp_path: Path) -> None:
    """The row is cleared before the file goes. Here the ledger holds the command up in between."""
    async with new_caller() as caller:
        await caller.create(numbers(1))
        there = variables(tmp_path)
        await command(there, "stop")
        connection = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        ended: list[Ended] = []

        async def clear() -> None:
            ended.append(await command(there, "stop", "--clear"))

        async with anyio.create_task_group() as group:
            group.start_soon(clear)
            dialer = sqlite3.connect(tmp_path / "dialer.db")
            lifted = "SELECT count(*) FROM dialer_stops WHERE cleared_at IS NOT NULL"
            await eventually(lambda: bool(dialer.execute(lifted).fetchone()[0]))
            there_is_a_file = (tmp_path / STOP_FILE).exists  # what a dialer that runs would see, and stop again
            assert not there_is_a_file()
            connection.close()
        dialer.close()
        assert "launches are possible again" in ended[0].out
        assert cleared(caller), "the dialer is stopped, and the command says that launches are possible"


async def test_a_clear_that_cannot_be_done_in_the_ledger_lifts_nothing_in_the_dialer(tmp_path: Path) -> None:
    """It is not lifted by half."""
    Store.open(tmp_path / "dialer.db").close()
    there = variables(tmp_path)
    await command(there, "stop")
    (tmp_path / STOP_FILE).unlink()
    (tmp_path / STOP_FILE).mkdir()  # somebody's idea of a STOP
    lifted = await command(there, "stop", "--clear")
    store = Store.open(tmp_path / "dialer.db")
    with store.reading() as tx:
        on = stops.since(tx) is not None
    store.close()
    assert "Traceback" not in lifted.err, lifted.err
    assert lifted.code == 0 or on, "it failed, and the dialer dials"


async def test_calls_that_go_on_are_counted_although_somebody_else_paused_it(tmp_path: Path) -> None:
    """It says that nothing is live, while somebody talks: one was paused or cancelled a moment before the stop."""
    there = variables(tmp_path, simulated_speed="1", calling_hours="00:00-24:00")
    async with serving(there, Person()) as model:
        name = await start(model, "November", TASKS, window={"start": "00:00", "end": "24:00"})
        await eventually(partial((tmp_path / "carrier.jsonl").exists))
        await model.call("cancel_batch_call", batch_call_id=name)
        shown = (await model.call("get_batch_call", batch_call_id=name, limit=0))["batch_call"]
        stopped = await command(there, "stop")
        assert shown["counts"]["calling"] > 0
    assert "\nNothing is live.\n" not in stopped.out, stopped.out
