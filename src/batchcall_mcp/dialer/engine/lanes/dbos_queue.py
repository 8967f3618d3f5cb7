"""The edge to DBOS: on PostgreSQL lanes are durable workflows on one queue, taken up by any process with a line free.

A lane that is run again, by its own process or by another one after a crash, does no harm: it asks the engine, whose
SQL holds the truth (docs/decisions/dialer-engine.md).
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import timedelta
from time import monotonic, sleep
from typing import Any, Final, TypeAlias

import sqlalchemy as sa
from dbos import DBOS, DBOSClient, WorkflowStatus, _sys_db
from dbos import error as dbos_error

from batchcall_mcp import database
from batchcall_mcp.clock import utc_now
from batchcall_mcp.dialer.carriers.base import SIMULATED
from batchcall_mcp.dialer.storage.store import CHUNK, Store, chunks

LOG = logging.getLogger(__name__)
_QUEUE: Final = "batchcall-lanes"
_WORKFLOW: Final = "batchcall-lane"
_POLLS: Final = f"queue-worker-{_QUEUE}"
"""As DBOS names the thread that takes up lanes."""
# Pinned: DBOS would take a hash of the code, and leave the lanes of an older release lying.
_VERSION: Final = "1"
_KEPT: Final = timedelta(hours=1)
"""How long ended lanes can be looked at before their rows are removed."""
_CLOSING_S: Final = 2.0
_CLOSING_POLL_S: Final = 0.01
_LONGEST_BACKOFF_S: Final = 1.0


class _Patience:
    """The clock by which DBOS tries again while the database is away.

    Left to itself it waits up to 90 s, in which nothing is dialled although the database is back, and for which the end
    of this process waits.
    """

    def __init__(self) -> None:
        self._over = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def begin(self) -> None:
        self._over.clear()

    def end(self) -> None:
        self._over.set()

    def sleep(self, seconds: float) -> None:
        self._over.wait(min(seconds, _LONGEST_BACKOFF_S))


_PATIENCE: Final = _Patience()
setattr(_sys_db, "time", _PATIENCE)  # noqa: B010 - to a type checker it is a module; what is used of that is there

RunLane: TypeAlias = Callable[[str], Awaitable[None]]
_run_lane: RunLane | None = None


@DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=None)
async def _lane(batch_call_id: str) -> None:
    if _run_lane is not None:
        await _run_lane(batch_call_id)


class DbosQueue:
    """DBOS, launched. Blocks; for worker threads.

    There is one in a process at a time, because DBOS is one for a process: it is the turn of the one that makes it.

    `poll_seconds` is how late an open lane may be taken up. `run_lane` runs on DBOS's own event loop.

    Raises:
        ConfigurationError: the role may not make DBOS's tables.
    """

    def __init__(
        self,
        store: Store,
        worker_id: str,
        *,
        capacity: int,
        poll_seconds: float,
        run_lane: RunLane,
        carrier: str = SIMULATED,
    ) -> None:
        global _run_lane  # noqa: PLW0603 - DBOS runs functions by name, so what they belong to is the module's
        try:
            # DBOS writes each step of its own start to stderr.
            logging.getLogger("dbos").setLevel(logging.CRITICAL)
            self._store = store
            self._worker_id = worker_id
            # Processes with another carrier would take up lanes that they cannot run.
            self._queue = _QUEUE if carrier == SIMULATED else f"{_QUEUE}-{carrier}"
            where = store.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
            # Over the connections that are kept for dialling: a new one is perhaps not to be had.
            own = store.engine
            self._client = DBOSClient(
                system_database_url=where,
                system_database_engine=own,
                system_database_pool_size=2,
                retry_connection_errors=False,  # the engine tries again itself, says so, and can be stopped meanwhile
            )
            with database.privileges():
                # As `DBOS.migrate`, which opens connections of its own.
                self._client._sys_db.run_migrations()  # noqa: SLF001
            # Before the launch, which looks for queues at once, and then only every second.
            self._client.register_queue(self._queue, worker_concurrency=capacity, polling_interval_sec=poll_seconds)
            _PATIENCE.begin()
            self._dbos = DBOS(
                config={
                    "name": "batchcall-dialer",
                    "system_database_url": where,
                    "system_database_engine": own,
                    "application_version": _VERSION,
                    "executor_id": worker_id,
                    "log_level": "CRITICAL",  # the engine says in its own words when the database is away
                    "use_listen_notify": False,
                    "notification_listener_polling_interval_sec": min(1.0, poll_seconds),
                    "run_migrations": False,
                }
            )
            _run_lane = run_lane
            DBOS.launch()
        except BaseException:
            DBOS.destroy()
            _run_lane = None
            raise

    def open(self, wanted: Mapping[str, int]) -> None:
        """Open so many lanes for each of these batch calls, all or none."""
        with self._store.writing() as tx:
            for batch_call_id, count in wanted.items():
                for _ in range(count):
                    self._client.enqueue_in_transaction(
                        tx,
                        {
                            "queue_name": self._queue,
                            "workflow_name": _WORKFLOW,
                            "workflow_id": f"{batch_call_id}:{secrets.token_hex(8)}",
                            "app_version": _VERSION,
                        },
                        batch_call_id,
                    )

    def standing(self) -> Mapping[str, int]:
        """Lanes that no process has taken up, and those that this one has, whether they run already or not."""
        found = self._find(queue_name=self._queue, status=["ENQUEUED", "PENDING"], limit=1_000)
        mine = (one for one in found if one.status == "ENQUEUED" or one.executor_id == self._worker_id)
        return Counter(one.workflow_id.partition(":")[0] for one in mine)

    def take_over(self, living: Collection[str]) -> int:
        """Let any process with a line free run the lanes that others left: all but those of the living."""
        found = self._find(queue_name=self._queue, status="PENDING")
        orphans = [one.workflow_id for one in found if one.executor_id not in {*living, self._worker_id}]
        for chunk in chunks(orphans, CHUNK):
            try:
                self._client.resume_workflows(chunk, queue_name=self._queue)
            except dbos_error.DBOSNonExistentWorkflowError:
                # Another process took some of them over first, ended and dropped them.
                return self.take_over(living)
        return len(orphans)

    def _find(self, **which: Any) -> list[WorkflowStatus]:
        return self._client.list_workflows(load_input=False, load_output=False, **which)

    def _wait_for_the_last(self) -> None:
        """DBOS writes down the end of a lane after the lane has ended, and `destroy` does not wait for it."""
        deadline = monotonic() + _CLOSING_S
        while monotonic() < deadline and self._find(
            queue_name=self._queue, status="PENDING", executor_id=self._worker_id, limit=1
        ):
            sleep(_CLOSING_POLL_S)

    def tidy(self) -> None:
        """Remove the rows of lanes that ended some time ago."""
        before = (utc_now() - _KEPT).isoformat()
        while True:
            ended = ["SUCCESS", "ERROR", "CANCELLED"]
            found = self._find(name=_WORKFLOW, status=ended, completed_before=before, limit=CHUNK)
            if not found:
                return
            self._client.delete_workflows([one.workflow_id for one in found])

    def close(self) -> None:
        """Stop DBOS. Lanes that nobody has taken up are dropped: the process that goes on opens as many as it needs."""
        global _run_lane  # noqa: PLW0603 - as above
        try:
            self._stop_polling()
            found = self._find(queue_name=self._queue, status="ENQUEUED", limit=CHUNK)
            self._client.delete_workflows([one.workflow_id for one in found])
            self._wait_for_the_last()
        except sa.exc.SQLAlchemyError as error:  # gone, or all connections are in use
            LOG.debug("waiting lanes were not dropped: %s", type(error).__name__)
        finally:
            DBOS.destroy()
            self._client.destroy()
            _run_lane = None

    def _stop_polling(self) -> None:
        """From here on DBOS takes up no lane.

        `destroy` says so to the thread that polls, but does not wait for it: a lane that it takes up meanwhile goes to
        an event loop that is ending, and the thread waits for ever to hear that the lane has begun.
        """
        for stopped in self._dbos.background_thread_stop_events:
            stopped.set()
        system = self._dbos._sys_db_field  # noqa: SLF001 - nothing else stops its retries
        if system is not None:
            system._run_background_processes = False  # noqa: SLF001 - with patience at its end they would not pause
            system._retry_connection_errors = False  # noqa: SLF001
        _PATIENCE.end()
        deadline = monotonic() + _CLOSING_S
        for thread in threading.enumerate():
            if thread.name == _POLLS:
                thread.join(max(0.0, deadline - monotonic()))
