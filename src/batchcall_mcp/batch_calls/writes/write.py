"""Every write takes the same way: look, judge, ask, look again, record, send, report. `Write.run` is that way.

The use cases say what differs: whom it would call, how it is sent, and how the result is worded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeAlias

import anyio.to_thread

from batchcall_mcp.backends.base import At, Never, Now, SkipsAtStart, retry_of_in_name, test_of_in_name
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.limits import moved_start
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.writes.preflight_context import different, surroundings
from batchcall_mcp.batch_calls.writes.results import WAITS_FOR_PERSON, Did, Result, done, replayed, waiting
from batchcall_mcp.clock import from_ms, to_ms
from batchcall_mcp.errors import BatchCallError, NotConfirmed, OutcomeUnknown
from batchcall_mcp.guard import unattended
from batchcall_mcp.guard.admission import Admitted, Launch, Needed
from batchcall_mcp.guard.delivery.effect_evidence import plain_name
from batchcall_mcp.guard.delivery.write_sender import Resend, Ticket, WriteOutcome, unrecorded
from batchcall_mcp.guard.fingerprints import SentList, fingerprint, made_through, made_up_name
from batchcall_mcp.guard.preflight import undo
from batchcall_mcp.guard.preflight.humanize import counted
from batchcall_mcp.guard.preflight.preflight import Preflight, Surroundings, preflight
from batchcall_mcp.guard.preflight.recipient_warnings import about
from batchcall_mcp.guard.write_record import STOPS, Evidence, Intent, Token
from batchcall_mcp.model import BatchCall, BatchCallRequest, BatchStatus, CallTask
from batchcall_mcp.notifications.events import Event, Notice
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.recipients.validation import SkippedRow


@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """Whom a write would call, and what its question says in addition.

    `tasks` is the whole list (None: it could not be read); `to_call`, those of it that would be called, if not all.
    """

    tasks: Sequence[CallTask] | None = None
    to_call: Sequence[CallTask] | None = None
    skipped_rows: Sequence[SkippedRow] = ()
    rows_read: int | None = None
    listed: int | None = None
    """How many tasks the batch call shows, where a retry is of everybody: those whom it does not show may be called."""
    joined: Sequence[CallTask] = ()
    """Those who are in the batch call already, where `tasks` are added to it."""
    warnings: Sequence[str] = ()
    notes: Sequence[str] = ()
    replaced: str | None = None
    """How a new list differs from the one that it replaces, in words; None: not at all, or there is none."""
    changes: Sequence[str] = ()
    """What else an update changes, in words."""
    question: str | None = None
    """What a person has to say yes to although no phone rings."""
    test: str | None = None
    """What a test call is, in a sentence."""

    @property
    def called(self) -> Sequence[CallTask] | None:
        """Those who would be called; None: not known."""
        return self.tasks if self.to_call is None else self.to_call


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A write, and what is known of it; before it is judged, only the request.

    `request` is exactly what is sent: less than what was asked for, if people are skipped because nobody could be asked
    about them (`skipped`).
    """

    request: BatchCallRequest
    called: Sequence[CallTask] | None
    people: People = field(default_factory=People)
    skipped: tuple[tuple[CallTask, SkippedRow], ...] = ()
    starts_at: datetime | None = None
    """When it starts that would dial now, and waits so that it can be cancelled; `request` says so too."""
    preflight: Preflight = field(default_factory=Preflight)
    around: Surroundings = field(default_factory=Surroundings)

    @property
    def skipped_rows(self) -> tuple[SkippedRow, ...]:
        """All rows that are not called: of the list that was read, and people who are skipped."""
        return (*self.people.skipped_rows, *(row for _, row in self.skipped))

    @property
    def skipped_tasks(self) -> dict[str, list[str]]:
        """Reason -> ids of the stored tasks that a start is to skip."""
        found: dict[str, list[str]] = {}
        for task, row in self.skipped:
            if task.task_id is not None:
                found.setdefault(row.reason, []).append(task.task_id)
        return found

    @property
    def skipped_note(self) -> str | None:
        """A sentence about the people who are skipped, or None."""
        if not self.skipped:
            return None
        people = counted(len(self.skipped), "person is", "people are")
        reasons = Counter(row.reason for _, row in self.skipped)
        why = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        return f"{people} skipped, because nobody is asked (BATCHCALL_CONFIRM=off): {why}."


Send: TypeAlias = Callable[[Judged, Ticket], Awaitable[BatchCall]]
Report: TypeAlias = Callable[[BatchCall, Judged], Awaitable[Result]]


async def _go_on() -> None:
    """Nothing stands against it."""


async def _nobody() -> People:
    return People()


class Write:
    """One write of one tool call.

    Args:
        context: the tool call's.
        operation: what is asked of the backend.
        request: exactly what would be sent; of a launch, when.
        current: the batch call as `context.look` read it; None for a new one.
        seen: the newest ledger entry about it at that time.
        key: the caller's own idempotency key.
        again: the tasks that a retry dials.
        known_as: what makes two such writes the same, where that is not all of the request.
        tasks_from: the batch call whose people, by what came of their calls, the list of a new one is.
        child_of: the batch call of which the backend itself makes a new one, as its answer to a retry.
    """

    def __init__(
        self,
        context: CallContext,
        operation: Operation,
        request: BatchCallRequest = BatchCallRequest(),  # noqa: B008 - frozen
        current: BatchCall | None = None,
        *,
        seen: int = 0,
        key: str | None = None,
        again: Sequence[CallTask] = (),
        known_as: str | None = None,
        tasks_from: str | None = None,
        child_of: BatchCall | None = None,
    ) -> None:
        self._context = context
        self._operation = operation
        self._asked = Judged(request=request, called=request.tasks or ())
        self._current = current
        self._seen = seen
        self._key = key
        self._asks = (operation, request, current) if child_of is None else (Operation.RETRY, request, child_of)
        """What the backend is asked: to retry one may mean to make another one."""
        self._dials = context.backend.dials(*self._asks)
        self._dialled_again = again
        self._known_as = known_as
        self._tasks_from = tasks_from
        self._sent: SentList | None = None

    async def run(
        self,
        *,
        send: Send,
        report: Report,
        people: Callable[[], Awaitable[People]] = _nobody,
        already: Callable[[], Awaitable[Result | None]] = _go_on,
        did: Did | None = None,
    ) -> Result:
        """Look, judge, ask, look again, record, send, report.

        What is asked in the client ends this run (`QuestionPending`) and begins the next one, which has the answer: so
        everything is looked at again after a question. What is recorded is checked once more with the recording.

        Args:
            send: the request to the backend.
            report: what the backend's answer means.
            people: whom it would call.
            already: a result, where its state leaves nothing to do; it raises where its state forbids the write.
            did: what an equal call did before, where the operation alone does not say that.

        Raises:
            OutcomeUnknown: nobody knows what came of it, or of an equal write before it.
            BatchCallError: the guard's or the backend's no; nothing was changed.
        """
        try:
            result = await self._run(send, report, people, already, did or partial(done, self._operation))
        except OutcomeUnknown:
            self._tell("unknown")
            raise
        except BatchCallError as error:
            if not isinstance(self._dials, Never):
                self._tell("refused", reason=error.code)
            raise
        if result.result == "nothing_to_do" or result.result in WAITS_FOR_PERSON or result.replayed:
            return result
        if self._operation in STOPS:
            self._tell("stopped", result.batch_call)
        elif not isinstance(self._dials, Never):
            self._tell("launched", result.batch_call, calls=result.preflight.calls if result.preflight else None)
        return result

    def _tell(
        self,
        event: Event,
        made: BatchCall | None = None,
        *,
        calls: int | None = None,
        reason: str | None = None,
        at: datetime | None = None,
    ) -> None:
        """Notify the operator."""
        if self._context.tell is None:
            return
        about = made or self._current
        self._context.tell(
            Notice(
                event=event,
                batch_call_id=about.batch_call_id if about else None,
                backend=self._context.backend.name,
                tool=self._context.tool,
                operation=str(self._operation),
                status=str(made.status) if made else None,
                calls=calls,
                reason=reason,
                at=at,
            )
        )

    async def _run(
        self,
        send: Send,
        report: Report,
        people: Callable[[], Awaitable[People]],
        already: Callable[[], Awaitable[Result | None]],
        did: Did,
    ) -> Result:
        if self._operation in STOPS:  # it only makes fewer phones ring: nobody is asked, and it waits for nothing
            return await self._reported(await self._send(send, self._asked), self._asked, report)
        earlier = await self.earlier()
        if isinstance(earlier, WriteOutcome):
            return self._replayed(earlier, did)
        nothing = await already()
        if nothing is not None:
            return nothing
        self._context.backend.check_state(*self._asks)
        judged = await self.judge(await people(), earlier)
        # Meanwhile an equal call may have been sent: that is not a reason to refuse this one or to ask.
        meanwhile = await self.earlier()
        if isinstance(meanwhile, WriteOutcome):
            return self._replayed(meanwhile, did)
        # What was to be sent again, and is open no more, another call has sent: only taking it over finds that out.
        resend = meanwhile or earlier
        judged = await self._without_skipped(judged)
        admitted = await self._admit(judged)
        if not isinstance(admitted, Admitted):
            # What is asked about something else than calls has no preflight to show.
            shown = None if judged.people.question else judged.preflight
            can = self._context.backend.capabilities
            return waiting(admitted, shown, self._context.tool, self._current, judged.skipped_rows, can)
        judged = self._put_off(judged, resend)
        outcome = await self._send(send, judged, admitted.token, resend)
        outcome = replace(outcome, batch_call=self._as_accepted(outcome.batch_call, judged))
        return self._replayed(outcome, did) if outcome.replayed else await self._reported(outcome, judged, report)

    def _replayed(self, earlier: WriteOutcome, did: Did) -> Result:
        if earlier.is_news and not isinstance(self._dials, Never):
            self._tell("launched", earlier.batch_call, at=earlier.at)
        following = None if self._operation is Operation.DELETE else self._context.next_of(earlier.batch_call)
        return replayed(earlier, did, following)

    async def earlier(self) -> WriteOutcome | Resend | None:
        """What an equal call did before; None if this one is a new one. A `Resend` may be sent once more.

        Raises:
            OutcomeUnknown: nobody knows what became of the earlier one.
            InvalidInput: its idempotency key stands for another request.
        """
        return await (await self._context.sender()).earlier(await self._intent(self._asked), self._current)

    async def done_before(self) -> str:
        """A sentence about an equal call that did this before, or nothing."""
        at = await (await self._context.sender()).done_at(await self._intent(self._asked))
        return "" if at is None else f" An equal call did that at {at:%Y-%m-%d %H:%M:%S UTC}."

    async def judge(self, people: People, resend: Resend | None = None) -> Judged:
        """Find out what it would do; nothing is sent."""
        context, request, current = self._context, self._asked.request, self._current
        around = await surroundings(
            context,
            people.called,
            self._dials,
            listed=people.tasks,
            current=current,
            agent_id=request.agent_id or (current.agent_id if current else None),
            from_number=request.from_number or (current.from_number if current else None),
            simulated=self._simulated,
            again=self._operation is Operation.RETRY,
            test=request.test_of is not None,
            taken_over=resend.entry.write_id if resend else None,
            retry_of=request.retry_of,
            moved=self._moved(request),
        )
        around = replace(
            around,
            unchecked=(*people.warnings, *around.unchecked),
            notes=(*people.notes, *around.notes),
            changes=(*([people.replaced] if people.replaced else ()), *people.changes),
            test=people.test,
            put_off_before=_put_off_before(resend) if self._waits(replace(self._asked, called=people.called)) else None,
        )
        return await self._with_preflight(replace(self._asked, called=people.called, people=people, around=around))

    async def _with_preflight(self, judged: Judged) -> Judged:
        """In a thread: the places and hours of 100,000 numbers take seconds, in which others are served."""
        tasks = judged.people.tasks
        waits = self._waits(judged)
        can = undo.is_possible(self._operation, self._context.backend.capabilities)
        promised = waits if can and judged.around.put_off_before is None else 0
        judged = replace(
            judged, around=replace(judged.around, undo_seconds=promised, cannot_wait=bool(waits) and not can)
        )
        # A retry dials the tasks that it names, and no others of the batch call; or everybody, as its `listed` says.
        whole = tasks is not None and self._operation is not Operation.RETRY
        judge = partial(
            preflight,
            request=judged.request,
            current=self._current,
            tasks=judged.called,
            skipped_rows=judged.skipped_rows,
            rows_read=judged.people.rows_read,
            dials=self._dials,
            capabilities=self._context.backend.capabilities,
            limits=self._context.limits,
            now=self._context.clock(),
            surroundings=judged.around,
            listed=different(tasks or ()) if whole else judged.people.listed,
            adds=self._operation is Operation.APPEND,
            joined=judged.people.joined,
        )
        return replace(judged, preflight=await anyio.to_thread.run_sync(judge))

    def _waits(self, judged: Judged) -> int:
        """For how many seconds it is put off, so that somebody can think again; 0: it does not dial now."""
        context, asked = self._context, self._asked.request
        timed = asked.send_now or asked.trigger_at is not None or asked.trigger_on is not None
        says_when = self._operation is not Operation.UPDATE or timed
        if self._operation is Operation.APPEND and self._waits_already():
            return 0
        past = isinstance(self._dials, At) and self._dials.may_begin <= context.clock()
        if asked.test_of is not None or not says_when or not (past or isinstance(self._dials, Now)):
            return 0
        people = None if judged.called is None else len(judged.called)
        of_first = people if asked.first is None else min(asked.first, asked.first if people is None else people)
        setting = context.settings.undo_seconds
        return undo.seconds(setting, context.backend.capabilities, of_first, simulated=self._simulated)

    def _waits_already(self) -> bool:
        """What it is about has a moment that is still to come: on a date that has begun, too."""
        current = self._current
        if current is None or current.status is not BatchStatus.SCHEDULED or current.scheduled_at is None:
            return False
        return current.scheduled_at > self._context.clock()

    def _put_off(self, judged: Judged, resend: Resend | None) -> Judged:
        """With its moment, if it is put off: from now on, or the moment of the first try, which may have arrived."""
        waits, before = judged.around.undo_seconds, judged.around.put_off_before or _put_off_before(resend)
        if not waits and judged.around.put_off_before is None:
            return judged
        lead = self._context.backend.capabilities.limits.lead or timedelta()
        at = before or self._context.clock() + max(timedelta(seconds=waits), lead)
        return replace(judged, starts_at=at, request=replace(judged.request, send_now=None, trigger_at=at))

    async def _without_skipped(self, judged: Judged) -> Judged:
        """Where nobody is asked: only those whom nothing speaks against, if the others can be skipped here.

        Raises:
            NotConfirmed: there are too many others; nothing was sent.
        """
        context, sends_list = self._context, judged.request.tasks is not None
        at_start = self._operation is Operation.START and isinstance(context.backend, SkipsAtStart)
        if context.guard.confirm != "off" or isinstance(self._dials, Never) or not (sends_list or at_start):
            return judged
        called = judged.called or ()
        parted = await anyio.to_thread.run_sync(unattended.skip, called, judged.preflight.concerns)
        if not parted.skipped or (not sends_list and any(task.task_id is None for task, _ in parted.skipped)):
            return judged  # nobody, or nobody could say which ones
        refused = unattended.too_many(parted, context.settings.skip_people_max)
        if refused:
            raise NotConfirmed(
                f"BATCHCALL_CONFIRM=off: {refused} {' '.join(judged.preflight.warnings)} Nothing was sent. Correct the "
                "list, or have a person launch it with another BATCHCALL_CONFIRM."
            )
        request = replace(judged.request, tasks=parted.called) if sends_list else judged.request
        fewer = replace(judged, request=request, called=parted.called, skipped=parted.skipped)
        return await self._with_preflight(fewer)

    async def _admit(self, judged: Judged) -> Admitted | Needed:
        """Put it before the guard, which asks a person where one has to be asked."""
        context = self._context
        ledger = await context.open_ledger()
        launch = Launch(
            caller=ledger.hashed(context.caller),
            backend=context.backend.name,
            backend_address=context.backend_address,
            tool=context.tool,
            operation=self._operation,
            arguments=context.arguments,
            request=judged.request,
            current=self._current,
            called=judged.called or (),
            skipped_rows=judged.skipped_rows,
            dials=self._dials,
            preflight=judged.preflight,
            concerns=about(judged.preflight.concerns),
            list_entry=judged.around.list_entry,
            changes=judged.around.changes,
            question=judged.people.question,
        )
        return await context.guard.admit(launch, context.asker, context.confirmation_code, ledger.codes)

    async def _send(
        self, send: Send, judged: Judged, token: Token | None = None, resend: Resend | None = None
    ) -> WriteOutcome:
        """Record it and send it, once."""
        to_backend = partial(send, judged)
        if self._operation in STOPS and not await self._context.ledger_in_time():
            return await unrecorded(self._operation, to_backend)
        sender = await self._context.sender()
        return await sender.send(await self._intent(judged), to_backend, token=token, again=resend)

    async def _reported(self, outcome: WriteOutcome, judged: Judged, report: Report) -> Result:
        """The use case's words, with what the pipeline knows: no use case can forget it."""
        said = await report(outcome.batch_call, judged)
        made, waits = outcome.batch_call, None
        if judged.starts_at is not None and made.status is BatchStatus.SCHEDULED:
            at = made.scheduled_at if made.scheduled_on and made.scheduled_at else judged.starts_at
            until = f"{at:%Y-%m-%d %H:%M:%S UTC}"
            waits = f"It starts at {until}; until then cancel_batch_call with {made.batch_call_id} stops it."
        notes = (note for note in (waits, judged.skipped_note, outcome.note) if note)
        return replace(said, skipped_rows=judged.skipped_rows, notes=(*said.notes, *notes))

    def _as_accepted(self, made: BatchCall, judged: Judged) -> BatchCall:
        """To accept a launch for now is not to be scheduled, whatever word the backend has for it: phones may ring.

        The answer to a change is the batch call as it is kept, and says what it says.
        """
        if self._operation is Operation.UPDATE:
            return made
        now = self._context.clock()
        later = judged.starts_at or self._moved(judged.request)
        asked_for_later = isinstance(self._dials, Never) or (
            isinstance(self._dials, At) and self._dials.may_begin > now
        )
        waits = later or asked_for_later or (made.scheduled_at is not None and made.scheduled_at > now)
        if made.status is not BatchStatus.SCHEDULED or waits:
            return made
        return replace(made, status=BatchStatus.UNKNOWN, backend_status=made.backend_status or str(made.status))

    def _moved(self, request: BatchCallRequest) -> datetime | None:
        """When the backend really starts it, where that is another moment."""
        limits = self._context.backend.capabilities.limits
        return None if request.trigger_on else moved_start(request.trigger_at, limits, self._context.clock())

    @property
    def _simulated(self) -> bool:
        """No real phone can ring."""
        return self._context.backend.capabilities.simulated or (self._current is not None and self._current.simulated)

    @property
    def _renames(self) -> bool:
        """It changes a name, and nothing that a launch depends on."""
        request = self._asked.request
        given = {one.name for one in fields(request) if getattr(request, one.name) is not None}
        return self._operation is Operation.UPDATE and given == {"name"}

    async def _intent(self, judged: Judged) -> Intent:
        """What is recorded of it; in a thread, because digests of 100,000 people take a third of a second.

        A stop has no people, and it does not wait for a thread: launches that wait for the ledger may have them all.
        """
        make = partial(self._intent_of, judged, (await self._context.open_ledger()).hashed)
        return make() if self._operation in STOPS else await anyio.to_thread.run_sync(make)

    def _intent_of(self, judged: Judged, hashed: Callable[[str], str]) -> Intent:
        context, request, current = self._context, judged.request, self._current
        batch_call_id = current.batch_call_id if current else None
        if self._known_as is None:  # by all that was asked for, also where fewer people are sent
            asked = self._asked.request
            self._known_as = fingerprint(self._operation, asked, batch_call_id, self._dialled_again)
        from_number = request.from_number or (current.from_number if current else None)
        dials = not isinstance(self._dials, Never)
        starts_at = self._dials.counts_at(context.clock()) if isinstance(self._dials, At) else context.clock()
        if request.trigger_on is None:
            starts_at = self._moved(request) or judged.starts_at or starts_at
        creates = self._operation is Operation.CREATE
        carrier = context.settings.carrier if context.settings.places_real_calls else None
        known_as = made_through(carrier, self._known_as) if creates and carrier is not None else self._known_as
        given_name = plain_name(request.name)
        is_child = self._asks[0] is not self._operation
        names = creates and not is_child
        sent = self._sent
        if sent is None or sent.tasks is not request.tasks:
            sent = self._sent = SentList.of(request.tasks, hashed)
        default = request.retry or (current.retry if current else None)
        own = default.max_retries if default and context.backend.capabilities.retry_policy else 0
        # Of a list that the backend holds, the preflight may know of more dials than its tasks say.
        least = judged.around.listed_dials or 1 if request.tasks is None else 1
        each = [max(least, 1 + (own if task.max_retries is None else task.max_retries)) for task in judged.called or ()]
        begins = (self._moved(request) if dials else None) or request.trigger_at
        is_hidden = context.backend.capabilities.tasks_reported != "all" and request.tasks is not None
        places = judged.preflight.places if is_hidden else None
        rows = dict(Counter(str(row.kind) for row in judged.skipped_rows))
        return Intent(
            caller=hashed(context.caller),
            backend=context.backend_address,
            tool=context.tool,
            operation=self._operation,
            fingerprint=known_as,
            batch_call_id=batch_call_id,
            key=self._key,
            seen=self._seen,
            evidence=Evidence(
                name=made_up_name(known_as, context.clock(), self._key) if names and not given_name else None,
                given_name=hashed(f"name {given_name}") if creates and given_name else None,
                named_there=is_child,
                retry_of=request.retry_of or retry_of_in_name(request.name),
                tasks_from=self._tasks_from,
                test_of=request.test_of or test_of_in_name(request.name),
                people=sent.people,
                variables=sent.variables,
                dials_each=_dials_each(request, each),
                from_number=hashed(f"number {from_number}") if from_number else None,
                total=len(request.tasks) if request.tasks is not None else None,
                status_before=str(current.status) if current else None,
                total_before=current.counts.total if current else None,
                trigger_at=to_ms(begins) if begins else None,
                trigger_on=request.trigger_on.isoformat() if request.trigger_on else None,
                ends_at=to_ms(request.ends_at) if request.ends_at else None,
                ends_on=request.ends_on.isoformat() if request.ends_on else None,
                first=request.first,
                launches=bool(request.send_now),
                skipped=rows if request.tasks is not None and rows else None,
                countries=dict(places.countries) if places else None,
                zones=dict(places.zones) if places else None,
            ),
            dials=dials,
            starts_at=starts_at if dials else None,
            calls=judged.preflight.calls if dials else None,
            max_dials=judged.preflight.max_dials if dials else None,
            dial_cost=judged.preflight.estimate.dial if judged.preflight.estimate else None,
            numbers=[
                (comparable(task.to_number), most if dials else 0)
                for task, most in zip(judged.called or (), each, strict=True)
            ]
            if dials or is_hidden
            else (),
            list_entries=judged.around.recorded.entries if dials and request.tasks is None else (),
            list_dials=max(least, 1 + own),
            # Who else calls a test number does not matter.
            named=frozenset(comparable(task.to_number) for task in request.tasks or ())
            if request.test_of is not None
            else frozenset({*judged.around.elsewhere, *judged.around.lately}),
            since=judged.around.since,
            simulated=self._simulated,
            renames=self._renames,
        )


def _dials_each(request: BatchCallRequest, each: Sequence[int]) -> int | None:
    """How often a person is dialled at most by what this write sends; None: it says nothing of that."""
    if request.tasks is not None:
        return max(each, default=None)
    return None if request.retry is None else 1 + request.retry.max_retries


def _put_off_before(resend: Resend | None) -> datetime | None:
    """The moment that the first try was sent with; None: it had none, or there was no try."""
    at = resend.entry.evidence.trigger_at if resend else None
    return None if at is None else from_ms(at)
