"""How `batchcall-mcp dialer` ends: no new call, those in progress go on, several processes end together."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import attempts, workers
from tests import forked
from tests.dialer.conftest import body, dialled, eventually, numbers
from tests.postgresql import postgresql_url

PAIR = {"BATCHCALL_API_KEY": "my-own-key", "BATCHCALL_API_SECRET": "my-own-secret"}
HEADERS = {"X-API-KEY": "my-own-key", "X-API-SECRET": "my-own-secret"}
LONG, SHORT = 22.0, 0.5
"""Seconds that a talk takes."""
LONGER_THAN_A_SIGNAL = 3.0
"""Also on a busy machine, where a signal may be a second on its way: until then nobody's talk is over."""


class Dialer:
    """The command as an operator starts it."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, data_dir: Path) -> None:
        self.process = process
        self.log = log
        self.data_dir = data_dir

    def said(self, text: str) -> bool:
        return text in self.log.read_text(encoding="utf-8")

    async def url(self) -> str:
        await eventually(lambda: self.said("http://"))
        return self.log.read_text(encoding="utf-8").partition("no phone rings. ")[2].split()[0]

    async def ends(self) -> int:
        await eventually(lambda: self.process.poll() is not None)
        return self.process.wait()


@asynccontextmanager
async def dialer(folder: Path, talk: float, *options: str) -> AsyncIterator[tuple[Dialer, httpx2.AsyncClient]]:
    """One that serves, with a client of it."""
    log, data_dir = folder / "log", folder / "data"
    environment = os.environ | PAIR | {"BATCHCALL_DATA_DIR": str(data_dir), "BATCHCALL_SIMULATED_SPEED": str(22 / talk)}
    with log.open("wb") as stderr:
        process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
            [*forked.program(), "dialer", "--port", "0", *options], stderr=stderr, env=environment
        )
    made = Dialer(process, log, data_dir)
    try:
        async with httpx2.AsyncClient(base_url=await made.url(), headers=HEADERS, timeout=30) as client:
            yield made, client
    finally:
        process.kill()
        process.wait()


async def launch(client: httpx2.AsyncClient, people: Sequence[str], **fields: Any) -> str:
    answer = await client.post("/batch-call", json=body(list(people), send_now=True, **fields))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["data"]["batch_call_id"])


def outcomes(where: Path | str) -> list[str | None]:
    store = Store.open(where)
    with store.reading() as tx:
        found = list(tx.execute(sa.select(attempts.c.outcome)).scalars())
    store.close()
    return found


async def test_calls_in_progress_go_on_to_their_end_and_no_new_one_begins(tmp_path: Path) -> None:
    async with dialer(tmp_path, LONGER_THAN_A_SIGNAL, "--drain-seconds", "30") as (made, client):
        await launch(client, numbers(40), max_concurrency=5)
        await eventually(lambda: len(dialled(made.data_dir)) == 5)
        made.process.send_signal(signal.SIGTERM)
        assert await made.ends() == 0
        assert made.said("no further call is placed; 5 in progress may go on for up to 30 s")
    assert len(dialled(made.data_dir)) == 5
    assert outcomes(made.data_dir / "dialer.db") == ["completed"] * 5


async def test_a_second_signal_does_not_wait(tmp_path: Path) -> None:
    async with dialer(tmp_path, LONG, "--drain-seconds", "3600") as (made, client):
        await launch(client, numbers(40), max_concurrency=5)
        await eventually(lambda: len(dialled(made.data_dir)) == 5)
        made.process.send_signal(signal.SIGINT)
        await eventually(lambda: made.said("no further call is placed"))
        made.process.send_signal(signal.SIGINT)
        assert await made.ends() == 0
    assert outcomes(made.data_dir / "dialer.db") == ["interrupted"] * 5


def alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.sweep
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_several_workers_dial_and_end_with_their_command(tmp_path: Path, how: signal.Signals) -> None:
    """However it ends: nobody could stop workers that went on without it."""
    url = postgresql_url()
    async with dialer(tmp_path, SHORT, "--database-url", url, "--workers", "2", "--drain-seconds", "1") as (
        made,
        client,
    ):
        store = Store.open(url)

        def pids() -> list[int]:
            with store.reading() as tx:
                return list(tx.execute(sa.select(workers.c.pid)).scalars())

        def dialling() -> set[str | None]:
            with store.reading() as tx:
                return set(tx.execute(sa.select(attempts.c.worker_id)).scalars())

        await eventually(lambda: len(pids()) == 2)
        await launch(client, numbers(3_000), max_concurrency=100)
        await eventually(lambda: len(dialling()) == 2)
        theirs = pids()
        assert all(alive(pid) for pid in theirs)
        made.process.send_signal(how)
        assert await made.ends() == (0 if how == signal.SIGTERM else -9)
        await eventually(lambda: not any(alive(pid) for pid in theirs))
        assert pids() == []
        store.close()
    assert None not in outcomes(url)
    placed = [line["attempt_id"] for line in dialled(made.data_dir)]
    assert len(placed) == len(set(placed)) < 3_000


def test_several_workers_need_postgresql() -> None:
    command = [*forked.program(), "dialer", "--workers", "2", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "--workers 2 needs PostgreSQL" in done.stderr
    assert len(done.stderr.splitlines()) == 1
