"""Stop drills: what was launched from here is stopped or named, whatever the command can reach. No false all-clear."""

from __future__ import annotations

import csv
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from batchcall_mcp.dialer.storage import api_keys
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.server.transports.http import MCP_PATH
from tests.operator.gate import Gate, starts
from tests.operator.processes import (
    LONGEST_S,
    aged,
    command,
    dialling,
    of_magpipe,
    of_zudu,
    serving,
    variables,
)
from tests.operator.test_stop import MANY, PAIR, PEOPLE, TASKS, draft, until
from tests.postgresql import postgresql_url
from tests.server.transports import HTTP_WAYS, client_of, connected_url
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import Recording, listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, Model, Person, dials

HTTP = HTTP_WAYS[0]
CLEAR = "\nNothing is live.\n"
MANY_TASKS = [{"to_number": one} for one in MANY]


def without_key(there: dict[str, str]) -> dict[str, str]:
    """What an operator has in a terminal: the data folder, and none of the MCP client's variables."""
    return {name: value for name, value in there.items() if name == "BATCHCALL_DATA_DIR"}


async def start(model: Model, name: str, tasks: list[dict[str, str]], **others: Any) -> str:
    launch = await draft(model, name, tasks, **others)
    await model.call("start_batch_call", **launch)
    return str(launch["batch_call_id"])


async def test_400_live_calls_at_zudu_and_a_command_without_a_key(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        people = [{"to_number": f"+1212555{line:04d}"} for line in range(400)]
        async with serving(there, Person()) as model:
            name = await start(model, "November", people)
        stopped = await command(without_key(there), "stop")
        assert stopped.code == 3
        assert CLEAR not in stopped.out
        (line,) = [one for one in stopped.out.splitlines() if one.startswith("no key: ")]
        assert f"1 batch calls with 400 calls, launched at zudu {url} by caller " in line
        assert name in line
        assert f"BATCHCALL_BACKEND=zudu BATCHCALL_URL={url}" in line

        # With the key it is asked. Zudu cannot stop what runs, and that is said.
        again = await command(there, "stop")
        assert again.code == 1
        assert f"not stopped: {name} (was running). " in again.out
        assert CLEAR not in again.out


async def test_another_organisation_on_the_embedded_dialer(tmp_path: Path) -> None:
    """A server for a team; the command has no key at all, and stops the calls of both organisations."""
    store = Store.open(tmp_path / "dialer.db")
    pairs = [api_keys.new_pair(), api_keys.new_pair()]
    for pair, organization_id in zip(pairs, ("one", "two"), strict=True):
        api_keys.add(store, pair, organization_id)
    store.close()
    there = variables(tmp_path, backend="dialer", simulated_speed="40", calling_hours="00:00-24:00")
    ids = []
    async with connected_url(HTTP, there) as url:
        for pair in pairs:
            headers = {"X-API-KEY": pair.api_key, "X-API-SECRET": pair.api_secret}
            base = url.removesuffix(MCP_PATH)
            async with client_of(base, HTTP, headers=headers, elicitation_callback=Person()) as client:
                model = Model(client)
                ids.append(await start(model, "November", MANY_TASKS, max_concurrency=5, window=ALWAYS))
        await until(lambda: dials(tmp_path).total() >= 20)
        stopped = await command(variables(tmp_path), "stop")
        dialled = dials(tmp_path)
        assert (stopped.code, stopped.err) == (0, "")
        for name in ids:
            assert f"paused: {name} (was running).\n" in stopped.out
        assert CLEAR not in stopped.out
        again = await command(variables(tmp_path), "stop")
        assert (again.code, CLEAR in again.out) == (0, False)
        assert dials(tmp_path) == dialled


async def test_three_counts_and_a_file_that_lists_the_people_of_each(tmp_path: Path) -> None:
    there = variables(tmp_path, simulated_speed="40", calling_hours="00:00-24:00")
    async with serving(there, Person()) as model:
        await start(model, "November", MANY_TASKS, max_concurrency=5, window=ALWAYS)
        await until(lambda: dials(tmp_path).total() >= 20)
        stopped = await command(there, "stop")
        dialled = set(dials(tmp_path))
    (line,) = [one for one in stopped.out.splitlines() if one.startswith("People: ")]
    (path,) = [Path(word) for word in line.split() if word.endswith(".csv")]
    assert path.parent == tmp_path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    counts = {where: sum(row["reached"] == where for row in rows) for where in ("called", "in a call", "never called")}
    listed = ", ".join(f"{count} {where}" for where, count in counts.items())
    assert line.startswith(f"People: {listed}. ")
    assert {row["to_number"] for row in rows if row["reached"] != "never called"} == dialled
    assert {row["to_number"] for row in rows} == set(MANY)


@dataclass(frozen=True)
class Drill:
    """How a launch is made at a backend, and what the command finds there."""

    backend: str
    key: bool
    down: bool
    unknown: bool


DRILLS = [
    Drill(backend, key, down, unknown)
    for backend in ("zudu", "magpipe", "batchcall")
    for key in (True, False)
    for down in (False, True)
    for unknown in ((False,) if backend == "batchcall" else (False, True))
]


@pytest.mark.sweep
@pytest.mark.parametrize("drill", DRILLS, ids=str)
async def test_no_false_all_clear(drill: Drill, tmp_path: Path) -> None:
    async with launched(drill, tmp_path) as (there, name, unknown):
        stopped = await command(there if drill.key else without_key(there), "stop")
        assert CLEAR not in stopped.out
        assert "nothing is launched from now on" in stopped.out
        if drill.key and not drill.down and not unknown and drill.backend != "zudu":
            assert stopped.code == 0, stopped.out + stopped.err
            assert f"{name} (was " in stopped.out
        else:
            assert stopped.code == (3 if not drill.key and not unknown else 1), stopped.out + stopped.err
        assert name in stopped.out + stopped.err
        assert ("not known: start_batch_call" in stopped.out) is unknown


@asynccontextmanager
async def launched(drill: Drill, folder: Path) -> AsyncIterator[tuple[dict[str, str], str, bool]]:
    """A launch that was made, or whose answer was lost, at a backend that is there or has gone."""
    if drill.backend == "batchcall":
        pair = {**PAIR}
        settings = {"simulated_speed": "40", "calling_hours": "00:00-24:00"}
        async with dialling(variables(folder / "dialer", **settings, **pair)) as url:
            there = variables(folder / "server", backend="batchcall", url=url, **pair)
            async with serving(there, Person()) as model:
                name = await start(model, "November", MANY_TASKS, max_concurrency=2, window=ALWAYS)
            if not drill.down:
                yield there, name, False
                return
        yield there, name, False
        return
    vendor: Zudu | Magpipe = Zudu() if drill.backend == "zudu" else Magpipe()
    of_it = of_zudu if drill.backend == "zudu" else of_magpipe
    shaky = _Shaky(vendor.recording)
    async with listening(shaky) as url:
        there = of_it(url, folder, request_timeout_s="1")
        async with serving(there, Person()) as model:
            launch = await draft(model, "November", TASKS)
            if drill.unknown:
                vendor.recording.swallow_next_write = shaky.falls_after_it = True
                lost = await model.client.call_tool("start_batch_call", launch)
                assert lost.is_error
            else:
                await model.call("start_batch_call", **launch)
        shaky.is_down = drill.down
        shaky.falls_after_it = False
        yield there, launch["batch_call_id"], drill.unknown


class _Shaky:
    """A vendor that answers 503 while it is down; `falls_after_it`: as soon as the answer of a write was lost."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.is_down = self.falls_after_it = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fallen = self.falls_after_it and not self._recording.swallow_next_write
        if scope["type"] == "http" and (self.is_down or fallen):
            await Response(status_code=503)(scope, receive, send)
        else:
            await self._recording(scope, receive, send)


async def test_a_launch_that_is_on_its_way_is_not_an_all_clear(tmp_path: Path) -> None:
    vendor = Zudu()
    gate = Gate(vendor.recording, starts)
    async with listening(gate) as url:
        there = of_zudu(url, tmp_path, request_timeout_s="2")
        async with serving(there, Person()) as model, anyio.create_task_group() as group:
            launch = await draft(model, "November")
            group.start_soon(partial(model.client.call_tool, "start_batch_call", launch))
            with anyio.fail_after(LONGEST_S):
                await gate.arrived.wait()
            stopped = await command(without_key(there), "stop")
            gate.opened.set()
    assert stopped.code == 1
    assert launch["batch_call_id"] in stopped.out
    assert CLEAR not in stopped.out


async def test_a_paused_series_whose_run_dials_is_cancelled(tmp_path: Path) -> None:
    vendor = Magpipe()
    async with vendor.served() as url:
        series = vendor.series(PEOPLE, "paused")
        run = vendor._stored({"name": "Run #2", "caller_id": FROM}, PEOPLE, "running")
        run["parent_batch_id"] = series
        resting = vendor.series(PEOPLE, "paused")
        stopped = await command(of_magpipe(url, tmp_path), "stop")
    assert f"cancelled: {series} (was paused).\n" in stopped.out
    assert vendor.batches[run["id"]]["status"] == "cancelled"
    assert vendor.batches[resting]["status"] == "paused", "what calls nobody is left as it is"


async def test_all_clear_is_said_where_everything_was_asked_and_is_over(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there, Person()) as model:
            name = await start(model, "November", TASKS)
            vendor.finish(name, {})
        stopped = await command(there, "stop")
    assert (stopped.code, stopped.err) == (0, "")
    assert CLEAR in stopped.out


async def test_what_was_seen_to_be_over_is_not_named_where_the_key_is_missing(tmp_path: Path) -> None:
    """A year of batch calls of others must not hide the one that is live."""
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there, Person()) as model:
            over = await start(model, "October", TASKS)
            vendor.finish(over, {})
            aged(tmp_path)
            await model.call("get_batch_call", batch_call_id=over)
            live = await start(model, "November", [{"to_number": "+12125550177"}])
        stopped = await command(without_key(there), "stop")
    assert stopped.code == 3
    assert live in stopped.out
    assert over not in stopped.out


async def test_where_there_was_no_ledger_nothing_is_known(tmp_path: Path) -> None:
    """A wrong folder, or one that was deleted under a running server."""
    stopped = await command(variables(tmp_path / "typo"), "stop")
    assert stopped.code == 1
    assert CLEAR not in stopped.out
    assert f"no ledger here contains a write of any server ({tmp_path / 'typo'})" in stopped.err


async def test_a_dialer_whose_database_is_gone_is_named(tmp_path: Path) -> None:
    """Deleted, or not the one that is meant: a process that still runs on it may dial."""
    there = variables(tmp_path, simulated_speed="40", calling_hours="00:00-24:00")
    async with serving(there, Person()) as model:
        name = await start(model, "November", MANY_TASKS, max_concurrency=1, window=ALWAYS)
        delete_the_database(tmp_path)
        stopped = await command(there, "stop")
    assert stopped.code == 1
    assert CLEAR not in stopped.out
    assert f"not known: {name} was launched on the dialer" in stopped.out


def delete_the_database(folder: Path) -> None:
    for file in folder.glob("dialer.db*"):
        file.unlink()


async def test_the_database_of_a_standing_dialer_is_named_with_an_option(tmp_path: Path) -> None:
    """Its own keys are not needed: anyone who has the database can stop everybody in it."""
    database = postgresql_url()
    settings = variables(tmp_path / "dialer", simulated_speed="40", calling_hours="00:00-24:00", **PAIR)
    async with dialling(settings | {"BATCHCALL_DATABASE_URL": database}) as url:
        there = variables(tmp_path / "server", backend="batchcall", url=url, **PAIR)
        async with serving(there, Person()) as model:
            name = await start(model, "November", MANY_TASKS, max_concurrency=5, window=ALWAYS)
            await until(lambda: dials(tmp_path / "dialer").total() >= 10)
            stopped = await command(without_key(there), "stop", "--database-url", database)
            dialled = dials(tmp_path / "dialer")
            assert f"paused: {name} (was running).\n" in stopped.out
            text = await model.refused("resume_batch_call", "invalid_input", batch_call_id=name)
            assert "emergency stop" in text
            cleared = await command(without_key(there), "stop", "--clear", "--database-url", database)
            assert (cleared.code, cleared.err) == (0, "")
            shown = (await model.call("get_batch_call", batch_call_id=name, limit=0))["batch_call"]
            assert (shown["status"], shown["status_reason"]["code"]) == ("paused", "stopped")
        assert dials(tmp_path / "dialer") == dialled
