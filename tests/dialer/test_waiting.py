"""A stop does not wait for what has nothing to do with it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from batchcall_mcp.dialer.storage.store import ANSWERS_KEPT, Store, WriteRequest
from batchcall_mcp.dialer.storage.tables import recorded_answers
from tests.dialer.conftest import Clock
from tests.postgresql import postgresql_url


def write(key: str) -> WriteRequest:
    return WriteRequest("local", key, key)


def test_a_write_does_not_wait_for_another_one_that_removes_old_answers(clock: Clock) -> None:
    """The other one stores a long list, which takes seconds."""
    store = Store.open(postgresql_url(), clock)
    store.once(write("old"), lambda _: {})
    clock.forward(seconds=(ANSWERS_KEPT + timedelta(days=1)).total_seconds())
    storing, stored = threading.Event(), threading.Event()

    def store_a_long_list(_: sa.Connection) -> Mapping[str, Any]:
        storing.set()
        assert stored.wait(20)
        return {}

    with ThreadPoolExecutor(2) as threads:
        long = threads.submit(store.once, write("create"), store_a_long_list)
        assert storing.wait(20)
        try:
            assert threads.submit(store.once, write("pause"), lambda _: {"paused": True}).result(5)[0] == {
                "paused": True
            }
        finally:
            stored.set()
        long.result(20)
    with store.reading() as tx:
        kept = tx.execute(sa.select(recorded_answers.c.idempotency_key)).scalars()
        assert set(kept) == {"create", "pause"}
    store.close()
