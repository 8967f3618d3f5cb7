"""Erasing people from the dialer's database: one who is to be forgotten, and everybody of what was over long ago.

A row stays where something is counted, or somebody would be called twice without it: without name, variables, summary
and the vendor's id of the call, and with a stand-in for the number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp.dialer.carriers.base import SIMULATED
from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.storage import do_not_call, outbox
from batchcall_mcp.dialer.storage.store import CHUNK, INSERTED_AT_ONCE, Store, chunks
from batchcall_mcp.dialer.storage.tables import (
    NOT_DUE,
    REVISED,
    attempts,
    batch_calls,
    recorded_answers,
    tasks,
    webhook_outbox,
)
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.recipients.phone.spellings import FORGOTTEN, IN_A_TEXT, Spellings, stand_in

WAS_FORGOTTEN: Final = "the person was forgotten"
WAS_OLD: Final = "erased, because nobody has changed this draft for BATCHCALL_RETENTION_DAYS"
_OVER: Final = (State.COMPLETED, State.CANCELLED, State.FAILED)
_SHORTEST_NAME: Final = 3
_OF_THE_PERSON: Final[Mapping[str, Any]] = {
    "name": None,
    "dynamic_variables": None,
    "timezone": None,
    "not_before": None,
    "summary": None,
    "error_message": None,
}
"""What a task keeps of nobody. What was counted stays: state, attempts, duration, cost, and a choice of few words."""
_OF_THE_CALL: Final[Mapping[str, Any]] = {"error_message": None, "carrier_call_id": None}
_OF_DELETED: Final = f"{FORGOTTEN}deleted"
Change = Callable[[str], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the database holds of one number.

    `calling`: the batch calls in which that person is in a call, or about to be. `waiting`: those that would still have
    called them. `at_carriers`: the carriers' ids of real calls, by carrier. `mentioned`: rows of other people whose
    variables hold the number, by batch call.
    """

    task_ids: tuple[str, ...] = ()
    attempts: int = 0
    batch_call_ids: tuple[str, ...] = ()
    calling: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    at_carriers: Mapping[str, Sequence[str]]
    mentioned: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to erase."""
        return not self.task_ids and not self.attempts


def look(store: Store, who: Spellings) -> Found:
    """What `forget` would find."""
    with store.reading() as tx:
        found = _find(tx, who)
    return replace(found, mentioned=_mentioned(store, who))


def forget(store: Store, who: Spellings) -> Found:
    """Let nobody call this number any more, and erase what is kept of it, unless its person is in a call now.

    Who waited to be called is skipped; everybody else of their batch calls is called as before.
    """
    with store.writing() as tx:
        do_not_call.hold(tx)
        _overwrite(tx)
        now = store.now()
        do_not_call.forget(tx, who.number, who.is_it, now)
        _lock(tx, _find(tx, who).batch_call_ids)
        found = _find(tx, who)  # as it is, now that nothing changes any more
        if not found.calling:
            without = _without(who, _names(tx, found.task_ids))
            name = stand_in()
            _erase_tasks(
                tx, [(one, name) for one in found.task_ids], WAS_FORGOTTEN, now, lambda text: without(text) != text
            )
            mine = [(row.task_id, row.n) for row in _attempts(tx, who)]
            for task_id, n in mine:
                this = (attempts.c.task_id == task_id) & (attempts.c.n == n)
                tx.execute(attempts.update().where(this).values(to_number=name, **_OF_THE_CALL))
            _clean_batch_calls(tx, found.batch_call_ids, without)
            of_theirs = frozenset(found.batch_call_ids)
            _clean_messages(
                tx,
                lambda text, batch_call_id: without(text) if batch_call_id in of_theirs else who.without(text),
                dict.fromkeys(found.task_ids, name),
            )
    # Dials need not wait for this: nothing of it is changed.
    return replace(found, mentioned=_mentioned(store, who))


def erase_ended(store: Store, before: int) -> list[str]:
    """Erase the people of batch calls that were over at a time in milliseconds, and of drafts that nobody has changed
    since; gives their ids. A part of a list in each transaction.
    """
    with store.reading() as tx:
        old = list(tx.execute(sa.select(batch_calls.c.batch_call_id).where(_is_old(before))).scalars())
    erased = [one for one in old if _erase_old(store, one, before)]
    with store.writing() as tx:
        _overwrite(tx)
        gone = attempts.c.batch_call_id.not_in(sa.select(batch_calls.c.batch_call_id))
        still = (attempts.c.ended_at <= before) & attempts.c.to_number.not_like(f"{FORGOTTEN}%")
        tx.execute(attempts.update().where(gone, still).values(to_number=_OF_DELETED, **_OF_THE_CALL))
    return erased


def has_erased(store: Store) -> bool:
    """Whether there is a batch call whose people were erased because it was over for long."""
    with store.reading() as tx:
        erased = sa.select(batch_calls.c.batch_call_id).where(batch_calls.c.erased_at.is_not(None)).limit(1)
        return tx.scalar(erased) is not None


def ended_at(store: Store, batch_call_ids: Iterable[str]) -> dict[str, int | None]:
    """When those of these batch calls ended that the database has; of a draft, when it was last changed. None: it
    goes on.
    """
    found: dict[str, int | None] = {}
    with store.reading() as tx:
        for chunk in chunks(batch_call_ids, CHUNK):
            rows = sa.select(*batch_calls.c["batch_call_id", "status", "completed_at", "updated_at"])
            for row in tx.execute(rows.where(batch_calls.c.batch_call_id.in_(chunk))):
                over = row.completed_at or row.updated_at
                found[row.batch_call_id] = over if row.status in {*_OVER, State.DRAFT} else None
    return found


def _is_old(before: int) -> sa.ColumnElement[bool]:
    over = sa.func.coalesce(batch_calls.c.completed_at, batch_calls.c.updated_at) <= before
    untouched = batch_calls.c.updated_at <= before
    mine = batch_calls.c.status.in_(_OVER) & over | (batch_calls.c.status == State.DRAFT) & untouched
    # Who was added to a draft later is erased later.
    done = batch_calls.c.erased_at.is_not(None) & (batch_calls.c.erased_at > batch_calls.c.updated_at)
    calling = sa.exists().where(
        tasks.c.batch_call_id == batch_calls.c.batch_call_id, tasks.c.status == TaskStatus.CALLING
    )
    return mine & ~done & ~calling


def _erase_old(store: Store, batch_call_id: str, before: int) -> bool:
    """Whether all of its people are erased."""
    mine = tasks.c.batch_call_id == batch_call_id
    left = sa.select(tasks.c.task_id).where(mine, tasks.c.to_number.not_like(f"{FORGOTTEN}%")).limit(INSERTED_AT_ONCE)
    while True:
        with store.writing() as tx:
            _overwrite(tx)
            _lock(tx, [batch_call_id])
            it = batch_calls.c.batch_call_id == batch_call_id
            if tx.scalar(sa.select(batch_calls.c.batch_call_id).where(it, _is_old(before))) is None:
                return False  # somebody has changed it meanwhile
            ids = list(tx.execute(left).scalars())
            now = store.now()
            if ids:
                _erase_tasks(tx, [(one, stand_in()) for one in ids], WAS_OLD, now, lambda _: False)
                continue
            its = sa.select(tasks.c.to_number).where(tasks.c.task_id == attempts.c.task_id).scalar_subquery()
            named = sa.func.coalesce(its, _OF_DELETED)
            made = attempts.c.batch_call_id == batch_call_id
            tx.execute(attempts.update().where(made).values(to_number=named, **_OF_THE_CALL))
            rows = tx.execute(sa.select(tasks.c.task_id, tasks.c.to_number).where(mine))
            _clean_messages(tx, lambda text, _: text, {row.task_id: row.to_number for row in rows}, batch_call_id)
            changed = batch_calls.c.updated_at
            at = sa.case((changed >= now, changed + 1), else_=sa.literal(now, sa.BigInteger))
            tx.execute(batch_calls.update().where(it).values(erased_at=at, **REVISED))
            return True


def _overwrite(tx: sa.Connection) -> None:
    if tx.dialect.name == "sqlite":
        tx.exec_driver_sql("PRAGMA secure_delete = ON")


def _lock(tx: sa.Connection, batch_call_ids: Iterable[str]) -> None:
    """Hold their state still, in the order in which everybody locks them."""
    for chunk in chunks(sorted(batch_call_ids), CHUNK):
        held = sa.select(batch_calls.c.batch_call_id).where(batch_calls.c.batch_call_id.in_(chunk))
        tx.execute(held.order_by(batch_calls.c.batch_call_id).with_for_update()).all()


def _find(tx: sa.Connection, who: Spellings) -> Found:
    alike = tasks.c.to_number.endswith(who.last_digits, autoescape=True)
    columns = tasks.c["task_id", "batch_call_id", "to_number", "status"]
    mine = [row for row in tx.execute(sa.select(*columns).where(alike)) if who.is_it(row.to_number)]
    made = _attempts(tx, who)
    states = {
        row.batch_call_id: row.status
        for chunk in chunks({row.batch_call_id for row in mine}, CHUNK)
        for row in tx.execute(
            sa.select(batch_calls.c.batch_call_id, batch_calls.c.status).where(batch_calls.c.batch_call_id.in_(chunk))
        )
    }
    calling = {row.batch_call_id for row in mine if row.status == TaskStatus.CALLING}
    waiting = {row.batch_call_id for row in mine if row.status == TaskStatus.PENDING}
    at_carriers: dict[str, list[str]] = {}
    for row in made:
        if row.carrier != SIMULATED and row.carrier_call_id is not None:
            at_carriers.setdefault(row.carrier, []).append(row.carrier_call_id)
    return Found(
        task_ids=tuple(row.task_id for row in mine),
        attempts=len(made),
        batch_call_ids=tuple(sorted(states)),
        calling=tuple(sorted(calling | {row.batch_call_id for row in made if row.outcome is None})),
        waiting=tuple(sorted(one for one in waiting if states.get(one) not in _OVER)),
        at_carriers=at_carriers,
    )


def _attempts(tx: sa.Connection, who: Spellings) -> list[sa.Row[Any]]:
    alike = attempts.c.to_number.endswith(who.last_digits, autoescape=True)
    columns = attempts.c["task_id", "n", "batch_call_id", "to_number", "outcome", "carrier", "carrier_call_id"]
    return [row for row in tx.execute(sa.select(*columns).where(alike)) if who.is_it(row.to_number)]


def _mentioned(store: Store, who: Spellings) -> dict[str, int]:
    """Of other people's variables: they belong to those, and are shown and not changed."""
    found: dict[str, int] = {}
    columns = tasks.c["batch_call_id", "to_number", "dynamic_variables"]
    rows = sa.select(*columns).where(tasks.c.dynamic_variables.is_not(None)).execution_options(yield_per=CHUNK)
    with store.reading() as tx:
        for row in tx.execute(rows):
            if not who.is_it(row.to_number) and who.within(_unescaped(row.dynamic_variables)):
                found[row.batch_call_id] = found.get(row.batch_call_id, 0) + 1
    return found


def _unescaped(variables: str) -> str:
    """JSON as people would write it: digits of other scripts may be stored as escapes."""
    return json.dumps(json.loads(variables), ensure_ascii=False)


def _names(tx: sa.Connection, task_ids: Sequence[str]) -> set[str]:
    return {
        name.strip()
        for chunk in chunks(task_ids, CHUNK)
        for name in tx.execute(sa.select(tasks.c.name).where(tasks.c.task_id.in_(chunk))).scalars()
        if name is not None and len(name.strip()) >= _SHORTEST_NAME
    }


def _without(who: Spellings, names: Iterable[str]) -> Change:
    """What takes the number and the names out of a text that is about a batch call."""
    alternatives = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    named = re.compile(rf"(?<!\w)(?:{alternatives})(?!\w)", re.IGNORECASE) if alternatives else None

    def change(text: str) -> str:
        text = who.without(text)
        return text if named is None else named.sub(IN_A_TEXT, text)

    return change


def _erase_tasks(
    tx: sa.Connection, named: Sequence[tuple[str, str]], reason: str, now: int, is_theirs: Callable[[str], bool]
) -> None:
    """Erase these tasks, each with its stand-in; those that wait end, for the reason. Their batch calls are locked."""
    waiting: list[str] = []
    chosen: list[str] = []
    for chunk in chunks((task_id for task_id, _ in named), CHUNK):
        columns = tasks.c["task_id", "status", "choice"]
        for row in tx.execute(sa.select(*columns).where(tasks.c.task_id.in_(chunk))):
            waiting += [row.task_id] if row.status == TaskStatus.PENDING else []
            chosen += [row.task_id] if row.choice is not None and is_theirs(row.choice) else []
    if named:
        tx.execute(_ERASED, [{"id": task_id, "number": number} for task_id, number in named])
    ended = {
        "status": sa.func.coalesce(tasks.c.last_outcome, TaskStatus.SKIPPED),
        "error_message": reason,
        "completed_at": now,
        **NOT_DUE,
    }
    for chunk in chunks(waiting, CHUNK):
        tx.execute(tasks.update().where(tasks.c.task_id.in_(chunk)).values(ended))
        outbox.task_events(tx, chunk, now)
    for chunk in chunks(chosen, CHUNK):
        tx.execute(tasks.update().where(tasks.c.task_id.in_(chunk)).values(choice=None))


_ERASED: Final = (
    tasks.update()
    .where(tasks.c.task_id == sa.bindparam("id"))
    .values(to_number=sa.bindparam("number"), **_OF_THE_PERSON)
)


def _clean_batch_calls(tx: sa.Connection, batch_call_ids: Sequence[str], change: Change) -> None:
    """Their lists are other ones now; and no name of a batch call, nor a reason, names the person."""
    for chunk in chunks(batch_call_ids, CHUNK):
        columns = batch_calls.c["batch_call_id", "name", "status_reason_text"]
        for row in tx.execute(sa.select(*columns).where(batch_calls.c.batch_call_id.in_(chunk))).all():
            texts = {"name": row.name, "status_reason_text": row.status_reason_text}
            changed = {column: change(text) for column, text in texts.items() if text is not None}
            it = batch_calls.c.batch_call_id == row.batch_call_id
            tx.execute(batch_calls.update().where(it).values({**changed, **REVISED}))


def _clean_messages(
    tx: sa.Connection,
    change: Callable[[str, str | None], str],
    stand_ins: Mapping[str, str],
    only: str | None = None,
) -> None:
    """What webhooks are sent, and the answers that are kept for requests that come again.

    Args:
        tx: writes.
        change: gives a text in a message about a batch call as it may stay.
        stand_ins: for the numbers of these tasks.
        only: the batch call whose messages are meant; None: all.
    """
    payload = webhook_outbox.c.payload
    wanted = sa.true() if only is None else payload.contains(only, autoescape=True)
    for message in tx.execute(sa.select(webhook_outbox.c.message_id, payload).where(wanted)).all():
        body = json.loads(message.payload)
        data = body.get("data") or {}
        if data.get("task_id") in stand_ins:
            data["to_number"] = stand_ins[data["task_id"]]
        cleaned = json.dumps(_in_texts(body, _about(change, data)), separators=(",", ":"))
        if cleaned != message.payload:
            it = webhook_outbox.c.message_id == message.message_id
            tx.execute(webhook_outbox.update().where(it).values(payload=cleaned))
    keys = recorded_answers.c["organization_id", "idempotency_key", "answer"]
    for row in tx.execute(sa.select(*keys)).all():
        data = row.answer.get("data") or {}
        if only is not None and data.get("batch_call_id") != only:
            continue
        answer = _in_texts(row.answer, _about(change, data))
        if only is not None and "already_there" in data:
            answer["data"]["already_there"] = []
        if answer != row.answer:
            it = (recorded_answers.c.organization_id == row.organization_id) & (
                recorded_answers.c.idempotency_key == row.idempotency_key
            )
            tx.execute(recorded_answers.update().where(it).values(answer=answer))


def _about(change: Callable[[str, str | None], str], data: Mapping[str, Any]) -> Change:
    batch_call_id = data.get("batch_call_id")
    return lambda text: change(text, batch_call_id)


def _in_texts(value: Any, change: Change) -> Any:
    """The same JSON, each text of it changed."""
    match value:
        case str():
            return change(value)
        case list():
            return [_in_texts(one, change) for one in value]
        case dict():
            return {name: _in_texts(one, change) for name, one in value.items()}
    return value
