"""Dograh's campaigns as its published source behaves (dograh-hq/dograh: api/routes/campaign.py, api/services/campaign).

Its guides differ in places (`time_slots`, `max_attempts`, `s3_key`, state `draft`); the source is followed, and the
OpenAPI document that is generated from it. The list is uploaded to a storage of another origin, as S3 or MinIO is one.
"""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, Field, ValidationError, model_validator
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.vendors.serving import Recorded, Recording, listening

KEY = "dg_" + "0123456789abcdef" * 2
NUMBER = "+14155550100"
SECOND_NUMBER = "+14155550101"
OTHER_NUMBER = "+442079460100"
AGENT = "7"
OTHER_AGENT = "9"
ORGANIZATION = 3
BASE = "/api/v1"
QUIET = timedelta(hours=1)
"""A campaign is over when nothing has happened for so long."""
_DEFAULT_RETRY: Mapping[str, Any] = {
    "enabled": True,
    "max_retries": 1,
    "retry_delay_seconds": 120,
    "retry_on_busy": True,
    "retry_on_no_answer": True,
    "retry_on_voicemail": False,
}
_TAGS = {
    "busy": "telephony_busy",
    "no_answer": "telephony_no-answer",
    "voicemail": "voicemail_detected",
    "failed": "telephony_failed",
    "cancelled": "telephony_canceled",
}
_DEFAULT, _ABROAD = 21, 22
"""Telephony configurations."""


class Upload(BaseModel):
    file_name: Annotated[str, Field(pattern=r".*\.csv$")]
    file_size: Annotated[int, Field(gt=0, le=10_485_760)]
    content_type: str = "text/csv"


class Retry(BaseModel):
    enabled: bool = True
    max_retries: Annotated[int, Field(ge=0, le=10)] = 2
    retry_delay_seconds: Annotated[int, Field(ge=30, le=3600)] = 120
    retry_on_busy: bool = True
    retry_on_no_answer: bool = True
    retry_on_voicemail: bool = True


class Slot(BaseModel):
    day_of_week: Annotated[int, Field(ge=0, le=6)]
    start_time: Annotated[str, Field(pattern=r"^\d{2}:\d{2}$")]
    end_time: Annotated[str, Field(pattern=r"^\d{2}:\d{2}$")]

    @model_validator(mode="after")
    def in_order(self) -> Slot:
        if self.start_time >= self.end_time:
            raise ValueError("start_time must be before end_time")
        return self


class Schedule(BaseModel):
    enabled: bool = True
    timezone: str = "UTC"
    slots: Annotated[list[Slot], Field(min_length=1, max_length=50)]

    @model_validator(mode="after")
    def known_zone(self) -> Schedule:
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"Invalid timezone: {self.timezone}") from None
        return self


class Breaker(BaseModel):
    enabled: bool = True
    failure_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    window_seconds: Annotated[int, Field(ge=30, le=600)] = 120
    min_calls_in_window: Annotated[int, Field(ge=1, le=100)] = 5


class Settings(BaseModel):
    retry_config: Retry | None = None
    max_concurrency: Annotated[int | None, Field(ge=1, le=100)] = None
    schedule_config: Schedule | None = None
    circuit_breaker: Breaker | None = None


class Create(Settings):
    name: Annotated[str, Field(min_length=1, max_length=255)]
    workflow_id: int
    source_type: Annotated[str, Field(pattern="^csv$")]
    source_id: str
    telephony_configuration_id: int | None = None


class Update(Settings):
    name: Annotated[str | None, Field(min_length=1, max_length=255)] = None


class Redial(BaseModel):
    name: Annotated[str | None, Field(min_length=1, max_length=255)] = None
    retry_on_voicemail: bool = True
    retry_on_no_answer: bool = True
    retry_on_busy: bool = True
    retry_config: Retry | None = None

    @model_validator(mode="after")
    def some_reason(self) -> Redial:
        if not (self.retry_on_voicemail or self.retry_on_no_answer or self.retry_on_busy):
            raise ValueError("At least one of retry_on_voicemail, retry_on_no_answer, retry_on_busy must be true")
        return self


M = TypeVar("M", bound=BaseModel)


class Refused(Exception):
    """An error answer: `detail` is a string, or a list where the body does not fit the schema."""

    def __init__(self, status: int, detail: Any) -> None:
        super().__init__(str(detail))
        self.response = JSONResponse({"detail": detail}, status)


class Dograh:
    """`dialled` is what it would call, in order. Nothing happens by itself: `tick` moves time, `finish` ends calls."""

    key = KEY
    secret: str | None = None
    from_number = NUMBER
    agent_id = AGENT

    def __init__(self, lines: int = 2) -> None:
        """`lines`: caller numbers of the default configuration, and calls at once."""
        self.now = datetime.now(UTC)
        self.concurrency = max(lines, 10)
        more = [f"+1415556{place:04d}" for place in range(2, lines)]
        self.pools: dict[int, tuple[str, bool, Sequence[str]]] = {
            _DEFAULT: ("Twilio main", True, [NUMBER, SECOND_NUMBER, *more][:lines]),
            _ABROAD: ("Telnyx UK", False, [OTHER_NUMBER]),
        }
        self.has_credit = True
        self.has_telephony = True
        self.campaigns: dict[int, dict[str, Any]] = {}
        self.files: dict[str, bytes | None] = {}
        self.dialled: list[str] = []
        self._storage_url: str | None = None
        self._runs = 0
        campaign = BASE + "/campaign/{campaign_id}"
        self.recording = Recording(
            Starlette(
                routes=[
                    Route(BASE + "/s3/presigned-upload-url", self._upload_url, methods=["POST"]),
                    Route(BASE + "/campaign/create", self._create, methods=["POST"]),
                    Route(BASE + "/campaign/", self._list, methods=["GET"]),
                    Route(campaign, self._get, methods=["GET"]),
                    Route(campaign, self._update, methods=["PATCH"]),
                    Route(campaign + "/start", self._start, methods=["POST"]),
                    Route(campaign + "/pause", self._pause, methods=["POST"]),
                    Route(campaign + "/resume", self._resume, methods=["POST"]),
                    Route(campaign + "/redial", self._redial, methods=["POST"]),
                    Route(campaign + "/runs", self._list_runs, methods=["GET"]),
                    Route(campaign + "/progress", self._progress, methods=["GET"]),
                    Route(BASE + "/workflow/fetch", self._workflows, methods=["GET"]),
                    Route(BASE + "/workflow/{workflow_id}/runs/{run_id}", self._run, methods=["GET"]),
                    Route(BASE + "/organizations/telephony-configs", self._configurations, methods=["GET"]),
                    Route(
                        BASE + "/organizations/telephony-configs/{config_id:int}/phone-numbers",
                        self._numbers,
                        methods=["GET"],
                    ),
                    Route(BASE + "/organizations/campaign-defaults", self._defaults, methods=["GET"]),
                ],
                exception_handlers={Refused: _answer_refusal},
            ),
            lambda one: one.method != "GET" and not one.path.endswith("/presigned-upload-url"),
        )
        self.storage = Recording(
            Starlette(routes=[Route("/voice-audio/{file_key:path}", self._put, methods=["PUT"])]),
            lambda one: one.method != "GET",
        )

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Both of its origins, whatever the host's name is."""
        at_storage = scope["type"] == "http" and scope["path"].startswith("/voice-audio/")
        await (self.storage if at_storage else self.recording)(scope, receive, send)

    @property
    def requests(self) -> list[Recorded]:
        """Every request to it, in order; what its storage received is in `storage.requests`."""
        return self.recording.requests

    @property
    def writes(self) -> list[Recorded]:
        """The requests that change something: a file that no campaign names yet changes nothing."""
        return self.recording.writes

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Its base URL. The storage has a port of its own, which makes it another origin."""
        async with listening(self.storage) as storage, listening(self.recording) as url:
            self._storage_url = storage
            yield url + BASE

    def batch_ids(self) -> list[str]:
        """Every campaign, the oldest first."""
        return [str(one) for one in self.campaigns]

    def say_status(self, batch_id: str, word: str) -> None:
        """From now on this is the state of the campaign."""
        self.campaigns[int(batch_id)]["said"] = word

    def say_task_status(self, batch_id: str, number: str, word: str) -> None:
        """From now on the telephony of that person's calls has said this."""
        for run in self.campaigns[int(batch_id)]["runs"]:
            if run["initial_context"]["phone_number"] == number:
                tags = ["not_connected", f"telephony_{word}"]
                run |= {"is_completed": True}
                run["gathered_context"] |= {
                    "call_tags": tags,
                    "call_disposition": word,
                    "mapped_call_disposition": word,
                }

    def tick(self, now: datetime) -> None:
        """Move its time: a list is read, people are dialled as far as there are lines, and what is quiet is over."""
        self.now = now
        for campaign in self.campaigns.values():
            if campaign.pop("syncs", False):  # the job does not look at the state, which may be paused by now
                campaign["queued"] = [
                    _queued(campaign, place, row) for place, row in enumerate(self._rows(campaign["source_id"]), 1)
                ]
                campaign |= {"state": "running", "total_rows": len(campaign["queued"])}
            self._work(campaign)
            quiet = campaign["active_at"] + QUIET <= now
            if campaign["state"] == "running" and quiet and not self._has_work(campaign):
                campaign |= {"state": "completed", "completed_at": _stamp(now)}

    def finish(self, batch_id: str, outcomes: Mapping[str, str] | None = None, otherwise: str = "completed") -> None:
        """End every call in progress and those that waited for a line; an hour later a quiet campaign is over."""
        campaign = self.campaigns[int(batch_id)]
        while live := [run for run in campaign["runs"] if not run["is_completed"]]:
            for run in live:
                self._end(campaign, run, (outcomes or {}).get(run["initial_context"]["phone_number"], otherwise))
            self._work(campaign)
        waits = any(one["state"] == "queued" for one in campaign["queued"])
        if campaign["state"] == "running" and not waits:
            self.now += QUIET
            campaign |= {"state": "completed", "completed_at": _stamp(self.now)}

    def _has_work(self, campaign: Mapping[str, Any]) -> bool:
        live = any(not run["is_completed"] for run in campaign["runs"])
        return live or any(one["state"] == "queued" for one in campaign["queued"])

    def _is_open(self, campaign: Mapping[str, Any]) -> bool:
        schedule = campaign["schedule_config"]
        if schedule is None or not schedule["enabled"]:
            return True
        local = self.now.astimezone(ZoneInfo(schedule["timezone"]))
        return any(
            slot["day_of_week"] == local.weekday() and slot["start_time"] <= local.strftime("%H:%M") < slot["end_time"]
            for slot in schedule["slots"]
        )

    def _work(self, campaign: dict[str, Any]) -> None:
        if campaign["state"] != "running" or not self._is_open(campaign):
            return
        numbers = self.pools[campaign["telephony_configuration_id"] or _DEFAULT][2]
        lines = min(campaign["max_concurrency"] or self.concurrency, self.concurrency, len(numbers))
        for queued in campaign["queued"]:
            live = sum(not run["is_completed"] for run in campaign["runs"])
            if queued["state"] == "queued" and queued["due"] <= self.now and live < lines:
                queued["state"] = "processed"
                campaign["processed_rows"] += 1
                campaign["active_at"] = self.now
                campaign["runs"].append(self._placed(campaign, queued, numbers[live % len(numbers)]))
                self.dialled.append(queued["context"]["phone_number"])

    def _placed(self, campaign: Mapping[str, Any], queued: Mapping[str, Any], caller: str) -> dict[str, Any]:
        self._runs += 1
        return {
            "id": 500 + self._runs,
            "workflow_id": campaign["workflow_id"],
            "name": f"WR-CAMPAIGN-{campaign['id']}-{self._runs}",
            "mode": "twilio",
            "created_at": _stamp(self.now + timedelta(milliseconds=self._runs)),
            "is_completed": False,
            "transcript_url": None,
            "recording_url": None,
            "user_recording_url": None,
            "bot_recording_url": None,
            "transcript_public_url": None,
            "recording_public_url": None,
            "user_recording_public_url": None,
            "bot_recording_public_url": None,
            "public_access_token": None,
            "cost_info": None,
            "usage_info": None,
            "definition_id": 4,
            "initial_context": {
                **queued["context"],
                "campaign_id": campaign["id"],
                "provider": "twilio",
                "source_uuid": queued["source_uuid"],
                "caller_number": caller,
                "called_number": queued["context"]["phone_number"],
                "direction": "outbound",
                "telephony_configuration_id": campaign["telephony_configuration_id"],
            },
            "gathered_context": {"provider": "twilio"},
            "call_type": "outbound",
            "logs": None,
            "annotations": None,
            "queued": queued,
        }

    def _end(self, campaign: dict[str, Any], run: dict[str, Any], outcome: str) -> None:
        run["is_completed"] = True
        campaign["active_at"] = self.now
        if outcome in {"completed", "voicemail"}:
            disposition = "voicemail_detected" if outcome == "voicemail" else "user_hangup"
            run |= {
                "cost_info": {"dograh_token_usage": 12.5, "call_duration_seconds": 42},
                "recording_url": f"recordings/{run['id']}.wav",
                "transcript_url": f"transcripts/{run['id']}.txt",
                "logs": {"realtime_feedback_events": _said(self.now)},
            }
            tags = [disposition] if outcome == "voicemail" else ["user_speech", disposition]
            gathered = {"extracted_variables": {"appointment": "Friday"}} if outcome == "completed" else {}
        else:
            disposition = _TAGS[outcome].removeprefix("telephony_")
            tags, gathered = ["not_connected", _TAGS[outcome]], {}
        run["gathered_context"] |= {
            **gathered,
            "call_tags": tags,
            "call_disposition": disposition,
            "mapped_call_disposition": disposition,
        }
        self._dial_again(campaign, run["queued"], outcome)

    def _dial_again(self, campaign: dict[str, Any], queued: Mapping[str, Any], outcome: str) -> None:
        retry, done = campaign["retry_config"], queued["retries"]
        if not retry["enabled"] or not retry.get(f"retry_on_{outcome}") or done >= retry["max_retries"]:
            return
        campaign["queued"].append(
            {
                "source_uuid": f"{queued['source_uuid']}_retry_{done + 1}",
                "context": {
                    **queued["context"],
                    "is_retry": True,
                    "retry_attempt": done + 1,
                    "retry_reason": outcome,
                },
                "state": "queued",
                "retries": done + 1,
                "due": self.now + timedelta(seconds=retry["retry_delay_seconds"]),
            }
        )

    async def _upload_url(self, request: Request) -> Response:
        asked = await self._body(request, Upload)
        key = f"campaigns/{ORGANIZATION}/{uuid.uuid4()}_{asked.file_name}"
        self.files[key] = None
        storage, signature = self._storage_url or _elsewhere(request), uuid.uuid4().hex
        url = f"{storage}/voice-audio/{key}?X-Amz-Signature={signature}&X-Amz-Expires=900"
        return JSONResponse({"upload_url": url, "file_key": key, "expires_in": 900})

    async def _put(self, request: Request) -> Response:
        """The storage: a signed URL is all the permission there is, and a second one is refused."""
        if "authorization" in request.headers or "x-api-key" in request.headers:
            return Response("<Error><Code>InvalidRequest</Code></Error>", 400, media_type="application/xml")
        signed = "X-Amz-Signature" in request.query_params and request.headers.get("content-type") == "text/csv"
        if not signed or request.path_params["file_key"] not in self.files:
            return Response("<Error><Code>SignatureDoesNotMatch</Code></Error>", 403, media_type="application/xml")
        self.files[request.path_params["file_key"]] = await request.body()
        return Response(status_code=200, headers={"etag": '"0"'})

    async def _create(self, request: Request) -> Response:
        asked = await self._body(request, Create)
        if str(asked.workflow_id) not in {AGENT, OTHER_AGENT}:
            raise Refused(404, "Workflow not found")
        self._check_source(asked.source_id)
        config_id = asked.telephony_configuration_id or _DEFAULT
        if config_id not in self.pools or not self.has_telephony:
            raise Refused(400, "telephony_configuration_not_found")
        self._check_concurrency(asked.max_concurrency, config_id)
        settings = asked.model_dump()
        campaign = self._stored(settings, asked.name, asked.workflow_id, asked.source_id, config_id)
        return JSONResponse(self._row(campaign))

    def _stored(
        self, settings: Mapping[str, Any], name: str, workflow_id: int, source_id: str, config_id: int | None
    ) -> dict[str, Any]:
        campaign_id = len(self.campaigns) + 41
        campaign: dict[str, Any] = {
            "id": campaign_id,
            "name": name,
            "workflow_id": workflow_id,
            "state": "created",
            "source_id": source_id,
            "total_rows": None,
            "processed_rows": 0,
            "created_at": _stamp(self.now + timedelta(seconds=len(self.campaigns))),
            "started_at": None,
            "completed_at": None,
            "retry_config": settings.get("retry_config") or dict(_DEFAULT_RETRY),
            "max_concurrency": settings.get("max_concurrency"),
            "schedule_config": settings.get("schedule_config"),
            "circuit_breaker": settings.get("circuit_breaker"),
            "parent_campaign_id": None,
            "redialed_campaign_id": None,
            "telephony_configuration_id": config_id,
            "queued": [],
            "runs": [],
            "active_at": self.now,
        }
        self.campaigns[campaign_id] = campaign
        return campaign

    def _check_source(self, key: str) -> None:
        table = _table(self.files.get(key))
        if len(table) < 2:
            raise Refused(400, "CSV file must have a header row and at least one data row")
        headers = [one.strip().lower() for one in table[0]]
        if "phone_number" not in headers:
            raise Refused(400, "Source must contain a 'phone_number' column")
        numbers = [row[headers.index("phone_number")].strip() for row in table[1:]]
        if any(one and not one.startswith("+") for one in numbers):
            raise Refused(400, "All phone numbers must include country code (start with '+')")
        if len(set(numbers)) < len(numbers):
            raise Refused(400, "Duplicate phone numbers found. Phone numbers in a campaign must be unique.")

    def _check_concurrency(self, asked: int | None, config_id: int | None) -> None:
        most = min(self.concurrency, len(self.pools[config_id or _DEFAULT][2]))
        if asked is not None and asked > most:
            raise Refused(400, f"max_concurrency ({asked}) cannot exceed {most}.")

    def _rows(self, key: str) -> list[dict[str, str]]:
        """The people of a list; names of columns are in lower case, and three of them are the greeting's."""
        table = _table(self.files[key])
        headers = [one.strip().lower() for one in table[0]]
        rows = [dict(zip(headers, row + [""] * (len(headers) - len(row)), strict=False)) for row in table[1:]]
        greeting = ("greeting_override_type", "greeting_override_text", "greeting_override_recording_id")
        return [{name: one for name, one in row.items() if name not in greeting} for row in rows if row["phone_number"]]

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._row(self._campaign(request)))

    async def _list(self, request: Request) -> Response:
        self._authenticate(request)
        return JSONResponse({"campaigns": [self._row(one) for one in reversed(self.campaigns.values())]})

    async def _update(self, request: Request) -> Response:
        asked = await self._body(request, Update)
        campaign = self._campaign(request)
        if campaign["state"] in {"completed", "failed"}:
            raise Refused(400, f"Cannot update a {campaign['state']} campaign")
        self._check_concurrency(asked.max_concurrency, campaign["telephony_configuration_id"])
        campaign |= {name: value for name, value in asked.model_dump().items() if value is not None}
        return JSONResponse(self._row(campaign))

    async def _start(self, request: Request) -> Response:
        campaign = self._launchable(request)
        self._must_be(campaign, ("created",), "start")
        campaign |= {"started_at": _stamp(self.now), "active_at": self.now}
        campaign["syncs"] = campaign["parent_campaign_id"] is None
        campaign["state"] = "syncing" if campaign["syncs"] else "running"
        self._work(campaign)
        return JSONResponse(self._row(campaign))

    async def _pause(self, request: Request) -> Response:
        campaign = self._campaign(request)
        self._must_be(campaign, ("running", "syncing"), "pause")
        campaign["state"] = "paused"
        return JSONResponse(self._row(campaign))

    async def _resume(self, request: Request) -> Response:
        campaign = self._launchable(request)
        self._must_be(campaign, ("paused",), "resume")
        campaign["state"] = "running"
        return JSONResponse(self._row(campaign))

    def _launchable(self, request: Request) -> dict[str, Any]:
        self._authenticate(request)
        if not self.has_telephony:
            raise Refused(401, "You must configure telephony first by going to APP_URL/configure-telephony")
        campaign = self._campaign(request)
        if not self.has_credit:
            raise Refused(402, "You have exhausted your Dograh credits.")
        return campaign

    def _must_be(self, campaign: Mapping[str, Any], states: Sequence[str], doing: str) -> None:
        if campaign["state"] not in states:
            allowed = " or ".join(f"'{one}'" for one in states)
            raise Refused(400, f"Campaign must be in {allowed} state to {doing}, current state: {campaign['state']}")

    async def _redial(self, request: Request) -> Response:
        asked = await self._body(request, Redial)
        parent = self._campaign(request)
        if parent["state"] != "completed":
            raise Refused(400, f"Only completed campaigns can be redialed (current state: {parent['state']})")
        if parent["redialed_campaign_id"]:
            raise Refused(400, "This campaign has already been redialed")
        wanted = {
            tag
            for tag, is_wanted in (
                ("voicemail_detected", asked.retry_on_voicemail),
                ("telephony_no-answer", asked.retry_on_no_answer),
                ("telephony_busy", asked.retry_on_busy),
            )
            if is_wanted
        }
        last = {run["initial_context"]["phone_number"]: run for run in parent["runs"]}
        missed = [run for run in last.values() if wanted & set(run["gathered_context"].get("call_tags", ()))]
        if not missed:
            raise Refused(400, "No subscribers match the selected redial criteria")
        settings = {
            **parent,
            "retry_config": parent["retry_config"] if asked.retry_config is None else asked.retry_config.model_dump(),
        }
        name = asked.name or f"{parent['name']} (Redial)"
        # The source does not hand the telephony configuration on: the child calls through the default one.
        child = self._stored(settings, name, parent["workflow_id"], parent["source_id"], None)
        first = {one["context"]["phone_number"]: one for one in reversed(parent["queued"])}
        queued = [first[run["initial_context"]["phone_number"]] for run in missed]
        child["queued"] = [{**one, "state": "queued", "retries": 0, "due": self.now} for one in queued]
        child |= {"parent_campaign_id": parent["id"], "total_rows": len(queued)}
        parent["redialed_campaign_id"] = child["id"]
        return JSONResponse(self._row(child))

    async def _list_runs(self, request: Request) -> Response:
        campaign = self._campaign(request)
        query = request.query_params
        page, limit = _whole(query.get("page", "1"), "page"), _whole(query.get("limit", "50"), "limit", most=100)
        found = [run for run in campaign["runs"] if _passes(run, query.get("filters"))]
        found.sort(key=lambda run: str(run["created_at"]), reverse=query.get("sort_order", "desc") != "asc")
        listed = [
            {name: None if name in {"logs", "usage_info"} else value for name, value in _shown(run).items()}
            for run in found[(page - 1) * limit : page * limit]
        ]
        return JSONResponse(
            {
                "runs": listed,
                "total_count": len(found),
                "page": page,
                "limit": limit,
                "total_pages": -(-len(found) // limit),
            }
        )

    async def _run(self, request: Request) -> Response:
        self._authenticate(request)
        run_id = _path_number(request, "run_id")
        for campaign in self.campaigns.values():
            for run in campaign["runs"]:
                if run["id"] == run_id:
                    return JSONResponse(_shown(run) | _artifacts(run))
        raise Refused(404, "Workflow run not found")

    async def _progress(self, request: Request) -> Response:
        campaign = self._campaign(request)
        total, done = campaign["total_rows"] or 0, campaign["processed_rows"]
        failed = ("telephony_failed", "telephony_busy", "telephony_no-answer")
        return JSONResponse(
            {
                "campaign_id": campaign["id"],
                "state": campaign.get("said", campaign["state"]),
                "total_rows": total,
                "processed_rows": done,
                "failed_calls": sum(
                    bool(set(failed) & set(run["gathered_context"].get("call_tags", ()))) for run in campaign["runs"]
                ),
                "progress_percentage": done / total * 100 if total else 0,
                "source_sync": {"status": "completed", "last_synced_at": None, "error": None},
                "rate_limit": 1,
                "started_at": campaign["started_at"],
                "completed_at": campaign["completed_at"],
            }
        )

    async def _workflows(self, request: Request) -> Response:
        self._authenticate(request)
        return JSONResponse(
            [
                {
                    "id": int(agent_id),
                    "name": name,
                    "status": "active",
                    "created_at": _stamp(self.now),
                    "total_runs": 0,
                    "folder_id": None,
                    "workflow_uuid": str(uuid.uuid4()),
                }
                for agent_id, name in ((AGENT, "Reminder"), (OTHER_AGENT, "Sales"))
            ]
        )

    async def _configurations(self, request: Request) -> Response:
        self._authenticate(request)
        return JSONResponse(
            {
                "configurations": [
                    {
                        "id": config_id,
                        "name": name,
                        "provider": "twilio",
                        "connectivity": "api",
                        "is_default_outbound": is_default,
                        "inactive": False,
                        "inactive_since": None,
                        "inactive_reason": None,
                        "phone_number_count": len(numbers),
                        "is_ready_for_outbound": True,
                        "outbound_blocked_reason": None,
                        "created_at": _stamp(self.now),
                        "updated_at": _stamp(self.now),
                    }
                    for config_id, (name, is_default, numbers) in self.pools.items()
                    if self.has_telephony
                ]
            }
        )

    async def _numbers(self, request: Request) -> Response:
        self._authenticate(request)
        config_id = request.path_params["config_id"]
        if config_id not in self.pools:
            raise Refused(404, "Telephony configuration not found")
        return JSONResponse(
            {
                "phone_numbers": [
                    {
                        "id": config_id * 10 + place,
                        "telephony_configuration_id": config_id,
                        "address": number,
                        "address_normalized": number,
                        "address_type": "pstn",
                        "country_code": None,
                        "label": None if place else "Main line",
                        "inbound_workflow_id": None,
                        "inbound_workflow_name": None,
                        "telephony_trunk_id": None,
                        "is_active": True,
                        "is_default_caller_id": place == 0,
                        "extra_metadata": {},
                        "created_at": _stamp(self.now),
                        "updated_at": _stamp(self.now),
                        "provider_sync": None,
                    }
                    for place, number in enumerate(self.pools[config_id][2])
                ]
            }
        )

    async def _defaults(self, request: Request) -> Response:
        self._authenticate(request)
        return JSONResponse(
            {
                "concurrent_call_limit": self.concurrency,
                "from_numbers_count": len(self.pools[_DEFAULT][2]),
                "default_retry_config": _DEFAULT_RETRY,
                "last_campaign_settings": None,
            }
        )

    def _row(self, campaign: Mapping[str, Any]) -> dict[str, Any]:
        """As `CampaignResponse` has it. `processed_rows` counts dials: somebody who is dialled twice counts twice."""
        breaker = {"enabled": False, "failure_threshold": 0.5, "window_seconds": 120, "min_calls_in_window": 5}
        config_id = campaign["telephony_configuration_id"]
        return {
            "id": campaign["id"],
            "name": campaign["name"],
            "workflow_id": campaign["workflow_id"],
            "workflow_name": "Reminder",
            "state": campaign.get("said", campaign["state"]),
            "source_type": "csv",
            "source_id": campaign["source_id"],
            "total_rows": campaign["total_rows"],
            "processed_rows": campaign["processed_rows"],
            "failed_rows": 0,
            "created_at": campaign["created_at"],
            "started_at": campaign["started_at"],
            "completed_at": campaign["completed_at"],
            "retry_config": campaign["retry_config"],
            "max_concurrency": campaign["max_concurrency"],
            "schedule_config": campaign["schedule_config"],
            "circuit_breaker": campaign["circuit_breaker"] or breaker,
            "executed_count": sum(one["state"] == "processed" for one in campaign["queued"]),
            "total_queued_count": len(campaign["queued"]),
            "parent_campaign_id": campaign["parent_campaign_id"],
            "redialed_campaign_id": campaign["redialed_campaign_id"],
            "telephony_configuration_id": config_id,
            "telephony_configuration_name": None if config_id is None else self.pools[config_id][0],
            "logs": [],
        }

    async def _body(self, request: Request, model: type[M]) -> M:
        self._authenticate(request)
        try:
            return model.model_validate_json(await request.body())
        except ValidationError as error:
            found = [
                {"type": one["type"], "loc": ["body", *one["loc"]], "msg": one["msg"]}
                for one in error.errors(include_context=False, include_input=False)
            ]
            raise Refused(422, found) from None

    def _campaign(self, request: Request) -> dict[str, Any]:
        self._authenticate(request)
        found = self.campaigns.get(_path_number(request, "campaign_id"))
        if found is None:
            raise Refused(404, "Campaign not found")
        return found

    def _authenticate(self, request: Request) -> None:
        given = request.headers.get("x-api-key")
        if given is None:
            raise Refused(401, "Unauthorized")
        if given != KEY:
            raise Refused(401, "Invalid or expired API key")


def _elsewhere(request: Request) -> str:
    """Its own address by another name, which makes it another origin."""
    is_here = request.url.hostname == "127.0.0.1"
    return f"http://localhost:{request.url.port}" if is_here else "https://storage.example"


def _queued(campaign: Mapping[str, Any], place: int, row: Mapping[str, str]) -> dict[str, Any]:
    return {
        "source_uuid": f"csv_{campaign['id']}_row_{place}",
        "context": dict(row),
        "state": "queued",
        "retries": 0,
        "due": campaign["active_at"],
    }


def _table(content: bytes | None) -> list[list[str]]:
    return [] if content is None else list(csv.reader(io.StringIO(content.decode("utf-8"))))


def _passes(run: Mapping[str, Any], filters: str | None) -> bool:
    """`status` is the only filter that is modelled; one that users may not use is refused."""
    try:
        wanted = json.loads(filters or "[]")
    except ValueError:
        raise Refused(400, "Invalid filter format") from None
    for one in wanted:
        if one.get("attribute") not in {"dateRange", "dispositionCode", "duration", "status", "tokenUsage"}:
            raise Refused(403, f"Invalid attribute '{one.get('attribute')}'")
    statuses = [one["value"]["status"] for one in wanted if one["attribute"] == "status"]
    return all((status == "completed") == run["is_completed"] for status in statuses)


def _path_number(request: Request, name: str) -> int:
    value: str = request.path_params[name]
    if not value.lstrip("-").isdecimal():
        wrong = "Input should be a valid integer, unable to parse string as an integer"
        raise Refused(422, [{"type": "int_parsing", "loc": ["path", name], "msg": wrong, "input": value}])
    return int(value)


def _whole(value: str, name: str, most: int | None = None) -> int:
    if not value.isdigit() or int(value) < 1 or (most is not None and int(value) > most):
        raise Refused(422, [{"type": "int_parsing", "loc": ["query", name], "msg": "Input should be a valid integer"}])
    return int(value)


def _said(now: datetime) -> list[dict[str, Any]]:
    """What a run's log has of a conversation."""
    return [
        {"type": "rtf-bot-text", "payload": {"text": "Hello, this is Alfred.", "timestamp": _stamp(now)}},
        {"type": "rtf-user-transcription", "payload": {"text": "Yes", "final": False, "timestamp": _stamp(now)}},
        {
            "type": "rtf-user-transcription",
            "payload": {"text": "Yes, that works.", "final": True, "timestamp": _stamp(now)},
        },
        {"type": "rtf-node-transition", "payload": {"node_name": "End"}},
    ]


def _artifacts(run: Mapping[str, Any]) -> dict[str, Any]:
    """What a single run has in addition to its row in a list."""
    if run["recording_url"] is None:
        return {}
    public = f"https://app.dograh.example/api/v1/public/download/workflow/{run['id']}-token"
    return {
        "public_access_token": f"{run['id']}-token",
        "recording_public_url": public + "/recording",
        "transcript_public_url": public + "/transcript",
        "usage_info": {"llm": {}, "tts": {}, "stt": {}, "call_duration_seconds": 42},
    }


def _shown(run: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name != "queued"}


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


async def _answer_refusal(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response
