"""Retell AI (https://docs.retellai.com/api-references/create-batch-call): a batch call is created, and that is all.

It cannot be read, listed, changed or stopped; its calls can be listed, once they are dialled. So each task carries its
place, the number of tasks and the name in its metadata, which come back. Sources: the API reference, retell-sdk 6.2.13.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

from batchcall_mcp.backends.account_reading import Listing
from batchcall_mcp.backends.base import unread
from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.backends.rest_backend import RestBackend
from batchcall_mcp.backends.row_reading import batch_from, call_from, same, task_from
from batchcall_mcp.errors import NotFound
from batchcall_mcp.model import (
    WEEKDAYS,
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    Call,
    CallingWindow,
    CallTask,
    Counts,
    TaskQuery,
    TaskStatus,
)
from batchcall_mcp.text import identifier
from batchcall_mcp.vendor_http.http_call import HttpCall, given
from batchcall_mcp.vendor_http.json_values import inside, rows, text, time_of_day, usd, whole
from batchcall_mcp.vendor_http.paging import CursorPages, Pages, items_of
from batchcall_mcp.vendor_http.status_map import StatusMap, counts_of
from batchcall_mcp.vendor_http.times import days_of, epoch_ms, minutes_of
from batchcall_mcp.vendor_http.transcripts import turns, turns_in

LIST_CALLS = "/v3/list-calls"
SMALL_PAGE, LARGE_PAGE, ALL = 100, 500, {"limit": 1000}
NOTHING_YET = "Retell reports only calls that were dialled; of this one there are none: it waits, or does not exist."
ELSEWHERE = "It was not made from here: how many people it is for, and in which window, is not known."
FROM_CALLS = "Retell reports no state of a batch call: this is what its calls say."
_NO_STATE: StatusMap[BatchStatus] = StatusMap({}, BatchStatus.UNKNOWN)
CALLS = StatusMap(
    {
        **dict.fromkeys(("registered", "ongoing"), TaskStatus.CALLING),
        "ended": TaskStatus.COMPLETED,
        **dict.fromkeys(("not_connected", "error"), TaskStatus.FAILED),
    },
    TaskStatus.UNKNOWN,
    refine=(
        "disconnection_reason",
        {
            **dict.fromkeys(("dial_no_answer", "user_declined"), TaskStatus.NO_ANSWER),
            "dial_busy": TaskStatus.BUSY,
            **dict.fromkeys(("dial_failed", "invalid_destination", "sip_routing_error"), TaskStatus.FAILED),
            **dict.fromkeys(("voicemail_reached", "ivr_reached"), TaskStatus.VOICEMAIL),
        },
    ),
)
_CREATED = same("batch_call_id name from_number") | {"scheduled_at": "scheduled_timestamp"}
_FROM_CALL = same("batch_call_id from_number agent_id") | {"name": "metadata.batchcall_name"}
_TASK = same("to_number call_id") | {
    "task_id": "metadata.batchcall_task|call_id",
    "name": "metadata.batchcall_person",
    "status": "call_status",
    "attempted_at": "start_timestamp",
    "completed_at": "end_timestamp",
    "dynamic_variables": "retell_llm_dynamic_variables",
    "summary": "call_analysis.call_summary",
    "extracted": "call_analysis.custom_analysis_data",
}
_SPEAKERS: Mapping[str, Literal["agent", "person"]] = {"agent": "agent", "user": "person"}
_RECORDING = "recording_url|scrubbed_recording_url"
_VOICE = {"filter_criteria": {"channel": {"type": "string", "op": "eq", "value": "voice"}}}


def _pages(call: Callable[[str | None], HttpCall]) -> Pages:
    return CursorPages(call, "items", lambda answer: answer.get("has_more") and answer.get("pagination_key"))


def _only_agent(number: Mapping[str, Any]) -> str | None:
    agents, _ = rows(number.get("outbound_agents"))
    return text(agents[0].get("agent_id")) if len(agents) == 1 else None  # of several one is drawn for each call


class RetellBackend(RestBackend):
    """Retell's service: it only creates, and creating dials."""

    name = "retell"
    title = "Retell"
    default_url = "https://api.retellai.com"
    capabilities = Capabilities(
        operations=frozenset({Operation.ACCOUNT, Operation.CREATE, Operation.GET, Operation.GET_CALL}),
        drafts="none",
        tasks_reported="dialled_only",
        task_page_size=LARGE_PAGE,
        outcomes=(
            *(TaskStatus.CALLING, TaskStatus.COMPLETED, TaskStatus.NO_ANSWER),
            *(TaskStatus.BUSY, TaskStatus.VOICEMAIL, TaskStatus.FAILED),
        ),
        results=frozenset({"duration_seconds", "answered_by", "cost", "summary", "extracted"}),
        stop="never",
        cancel_effect="Nothing stops its calls once it is confirmed: Retell has no cancel and no pause.",
        windows="one_zone",
        over_midnight=False,
        dynamic_variables=True,
        returns_variables=True,
        task_names=True,
        needs_secret=False,
        limitations=(
            "Creating dials: at once, or at trigger_timestamp. Nothing of it can be stopped or changed afterwards.",
            "People are reported once they are dialled, and a batch call only by its calls; there is no list of them.",
            "Without agent_id the outbound agent of from_number speaks.",
            "How many calls are made at once cannot be said; Retell's reserved_concurrency keeps lines for others.",
            "A lost answer to a create cannot be looked up.",
        ),
    )
    calls: ClassVar = {Operation.GET_CALL: HttpCall("GET", "/v2/get-call/{call_id}")}
    numbers_at = Listing(
        _pages(lambda key: HttpCall("GET", "/v2/list-phone-numbers", query=ALL | given(pagination_key=key))),
        {"from_number": "phone_number", "name": "nickname"},
        more=lambda row: {"agent_id": _only_agent(row)},
    )
    agents_at = Listing(
        _pages(lambda key: HttpCall("POST", "/v2/list-agents", json=_VOICE, query=ALL | given(pagination_key=key))),
        {"agent_id": "agent_id", "name": "agent_name"},
        otherwise=_pages(lambda key: HttpCall("GET", "/v2/list-agents", query=ALL | given(pagination_key=key))),
    )

    async def create_call(self, request: BatchCallRequest) -> HttpCall:
        """The time in milliseconds; without one it dials at once."""
        tasks, name = request.tasks or (), self.name_of(request)
        common = {"batchcall_tasks": len(tasks), "batchcall_name": name} | given(batchcall_window=_kept(request.window))
        body = given(
            name=name,
            from_number=request.from_number,
            trigger_timestamp=epoch_ms(request.trigger_at) if request.trigger_at else None,
            call_time_window=_window(request.window),
            tasks=[
                given(
                    to_number=task.to_number,
                    override_agent_id=request.agent_id,
                    retell_llm_dynamic_variables=dict(task.dynamic_variables) or None,
                    metadata=common | {"batchcall_task": at} | given(batchcall_person=task.name),
                )
                for at, task in enumerate(tasks, 1)
            ],
        )
        return HttpCall("POST", "/create-batch-call", json=body)

    def read_created(self, data: Mapping[str, Any], request: BatchCallRequest) -> BatchCall:
        """Its `scheduled_timestamp` is in seconds in the documents' example. Of one that dials now it says nothing."""
        counts = Counts(total=whole(data.get("total_task_count")))
        made = batch_from(data, _CREATED, _NO_STATE, self.title, counts=counts)
        return made if request.trigger_at else replace(made, scheduled_at=None)

    async def get(self, batch_call_id: str) -> BatchCall:
        """What its calls say, the newest of them first."""
        call = _calls_of(batch_call_id, limit=LARGE_PAGE, include_total=True)
        answer, items = await items_of(self._http, self.doing(Operation.GET, batch_call_id), call, "items")
        found = [row for row in items if row is not None]
        if not found:
            return replace(unread(batch_call_id), notes=(NOTHING_YET,))
        listed, is_whole = whole(inside(found[0], "metadata.batchcall_tasks")), not answer.get("has_more")
        newest = {task.task_id: task for task in map(self.read_task, reversed(found))}
        states = [task.status or TaskStatus.UNKNOWN for task in newest.values()]
        is_over = is_whole and len(newest) == listed and TaskStatus.UNKNOWN not in states
        if not is_whole and listed == whole(answer.get("total")) is not None:
            call = _calls_of(batch_call_id, ended=True, limit=1, include_total=True)
            ended, _ = await items_of(self._http, self.doing(Operation.GET, batch_call_id), call, "items")
            is_over = whole(ended.get("total")) == listed
        status = BatchStatus.COMPLETED if is_over else BatchStatus.UNKNOWN
        counts = Counts(total=listed, sent=whole(answer.get("total")))
        if is_whole:
            waiting = listed - len(newest) if listed and listed >= len(newest) else None
            counts = replace(counts_of(states, self.capabilities.outcomes), total=listed, pending=waiting)
        status = BatchStatus.RUNNING if TaskStatus.CALLING in states else status
        row = {**found[0], "batch_call_id": batch_call_id}
        notes = (FROM_CALLS,) if listed else (FROM_CALLS, ELSEWHERE)
        made = batch_from(row, _FROM_CALL, _NO_STATE, self.title, counts=counts, notes=notes)
        return self.with_references(replace(made, status=status, window=_read_window(row)))

    def task_pages(self, batch_call_id: str, query: TaskQuery) -> Pages:
        """Its calls in the order in which they were dialled: new ones come at the end."""
        size = LARGE_PAGE if query.is_filtered or query.limit > SMALL_PAGE else SMALL_PAGE
        more: dict[str, Any] = {"limit": size, "sort_order": "ascending"}
        return _pages(lambda key: _calls_of(batch_call_id, **more, **given(pagination_key=key)))

    def read_task(self, data: Mapping[str, Any]) -> CallTask:
        """A call of the list, which is the task that it was made for."""
        lasted, is_machine = whole(data.get("duration_ms")), inside(data, "call_analysis.in_voicemail") is True
        task = task_from(
            data,
            _TASK,
            CALLS,
            duration_seconds=None if lasted is None else lasted / 1000,
            cost=usd(inside(data, "call_cost.combined_cost"), 100),
        )
        if task.status is TaskStatus.VOICEMAIL or (task.status is TaskStatus.COMPLETED and is_machine):
            return replace(task, status=TaskStatus.VOICEMAIL, answered_by="machine")
        return task

    async def get_call(self, batch_call_id: str, call_id: str) -> Call:
        """A call does not say to which batch call it belongs: the list is asked first."""
        doing = f"read call {identifier(call_id)} of batch call {batch_call_id}"
        call = _calls_of(batch_call_id, call_id=call_id, limit=1)
        if not (await items_of(self._http, doing, call, "items"))[1]:
            raise NotFound(f"Could not {doing}: it is not one of its calls. get_batch_call shows those.")
        return await super().get_call(batch_call_id, call_id)

    def read_call(self, data: Mapping[str, Any]) -> Call:
        """A call with what was said in it."""
        said = turns(data.get("transcript_object"), _SPEAKERS, said="content", at=_began)
        said = said or turns_in(data.get("transcript"), "agent") or said
        return call_from(data, self.read_task(data), said, recording=_RECORDING, ended="disconnection_reason")


def _calls_of(batch_call_id: str, call_id: str | None = None, *, ended: bool = False, **more: Any) -> HttpCall:
    criteria = given(batch_call_id=batch_call_id, call_id=call_id)
    wanted: dict[str, Any] = {name: {"type": "string", "op": "eq", "value": one} for name, one in criteria.items()}
    if ended:
        wanted["call_status"] = {"type": "enum", "op": "in", "value": ["not_connected", "ended", "error"]}
    return HttpCall("POST", LIST_CALLS, json={"filter_criteria": wanted, **more})


def _began(utterance: Mapping[str, Any]) -> Any:
    words, _ = rows(utterance.get("words"))
    return words[0].get("start") if words else None


def _window(window: CallingWindow | None) -> dict[str, Any] | None:
    """In minutes since midnight. Without a zone Retell means Los Angeles."""
    if window is None:
        return None
    hours = {"start": minutes_of(window.start), "end": minutes_of(window.end)}
    return {"windows": [hours], "timezone": window.timezone, "day": days_of(window)}


def _kept(window: CallingWindow | None) -> str | None:
    """For the metadata: no read shows it otherwise, and a retry of those who were missed would lose it."""
    return None if window is None else " ".join((window.start, window.end, window.timezone, ",".join(window.days)))


def _read_window(row: Mapping[str, Any]) -> CallingWindow | None:
    start, end, zone, named = [*(text(inside(row, "metadata.batchcall_window")) or "").split(), "", "", "", ""][:4]
    begins, ends = time_of_day(start), time_of_day(end)
    days = tuple(day for day in WEEKDAYS if day in named.split(","))
    return CallingWindow(start=begins, end=ends, days=days, timezone=zone) if begins and ends and days else None
