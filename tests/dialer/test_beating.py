"""A dialer that lives goes on saying so, whatever becomes of the others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from dbos import DBOSClient

from batchcall_mcp.dialer.engine import heartbeat, supervisor
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import workers as workers_table
from tests.dialer.conftest import NewCaller, emptied_postgresql, eventually, numbers


def beats(store: Store) -> int:
    """Of all together."""
    with store.reading() as tx:
        return tx.execute(sa.select(sa.func.sum(workers_table.c.beats))).scalar_one() or 0


async def test_lanes_that_are_gone_before_they_are_taken_over(
    new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process took them over first, ended and dropped them; this one is not taken for dead for that."""
    real = DBOSClient.list_workflows
    dropped: list[str] = []

    def list_workflows(self: DBOSClient, **asked: Any) -> Any:
        found = real(self, **asked)
        gone = [one.workflow_id for one in found if one.executor_id == "dead" and asked["status"] == "PENDING"]
        if gone and not dropped:
            dropped.extend(gone)
            self.delete_workflows(gone)
        return found

    monkeypatch.setattr(DBOSClient, "list_workflows", list_workflows)
    async with new_caller(database=emptied_postgresql(), beat_seconds=0.01) as caller:
        await caller.until_status(await caller.create(numbers(1), send_now=True), "completed")
        store = caller.dialer.store()
        with store.writing() as tx:
            tx.execute(sa.text("UPDATE dbos.workflow_status SET status = 'PENDING', executor_id = 'dead'"))
        heartbeat.beat(store, "dead", 1)
        await eventually(lambda: bool(dropped))
        seen = beats(store)
        await eventually(lambda: beats(store) > seen + 5)
        assert "dead" not in heartbeat.listed(store)


async def test_a_machine_whose_clock_is_off_the_databases_says_so(
    new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Once: it times calls by it."""
    monkeypatch.setattr(supervisor, "utc_now", lambda: datetime.now(UTC) - timedelta(minutes=5))
    async with new_caller(database=emptied_postgresql(), beat_seconds=0.02):
        await eventually(lambda: "behind the database's. Set it (NTP)" in caplog.text)
