"""One write of a tool call on its way: is it a repetition, may it be sent, then sent once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from typing import TypeAlias

import anyio.to_thread

from batchcall_mcp.backends.base import At, Never, Operation, SkipsAtStart, retry_of_in_name
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.writes.preflight_context import different, surroundings
from batchcall_mcp.errors import NotConfirmed
from batchcall_mcp.guard.admission import Admitted, Launch, Needed
from batchcall_mcp.guard.delivery.effect_evidence import plain_name
from batchcall_mcp.guard.delivery.write_sender import Resend, Send, WriteOutcome, unrecorded
from batchcall_mcp.guard.fingerprints import PeopleDigest, fingerprint, made_up_name
from batchcall_mcp.guard.preflight import unattended
from batchcall_mcp.guard.preflight.humanize import counted
from batchcall_mcp.guard.preflight.preflight import Preflight, Surroundings, preflight
from batchcall_mcp.guard.preflight.recipient_warnings import about
from batchcall_mcp.guard.write_record import STOPS, Evidence, Intent, Token
from batchcall_mcp.model import BatchCall, BatchCallRequest, CallTask
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.recipients.validation import SkippedRow

Judged: TypeAlias = tuple[Preflight, Needed | None]


class Write:
    """To be asked `earlier`, then `admit`ted, then sent; all of it within one tool call.

    Args:
        context: the tool call's.
        operation: what is asked of the backend.
        request: exactly what would be sent; of a launch, when.
        current: the batch call as it was read by `context.look`; None for a new one.
        key: the caller's own idempotency key.
        again: the tasks that a retry dials.
        known_as: what makes two such writes the same, where that is not all of the request.
    """

    def __init__(
        self,
        context: CallContext,
        operation: Operation,
        request: BatchCallRequest,
        current: BatchCall | None = None,
        *,
        key: str | None = None,
        again: Sequence[CallTask] = (),
        known_as: str | None = None,
    ) -> None:
        self._context = context
        self._operation = operation
        self.request = request
        """What is sent: less than what was asked for, if people are skipped."""
        self.skipped: tuple[tuple[CallTask, SkippedRow], ...] = ()
        """Who is not called because nobody could be asked about them."""
        self._current = current
        self._key = key
        self._dials = context.backend.dials(operation, request, current)
        self._fingerprint = known_as
        self._dialled_again = again
        self._to_call: Sequence[CallTask] = request.tasks or ()
        self._preflight: Preflight | None = None
        self._around = Surroundings()
        self._token: Token | None = None
        self._again: Resend | None = None
        self._rows_skipped: dict[str, int] = {}
        self.overtaken: WriteOutcome | None = None
        """What an equal call did while this one was judged."""

    async def earlier(self) -> WriteOutcome | None:
        """What an equal call did before; None if this one is meant anew, or may be sent once more.

        Raises:
            OutcomeUnknown: nobody knows what became of the earlier one.
            InvalidInput: its idempotency key stands for another request.
        """
        found = await (await self._context.sender()).earlier(await self._intent(), self._current)
        if isinstance(found, Resend):
            self._again = found
            return None
        return found

    async def done_before(self) -> str:
        """A sentence about an equal call that did this before, or nothing."""
        at = await (await self._context.sender()).done_at(await self._intent())
        return "" if at is None else f" An equal call did that at {at:%Y-%m-%d %H:%M:%S UTC}."

    async def admit(
        self,
        tasks: Sequence[CallTask] | None,
        skipped_rows: Sequence[SkippedRow] = (),
        rows_read: int | None = None,
        warnings: Sequence[str] = (),
        to_call: Sequence[CallTask] | None = None,
        *,
        notes: Sequence[str] = (),
        changes: Sequence[str] = (),
        asks: bool = False,
        question: str | None = None,
    ) -> Judged:
        """Put it before the guard; when no code is needed, send it.

        `tasks` is the whole list (None: it could not be read); `to_call` those of it that would be called, if not all.
        `warnings` and `notes` are sentences for the question; `changes`, what an update changes, in words. `asks`: a
        person has to say yes although no phone rings; `question` is then what to ask.
        """
        context, request, current = self._context, self.request, self._current
        called = tasks if to_call is None else to_call
        around = await surroundings(
            context,
            called,
            self._dials,
            current=current,
            agent_id=request.agent_id or (current.agent_id if current else None),
            from_number=request.from_number or (current.from_number if current else None),
            simulated=self._simulated,
            again=self._operation is Operation.RETRY,
            taken_over=self._again.entry.write_id if self._again else None,
        )
        judge = partial(
            preflight,
            current=current,
            rows_read=rows_read,
            dials=self._dials,
            capabilities=context.backend.capabilities,
            limits=context.limits,
            now=context.clock(),
            surroundings=replace(
                around,
                unchecked=(*warnings, *around.unchecked),
                notes=(*notes, *around.notes),
                changes=tuple(changes),
            ),
            # A retry dials the tasks that it names, whatever else is in the batch call.
            listed=None if tasks is None or self._operation is Operation.RETRY else different(tasks),
        )
        # In a thread: the places and hours of 100,000 numbers take seconds, in which others are served.
        found = await anyio.to_thread.run_sync(partial(judge, request=request, tasks=called, skipped_rows=skipped_rows))
        # While all this was found out an equal call may have been sent: no reason to refuse this one, nor to ask.
        self.overtaken = await self.earlier()
        if self.overtaken is not None:
            return found, None
        kept = await self._without_skipped(called or (), found)
        if self.skipped:
            called, request = kept, self.request
            skipped_rows = (*skipped_rows, *self.skipped_rows)
            found = await anyio.to_thread.run_sync(
                partial(judge, request=request, tasks=called, skipped_rows=skipped_rows)
            )
        self._rows_skipped = dict(Counter(str(row.kind) for row in skipped_rows))
        ledger = await context.open_ledger()
        launch = Launch(
            caller=ledger.hashed(context.caller),
            backend=context.backend.name,
            backend_address=context.backend_address,
            tool=context.tool,
            operation=self._operation,
            arguments=context.arguments,
            request=request,
            current=current,
            called=called or (),
            skipped_rows=skipped_rows,
            dials=self._dials,
            preflight=found,
            concerns=about(found.concerns),
            list_entry=around.list_entry,
            asks=asks,
            question=question,
        )
        admitted = await context.guard.admit(launch, context.asker, context.confirmation_code, ledger.codes)
        self._preflight, self._to_call, self._around = found, called or (), around
        if not isinstance(admitted, Admitted):
            return found, admitted
        self._token = admitted.token
        return found, None

    @property
    def skipped_rows(self) -> tuple[SkippedRow, ...]:
        """Who is skipped, for the result."""
        return tuple(row for _, row in self.skipped)

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
        """A sentence about them, or None."""
        if not self.skipped:
            return None
        people = counted(len(self.skipped), "person is", "people are")
        reasons = Counter(row.reason for row in self.skipped_rows)
        why = "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())
        return f"{people} skipped, because nobody is asked (BATCHCALL_CONFIRM=off): {why}."

    async def _without_skipped(self, called: Sequence[CallTask], found: Preflight) -> Sequence[CallTask]:
        """Where nobody is asked: those whom nothing speaks against, if the others can be skipped here.

        Raises:
            NotConfirmed: there are too many others; nothing was sent.
        """
        context, sends_list = self._context, self.request.tasks is not None
        at_start = self._operation is Operation.START and isinstance(context.backend, SkipsAtStart)
        if context.guard.confirm != "off" or isinstance(self._dials, Never) or not (sends_list or at_start):
            return called
        parted = await anyio.to_thread.run_sync(unattended.skip, called, found.concerns)
        if not sends_list and any(task.task_id is None for task, _ in parted.skipped):
            return called  # nobody could say which ones
        refused = unattended.too_many(parted, context.settings.skip_people_max)
        if refused:
            raise NotConfirmed(
                f"BATCHCALL_CONFIRM=off: {refused} {' '.join(found.warnings)} Nothing was sent. Correct the list, or "
                "have a person launch it with another BATCHCALL_CONFIRM."
            )
        self.skipped = parted.skipped
        if sends_list:
            self.request = replace(self.request, tasks=parted.called)
        return parted.called

    async def send(self, send: Send) -> WriteOutcome:
        """Record it and send it, once.

        Raises:
            OutcomeUnknown: nobody knows what came of it.
            BatchCallError: the guard's or the backend's no; nothing was changed.
        """
        if self._operation in STOPS and not await self._context.ledger_in_time():
            return await unrecorded(self._operation, send)
        sender = await self._context.sender()
        return await sender.send(await self._intent(), send, token=self._token, again=self._again)

    @property
    def _simulated(self) -> bool:
        """No real phone can ring."""
        return self._context.backend.capabilities.simulated or (self._current is not None and self._current.simulated)

    @property
    def _renames(self) -> bool:
        """It changes a name, and nothing that a launch depends on."""
        given = {one.name for one in fields(self.request) if getattr(self.request, one.name) is not None}
        return self._operation is Operation.UPDATE and given == {"name"}

    async def _known_as(self) -> str:
        """Its fingerprint; in a thread, because that of 100,000 tasks takes a third of a second.

        A stop has no tasks, and it does not wait for a thread: launches that wait for the ledger may have them all.
        """
        if self._fingerprint is None:
            batch_call_id = self._current.batch_call_id if self._current else None
            make = partial(fingerprint, self._operation, self.request, batch_call_id, self._dialled_again)
            self._fingerprint = make() if self._operation in STOPS else await anyio.to_thread.run_sync(make)
        return self._fingerprint

    async def _intent(self) -> Intent:
        context, request, current = self._context, self.request, self._current
        known_as = await self._known_as()
        hashed = (await context.open_ledger()).hashed
        from_number = request.from_number or (current.from_number if current else None)
        trigger_at = request.trigger_at
        dials = not isinstance(self._dials, Never)
        starts_at = max(self._dials.time, context.clock()) if isinstance(self._dials, At) else context.clock()
        made_up = made_up_name(known_as, context.clock(), self._key)
        creates = self._operation is Operation.CREATE
        given_name = plain_name(request.name)
        people = PeopleDigest()
        people.add(comparable(task.to_number) for task in request.tasks or ())
        found = self._preflight
        default = request.retry or (current.retry if current else None)
        own = default.max_retries if default and context.backend.capabilities.retry_policy else 0
        return Intent(
            caller=hashed(context.caller),
            backend=context.backend_address,
            tool=context.tool,
            operation=self._operation,
            fingerprint=known_as,
            batch_call_id=current.batch_call_id if current else None,
            key=self._key,
            seen=context.seen.get(current.batch_call_id, 0) if current else 0,
            evidence=Evidence(
                name=made_up if creates and not given_name else None,
                given_name=hashed(f"name {given_name}") if creates and given_name else None,
                retry_of=request.retry_of or retry_of_in_name(request.name),
                people=hashed(people.hex()) if request.tasks is not None else None,
                variables=_had_by_all(request.tasks, hashed),
                from_number=hashed(f"number {from_number}") if from_number else None,
                total=len(request.tasks) if request.tasks is not None else None,
                status_before=str(current.status) if current else None,
                total_before=current.counts.total if current else None,
                trigger_at=round(trigger_at.timestamp() * 1000) if trigger_at else None,
                launches=bool(request.send_now),
                skipped=self._rows_skipped if request.tasks is not None and self._rows_skipped else None,
            ),
            dials=dials,
            starts_at=starts_at if dials else None,
            calls=found.calls if found and dials else None,
            max_dials=found.max_dials if found and dials else None,
            numbers=[
                (comparable(task.to_number), 1 + (own if task.max_retries is None else task.max_retries))
                for task in self._to_call
            ]
            if dials
            else (),
            named=frozenset({*self._around.elsewhere, *self._around.lately}),
            since=self._around.since,
            simulated=self._simulated,
            renames=self._renames,
        )


def _had_by_all(tasks: Sequence[CallTask] | None, hashed: Callable[[str], str]) -> tuple[str, ...] | None:
    """The variables that every task has, hashed; None if there are none of them."""
    if not tasks:
        return None
    found = {name for name, value in tasks[0].dynamic_variables.items() if value}
    for task in tasks:
        found = {name for name in found if task.dynamic_variables.get(name)}
        if not found:
            return None
    return tuple(sorted(hashed(f"variable {name}") for name in found))
