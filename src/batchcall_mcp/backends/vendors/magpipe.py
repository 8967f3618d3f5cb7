"""Magpipe (https://docs.magpipe.ai): one address, one POST, an `action` in the body, the key as a bearer token.

Where its documents and its published source (elagerway/magpipe, supabase/functions) disagree, the source is followed,
in the reading that calls less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from batchcall_mcp.backends.account_reading import Listing
from batchcall_mcp.backends.base import is_unread, name_with_the_same_reference
from batchcall_mcp.backends.capabilities import Capabilities, Limits, Operation
from batchcall_mcp.backends.inline_tasks import InlineTasks
from batchcall_mcp.backends.row_reading import batch_from, same, task_from, unreadable_batch
from batchcall_mcp.errors import BatchCallError, IllegalTransition, InvalidInput, NotFound, NotSupported
from batchcall_mcp.model import (
    FINISHED,
    FROM_SUNDAY,
    WEEKDAYS,
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    CallingWindow,
    CallTask,
    Counts,
    ListQuery,
    TaskStatus,
)
from batchcall_mcp.vendor_http.http_call import HttpCall, given
from batchcall_mcp.vendor_http.http_errors import JsonObject, Refusal, accepted_without_words
from batchcall_mcp.vendor_http.json_values import rows, text, time_of_day, whole
from batchcall_mcp.vendor_http.paging import InlinePages, OffsetPages, Pages
from batchcall_mcp.vendor_http.status_map import StatusMap, counts_of
from batchcall_mcp.vendor_http.times import iso_z

PATH = "/batch-calls"
LIST_PAGE = 50
LIMIT = 100
"""Numbers and agents that are read."""
MAX_RECIPIENTS = 500
"""In the source; the documents' table of limits says unlimited."""
MAX_CONCURRENCY = 5
"""In the source, which cuts silently; the documents say 20."""
VOICEMAIL_NOTE = "Magpipe counts a call that a machine answered as completed."

BATCHES = StatusMap({str(status): status for status in BatchStatus}, BatchStatus.UNKNOWN)
TASKS = StatusMap(
    {
        **{str(status): status for status in TaskStatus},
        **dict.fromkeys(("initiated", "ringing", "in_progress"), TaskStatus.CALLING),
    },
    TaskStatus.UNKNOWN,
)
_OUTCOMES = (
    *(TaskStatus.PENDING, TaskStatus.CALLING, TaskStatus.COMPLETED),
    *(TaskStatus.NO_ANSWER, TaskStatus.BUSY, TaskStatus.FAILED, TaskStatus.SKIPPED),
)
_BATCH = same("agent_id scheduled_at created_at started_at completed_at max_concurrency name") | {
    "batch_call_id": "id",
    "from_number": "caller_id",
}
_TASK = same("name attempted_at completed_at") | {
    "to_number": "phone_number",
    "task_id": "id",
    "call_id": "call_record_id",
    "error": "error_message",
}
_ACTIONS = {Operation.PAUSE: "pause_series", Operation.RESUME: "resume_series"}
_AT_REST = {str(status) for status in (*FINISHED, BatchStatus.DRAFT, BatchStatus.PAUSED)}


class MagpipeBackend(InlineTasks):
    """Magpipe's service: drafts that can only be started now, no variables, no redials, windows in UTC."""

    name = "magpipe"
    title = "Magpipe"
    default_url = "https://api.magpipe.ai/functions/v1"
    capabilities = Capabilities(
        operations=frozenset(Operation) - {Operation.APPEND, Operation.RETRY, Operation.DELETE, Operation.GET_CALL},
        drafts="start_now_only",
        limits=Limits(tasks=MAX_RECIPIENTS),
        task_page_size=MAX_RECIPIENTS,
        outcomes=_OUTCOMES,
        stop="pending_only",
        cancel_effect="People who were not dialled yet are skipped; calls in progress go on to their end.",
        pause_stops=False,
        windows="utc",
        over_midnight=False,
        max_concurrency=MAX_CONCURRENCY,
        task_names=True,
        agent="caller_number",
        update_fields=frozenset({"name", "from_number", "agent_id", "window"}),
        needs_secret=False,
        key_begins="mgp_",
        limitations=(
            "A stored draft can be started now, not scheduled; say the time when it is made.",
            "Only a recurring series can be paused and resumed.",
            "The agent assigned to from_number speaks, whatever agent_id says.",
            "A window is in UTC and its last minute is included; outside it a batch call waits and stays running.",
            VOICEMAIL_NOTE,
            "Its own restart calls everybody again, those already reached too, and is never used.",
        ),
    )
    allowed: ClassVar = {
        Operation.UPDATE: frozenset({BatchStatus.DRAFT, BatchStatus.RECURRING}),
        Operation.START: frozenset({BatchStatus.DRAFT, BatchStatus.SCHEDULED}),
    }
    instead: ClassVar = {
        Operation.UPDATE: "Cancel it and make a new one.",
        Operation.START: "Another start would call everybody again: retry_batch_call calls those who were not reached, "
        "and resume_batch_call goes on with a paused series.",
        Operation.RETRY: "retry_batch_call makes a new draft of those who were not reached.",
        Operation.GET_CALL: "get_batch_call shows how each call went.",
    }
    numbers_at = Listing(
        InlinePages(HttpCall("POST", "/list-phone-numbers", json={"limit": LIMIT, "is_active": True}), "numbers"),
        {"from_number": "phone_number|number", "name": "friendly_name|name", "agent_id": "agent_id"},
        lambda row: row.get("is_active") is not False,
    )
    agents_at = Listing(
        InlinePages(HttpCall("POST", "/list-agents", json={"limit": LIMIT}), "agents"),
        {"agent_id": "id", "name": "name"},
    )

    def call(self, operation: Operation, batch_call_id: str) -> HttpCall:
        """Every operation is an action on an id."""
        self.require(operation, batch_call_id)
        action = _ACTIONS.get(operation, operation.value)
        return HttpCall("POST", PATH, json={"action": action, "batch_id": batch_call_id})

    def check_state(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> None:
        """Refuse what its state forbids; and a start from a later state, for which Magpipe calls everybody again."""
        super().check_state(operation, request, current)
        if request is not None:
            _window(request.window)
        if current is not None and operation is Operation.RESUME and current.status is not BatchStatus.PAUSED:
            raise NotSupported(
                f"Could not resume batch call {current.batch_call_id}: it is {current.status}, and Magpipe resumes "
                "only paused recurring series. Nothing was sent."
            )

    async def check_speaker(self, from_number: str, agent_id: str | None) -> None:
        """Refuse a number that is not the account's, and an agent that would not speak on it; nothing was sent."""
        number = await self.own_number(from_number)
        if agent_id not in {None, number.agent_id}:
            speaks = f"agent {number.agent_id}" if number.agent_id else "an agent that Magpipe does not name"
            raise NotSupported(
                f"agent_id: on calls from {from_number} {speaks} speaks, whatever is given here. Nothing was sent. "
                "Leave agent_id out, or give the number another agent at Magpipe."
            )

    async def create_call(self, request: BatchCallRequest) -> HttpCall:
        """It always names status and send_now: together they decide whether it dials.

        `status` is not in the documents; without it `send_now: true` makes a draft, and with `running` it dials even
        with `send_now: false`: only the three pairs used here are safe.
        """
        body = given(
            action="create",
            name=self.name_of(request),
            caller_id=request.from_number,
            recipients=[given(phone_number=task.to_number, name=task.name) for task in request.tasks or ()],
            status="running" if request.send_now else "scheduled" if request.trigger_at else "draft",
            send_now=bool(request.send_now),
            scheduled_at=iso_z(request.trigger_at) if request.trigger_at else None,
            agent_id=request.agent_id,
            max_concurrency=request.max_concurrency,
        )
        if request.agent_id is not None and request.from_number is not None:
            await self.check_speaker(request.from_number, request.agent_id)
        return HttpCall("POST", PATH, json=body | _window(request.window))

    async def update(
        self, current: BatchCall, request: BatchCallRequest, idempotency_key: str | None = None
    ) -> BatchCall:
        """Change name, from_number or window of a draft or of a recurring series; Magpipe checks no number here."""
        if request.from_number or request.agent_id:
            await self.check_speaker(request.from_number or current.from_number or "", request.agent_id)
        return await super().update(current, request, idempotency_key)

    def update_call(self, current: BatchCall, request: BatchCallRequest) -> HttpCall:
        """What it can change, and nothing that it would ignore."""
        name = request.name and name_with_the_same_reference(request.name, current.name)
        body = given(
            action="update",
            batch_id=current.batch_call_id,
            name=name,
            **given(caller_id=request.from_number, agent_id=request.agent_id),
        )
        return HttpCall("POST", PATH, json=body | _window(request.window))

    def list_pages(self, query: ListQuery) -> Pages:
        """Newest first; runs of recurring series are not in it. Magpipe gives no total."""
        known = query.status is not None and query.status is not BatchStatus.UNKNOWN
        body = {"action": "list"} | ({"status": query.status.value} if known and query.status else {})

        def call(page: int, size: int) -> HttpCall:
            return HttpCall("POST", PATH, json={**body, "limit": size, "offset": page * size})

        return OffsetPages(call, "batches", LIST_PAGE)

    def read_batch(self, data: Mapping[str, Any]) -> BatchCall:
        """A batch row. With its recipients the counts are taken from them: the row itself has only two counters."""
        row = data["batch"] if isinstance(data.get("batch"), dict) else data
        recipients, unreadable = rows(data.get("recipients"))
        strangers = {text(one.get("batch_id")) for one in recipients} - {None, text(row.get("id"))}
        if strangers:
            raise unreadable_batch(self.title, "about another batch call too: recipients of it are listed")
        window, notes = _read_window(row)
        notes += [f"{unreadable} recipients in Magpipe's answer could not be read and are not shown."] * (
            unreadable > 0
        )
        total, completed = whole(row.get("total_recipients")), whole(row.get("completed_count"))
        counts = Counts(total=total, completed=completed, failed=whole(row.get("failed_count")))
        if isinstance(data.get("recipients"), list):
            states = (TASKS.read(one)[0] for one in recipients)
            counts = counts_of(states, self.capabilities.outcomes, total)
            notes += [VOICEMAIL_NOTE] if counts.completed else []
        is_series = (text(row.get("recurrence_type")) or "none").lower() != "none"
        more = {"window": window, "counts": counts, "is_series": is_series, "notes": tuple(notes)}
        return _with_runs(batch_from(row, _BATCH, BATCHES, self.title, **more), data.get("runs"))

    def read_task(self, data: Mapping[str, Any]) -> CallTask:
        """A recipient row."""
        return task_from(data, _TASK, TASKS)

    async def start(self, current: BatchCall, at: datetime | None, idempotency_key: str | None = None) -> BatchCall:
        """`start`, from draft and scheduled only: from any later state Magpipe calls everybody again.

        The state is read once more just before, because what was a draft a minute ago may be finished by now.
        """
        if at is None:
            self.check_state(Operation.START, None, await self.get(current.batch_call_id))
        return await super().start(current, at, idempotency_key)

    async def pause(self, current: BatchCall) -> BatchCall:
        """`pause_series`: no new run of a recurring series. Ordinary batch calls have no pause."""
        if current.status is not BatchStatus.RECURRING and not is_unread(current):
            raise NotSupported(
                f"Could not pause batch call {current.batch_call_id}: Magpipe pauses only recurring series. Nothing "
                "was sent. cancel_batch_call skips everybody who was not dialled yet, permanently."
            )
        return await self._series(Operation.PAUSE, current, BatchStatus.PAUSED)

    async def resume(self, current: BatchCall, idempotency_key: str | None = None) -> BatchCall:  # noqa: ARG002 - the protocol's
        """`resume_series`, of a paused recurring series; `start` would dial the series' own list at once."""
        return await self._series(Operation.RESUME, current, BatchStatus.RECURRING)

    async def _series(self, operation: Operation, current: BatchCall, wanted: BatchStatus) -> BatchCall:
        """Pause or resume, and look: both answer success even where nothing matched."""
        doing, after = self.doing(operation, current.batch_call_id), await self.act(operation, current)
        if after.status is BatchStatus.UNKNOWN:
            raise accepted_without_words(doing)
        if after.status is not wanted:
            raise IllegalTransition(
                f"Could not {doing}: Magpipe answered success, but it is still {after.status}. Nothing was changed. "
                "Read it with get_batch_call."
            )
        return after

    def notes_on(self, operation: Operation, answer: JsonObject) -> tuple[str, ...]:
        """Of a cancel: the runs that went with it. Of a start: that it was another one."""
        runs = whole(answer.get("cancelled_children"))
        if runs:
            return (f"{runs} runs of the series were cancelled with it.",)
        if operation is Operation.START and "re-start" in str(answer.get("message")).lower():
            return ("Magpipe says that it started AGAIN, and calls everybody once more. Cancel it if that is wrong.",)
        return ()

    def recognise(self, refusal: Refusal) -> type[BatchCallError] | None:
        """Magpipe answers 400 with a sentence for a state that does not allow it, and for what it does not know."""
        said = refusal.words.lower()
        if refusal.status not in {200, 400}:
            return None
        if "cannot start batch" in said or "can only update" in said or "cannot cancel" in said:
            return IllegalTransition
        if "unknown action" in said:
            return NotSupported
        return NotFound if "not found" in said and "batch" in said else None


def _window(window: CallingWindow | None) -> JsonObject:
    """The end is included there to the minute: 23:59 is the end of the day."""
    if window is None:
        return {}
    if not window.days:
        raise InvalidInput("window.days: name at least one day; with none nobody is ever called. Nothing was sent.")
    return {
        "window_start_time": window.start,
        "window_end_time": "23:59" if window.end == "24:00" else window.end,
        "window_days": sorted(FROM_SUNDAY.index(day) for day in set(window.days)),
    }


def _read_window(row: Mapping[str, Any]) -> tuple[CallingWindow | None, list[str]]:
    start, end = time_of_day(row.get("window_start_time")), time_of_day(row.get("window_end_time"))
    if start is None or end is None:
        return None, []
    listed = row.get("window_days")
    numbers = listed if isinstance(listed, list) else list(range(7))
    days = tuple(day for day in WEEKDAYS if FROM_SUNDAY.index(day) in numbers)
    if (start, end, days) == ("00:00", "23:59", WEEKDAYS):
        return None, []
    notes = [] if days else ["Its window names no day: nobody is called."]
    if end < start:
        notes.append("Its window runs over midnight, which Magpipe's dialler never finds open: nobody is called.")
    return CallingWindow(start=start, end="24:00" if end == "23:59" else end, days=days, timezone="UTC"), notes


def _with_runs(series: BatchCall, runs: Any) -> BatchCall:
    """What the runs of a series say; of a paused one, whether a run dials: one in words that nobody knows may."""
    if not isinstance(runs, list):
        return series
    notes = [*series.notes, f"A recurring series, which calls everybody in each run; {len(runs)} runs are shown."]
    dials = any((text(run.get("status")) or "").lower() not in _AT_REST for run in rows(runs)[0])
    run_dials = dials and series.status is BatchStatus.PAUSED
    if run_dials:
        notes.append("A run of it is under way and calls on; cancel_batch_call cancels the series and that run.")
    return replace(series, notes=tuple(notes), run_dials=run_dials)
