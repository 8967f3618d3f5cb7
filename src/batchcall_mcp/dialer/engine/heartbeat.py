"""Who dials: a row for each engine, counted up while it lives, so that the others notice when one has died."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp.database import insert_of
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import installation, workers

BEAT_SECONDS: Final = 1.5
DEAD_AFTER_BEATS: Final = 4
"""With BEAT_SECONDS: six seconds without a sign of life, of which this process has seen each one."""


def beat(store: Store, worker_id: str, capacity: int) -> Mapping[str, int]:
    """Say that this worker lives; how often each of the others has."""
    with store.writing() as tx:
        mine = workers.c.worker_id == worker_id
        alive = tx.execute(workers.update().where(mine).values(beats=workers.c.beats + 1)).rowcount
        if not alive:
            # The first beat, or others took this process for dead (it was stopped for long); its attempts are theirs.
            tx.execute(workers.insert().values(_row(worker_id, capacity, store.now())))
        others = tx.execute(sa.select(workers.c.worker_id, workers.c.beats).where(~mine))
        return {row.worker_id: row.beats for row in others}


def enlist(tx: sa.Connection, worker_id: str, capacity: int, now: int) -> None:
    """Hold this worker's row until the transaction ends, so that what it claims belongs to a worker that is known.

    It may have been taken out: a process that was stopped for long was taken for dead, and has not beaten since.
    """
    mine = sa.select(workers.c.worker_id).where(workers.c.worker_id == worker_id)
    if tx.execute(mine.with_for_update(read=True, key_share=True)).first() is None:
        tx.execute(insert_of(tx)(workers).values(_row(worker_id, capacity, now)).on_conflict_do_nothing())


def listed(store: Store) -> set[str]:
    """Those that dial, this one among them, and those of which nobody knows yet that they died."""
    with store.reading() as tx:
        return set(tx.execute(sa.select(workers.c.worker_id)).scalars())


def forget(store: Store, worker_ids: list[str]) -> None:
    """Take these out of the list: they ended, or died. From here on they claim nothing, and their work is anybody's."""
    with store.writing() as tx:
        tx.execute(workers.delete().where(workers.c.worker_id.in_(worker_ids)))


def count_failure(store: Store) -> None:
    """One more time that an engine on this database failed and starts again."""
    with store.writing() as tx:
        more = installation.update().values(engine_failures=installation.c.engine_failures + 1)
        if not tx.execute(more).rowcount:
            tx.execute(installation.insert().values(one=1, engine_failures=1))


def _row(worker_id: str, capacity: int, now: int) -> dict[str, Any]:
    return {
        "worker_id": worker_id,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "capacity": capacity,
        "beats": 1,
        "started_at": now,
    }


@dataclass
class Watch:
    """Tells the dead from the living by their beats, without any clock: machines' clocks differ, and jump.

    Only beats of its own that reached the database count: while the database is away nobody is taken for dead.
    """

    _seen: dict[str, tuple[int, int]] = field(default_factory=dict)

    def dead(self, beats: Mapping[str, int]) -> list[str]:
        """Those whose count has not changed over the last beats of this process."""
        seen: dict[str, tuple[int, int]] = {}
        for worker_id, count in beats.items():
            last, unchanged = self._seen.get(worker_id, (None, 0))
            seen[worker_id] = (count, unchanged + 1 if count == last else 0)
        self._seen = seen
        return [worker_id for worker_id, (_, unchanged) in self._seen.items() if unchanged >= DEAD_AFTER_BEATS]
