"""Magpipe's batch-calls function as its published source behaves (elagerway/magpipe, supabase/functions).

Its documents differ in places; the source dials more, so that the source is followed.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.vendors.serving import Recording, Simulated

KEY = "mgp_" + "0123456789" * 4
NUMBER = "+14155550100"
AGENT = "11111111-1111-4111-8111-111111111111"
OTHER_AGENT = "22222222-2222-4222-8222-222222222222"
MOST_RECIPIENTS = 500

_READS = frozenset({"get", "list", "list_runs"})
_DEFAULTS: Mapping[str, Any] = {
    "agent_id": None,
    "send_now": True,
    "scheduled_at": None,
    "window_start_time": "00:00",
    "window_end_time": "23:59",
    "window_days": [0, 1, 2, 3, 4, 5, 6],
    "recurrence_type": "none",
    "reserved_concurrency": 5,
}
_UPDATABLE = frozenset({"name", "caller_id", *_DEFAULTS})


class Refused(Exception):
    """An error answer: one string."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.response = JSONResponse({"error": error}, status)


class Magpipe(Simulated):
    """`dialled` is what it would call, in order. Nothing happens by itself: `tick` moves time, `finish` ends calls."""

    key, secret, from_number, agent_id = KEY, None, NUMBER, AGENT

    def __init__(self) -> None:
        self.now = datetime.now(UTC)
        self.batches: dict[str, dict[str, Any]] = {}
        self.recipients: dict[str, list[dict[str, Any]]] = {}
        self.dialled: list[str] = []
        self.recording = Recording(
            Starlette(
                routes=[
                    Route("/batch-calls", self._batch_calls, methods=["POST"]),
                    Route("/list-phone-numbers", self._numbers, methods=["POST"]),
                    Route("/list-agents", self._agents, methods=["POST"]),
                ],
                exception_handlers={Refused: _answer_refusal},
            ),
            lambda one: one.path == "/batch-calls" and (one.json or {}).get("action") not in _READS,
        )

    def actions(self, name: str) -> list[dict[str, Any]]:
        """The bodies of one action, in order."""
        return [one.json for one in self.requests if one.path == "/batch-calls" and one.json.get("action") == name]

    def tick(self, now: datetime) -> None:
        """Move its time; the periodic worker runs once."""
        self.now = now
        for batch in list(self.batches.values()):
            due = batch["scheduled_at"] is not None and datetime.fromisoformat(batch["scheduled_at"]) <= now
            if batch["status"] == "scheduled" and due:
                batch["status"] = "running"
            self._work(batch)

    def finish(self, batch_id: str, outcomes: Mapping[str, str] | None = None, otherwise: str = "completed") -> None:
        """End every call in progress; a batch without anybody pending is over. A machine that answers is completed."""
        recipients = self.recipients[batch_id]
        for recipient in recipients:
            if recipient["status"] == "calling":
                outcome = (outcomes or {}).get(recipient["phone_number"], otherwise)
                recipient["status"] = "completed" if outcome == "voicemail" else outcome
                recipient["completed_at"] = self.now.isoformat()
        batch = self.batches[batch_id]
        batch["completed_count"] = sum(one["status"] == "completed" for one in recipients)
        batch["failed_count"] = sum(one["status"] in {"failed", "no_answer"} for one in recipients)
        if batch["status"] == "running" and all(one["status"] != "pending" for one in recipients):
            batch["status"] = "completed"

    def batch_ids(self) -> list[str]:
        """The ids of its batches, the oldest first."""
        return list(self.batches)

    def say_status(self, batch_id: str, word: str) -> None:
        """Report this word as the status of that batch."""
        self.batches[batch_id]["status"] = word

    def say_task_status(self, batch_id: str, number: str, word: str) -> None:
        """Report this word as the status of that recipient."""
        for recipient in self.recipients[batch_id]:
            if recipient["phone_number"] == number:
                recipient["status"] = word

    def series(self, numbers: Sequence[str], status: str = "recurring") -> str:
        """A recurring series, as somebody made it in the web app long ago; its runs are over."""
        batch = self._stored({"name": "Weekly", "caller_id": NUMBER, "recurrence_type": "weekly"}, numbers, status)
        return str(batch["id"])

    def _work(self, batch: dict[str, Any]) -> None:
        """The dialler. It looks at the status and the window, in UTC and as strings, and at nothing else."""
        clock = self.now.strftime("%H:%M")
        day = (self.now.weekday() + 1) % 7
        inside = batch["window_start_time"][:5] <= clock <= batch["window_end_time"][:5]
        if batch["status"] != "running" or not inside or day not in batch["window_days"]:
            return
        for recipient in self.recipients[batch["id"]]:
            if recipient["status"] == "pending":
                recipient["status"] = "calling"
                recipient["attempted_at"] = self.now.isoformat()
                self.dialled.append(recipient["phone_number"])

    async def _batch_calls(self, request: Request) -> Response:
        self._authenticate(request)
        body = await request.json()
        action = body.get("action")
        handlers = {
            "create": self._create,
            "list": self._list,
            "get": self._get,
            "update": self._update,
            "start": self._start,
            "cancel": self._cancel,
            "pause_series": self._pause_series,
            "resume_series": self._resume_series,
        }
        if action not in handlers:
            raise Refused(400, f"Unknown action: {'undefined' if action is None else action}")
        return JSONResponse(handlers[action](body))

    def _create(self, body: dict[str, Any]) -> dict[str, Any]:
        if not body.get("name") or not body.get("caller_id"):
            raise Refused(400, "name and caller_id are required")
        recipients = body.get("recipients")
        if not isinstance(recipients, list) or not recipients:
            raise Refused(400, "recipients array is required and must not be empty")
        if len(recipients) > MOST_RECIPIENTS:
            raise Refused(400, "Maximum 500 recipients per batch")
        if body["caller_id"] != NUMBER:
            raise Refused(400, "Invalid caller_id — not found in your service numbers")
        numbers = [one["phone_number"] for one in recipients]
        names = [one.get("name") for one in recipients]
        if body.get("recurrence_type", "none") != "none":
            return self._create_series(body, numbers, names)
        status = body.get("status") or "draft"
        batch = self._stored(body, numbers, status, names)
        if status in {"running", "scheduled"} and body.get("send_now"):
            self._work(batch)
        return {"batch": self._row(batch)}

    def _create_series(
        self, body: dict[str, Any], numbers: Sequence[str], names: Sequence[str | None]
    ) -> dict[str, Any]:
        """The first run dials, whatever `status` says."""
        parent = self._stored(body, numbers, "recurring", names)
        later = not body.get("send_now") and body.get("scheduled_at")
        run = self._stored(body, numbers, "scheduled" if later else "running", names)
        run["parent_batch_id"] = parent["id"]
        self._work(run)
        return {"batch": self._row(parent), "first_run": self._row(run)}

    def _stored(
        self, body: Mapping[str, Any], numbers: Sequence[str], status: str, names: Sequence[str | None] = ()
    ) -> dict[str, Any]:
        batch_id = str(uuid.uuid4())
        created = self.now + timedelta(seconds=len(self.batches))
        batch = {
            "id": batch_id,
            "name": body["name"],
            "caller_id": body["caller_id"],
            **{name: body.get(name, default) for name, default in _DEFAULTS.items()},
            "max_concurrency": min(max(int(body.get("max_concurrency", 1)), 1), 5),
            "status": status,
            "parent_batch_id": None,
            "created_at": created.isoformat(),
            "started_at": None,
            "completed_count": 0,
            "failed_count": 0,
        }
        self.batches[batch_id] = batch
        self.recipients[batch_id] = [
            {
                "id": str(uuid.uuid4()),
                "batch_id": batch_id,
                "phone_number": number,
                "name": names[at] if names else None,
                "status": "pending",
                "call_record_id": None,
                "error_message": None,
                "attempted_at": None,
                "completed_at": None,
                "sort_order": at,
            }
            for at, number in enumerate(numbers)
        ]
        return batch

    def _list(self, body: dict[str, Any]) -> dict[str, Any]:
        found = [
            batch
            for batch in reversed(self.batches.values())
            if batch["parent_batch_id"] is None and body.get("status") in {None, batch["status"]}
        ]
        offset = int(body.get("offset", 0))
        return {"batches": [self._row(batch) for batch in found[offset : offset + int(body.get("limit", 50))]]}

    def _get(self, body: dict[str, Any]) -> dict[str, Any]:
        batch = self._batch(body)
        runs: list[Any] | None = None
        if batch["status"] in {"recurring", "paused"}:
            runs = [{"id": run["id"], "status": run["status"]} for run in self._runs(batch)]
        return {"batch": self._row(batch), "recipients": self.recipients[batch["id"]], "runs": runs}

    def _update(self, body: dict[str, Any]) -> dict[str, Any]:
        batch = self._batch(body)
        if batch["status"] not in {"draft", "recurring"}:
            raise Refused(400, "Can only update draft or recurring batches")
        batch |= {name: value for name, value in body.items() if name in _UPDATABLE}
        return {"batch": self._row(batch)}

    def _start(self, body: dict[str, Any]) -> dict[str, Any]:
        batch = self._batch(body)
        if batch["status"] == "recurring":
            raise Refused(400, "Cannot start batch in recurring status")
        again = batch["status"] in {"cancelled", "failed", "completed"}
        if again:
            for recipient in self.recipients[batch["id"]]:
                recipient["status"] = "pending"
            batch |= {"completed_count": 0, "failed_count": 0}
        batch |= {"status": "running", "started_at": self.now.isoformat()}
        self._work(batch)
        return {"success": True, "message": "Batch re-started" if again else "Batch started"}

    def _cancel(self, body: dict[str, Any]) -> dict[str, Any]:
        batch = self._batch(body)
        series = batch["recurrence_type"] != "none"
        if series or batch["status"] in {"draft", "scheduled", "running", "paused"}:
            batch["status"] = "cancelled"
            for recipient in self.recipients[batch["id"]]:
                if recipient["status"] == "pending":
                    recipient["status"] = "skipped"
        for run in self._runs(batch):
            self._cancel({"batch_id": run["id"]})
        return {"success": True, "message": "Recurring series cancelled" if series else "Batch cancelled"}

    def _runs(self, series: dict[str, Any]) -> list[dict[str, Any]]:
        return [one for one in self.batches.values() if one["parent_batch_id"] == series["id"]]

    def _pause_series(self, body: dict[str, Any]) -> dict[str, Any]:
        self._move(body, "recurring", "paused")
        return {"success": True, "message": "Series paused — no new runs will be spawned"}

    def _resume_series(self, body: dict[str, Any]) -> dict[str, Any]:
        self._move(body, "paused", "recurring")
        return {"success": True, "message": "Series resumed"}

    def _move(self, body: dict[str, Any], before: str, after: str) -> None:
        """Succeeds even when nothing matched."""
        batch = self.batches.get(str(body.get("batch_id")))
        if batch is not None and batch["status"] == before and batch["recurrence_type"] != "none":
            batch["status"] = after

    def _batch(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if not body.get("batch_id"):
            raise Refused(400, "batch_id is required")
        batch = self.batches.get(str(body["batch_id"]))
        if batch is None:
            raise Refused(404, "Batch not found")
        return batch

    def _row(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """SQL TIME columns come back with seconds."""
        times = {name: f"{batch[name][:5]}:00" for name in ("window_start_time", "window_end_time")}
        return {**batch, **times, "total_recipients": len(self.recipients[batch["id"]])}

    async def _numbers(self, request: Request) -> Response:
        self._authenticate(request)
        number = {"phone_number": NUMBER, "friendly_name": "Main line", "agent_id": AGENT, "is_active": True}
        return JSONResponse({"numbers": [number], "total": 1})

    async def _agents(self, request: Request) -> Response:
        self._authenticate(request)
        agents = [{"id": AGENT, "name": "Reminder"}, {"id": OTHER_AGENT, "name": "Sales"}]
        return JSONResponse({"agents": agents, "total": len(agents)})

    def _authenticate(self, request: Request) -> None:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            raise Refused(401, "Unauthorized")


async def _answer_refusal(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response
