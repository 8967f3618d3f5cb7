"""Three assistants of one person at once, each with a server of its own, and one dialer between them."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path

import anyio
import pytest

from tests.server.transports import REAL, spawned
from tests.walks.stage import FROM, Model, Person, dials, numbers

PEOPLE = numbers(120)


class Assistant(Model):
    """One of them, and its server's process."""

    pid = 0


async def dialling(data_dir: Path, *, but: int = 0) -> int:
    """The one process that dials, as soon as there is one; not that one."""
    while True:
        with closing(sqlite3.connect(data_dir / "dialer.db")) as database:
            found = [pid for (pid,) in database.execute("select pid from workers") if pid != but]
        assert len(found) <= 1, "one engine"
        if found:
            return int(found[0])
        await anyio.sleep(0.01)


async def some_dialled(data_dir: Path) -> None:
    while True:
        if dials(data_dir):
            return
        await anyio.sleep(0.01)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_what_one_has_started_the_others_see_and_it_outlives_its_server(
    end: signal.Signals, tmp_path: Path
) -> None:
    environment = {
        "BATCHCALL_DATA_DIR": str(tmp_path),
        "BATCHCALL_SIMULATED_SPEED": "100",
        "BATCHCALL_CALLING_HOURS": "00:00-24:00",
    }
    async with AsyncExitStack() as stack:
        three = []
        for index in range(3):
            pid = tmp_path / f"{index}.pid"
            begins = spawned(REAL, environment | {"FORKED_PID_FILE": str(pid)}, elicitation_callback=Person())
            three.append(Assistant(await stack.enter_async_context(begins)))
            three[-1].pid = int(pid.read_text(encoding="ascii"))
        made: dict[int, str] = {}

        async def begin(index: int) -> None:
            tasks = [{"to_number": one} for one in PEOPLE[index::3]]
            draft = await three[index].call("create_batch_call", name=f"list {index}", from_number=FROM, tasks=tasks)
            made[index] = draft["batch_call"]["batch_call_id"]
            await three[index].call("start_batch_call", batch_call_id=made[index], trigger_timestamp="now")

        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for index in range(3):
                    group.start_soon(begin, index)
            for one in three:
                listed = await one.call("list_batch_calls")
                assert {found["batch_call_id"] for found in listed["batch_calls"]} == set(made.values())
            holder = await dialling(tmp_path)
            assert holder in {one.pid for one in three}
            await some_dialled(tmp_path)
            os.kill(holder, end)
            next_one = await dialling(tmp_path, but=holder)
            left = [one for one in three if one.pid != holder]
            assert next_one in {one.pid for one in left}
            for batch_call_id in made.values():
                while True:
                    seen = (await left[0].call("watch_batch_call", batch_call_id=batch_call_id))["batch_call"]
                    if seen["status"] == "completed":
                        break
                seen = (await left[0].call("get_batch_call", batch_call_id=batch_call_id))["batch_call"]
                assert seen == (await left[1].call("get_batch_call", batch_call_id=batch_call_id))["batch_call"]
                assert seen["counts"]["total"] == len(PEOPLE) / 3
                assert seen["counts"].get("pending", 0) == 0
    assert max(dials(tmp_path).values()) == 1
