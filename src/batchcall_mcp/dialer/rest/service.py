"""What can be asked of the dialer, one function each: read the body, run the transaction, give the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import IO, Any, Final

import sqlalchemy as sa

from batchcall_mcp.call_dates import ANY_DATE
from batchcall_mcp.calling_hours import RECIPIENT
from batchcall_mcp.clock import from_ms, to_ms
from batchcall_mcp.dialer.carriers.base import Carrier
from batchcall_mcp.dialer.domain import dates, rules
from batchcall_mcp.dialer.domain.dates import Person
from batchcall_mcp.dialer.domain.records import BatchCallRecord, NewTasks, TaskCounts, TaskFilter, dates_of, window_of
from batchcall_mcp.dialer.domain.rules import Action, State
from batchcall_mcp.dialer.rest import csv_export
from batchcall_mcp.dialer.rest.account import facts
from batchcall_mcp.dialer.rest.account.placing import NO_ACCOUNT, AccountRead, Header, Placing
from batchcall_mcp.dialer.rest.messages import mapping, request_models
from batchcall_mcp.dialer.rest.messages.preconditions import IfMatch
from batchcall_mcp.dialer.rest.messages.response_models import MOST_NUMBERS
from batchcall_mcp.dialer.rest.messages.streaming_json import BodyReader, ReadBody
from batchcall_mcp.dialer.storage import commands, queries, stops
from batchcall_mcp.dialer.storage.queries import BatchCallQuery, PlacedCall
from batchcall_mcp.dialer.storage.store import Store, WriteRequest
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import CallingWindow, TaskStatus

DEFAULT_CONCURRENCY: Final = 10
_DONE: Final = {
    Action.EXECUTE: "Batch call execution started",
    Action.PAUSE: "Batch call paused",
    Action.RESUME: "Batch call resumed",
    Action.CANCEL: "Batch call cancelled",
}
_LAUNCHES: Final = {
    State.DRAFT: Action.DRAFT,
    State.SCHEDULED: Action.SCHEDULE,
    State.SENT: Action.EXECUTE,
}
_DECIDE_DATES: Final = frozenset({"status", "trigger_date", "expires_date", "expires_at", "window", "timezone"})
"""With the list, what decides from when to when people are called."""
_ONE_PLACE: Final = (Person(0, "", None, None),)
"""Where a window has one clock, it does not matter where people are."""
_DIALLING: Final = frozenset({Action.EXECUTE, Action.RESUME})


@dataclass(frozen=True, slots=True)
class Answer:
    """A message and data for the envelope; `replayed` says that an Idempotency-Key gave a recorded one.

    `etag` is the batch call's as it is in `data`.
    """

    message: str
    data: Mapping[str, Any] | None
    replayed: bool = False
    etag: str | None = None

    @classmethod
    def recorded(cls, answer: Mapping[str, Any], *, replayed: bool = False) -> Answer:
        """As a write records it; what an older version recorded has no tag."""
        return cls(answer["message"], answer["data"], replayed, answer.get("etag"))


_OVER = frozenset({State.COMPLETED, State.CANCELLED, State.FAILED})


@dataclass(frozen=True)
class Service:
    """The dialer's operations. All block and run in worker threads.

    `written` is called after every write, so the engine looks for work.
    """

    open_store: Callable[[], Store]
    placing: Placing
    default_window: CallingWindow
    daily_cap: int
    min_gap: timedelta
    written: Callable[[], None]

    @property
    def carrier(self) -> Carrier:
        return self.placing.carrier

    def create(self, write: WriteRequest, body: IO[bytes], account: AccountRead = NO_ACCOUNT) -> Answer:
        """Store a new batch call; a draft unless it says when to dial."""
        with BodyReader() as reader:
            read = reader.read(request_models.BatchCallBody, body)
            refusal = self._refusal(write, account, read)

            def effect(tx: sa.Connection) -> Mapping[str, Any]:
                columns = self._whole(read.asked) | {"carrier": self.carrier.name}
                _raise(refusal)
                mapping.check_times(columns, None, self.open_store().clock())
                self._check_stop(tx, launches=columns["status"] is not State.DRAFT)
                tasks = read.tasks(read.asked.from_number)
                columns |= self._settled(tx, columns, None, tasks)
                record = commands.create(tx, write.organization_id, columns, tasks, self._now())
                return self._answer(tx, "Batch call created successfully", record)

            return self._run(write, effect)

    def replace(
        self,
        write: WriteRequest,
        batch_call_id: str,
        body: IO[bytes],
        if_match: IfMatch | None,
        account: AccountRead = NO_ACCOUNT,
    ) -> Answer:
        """Replace the whole batch call, its task list too; only before it has started."""
        with BodyReader() as reader:
            read = reader.read(request_models.BatchCallBody, body)
            refusal = self._refusal(write, account, read)

            def effect(tx: sa.Connection) -> Mapping[str, Any]:
                columns = self._whole(read.asked)
                self._check_stop(tx, launches=columns["status"] is not State.DRAFT)
                before = _before(tx, write, batch_call_id, if_match)
                self.placing.check_own(before)
                _raise(refusal)
                mapping.check_times(columns, before, self.open_store().clock())
                rules.transition(Action.EDIT, before.status)
                rules.transition(_LAUNCHES[columns["status"]], before.status)
                tasks = read.tasks(read.asked.from_number)
                columns = mapping.filled(columns)
                columns |= self._settled(tx, columns, before, tasks)
                record = commands.update(tx, before, columns, tasks, self._now())
                return self._answer(tx, "Batch call updated successfully", record)

            return self._run(write, effect)

    def patch(
        self,
        write: WriteRequest,
        batch_call_id: str,
        body: IO[bytes],
        if_match: IfMatch | None,
        account: AccountRead = NO_ACCOUNT,
    ) -> Answer:
        """Change what is given. The name may change in any state, everything else only before the start."""
        with BodyReader() as reader:
            read = reader.read(request_models.BatchCallPatch, body)
            asked = read.asked
            columns = mapping.columns(asked, default_window=None, default_concurrency=None)
            launches = mapping.launches(asked)
            refusal = None
            if launches or read.task_count or asked.from_number or asked.agent_id:
                refusal = self._refusal_of_stored(write, batch_call_id, account, asked, read)

            def effect(tx: sa.Connection) -> Mapping[str, Any]:
                self._check_stop(tx, launches=launches)
                before = _before(tx, write, batch_call_id, if_match)
                _raise(refusal)
                launch, times = mapping.launch_columns(asked, before)
                mapping.check_times(times, before, self.open_store().clock())
                changes = columns | times
                if read.task_count or asked.skip_tasks or changes.keys() - {"name"}:
                    if not _only_stops(asked):
                        self.placing.check_own(before)
                    rules.transition(Action.EDIT, before.status)
                if launch is not None:
                    rules.transition(_LAUNCHES[launch.state], before.status)
                tasks = read.tasks(asked.from_number or before.from_number) if read.task_count else None
                if tasks is not None or changes.keys() & _DECIDE_DATES:
                    changes |= self._settled(tx, changes, before, tasks, self._put_off(tx, before))
                if times:
                    self._check_expiry(changes, before)
                if asked.skip_tasks:
                    commands.skip(tx, before, asked.skip_tasks, self._now())
                if tasks or changes or asked.skip_tasks:
                    before = commands.update(tx, before, changes, tasks, self._now())
                return self._answer(tx, "Batch call updated successfully", before)

            return self._run(write, effect)

    def append(
        self,
        write: WriteRequest,
        batch_call_id: str,
        body: IO[bytes],
        if_match: IfMatch | None,
        account: AccountRead = NO_ACCOUNT,
    ) -> Answer:
        """Add the people whom it does not have after the last one, as long as it is not over."""
        with BodyReader() as reader:
            read = reader.read(request_models.AppendBody, body)
            refusal = self._refusal_of_stored(write, batch_call_id, account, None, read)

            def effect(tx: sa.Connection) -> Mapping[str, Any]:
                stops.share(tx)
                before = _before(tx, write, batch_call_id, if_match)
                self.placing.check_own(before)
                _raise(refusal)
                self._check_stop(tx, launches=before.status is not State.DRAFT)
                tasks, put_off = read.tasks(before.from_number), self._put_off(tx, before)
                record, there = commands.append(tx, before, tasks, self._now())
                added = len(tasks) - len(there)
                if added:  # they may be where it begins earlier, or ends later
                    times = self._settled(tx, {}, record, None, put_off)
                    record = commands.update(tx, record, times, None, self._now()) if times else record
                extra = {
                    "appended_count": added,
                    "already_there_count": len(there),
                    "already_there": there[:MOST_NUMBERS],
                }
                message = "Tasks added successfully" if added else "Everybody is there already"
                return self._answer(tx, message, record, extra)

            return self._run(write, effect)

    def move(
        self,
        write: WriteRequest,
        batch_call_id: str,
        action: Action,
        if_match: IfMatch | None = None,
        body: bytes = b"",
        account: AccountRead = NO_ACCOUNT,
    ) -> Answer:
        """Execute, pause, resume or cancel. The two that stop calls have no condition: a stop is never held up.

        `body`: of an execute, which may have none.
        """
        asked = mapping.parse(request_models.ExecuteBody, body or b"{}")
        refusal = None
        if action in _DIALLING:
            refusal = self._refusal_of_stored(write, batch_call_id, account)

        def effect(tx: sa.Connection) -> Mapping[str, Any]:
            self._check_stop(tx, launches=action in _DIALLING)
            before = _before(tx, write, batch_call_id, if_match)
            if action in _DIALLING:
                self.placing.check_own(before)
                _raise(refusal)
            record = commands.move(tx, before, action, self._now(), asked.first)
            extra = {"execution_started_at": mapping.iso(record.started_at)} if action is Action.EXECUTE else {}
            return self._answer(tx, _DONE[action], record, extra)

        return self._run(write, effect, stops=action in {Action.PAUSE, Action.CANCEL})

    def retry(
        self,
        write: WriteRequest,
        batch_call_id: str,
        body: bytes,
        if_match: IfMatch | None,
        account: AccountRead = NO_ACCOUNT,
    ) -> Answer:
        """Dial exactly the named finished tasks again, in place."""
        asked = mapping.parse(request_models.RetryBody, body)
        refusal = self._refusal_of_stored(write, batch_call_id, account)

        def effect(tx: sa.Connection) -> Mapping[str, Any]:
            self._check_stop(tx, launches=True)
            before = _before(tx, write, batch_call_id, if_match)
            self.placing.check_own(before)
            _raise(refusal)
            record, retried = commands.retry(
                tx,
                before,
                task_ids=asked.task_ids or (),
                statuses=[TaskStatus(status) for status in asked.task_status or ()],
                now=self._now(),
            )
            message = f"{retried} tasks will be dialled again" if retried else "No task has one of these statuses"
            return self._answer(tx, message, record, {"retried_count": retried})

        return self._run(write, effect)

    def delete(self, write: WriteRequest, batch_call_id: str, if_match: IfMatch | None) -> Answer:
        """Remove it for good."""

        def effect(tx: sa.Connection) -> Mapping[str, Any]:
            commands.delete(tx, _before(tx, write, batch_call_id, if_match))
            return {"message": "Batch call deleted successfully", "data": None}

        return self._run(write, effect)

    def get(self, organization_id: str, batch_call_id: str) -> Answer:
        """One batch call, and who of its tasks would not be dialled now."""
        opened = self.open_store()
        with opened.reading() as tx:
            record = queries.get(tx, organization_id, batch_call_id)
            is_ours = record.carrier == self.carrier.name  # what holds another carrier's calls back, is not known here
            held_back = queries.held_back(tx, record, opened.clock(), self.daily_cap, self.min_gap) if is_ours else []
            found = queries.results(tx, batch_call_id) if record.status in _OVER else None
            extra = {
                "held_back": [asdict(one) for one in held_back],
                "results": None if found is None else mapping.results_json(found),
            }
            answer = self._answer(tx, "Batch call retrieved successfully", record, extra)
        return Answer.recorded(answer)

    def find(self, organization_id: str, query: BatchCallQuery) -> Answer:
        """A page of batch calls."""
        with self.open_store().reading() as tx:
            records, total = queries.find(tx, organization_id, query)
            counts = queries.counts(tx, [record.batch_call_id for record in records])
        data = {
            "organization_id": organization_id,
            "batch_calls": [
                mapping.batch_call_json(record, counts.get(record.batch_call_id, TaskCounts()), self.carrier.name)
                for record in records
            ],
            "pagination": pagination(query.page, query.limit, total),
            "returned_count": len(records),
            "sort_order": query.sort_order,
            "sort_by": query.sort_by,
        }
        return Answer("Batch calls retrieved successfully", data)

    def find_filtered(self, organization_id: str, body: bytes) -> Answer:
        """A page of batch calls, with the filters in a body."""
        asked = mapping.parse(request_models.ListBody, body)
        wanted = asked.filter_criteria
        query = BatchCallQuery(
            status=tuple(wanted.status or ()),
            agent_id=tuple(wanted.agent_id or ()),
            name=tuple(wanted.name or ()),
            created_after=created_after(wanted.created_after),
            page=asked.pagination.page,
            limit=asked.pagination.limit,
            sort_by=asked.sort_by,
            sort_order=asked.sort_order,
        )
        applied = wanted.model_dump(exclude_none=True, mode="json")
        answer = self.find(organization_id, query)
        return Answer(
            "Batch calls retrieved successfully with filters", {**(answer.data or {}), "applied_filters": applied}
        )

    def find_tasks(
        self,
        organization_id: str,
        batch_call_id: str,
        wanted: TaskFilter,
        *,
        page: int,
        limit: int,
    ) -> Answer:
        """A page of the tasks of a batch call, in the order of its list."""
        with self.open_store().reading() as tx:
            queries.get(tx, organization_id, batch_call_id)
            found, total = queries.find_tasks(tx, batch_call_id, wanted, page=page, limit=limit)
        data = {
            "tasks": [mapping.task_json(task) for task in found],
            "pagination": pagination(page, limit, total),
        }
        return Answer("Batch call tasks retrieved successfully", data)

    def find_attempts(self, organization_id: str, batch_call_id: str, task_id: str) -> Answer:
        """Every attempt of a task."""
        with self.open_store().reading() as tx:
            queries.get(tx, organization_id, batch_call_id)
            found = queries.attempts_of(tx, batch_call_id, task_id)
        data = {"task_id": task_id, "attempts": [mapping.attempt_json(row) for row in found]}
        return Answer("Attempts retrieved successfully", data)

    def export(self, organization_id: str, batch_call_id: str) -> Iterator[str]:
        """Every task as CSV, piece by piece; whether there is such a batch call is known when this returns."""
        pieces = csv_export.lines(self.open_store, organization_id, batch_call_id)
        return chain([next(pieces)], pieces)

    async def call(self, organization_id: str, batch_call_id: str, task_id: str, n: int | None) -> Answer:
        """Attempt `n` of a task (None: the last one), with what was said in it."""

        def placed() -> PlacedCall:
            with self.open_store().reading() as tx:
                queries.get(tx, organization_id, batch_call_id)
                return queries.call_of(tx, batch_call_id, task_id, n)

        found = await facts.call(self.carrier, await asyncio.to_thread(placed))
        return Answer("Call retrieved successfully", found)

    def account(self, organization_id: str, read: AccountRead = NO_ACCOUNT) -> Answer:
        """Whose key this is, and what it can dial with."""
        found = facts.account(self.open_store(), self.placing, organization_id, read)
        return Answer("Account retrieved successfully", found)

    def metrics(self, organization_id: str) -> bytes:
        """The organisation's figures in Prometheus's text format."""
        from batchcall_mcp.dialer.rest import metrics  # what writes the format is heavy

        return metrics.exposition(self.open_store(), organization_id)

    def _refusal(
        self, write: WriteRequest, account: AccountRead, read: ReadBody[request_models.BatchCallBody]
    ) -> InvalidInput | None:
        asked = read.asked
        header = Header(from_number=asked.from_number, agent_id=asked.agent_id, organization_id=write.organization_id)
        return self.placing.refusal(account, header, read.tasks(asked.from_number))

    def _refusal_of_stored(
        self,
        write: WriteRequest,
        batch_call_id: str,
        account: AccountRead,
        asked: request_models.BatchCallFields | None = None,
        read: ReadBody[Any] | None = None,
    ) -> InvalidInput | None:
        """`asked`: what of it is changed; `read`: a list that it gets."""

        def changed(header: Header) -> Header:
            if asked is None:
                return header
            from_number, agent_id = asked.from_number or header.from_number, asked.agent_id or header.agent_id
            return replace(header, from_number=from_number, agent_id=agent_id)

        given = None if read is None or not read.task_count else read.tasks
        return self.placing.refusal_of_stored(
            account, self.open_store(), write.organization_id, batch_call_id, changed, given
        )

    def _whole(self, asked: request_models.BatchCallBody) -> dict[str, Any]:
        """The columns that a whole body sets. It looks at the time: a replay of a write must not call it."""
        columns = mapping.columns(asked, default_window=self.default_window, default_concurrency=DEFAULT_CONCURRENCY)
        _, times = mapping.launch_columns(asked, None)
        self._check_expiry(times, None)
        return columns | times

    def _check_expiry(self, columns: Mapping[str, Any], before: BatchCallRecord | None) -> None:
        of = partial(_after, columns, before)
        rules.check_expiry(of("status"), scheduled_at=of("scheduled_at"), expires_at=of("expires_at"), now=self._now())

    def _put_off(self, tx: sa.Connection, before: BatchCallRecord) -> int | None:
        """The moment that was given with its date, so that it can be cancelled until then; None: there is none.

        Somebody of it could be called earlier. A change that does not say when to dial must not let it.
        """
        call_dates, at = before.dates(), before.scheduled_at
        if before.status is not State.SCHEDULED or call_dates.first is None or at is None or at <= self._now():
            return None
        window = before.calling_window()
        people = queries.people(tx, before.batch_call_id, promised=False)
        people = chain(people, _ONE_PLACE if window.timezone != RECIPIENT else ())
        begins = dates.times(call_dates, window, people, before.timezone, self.open_store().clock()).begins
        return at if begins is not None and to_ms(begins) < at else None

    def _settled(
        self,
        tx: sa.Connection,
        columns: Mapping[str, Any],
        before: BatchCallRecord | None,
        tasks: NewTasks | None,
        put_off: int | None = None,
    ) -> dict[str, Any]:
        """When it begins and ends by the dates that it will have, from where its people are; and whether it can.

        `put_off`: not before this moment, unless the write itself says when.

        Raises:
            InvalidInput: a date that is over for everybody, or a call-back that is promised for afterwards.
        """
        of = partial(_after, columns, before)
        call_dates = dates_of(of("trigger_date"), of("expires_date"), of("expires_at"))
        if call_dates == ANY_DATE:
            return {}
        window = window_of(of("window"))
        if tasks is not None:
            people = _people(tasks)
        else:
            known = before.batch_call_id if before is not None else ""
            people = queries.people(tx, known, promised=not call_dates.named or window.timezone != RECIPIENT)
            people = chain(people, _ONE_PLACE if window.timezone != RECIPIENT else ())
        now, earliest = self.open_store().clock(), columns.get("scheduled_at", put_off)
        begin = now if earliest is None else max(now, from_ms(earliest))
        found = dates.times(call_dates, window, people, of("timezone"), begin)
        settled: dict[str, Any] = {}
        # One that was paused before its date goes back to it when it is resumed.
        to_come = of("status") is State.SCHEDULED or (of("status") is State.PAUSED and of("started_at") is None)
        if call_dates.first is not None and to_come:
            named = before is None or of("trigger_date") != before.trigger_date
            over = named and found.first_ends is not None and to_ms(found.first_ends) <= self._now()
            if found.begins is None or over:
                raise InvalidInput(
                    f"trigger_date: nobody can be called on {call_dates.first} any more: the date, or its calling "
                    "window, is over where they are. Nothing was changed. Give a later date."
                )
            settled["scheduled_at"] = to_ms(found.begins)
        if call_dates.last is not None:
            settled["expires_at"] = None if found.ends is None else to_ms(found.ends)
            self._check_expiry({**columns, **settled}, before)
        return settled

    def _answer(
        self, tx: sa.Connection, message: str, record: BatchCallRecord, extra: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        counts = queries.counts(tx, [record.batch_call_id]).get(record.batch_call_id, TaskCounts())
        data = mapping.batch_call_json(record, counts, self.carrier.name)
        return {"message": message, "data": {**data, **(extra or {})}, "etag": record.etag}

    def _run(
        self, write: WriteRequest, effect: Callable[[sa.Connection], Mapping[str, Any]], *, stops: bool = False
    ) -> Answer:
        opened = self.open_store()

        def checked(tx: sa.Connection) -> Mapping[str, Any]:
            opened.check(tx)
            return effect(tx)

        if not stops:
            opened.check()  # a file that is gone gives no transaction
        answer, replayed = opened.once(write, effect if stops else checked)
        self.written()
        return Answer.recorded(answer, replayed=replayed)

    def _check_stop(self, tx: sa.Connection, *, launches: bool) -> None:
        if launches:
            stops.check(tx, self.open_store().stop_file)

    def _now(self) -> int:
        return self.open_store().now()


def _only_stops(asked: request_models.BatchCallPatch) -> bool:
    """Whether a change does no more than take it off its schedule."""
    return asked.status == State.DRAFT.value and asked.model_fields_set <= {"status", "name"}


def _raise(refusal: InvalidInput | None) -> None:
    """In the transaction, after the Idempotency-Key: what has been carried out answers as it did."""
    if refusal is not None:
        raise refusal


def _before(tx: sa.Connection, write: WriteRequest, batch_call_id: str, if_match: IfMatch | None) -> BatchCallRecord:
    """The batch call that a write is about, held still.

    The condition is looked at here, after the Idempotency-Key: what has been carried out answers as it did.
    """
    record = queries.get(tx, write.organization_id, batch_call_id, lock=True)
    if if_match is not None:
        if_match.check(record.etag)
    return record


def _after(columns: Mapping[str, Any], before: BatchCallRecord | None, name: str) -> Any:
    """A column as it will be."""
    return columns[name] if name in columns else getattr(before, name, None)


def _people(tasks: NewTasks) -> Iterator[Person]:
    return (Person(row, task.to_number, task.timezone, task.not_before) for row, task in enumerate(tasks))


def created_after(value: float | str | None) -> int | None:
    """The filter as milliseconds."""
    return None if value is None else to_ms(mapping.moment(value, None, "created_after"))


def pagination(page: int, limit: int, total: int) -> dict[str, Any]:
    """Where a page stands; pages count from 0."""
    pages = -(-total // limit)
    return {
        "page": page,
        "limit": limit,
        "total_count": total,
        "total_pages": pages,
        "has_next_page": page + 1 < pages,
        "has_previous_page": page > 0,
    }
