"""Dograh (https://github.com/dograh-hq/dograh), by its source: api/routes/campaign.py and api/services/campaign."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from batchcall_mcp.backends.account_reading import Listing
from batchcall_mcp.backends.base import name_with_retry_of, name_with_the_same_reference
from batchcall_mcp.backends.capabilities import Capabilities, Limits, Operation
from batchcall_mcp.backends.rest_backend import RestBackend
from batchcall_mcp.backends.row_reading import batch_from, call_from, same, task_from
from batchcall_mcp.errors import IllegalTransition, InvalidInput, NotFound
from batchcall_mcp.model import (
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    Call,
    CallerNumber,
    CallTask,
    Counts,
    ListQuery,
    RetryPolicy,
    TaskQuery,
    TaskStatus,
)
from batchcall_mcp.vendor_http.http_call import HttpCall, csv_of, given
from batchcall_mcp.vendor_http.json_values import inside, rows, seconds, text, whole
from batchcall_mcp.vendor_http.paging import InlinePages, LatestPages, OffsetPages, Pages
from batchcall_mcp.vendor_http.status_map import StatusMap
from batchcall_mcp.vendor_http.times import slots_of, window_of
from batchcall_mcp.vendor_http.transcripts import turns

NUMBER = "phone_number"
_RUN = "campaign_id provider source_uuid caller_number called_number direction telephony_configuration_id is_retry"
_KEPT = "retry_attempt retry_reason greeting_override runtime_configuration mps_correlation_id"
OWN = frozenset({NUMBER, *_RUN.split(), *_KEPT.split()})
"""Names in a call's context that Dograh itself fills: a variable of such a name would be overwritten or dropped."""

BATCHES = StatusMap(
    {"created": BatchStatus.DRAFT, "paused": BatchStatus.PAUSED, "completed": BatchStatus.COMPLETED}
    | {"syncing": BatchStatus.RUNNING, "running": BatchStatus.RUNNING, "failed": BatchStatus.FAILED},
    BatchStatus.UNKNOWN,
)
NOT_CONNECTED = StatusMap(
    {"busy": TaskStatus.BUSY, "no-answer": TaskStatus.NO_ANSWER}
    | dict.fromkeys(("failed", "error", "canceled"), TaskStatus.FAILED),
    TaskStatus.UNKNOWN,
)
CONNECTED = StatusMap(  # any other word says how a conversation ended, and may be the workflow's own
    {"voicemail_detected": TaskStatus.VOICEMAIL, "pipeline_error": TaskStatus.FAILED}, TaskStatus.COMPLETED
)
_BATCH = same("created_at started_at completed_at max_concurrency name") | {"batch_call_id": "id", "status": "state"}
_BATCH |= {"agent_id": "workflow_id", "retry_of": "parent_campaign_id"}
_OTHERS = (TaskStatus.CALLING, TaskStatus.COMPLETED, TaskStatus.PLACED, TaskStatus.VOICEMAIL)
_ENDED = "gathered_context.call_disposition"
_TASK = {"task_id": "id", "call_id": "id", "attempted_at": "created_at", "dynamic_variables": "initial_context"} | {
    "to_number": f"initial_context.{NUMBER}|initial_context.called_number",
    "extracted": "gathered_context.extracted_variables",
    "error": "gathered_context.error",
    "status": _ENDED,
}
_SLOT = "day_of_week", "start_time", "end_time"
_SPEAKERS: Mapping[str, Any] = {"rtf-bot-text": "agent", "rtf-user-transcription": "person"}
_WORKFLOWS = InlinePages(HttpCall("GET", "/workflow/fetch", query={"status": "active"}), None)
_CONFIGURATIONS = Listing(
    InlinePages(HttpCall("GET", "/organizations/telephony-configs"), "configurations"),
    {"number_id": "id", "name": "name"},
    lambda row: not row.get("inactive") and row.get("is_ready_for_outbound") is not False,
)


class DograhBackend(RestBackend):
    """Dograh's service: drafts that start now, a pause that is the only stop, one window on one clock."""

    name, title, default_url = "dograh", "Dograh", "https://app.dograh.com/api/v1"
    key_header, key_prefix = "X-API-Key", ""
    capabilities = Capabilities(
        operations=frozenset(Operation) - {Operation.APPEND, Operation.CANCEL, Operation.DELETE},
        drafts="now_only",
        limits=Limits(name_length=255, list_bytes=10_485_760, retries=10, retry_minutes=60),
        required=frozenset({"from_number", "agent_id"}),
        tasks_reported="dialled_only",
        retry="child_draft",
        caller="pool",
        task_page_size=10_000,
        outcomes=(*NOT_CONNECTED.reported, *_OTHERS),
        results=frozenset({"duration_seconds", "extracted"}),
        stop="never",
        cancel_effect="There is no cancel. After pause_batch_call up to 10 people more are called; live calls go on.",
        pause_effect="up to 10 people whose turn has come are still called, and nobody after them",
        windows="one_zone",
        over_midnight=False,
        max_concurrency=100,
        dynamic_variables=True,
        returns_variables=True,
        retry_policy=True,
        retry_at=False,
        retry_outcomes=("no_answer", "busy", "voicemail"),
        update_fields=frozenset({"name", "window", "max_concurrency", "retry"}),
        needs_secret=False,
        limitations=(
            "from_number chooses a telephony configuration: all of its active numbers take turns.",
            "A start is now, and its window may hold the first call back. It is completed an hour after its last call.",
            "A pause is the only stop. Dograh takes 10 people at a time, and calls these after a pause too.",
            "People are listed once they are dialled. A number can be in a list once; variables are in lower case.",
            "A retry makes one draft of a completed batch call: without failed calls, from the default configuration.",
        ),
    )
    calls: ClassVar = {
        Operation.GET: HttpCall("GET", "/campaign/{id}"),
        Operation.UPDATE: HttpCall("PATCH", "/campaign/{id}"),
        Operation.RETRY: HttpCall("POST", "/campaign/{id}/redial"),
        **{Operation(one): HttpCall("POST", f"/campaign/{{id}}/{one}") for one in ("start", "pause", "resume")},
    }
    allowed: ClassVar = {
        Operation.START: frozenset({BatchStatus.DRAFT}),
        Operation.PAUSE: frozenset({BatchStatus.RUNNING}),
        Operation.RESUME: frozenset({BatchStatus.PAUSED}),
        Operation.UPDATE: frozenset({BatchStatus.DRAFT, BatchStatus.RUNNING, BatchStatus.PAUSED}),
        Operation.RETRY: frozenset({BatchStatus.COMPLETED}),
    }
    refusals: ClassVar = {
        **dict.fromkeys(("must be in", "Only completed", "been redialed", "Cannot update a"), IllegalTransition),
        "parse string as an integer": NotFound,  # an id that is not a number, with a 422
        "must configure telephony": InvalidInput,  # with a 401
    }
    own_variables = OWN
    batch_member = batch_of_call = "initial_context.campaign_id"
    agents_at = Listing(_WORKFLOWS, {"agent_id": "id", "name": "name"})

    async def numbers(self) -> tuple[CallerNumber, ...]:
        """The active numbers of each configuration that can call; `number_id` is that of their configuration."""
        doing, found = "list the caller numbers", []
        for config in [one for one in await self.listed(doing, _CONFIGURATIONS) if one["number_id"]]:
            call = HttpCall("GET", "/organizations/telephony-configs/{id}/phone-numbers").at(id=config["number_id"])
            paths = {"from_number": "address_normalized|address", "name": "label"}
            active = Listing(InlinePages(call, "phone_numbers"), paths, lambda row: row.get("is_active") is not False)
            own = [row | {"name": row["name"] or config["name"]} for row in await self.listed(doing, active)]
            found += [CallerNumber(**row, number_id=config["number_id"]) for row in own if row["from_number"]]
        return tuple(found)

    def check_state(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> None:
        """And the number of the workflow, and names of variables that it would change."""
        super().check_state(operation, request, current)
        if operation is Operation.CREATE and request is not None and not whole(request.agent_id):
            raise InvalidInput("agent_id: a workflow's id is a number. Nothing was sent. get_backend lists them.")
        names = {name for task in (request and request.tasks) or () for name in task.dynamic_variables}
        if changed := sorted(name for name in names if name != name.strip().lower()):
            raise InvalidInput(f"dynamic_variables: Dograh writes {changed[0]} in lower case. Nothing was sent.")

    async def create_call(self, request: BatchCallRequest) -> HttpCall:
        """Upload the list, to a storage that must not see the key, and name it in the request."""
        pool, content = whole(await self.number_id(request.from_number or "")), csv_of(request.tasks or (), NUMBER)
        doing, file = "upload the list", {"file_name": "recipients.csv", "file_size": len(content)}
        call = HttpCall("POST", "/s3/presigned-upload-url", json={**file, "content_type": "text/csv"})
        place = await self._http.read(doing, call)
        await self._http.upload(doing, text(place.get("upload_url"), 8000) or "", content, "text/csv")
        body: dict[str, Any] = {"name": self.name_of(request), "workflow_id": whole(request.agent_id)}
        body |= {"source_type": "csv", "source_id": place.get("file_key"), "telephony_configuration_id": pool}
        body |= {"retry_config": _retry(request.retry), **_settings(request)}
        return HttpCall("POST", "/campaign/create", json=body)

    def update_call(self, current: BatchCall, request: BatchCallRequest) -> HttpCall:
        """Only what is given."""
        name = request.name and name_with_the_same_reference(request.name, current.name)
        body = given(name=name, retry_config=request.retry and _retry(request.retry)) | _settings(request)
        return replace(self.call(Operation.UPDATE, current.batch_call_id), json=body)

    def retry_call(self, current: BatchCall) -> HttpCall:
        """It makes a draft of everybody whose last call was busy, not answered, or answered by a machine."""
        name = name_with_retry_of(current.name, current.batch_call_id, self.capabilities.limits.name_length)
        reasons = {f"retry_on_{outcome}": True for outcome in self.capabilities.retry_outcomes}
        return replace(super().retry_call(current), json={"name": name, **reasons})

    def list_pages(self, query: ListQuery) -> Pages:  # noqa: ARG002 - it filters nothing
        """All campaigns, newest first. Without the slash it would be a redirect."""
        return InlinePages(HttpCall("GET", "/campaign/"), "campaigns")

    def task_pages(self, batch_call_id: str, query: TaskQuery) -> Pages:  # noqa: ARG002 - it filters nothing of ours
        """Its runs: each dial is one, so with a retry policy somebody may have several."""

        def page(number: int, size: int) -> HttpCall:
            query: dict[str, str | int | list[str]] = {"page": number + 1, "limit": size, "sort_order": "asc"}
            return HttpCall("GET", "/campaign/{id}/runs", query=query).at(id=batch_call_id)

        async def redials() -> bool:
            return (await self.get(batch_call_id)).retry is not None

        return LatestPages(OffsetPages(page, "runs", 100), _TASK["to_number"], redials)

    async def call_at(self, batch_call_id: str, call_id: str) -> HttpCall:
        """A run lies below its workflow."""
        workflow = (await self.get(batch_call_id)).agent_id or ""
        return HttpCall("GET", "/workflow/{workflow}/runs/{run}").at(workflow=workflow, run=call_id)

    def read_batch(self, data: Mapping[str, Any]) -> BatchCall:
        """A campaign. `processed_rows` counts dials, so of its numbers only that of its people is taken."""
        schedule, pool = data.get("schedule_config"), text(data.get("telephony_configuration_name"))
        slots = inside(schedule, "slots") if inside(schedule, "enabled") is True else None
        window, notes = window_of(slots, *_SLOT, inside(schedule, "timezone"))
        notes += (f"It calls from the numbers of {pool or 'the default configuration'}, which take turns.",)
        own: dict[str, Any] = {"window": window, "retry": _policy(data.get("retry_config")), "notes": notes}
        counts = Counts(total=whole(data.get("total_rows")))
        # The job that reads its list sets it running once it is through, paused or not.
        lapses = data.get("state") == "paused" and counts.total is None
        return batch_from(data, _BATCH, BATCHES, self.title, counts=counts, pause_may_lapse=lapses, **own)

    def read_task(self, data: Mapping[str, Any]) -> CallTask:
        """A run. That it is over says nothing of how: its disposition does."""
        tags, lasted = inside(data, "gathered_context.call_tags"), inside(data, "cost_info.call_duration_seconds")
        states = NOT_CONNECTED if isinstance(tags, list) and "not_connected" in tags else CONNECTED
        again = whole(inside(data, "initial_context.retry_attempt")) or 0
        found = task_from(data, _TASK, states, own=OWN, duration_seconds=seconds(lasted), attempts=again + 1)
        if data.get("is_completed") is not True:
            found = replace(found, status=TaskStatus.CALLING, backend_status=None)
        elif not inside(data, _ENDED):
            found = replace(found, status=TaskStatus.FAILED if found.error else TaskStatus.PLACED)
        return found

    def read_call(self, data: Mapping[str, Any]) -> Call:
        """A run with what was said in it."""
        events = rows(inside(data, "logs.realtime_feedback_events"))[0]
        said = (event for event in events if inside(event, "payload.final") is not False)
        turned = turns([*said], _SPEAKERS, by="type", said="payload.text") or None
        return call_from(data, self.read_task(data), turned, recording="recording_public_url", ended=_ENDED)


def _settings(request: BatchCallRequest) -> dict[str, Any]:
    window = request.window
    slots = window and {"enabled": True, "timezone": window.timezone, "slots": slots_of(window, *_SLOT)}
    return given(max_concurrency=request.max_concurrency, schedule_config=slots)


def _retry(policy: RetryPolicy | None) -> dict[str, Any]:
    """Always all of it: without a word Dograh dials people again by itself. It waits 30 seconds at least."""
    dials, on, after = (policy.max_retries, policy.on, policy.after_minutes) if policy else (0, (), None)
    delay = None if after is None else max(30, 60 * after)
    flags = {f"retry_on_{outcome}": bool(dials) and outcome in on for outcome in ("busy", "no_answer", "voicemail")}
    return given(enabled=bool(dials), max_retries=dials, retry_delay_seconds=delay) | flags


def _policy(config: Any) -> RetryPolicy | None:
    dials, delay = whole(inside(config, "max_retries")), whole(inside(config, "retry_delay_seconds"))
    if inside(config, "enabled") is not True or not dials:
        return None
    on = tuple(one for one in DograhBackend.capabilities.retry_outcomes if inside(config, f"retry_on_{one}") is True)
    return RetryPolicy(max_retries=dials, on=on, after_minutes=None if delay is None else -(-delay // 60))
