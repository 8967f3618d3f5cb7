"""The dialer's database, and every transaction that the REST face makes of it.

Functions take the open transaction first; what belongs to another organisation is not there. The engine's own
transactions are in `dispatch`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import sqlalchemy as sa

from batchcall_mcp import database
from batchcall_mcp.dialer import rules
from batchcall_mcp.dialer.records import BatchCallRecord, Clock, NewTask, TaskCounts, TaskRecord, to_ms, utc_now
from batchcall_mcp.dialer.rules import Action, State
from batchcall_mcp.dialer.tables import attempts, batch_calls, do_not_call, recorded_answers, tasks
from batchcall_mcp.errors import ConfigurationError, IllegalTransition, InvalidInput, NotFound
from batchcall_mcp.model import TaskStatus

T = TypeVar("T")

HEAD: Final = "0002"
"""The newest migration."""
_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_VERSIONS: Final = "dialer_version"
_MIGRATING: Final = 0x62617463685F6469
CHUNK: Final = 500
"""Most values in one IN (...): SQLite and PostgreSQL both limit the parameters of a statement."""
INSERTED_AT_ONCE: Final = 5_000
ANSWERS_KEPT: Final = timedelta(days=7)
_TASK_COLUMNS = [tasks.c[field.name] for field in fields(TaskRecord)]


class IdempotencyConflict(IllegalTransition):
    """The Idempotency-Key was used with another request."""

    code = "idempotency_conflict"


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One write as it came: whose, its Idempotency-Key, and a hash of what it asks."""

    organization_id: str
    key: str | None
    fingerprint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCallQuery:
    """A page of batch calls; `page` counts from 0, moments are milliseconds."""

    status: tuple[str, ...] = ()
    agent_id: tuple[str, ...] = ()
    name: tuple[str, ...] = ()
    created_after: int | None = None
    page: int = 0
    limit: int = 20
    sort_by: Literal["created_at", "updated_at", "scheduled_timestamp", "name", "status", "total_task_count"] = (
        "updated_at"
    )
    sort_order: Literal["ascending", "descending"] = "descending"


def chunks(values: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size`, none of them empty."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk


class Store:
    """The open database. Every method may be called from any thread; none may be called on an event loop."""

    def __init__(self, engine: sa.Engine, clock: Clock = utc_now) -> None:
        self.engine: Final = engine
        self.clock = clock

    @classmethod
    def open(cls, where: Path | str, clock: Clock = utc_now) -> Store:
        """Open a SQLite file (made if it is not there) or the PostgreSQL database of a URL; bring it to today's tables.

        Raises:
            ConfigurationError: it cannot be opened, or a newer version of this program made it.
        """
        engine = database.open_postgresql(where) if isinstance(where, str) else database.open_sqlite(where)
        try:
            with database.reading(engine) as tx:
                current = database.version(tx, _VERSIONS) == HEAD
            if not current:
                with database.writing(engine, _MIGRATING) as tx:
                    database.migrate(tx, _MIGRATIONS, HEAD, _VERSIONS, unversioned=("batch_calls", "0001"))
        except ConfigurationError:
            engine.dispose()
            raise
        return cls(engine, clock)

    @property
    def shared(self) -> bool:
        """Whether any number of processes may dial from it: PostgreSQL. A SQLite file has one engine."""
        return self.engine.dialect.name == "postgresql"

    def close(self) -> None:
        self.engine.dispose()

    def reading(self) -> AbstractContextManager[sa.Connection]:
        return database.reading(self.engine)

    def writing(self) -> AbstractContextManager[sa.Connection]:
        return self.engine.begin()

    def now(self) -> int:
        return to_ms(self.clock())

    def once(
        self, write: WriteRequest, effect: Callable[[sa.Connection], Mapping[str, Any]]
    ) -> tuple[Mapping[str, Any], bool]:
        """Run a write and record its answer in the same transaction; the same request again gets that answer.

        Returns:
            The answer, and whether it was replayed. A refused write is not recorded: nothing happened.

        Raises:
            IdempotencyConflict: the key was used with another request.
        """
        with self.writing() as tx:
            if write.key is None:
                return effect(tx), False
            if self.shared:
                # Of two equal requests at once the second waits here, and finds the answer of the first.
                tx.execute(sa.select(sa.func.pg_advisory_xact_lock(_number(f"{write.organization_id}\n{write.key}"))))
            now = self.now()
            tx.execute(recorded_answers.delete().where(recorded_answers.c.created_at < now - _ms(ANSWERS_KEPT)))
            mine = (recorded_answers.c.organization_id == write.organization_id) & (
                recorded_answers.c.idempotency_key == write.key
            )
            recorded = tx.execute(sa.select(recorded_answers).where(mine)).one_or_none()
            if recorded is None:
                answer = effect(tx)
                tx.execute(
                    recorded_answers.insert().values(
                        organization_id=write.organization_id,
                        idempotency_key=write.key,
                        fingerprint=write.fingerprint,
                        answer=answer,
                        created_at=now,
                    )
                )
                return answer, False
            if recorded.fingerprint != write.fingerprint:
                raise IdempotencyConflict(
                    "This Idempotency-Key was already used with another request. Nothing was changed; "
                    "use a new key for a new request."
                )
            answer = recorded.answer
            return answer, True


def create(
    tx: sa.Connection, organization_id: str, columns: Mapping[str, Any], new_tasks: Sequence[NewTask], now: int
) -> BatchCallRecord:
    """Store a batch call and its tasks. `columns` are those of `batch_calls` that the caller decides."""
    batch_call_id = f"batch_call_{secrets.token_hex(16)}"
    tx.execute(
        batch_calls.insert().values(
            **columns,
            batch_call_id=batch_call_id,
            organization_id=organization_id,
            total_task_count=len(new_tasks),
            created_at=now,
            updated_at=now,
            started_at=now if columns["status"] is State.SENT else None,
        )
    )
    _insert_tasks(tx, batch_call_id, new_tasks, now)
    return get(tx, organization_id, batch_call_id)


def update(
    tx: sa.Connection,
    before: BatchCallRecord,
    columns: Mapping[str, Any],
    new_tasks: Sequence[NewTask] | None,
    now: int,
) -> BatchCallRecord:
    """Change the columns given and, if given, replace the whole task list."""
    values: dict[str, Any] = {**columns, "updated_at": now}
    mine = batch_calls.c.batch_call_id == before.batch_call_id
    if new_tasks is not None:
        tx.execute(tasks.delete().where(tasks.c.batch_call_id == before.batch_call_id))
        _insert_tasks(tx, before.batch_call_id, new_tasks, now)
        values["total_task_count"] = len(new_tasks)
    elif "from_number" in values:
        calls_itself = (tasks.c.batch_call_id == before.batch_call_id) & (tasks.c.to_number == values["from_number"])
        if tx.execute(sa.select(tasks.c.task_id).where(calls_itself).limit(1)).first():
            raise InvalidInput("from_number: is also the to_number of a task. Nothing was changed.")
    if values.get("status") is State.SENT and before.started_at is None:
        values["started_at"] = now
    tx.execute(batch_calls.update().where(mine).values(values))
    return get(tx, before.organization_id, before.batch_call_id)


def _insert_tasks(tx: sa.Connection, batch_call_id: str, new_tasks: Iterable[NewTask], now: int) -> None:
    for chunk in chunks(enumerate(new_tasks), INSERTED_AT_ONCE):
        tx.execute(
            tasks.insert(),
            [
                {
                    "task_id": f"task_{secrets.token_hex(16)}",
                    "batch_call_id": batch_call_id,
                    "position": position,
                    "to_number": task.to_number,
                    "name": task.name,
                    "dynamic_variables": task.dynamic_variables,
                    "max_retries": task.max_retries,
                    "timezone": task.timezone,
                    "status": TaskStatus.PENDING,
                    "attempts": 0,
                    "answered": False,
                    "due_at": now,
                    "created_at": now,
                }
                for position, task in chunk
            ],
        )


def get(tx: sa.Connection, organization_id: str, batch_call_id: str, *, lock: bool = False) -> BatchCallRecord:
    """One batch call; `lock` holds its state still until the transaction ends.

    Raises:
        NotFound: there is none with this id in this organisation.
    """
    query = sa.select(batch_calls).where(
        batch_calls.c.batch_call_id == batch_call_id, batch_calls.c.organization_id == organization_id
    )
    row = tx.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"There is no batch call {batch_call_id!r} in this organization. Nothing was changed.")
    return BatchCallRecord.of(row)


def counts(tx: sa.Connection, batch_call_ids: Iterable[str]) -> dict[str, TaskCounts]:
    """Counts of several batch calls, from one pass over an index."""
    query = (
        sa.select(
            tasks.c.batch_call_id,
            tasks.c.status,
            sa.func.count().label("total"),
            sa.func.count(sa.case((tasks.c.attempts > 0, 1))).label("sent"),
            sa.func.count(sa.case((tasks.c.answered, 1))).label("picked_up"),
        )
        .where(tasks.c.batch_call_id.in_(list(batch_call_ids)))
        .group_by(tasks.c.batch_call_id, tasks.c.status)
    )
    rows: dict[str, list[sa.Row[Any]]] = {}
    for row in tx.execute(query):
        rows.setdefault(row.batch_call_id, []).append(row)
    return {
        batch_call_id: TaskCounts(
            by_status={TaskStatus(row.status): row.total for row in group},
            sent=sum(row.sent for row in group),
            picked_up=sum(row.picked_up for row in group),
        )
        for batch_call_id, group in rows.items()
    }


def find(tx: sa.Connection, organization_id: str, query: BatchCallQuery) -> tuple[list[BatchCallRecord], int]:
    """A page of batch calls, and how many there are in all."""
    column = batch_calls.c["scheduled_at" if query.sort_by == "scheduled_timestamp" else query.sort_by]
    conditions = [batch_calls.c.organization_id == organization_id]
    if query.status:
        conditions.append(batch_calls.c.status.in_(query.status))
    if query.agent_id:
        conditions.append(batch_calls.c.agent_id.in_(query.agent_id))
    if query.name:
        conditions.append(sa.or_(*(batch_calls.c.name.icontains(part, autoescape=True) for part in query.name)))
    if query.created_after is not None:
        conditions.append(batch_calls.c.created_at > query.created_after)
    total = tx.execute(sa.select(sa.func.count()).select_from(batch_calls).where(*conditions)).scalar_one()
    # Of two made in the same millisecond the order must be the same on every page.
    order: list[sa.ColumnElement[Any]] = [column, batch_calls.c.created_at, batch_calls.c.batch_call_id]
    if query.sort_order == "descending":
        order = [part.desc() for part in order]
    page = sa.select(batch_calls).where(*conditions).order_by(*order)
    rows = tx.execute(page.limit(query.limit).offset(query.page * query.limit)).mappings()
    return [BatchCallRecord.of(row) for row in rows], total


def find_tasks(
    tx: sa.Connection, batch_call_id: str, *, statuses: Sequence[str], to_number: str | None, page: int, limit: int
) -> tuple[list[TaskRecord], int]:
    """A page of tasks in the order of the list, and how many there are in all."""
    conditions = [tasks.c.batch_call_id == batch_call_id]
    if statuses:
        conditions.append(tasks.c.status.in_(statuses))
    if to_number is not None:
        conditions.append(tasks.c.to_number == to_number)
    total = tx.execute(sa.select(sa.func.count()).select_from(tasks).where(*conditions)).scalar_one()
    rows = tx.execute(
        sa.select(*_TASK_COLUMNS).where(*conditions).order_by(tasks.c.position).limit(limit).offset(page * limit)
    ).mappings()
    return [TaskRecord(**(dict(row) | {"status": TaskStatus(row["status"])})) for row in rows], total


def move(tx: sa.Connection, before: BatchCallRecord, action: Action, now: int) -> BatchCallRecord:
    """Execute, pause, resume or cancel: the new state, and for `cancel` the end of what was not dialled.

    Raises:
        IllegalTransition: the state does not allow it.
    """
    state = rules.transition(action, before.status)
    if action is Action.RESUME and before.started_at is None and (before.scheduled_at or 0) > now:
        # It was paused before its time; going on means waiting for that time, not dialling now.
        state = State.SCHEDULED
    if state is before.status:
        return before
    values: dict[str, Any] = {"status": state, "updated_at": now}
    if state is State.SENT and before.started_at is None:
        values["started_at"] = now
    if action is Action.CANCEL:
        values["completed_at"] = now
        waiting = (tasks.c.batch_call_id == before.batch_call_id) & (tasks.c.status == TaskStatus.PENDING)
        # Who was dialled already and waited for a redial keeps the outcome of the last dial.
        tx.execute(
            tasks.update()
            .where(waiting)
            .values(
                status=sa.func.coalesce(tasks.c.last_outcome, TaskStatus.CANCELLED),
                due_at=None,
                error_message=None,
                completed_at=now,
            )
        )
    tx.execute(batch_calls.update().where(batch_calls.c.batch_call_id == before.batch_call_id).values(values))
    return get(tx, before.organization_id, before.batch_call_id)


def retry(
    tx: sa.Connection,
    before: BatchCallRecord,
    *,
    task_ids: Sequence[str],
    statuses: Sequence[TaskStatus],
    now: int,
) -> tuple[BatchCallRecord, int]:
    """Make exactly these finished tasks due now, attempts kept; also how many they are.

    Raises:
        IllegalTransition: the batch call's state, or a task that is not finished.
        InvalidInput: a task id that is not of this batch call.
    """
    state = rules.transition(Action.RETRY, before.status)
    again = {"status": TaskStatus.PENDING, "due_at": now, "error_message": None, "completed_at": None}
    mine = tasks.c.batch_call_id == before.batch_call_id
    retried = 0
    for chunk in chunks(dict.fromkeys(task_ids), CHUNK):
        found = tx.execute(sa.select(tasks.c.task_id, tasks.c.status).where(mine, tasks.c.task_id.in_(chunk))).all()
        unknown = set(chunk) - {row.task_id for row in found}
        if unknown:
            raise InvalidInput(
                "task_ids: not all are tasks of this batch call. Nothing was changed.", sorted(unknown)[:20]
            )
        unfinished = [row.task_id for row in found if row.status in rules.UNFINISHED]
        if unfinished:
            raise IllegalTransition(
                f"Cannot retry tasks that are not finished: {', '.join(unfinished[:20])}. Nothing was changed."
            )
        retried += tx.execute(tasks.update().where(mine, tasks.c.task_id.in_(chunk)).values(again)).rowcount
    if statuses:
        retried += tx.execute(tasks.update().where(mine, tasks.c.status.in_(statuses)).values(again)).rowcount
    if retried:
        values = {"status": state, "updated_at": now, "completed_at": None}
        tx.execute(batch_calls.update().where(batch_calls.c.batch_call_id == before.batch_call_id).values(values))
    return get(tx, before.organization_id, before.batch_call_id), retried


def delete(tx: sa.Connection, before: BatchCallRecord) -> None:
    """Remove a batch call and its tasks; its attempts stay and count for the daily cap.

    Raises:
        IllegalTransition: it may still dial, or calls are in progress.
    """
    rules.transition(Action.DELETE, before.status)
    mine = tasks.c.batch_call_id == before.batch_call_id
    if tx.execute(sa.select(tasks.c.task_id).where(mine, tasks.c.status == TaskStatus.CALLING).limit(1)).first():
        raise IllegalTransition(
            f"Cannot delete a batch call with status {before.status} while calls are in progress. "
            "Nothing was changed; try again when they have ended."
        )
    tx.execute(batch_calls.delete().where(batch_calls.c.batch_call_id == before.batch_call_id))


def attempts_since(tx: sa.Connection, organization_id: str, since: int) -> int:
    """Dials that the organisation has placed since a moment."""
    query = sa.select(sa.func.count()).where(
        attempts.c.organization_id == organization_id, attempts.c.started_at >= since
    )
    return tx.execute(query).scalar_one()


def replace_do_not_call(tx: sa.Connection, numbers: Iterable[str], now: int) -> None:
    """Make these the numbers that are never dialled."""
    if tx.dialect.name == "postgresql":
        # Two processes may load it at once; readers go on with the list as it was.
        tx.execute(sa.text("LOCK TABLE do_not_call IN SHARE ROW EXCLUSIVE MODE"))
    tx.execute(do_not_call.delete())
    for chunk in chunks(dict.fromkeys(numbers), INSERTED_AT_ONCE):
        tx.execute(do_not_call.insert(), [{"to_number": number, "added_at": now} for number in chunk])


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)


def _number(text: str) -> int:
    """64 bits of a text, as PostgreSQL takes the name of an advisory lock."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], signed=True)
