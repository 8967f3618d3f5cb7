"""What requests, and the dialer itself, change in its database, each inside the transaction that is given."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp import database
from batchcall_mcp.clock import from_ms
from batchcall_mcp.dialer.domain import rules
from batchcall_mcp.dialer.domain.records import BatchCallRecord, NewTask, NewTasks, ReasonCode
from batchcall_mcp.dialer.domain.rules import Action, State
from batchcall_mcp.dialer.storage import outbox
from batchcall_mcp.dialer.storage.queries import get
from batchcall_mcp.dialer.storage.store import CHUNK, INSERTED_AT_ONCE, chunks, report
from batchcall_mcp.dialer.storage.tables import NOT_DUE, REVISED, UNEXPLAINED, batch_calls, tasks
from batchcall_mcp.errors import IllegalTransition, InvalidInput
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.notifications.events import Notice
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.recipients.phone.spellings import FORGOTTEN, is_forgotten

_INSERTED: Final = (
    "task_id, batch_call_id, position, to_number, name, dynamic_variables, max_retries, timezone, not_before, status, "
    "attempts, answered, due_at, held_by, created_at"
)
"""The columns of a new task."""
LIVE: Final = frozenset({State.SCHEDULED, State.SENT})
"""What dials, or will when its time comes."""


def create(
    tx: sa.Connection, organization_id: str, columns: Mapping[str, Any], new_tasks: NewTasks, now: int
) -> BatchCallRecord:
    """Store a batch call and its tasks. `columns` are those of `batch_calls` that the caller decides.

    Raises:
        InvalidInput: a test call of more than one person.
    """
    _check_test(columns.get("test_of"), len(new_tasks))
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
            launched_at=now if columns["status"] in LIVE else None,
        )
    )
    _insert_tasks(tx, batch_call_id, new_tasks, 0, now)
    record = get(tx, organization_id, batch_call_id)
    _report(tx, None, record, now)
    return record


def update(
    tx: sa.Connection, before: BatchCallRecord, columns: Mapping[str, Any], new_tasks: NewTasks | None, now: int
) -> BatchCallRecord:
    """Change the columns given and, if given, replace the whole task list."""
    values = dict(columns)
    total = before.total_task_count if new_tasks is None else len(new_tasks)
    _check_test(values.get("test_of", before.test_of), total)
    if new_tasks is not None:
        tx.execute(tasks.delete().where(tasks.c.batch_call_id == before.batch_call_id))
        _insert_tasks(tx, before.batch_call_id, new_tasks, 0, now)
        values["total_task_count"] = len(new_tasks)
    elif "from_number" in values:
        calls_itself = (tasks.c.batch_call_id == before.batch_call_id) & (tasks.c.to_number == values["from_number"])
        if tx.execute(sa.select(tasks.c.task_id).where(calls_itself).limit(1)).first():
            raise InvalidInput("from_number: is also the to_number of a task. Nothing was changed.")
    values |= _launched(before, values.get("status"), now)
    after = _change(tx, before, values, now)
    if (after.status, after.scheduled_at) != (before.status, before.scheduled_at):
        _report(tx, before, after, now)
    return after


def _check_test(test_of: str | None, total: int) -> None:
    """A list must not pass as a test, which rings as often as somebody asks for it."""
    if test_of is not None and total != 1:
        raise InvalidInput(f"test_of: a test call has one task, this one {total}. Nothing was changed.")


def _launched(before: BatchCallRecord, state: State | None, now: int) -> dict[str, Any]:
    """What a write sets too that lets it dial, now or at its time."""
    started = {"started_at": now} if state is State.SENT and before.started_at is None else {}
    return {**started, "launched_at": now} if state in LIVE else {}


def _change(tx: sa.Connection, before: BatchCallRecord, values: Mapping[str, Any], now: int) -> BatchCallRecord:
    mine = batch_calls.c.batch_call_id == before.batch_call_id
    tx.execute(batch_calls.update().where(mine).values({**values, "updated_at": now, **REVISED}))
    return get(tx, before.organization_id, before.batch_call_id)


def _report(tx: sa.Connection, before: BatchCallRecord | None, after: BatchCallRecord, now: int) -> None:
    """Write the webhook message of a change of state."""
    event = _EVENTS.get(after.status)
    if before is not None and before.status is State.PAUSED and after.status in LIVE:
        event = "batch_call.resumed"
    if event is not None:
        outbox.batch_call_events(tx, [(after.batch_call_id, event)], now)


_EVENTS: Final[Mapping[State, outbox.Event]] = {
    State.SCHEDULED: "batch_call.scheduled",
    State.SENT: "batch_call.started",
    State.PAUSED: "batch_call.paused",
    State.CANCELLED: "batch_call.cancelled",
}


def skip(tx: sa.Connection, before: BatchCallRecord, task_ids: Mapping[str, Sequence[str]], now: int) -> None:
    """End waiting tasks before they are dialled, each with its reason.

    Raises:
        InvalidInput: a task id that is not a waiting one of this batch call.
    """
    waiting = (tasks.c.batch_call_id == before.batch_call_id) & (tasks.c.status == TaskStatus.PENDING)
    for reason, ids in task_ids.items():
        for chunk in chunks(dict.fromkeys(ids), CHUNK):
            of_it = waiting & tasks.c.task_id.in_(chunk)
            ended = {"status": TaskStatus.SKIPPED, "error_message": reason, "completed_at": now, **NOT_DUE}
            if tx.execute(tasks.update().where(of_it).values(ended)).rowcount != len(chunk):
                raise InvalidInput("skip_tasks: not all are waiting tasks of this batch call. Nothing was changed.")
            outbox.task_events(tx, chunk, now)


def append(
    tx: sa.Connection, before: BatchCallRecord, new_tasks: NewTasks, now: int
) -> tuple[BatchCallRecord, list[str]]:
    """Put the tasks of people whom it does not have after the last one; where it is running, they are due now.

    Whoever is on its list stays as they are, whatever became of their call: so the same addition twice calls nobody
    twice. `before` is locked, so nobody else adds to it meanwhile.

    Returns:
        The batch call, and the numbers that were there already, as they were given.

    Raises:
        IllegalTransition: it is over.
    """
    rules.transition(Action.APPEND, before.status)
    _check_test(before.test_of, before.total_task_count + len(new_tasks))
    on_it = sa.select(tasks.c.to_number).where(tasks.c.batch_call_id == before.batch_call_id)
    there = {comparable(number) for number in tx.execute(on_it).scalars()}
    repeated: list[str] = []

    def new() -> Iterator[NewTask]:
        for task in new_tasks:
            number = comparable(task.to_number)
            if number in there:
                repeated.append(task.to_number)
            else:
                there.add(number)
                yield task

    _insert_tasks(tx, before.batch_call_id, new(), before.total_task_count, now)
    added = len(new_tasks) - len(repeated)
    if not added:
        return before, repeated
    return _change(tx, before, {"total_task_count": before.total_task_count + added}, now), repeated


def _insert_tasks(
    tx: sa.Connection, batch_call_id: str, new_tasks: Iterable[NewTask], first_position: int, now: int
) -> None:
    rows = (
        (
            f"task_{secrets.token_hex(16)}",
            batch_call_id,
            position,
            task.to_number,
            task.name,
            task.dynamic_variables,
            task.max_retries,
            task.timezone,
            task.not_before,
            TaskStatus.PENDING.value,
            0,
            False,
            max(now, task.not_before or now),
            "not_before" if task.not_before is not None and task.not_before > now else None,
            now,
        )
        for position, task in enumerate(new_tasks, first_position)
    )
    if tx.dialect.name == "postgresql":
        database.copy_rows(tx, f"tasks ({_INSERTED})", rows)
        return
    marks = ", ".join("?" * len(_INSERTED.split()))
    insert = f"INSERT INTO tasks ({_INSERTED}) VALUES ({marks})"  # noqa: S608 - names of columns
    for chunk in chunks(rows, INSERTED_AT_ONCE):
        tx.exec_driver_sql(insert, chunk)


def move(
    tx: sa.Connection, before: BatchCallRecord, action: Action, now: int, first: int | None = None
) -> BatchCallRecord:
    """Execute, pause, resume or cancel: the new state, and for `cancel` the end of what was not dialled.

    `first`: an execute calls so many people, and pauses. A resume calls everybody else.

    Raises:
        IllegalTransition: the state does not allow it.
        InvalidInput: it is to start and has expired.
    """
    state = rules.transition(action, before.status)
    dates: dict[str, Any] = {}
    if action is Action.EXECUTE:
        dates = _without_trigger_date(before)
        # A resumed one may have expired; its tasks then end so. What has not begun can still be changed.
        expires_at = dates.get("expires_at", before.expires_at)
        rules.check_expiry(state, scheduled_at=None, expires_at=expires_at, now=now)
    if action is Action.RESUME and before.started_at is None and (before.scheduled_at or 0) > now:
        # It was paused before its time; going on means waiting for that time, not dialling now.
        state = State.SCHEDULED
    if state is before.status:
        return before
    values: dict[str, Any] = {"status": state, **UNEXPLAINED, **_launched(before, state, now), **dates}
    if action in {Action.EXECUTE, Action.RESUME}:
        values["first"] = first
    if action is Action.CANCEL:
        values["completed_at"] = now
        waiting = (tasks.c.batch_call_id == before.batch_call_id) & (tasks.c.status == TaskStatus.PENDING)
        # Who was dialled already and waited for a redial keeps the outcome of the last dial.
        ended = tx.execute(
            tasks.update()
            .where(waiting)
            .values(
                status=sa.func.coalesce(tasks.c.last_outcome, TaskStatus.CANCELLED),
                error_message=None,
                completed_at=now,
                **NOT_DUE,
            )
            .returning(tasks.c.task_id, tasks.c.last_outcome)
        )
        # Of who was never dialled the batch call's own message tells: a stop does not wait for 100,000 others.
        outbox.task_events(tx, [row.task_id for row in ended if row.last_outcome is not None], now)
    after = _change(tx, before, values, now)
    _report(tx, before, after, now)
    return after


def _without_trigger_date(before: BatchCallRecord) -> dict[str, Any]:
    """What else changes where it is to dial now instead of on its date."""
    if before.trigger_date is None:
        return {}
    end = {"expires_date": None, "expires_at": None} if before.expires_date == before.trigger_date else {}
    return {"trigger_date": None, **end}


def retry(
    tx: sa.Connection, before: BatchCallRecord, *, task_ids: Sequence[str], statuses: Sequence[TaskStatus], now: int
) -> tuple[BatchCallRecord, int]:
    """Make exactly these finished tasks due now, attempts kept; also how many they are.

    Raises:
        IllegalTransition: the batch call's state, a task that is not finished, or one of a person who was forgotten.
        InvalidInput: a task id that is not of this batch call, or the batch call has expired.
    """
    state = rules.transition(Action.RETRY, before.status)
    rules.check_expiry(state, scheduled_at=None, expires_at=before.expires_at, now=now)
    again = {"status": TaskStatus.PENDING, **NOT_DUE, "due_at": now, "error_message": None, "completed_at": None}
    mine = tasks.c.batch_call_id == before.batch_call_id
    retried = 0
    columns = tasks.c["task_id", "status", "to_number"]
    for chunk in chunks(dict.fromkeys(task_ids), CHUNK):
        found = tx.execute(sa.select(*columns).where(mine, tasks.c.task_id.in_(chunk))).all()
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
        forgotten = [row.task_id for row in found if is_forgotten(row.to_number)]
        if forgotten:
            raise IllegalTransition(
                f"Cannot retry tasks of people who were forgotten: {', '.join(forgotten[:20])}. Nothing was changed."
            )
        retried += tx.execute(tasks.update().where(mine, tasks.c.task_id.in_(chunk)).values(again)).rowcount
    if statuses:
        known = tasks.c.status.in_(statuses) & tasks.c.to_number.not_like(f"{FORGOTTEN}%")
        retried += tx.execute(tasks.update().where(mine, known).values(again)).rowcount
    if not retried:
        return before, 0
    # Of one that dials, others wait too, of whom nobody has said anything.
    launched = {} if before.status is State.SENT else {"launched_at": now, "first": None}
    after = _change(tx, before, {"status": state, "completed_at": None, **launched, **UNEXPLAINED}, now)
    if after.status is not before.status:
        _report(tx, before, after, now)
    return after, retried


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


def pause(tx: sa.Connection, batch_call_ids: Iterable[str], code: ReasonCode, text: str, now: int) -> list[str]:
    """Pause those of these batch calls, of any organisation, that are live; gives their ids. Nobody asked for it.

    A confirmed resume goes on. `text` says to people what happened, and what to do.
    """
    values = {"status": State.PAUSED, "status_reason": code, "status_reason_text": text, "updated_at": now}
    paused: list[str] = []
    # In the order in which everybody locks them, so that two transactions never wait for each other.
    for chunk in chunks(sorted(set(batch_call_ids)), CHUNK):
        live = batch_calls.c.batch_call_id.in_(chunk) & batch_calls.c.status.in_(sorted(LIVE))
        held = sa.select(batch_calls.c.batch_call_id).where(live).order_by(batch_calls.c.batch_call_id)
        found = list(tx.execute(held.with_for_update()).scalars())
        if found:
            of_them = batch_calls.c.batch_call_id.in_(found)
            tx.execute(batch_calls.update().where(of_them).values({**values, **REVISED}))
            outbox.batch_call_events(tx, [(key, "batch_call.paused") for key in found], now)
            report(tx, [_notice(key, code, now) for key in found])
            paused += found
    return paused


def _notice(batch_call_id: str, code: ReasonCode, now: int) -> Notice:
    """What the operator reads of one that dials no more although nobody asked for that."""
    said = Notice(event="stopped", batch_call_id=batch_call_id, backend="dialer", status=State.PAUSED, at=from_ms(now))
    return replace(said, event="late") if code == "late" else replace(said, reason=code)
