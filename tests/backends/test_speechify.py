"""Speechify: exact requests, and the traps of its documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from operator import attrgetter
from typing import Any, cast

import pytest

from batchcall_mcp.backends.base import At, Now
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.vendors.speechify import SpeechifyBackend
from batchcall_mcp.clock import utc_now
from batchcall_mcp.errors import InvalidInput, NotFound, OutcomeUnknown
from batchcall_mcp.model import BatchCallRequest, BatchStatus, CallTask, Counts, TaskQuery, TaskStatus, Turn
from batchcall_mcp.money import Money
from batchcall_mcp.testing import Case, opened
from batchcall_mcp.testing.scene import Scene
from tests.backends.recorder import CREDENTIALS, Status, Vendor
from tests.vendors import speechify
from tests.vendors.speechify import Speechify

CASE = Case(backend=SpeechifyBackend, fake=Speechify, app=attrgetter("recording"))
PEOPLE = ("+12025550101", "+12025550102", "+12025550103")
AT = utc_now().replace(microsecond=0) + timedelta(days=2)
PLAIN = BatchCallRequest(
    name="Reminders",
    from_number=speechify.NUMBER,
    agent_id=speechify.AGENT,
    tasks=(CallTask(to_number=PEOPLE[0], dynamic_variables={"name": "Ann"}), CallTask(to_number=PEOPLE[1])),
)
ROW: dict[str, Any] = {
    "id": "batch_01hs0000000000000000000000",
    "agent_id": "agent_01hs0000000000000000000000",
    "phone_number_id": None,
    "name": "Appointment reminders",
    "status": "running",
    "total": 3,
    "completed": 1,
    "failed": 1,
    "created_at": "2026-11-01T09:00:00Z",
    "updated_at": "2026-11-01T09:01:00Z",
    "started_at": "2026-11-01T09:00:01Z",
    "ended_at": None,
    "scheduled_at": None,
    "ringing_timeout_ms": None,
}
"""As the document has it."""


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with opened(CASE) as one:
        yield one


def fake_of(scene: Scene) -> Speechify:
    return cast("Speechify", scene.fake)


async def test_a_create_at_a_time_is_exactly_the_documented_request(scene: Scene) -> None:
    made = await scene.backend.create(replace(PLAIN, trigger_at=AT), "key-1")
    (asked,) = fake_of(scene).writes
    assert (asked.method, asked.path, asked.query) == ("POST", "/v1/agents/batch-calls", {})
    assert asked.headers["authorization"] == f"Bearer {speechify.KEY}"
    assert asked.headers["idempotency-key"] == "key-1"
    assert asked.json == {
        "name": "Reminders",
        "agent_id": speechify.AGENT,
        "phone_number_id": speechify.NUMBER_ID,
        "scheduled_at": AT.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "recipients": [{"phone": PEOPLE[0], "dynamic_variables": {"name": "Ann"}}, {"phone": PEOPLE[1]}],
    }
    assert (made.status, made.scheduled_at, made.from_number) == (BatchStatus.SCHEDULED, AT, speechify.NUMBER)
    assert scene.backend.dials(Operation.CREATE, replace(PLAIN, trigger_at=AT), None) == At(AT)


async def test_a_create_without_a_time_dials_and_is_not_called_scheduled(scene: Scene) -> None:
    made = await scene.backend.create(replace(PLAIN, from_number=None, send_now=True))
    (asked,) = fake_of(scene).writes
    assert asked.json.keys() == {"name", "agent_id", "recipients"}
    assert (made.status, made.backend_status) == (BatchStatus.UNKNOWN, "pending")
    assert fake_of(scene).dialled == list(PEOPLE[:2])
    assert scene.backend.dials(Operation.CREATE, PLAIN, None) == Now()


async def test_the_same_key_calls_nobody_twice(scene: Scene) -> None:
    first = await scene.backend.create(replace(PLAIN, send_now=True), "key-1")
    again = await scene.backend.create(replace(PLAIN, send_now=True), "key-1")
    assert again.batch_call_id == first.batch_call_id
    assert fake_of(scene).dialled == list(PEOPLE[:2])


async def test_a_conflict_of_keys_is_an_unknown_outcome(scene: Scene) -> None:
    """The first request with the key may be the one that is being asked for, and may still dial."""
    await scene.backend.create(replace(PLAIN, send_now=True), "key-1")
    with pytest.raises(OutcomeUnknown, match="idempotency_conflict") as unknown:
        await scene.backend.create(replace(PLAIN, name="Another", send_now=True), "key-1")
    assert "Nothing was changed" not in unknown.value.message


async def test_a_number_that_cannot_call_out_is_refused_before_anything_is_sent(scene: Scene) -> None:
    with pytest.raises(InvalidInput, match=r"from_number: .* is not an active number .* Nothing was sent"):
        await scene.backend.create(replace(PLAIN, from_number=speechify.INBOUND, send_now=True))
    assert fake_of(scene).writes == []


@pytest.mark.parametrize("member", ["type", "provider"])
async def test_numbers_without_capabilities_go_by_their_provider(member: str) -> None:
    rows = [
        {"id": f"phone_{kind}", "e164": f"+1415555010{at}", member: kind} for at, kind in enumerate(("livekit", "byoc"))
    ]
    answers: dict[str, Any] = {
        "GET /v1/agents/phone-numbers": {"numbers": rows, "next_cursor": None, "has_more": False}
    }
    async with Vendor(answers).http() as http:
        found = await SpeechifyBackend(http, CREDENTIALS).numbers()
    assert [one.from_number for one in found] == ["+14155550101"]


async def test_reserved_names_of_variables_are_refused(scene: Scene) -> None:
    task = CallTask(to_number=PEOPLE[0], dynamic_variables={"system__time": "9"})
    with pytest.raises(InvalidInput, match="system__time"):
        await scene.backend.create(replace(PLAIN, tasks=(task,), send_now=True))
    assert fake_of(scene).writes == []


async def test_completed_is_dialled_and_never_reached(scene: Scene) -> None:
    made = await scene.backend.create(replace(PLAIN, send_now=True))
    fake_of(scene).finish(made.batch_call_id, {PEOPLE[1]: "no_answer"})
    found = await scene.backend.get(made.batch_call_id)
    assert (found.status, found.counts) == (BatchStatus.COMPLETED, Counts(total=2, sent=2, failed=1))
    tasks = {one.to_number: one for one in (await scene.backend.tasks(made.batch_call_id, TaskQuery())).tasks}
    first, second = (tasks[number] for number in PEOPLE[:2])
    assert (first.status, first.backend_status, first.error) == (TaskStatus.PLACED, "completed", None)
    assert first.dynamic_variables == {"name": "Ann"}
    assert (second.status, second.error) == (TaskStatus.FAILED, "dial_no_answer")


async def test_a_running_batch_call_is_cancelled_and_what_was_placed_stays() -> None:
    async with opened(replace(CASE, fake=partial(Speechify, lines=1))) as scene:
        made = await scene.backend.create(replace(PLAIN, send_now=True))
        after = await scene.backend.cancel(await scene.backend.get(made.batch_call_id))
        fake_of(scene).finish(made.batch_call_id)
        tasks = (await scene.backend.tasks(made.batch_call_id, TaskQuery())).tasks
        asked = fake_of(scene).writes[-1]
    assert (asked.method, asked.path) == ("POST", f"/v1/agents/batch-calls/{made.batch_call_id}/cancel")
    assert asked.json is None
    assert after.status is BatchStatus.CANCELLED
    assert sorted(str(one.status) for one in tasks) == ["cancelled", "placed"]


async def test_a_batch_call_that_failed_is_read_with_its_reason(scene: Scene) -> None:
    """`error` in a success is no refusal: it is why the batch call failed."""
    made = await scene.backend.create(replace(PLAIN, trigger_at=AT))
    fake_of(scene).fail(made.batch_call_id, "the agent was deleted")
    found = await scene.backend.get(made.batch_call_id)
    assert found.status is BatchStatus.FAILED
    assert found.notes == ("Speechify says why it failed: the agent was deleted",)


async def test_the_documented_row_is_read() -> None:
    async with Vendor({f"GET /v1/agents/batch-calls/{ROW['id']}": ROW}).http() as http:
        found = await SpeechifyBackend(http, CREDENTIALS).get(ROW["id"])
    assert (found.name, found.agent_id, found.from_number) == (ROW["name"], ROW["agent_id"], None)
    assert (found.status, found.started_at) == (BatchStatus.RUNNING, datetime(2026, 11, 1, 9, 0, 1, tzinfo=UTC))
    assert found.counts == Counts(total=3, failed=1)  # one more may be ringing


async def test_an_error_in_the_answer_to_a_create_is_not_a_batch_call() -> None:
    vendor = Vendor({"POST /v1/agents/batch-calls": Status(202, {"error": {"code": "odd", "message": "no"}})})
    async with vendor.http() as http:
        with pytest.raises(OutcomeUnknown):
            await SpeechifyBackend(http, CREDENTIALS).create(replace(PLAIN, from_number=None, send_now=True))


async def test_what_was_said_in_a_call(scene: Scene) -> None:
    made = await scene.backend.create(replace(PLAIN, send_now=True))
    fake_of(scene).finish(made.batch_call_id, {PEOPLE[1]: "voicemail"})
    tasks = {one.to_number: one for one in (await scene.backend.tasks(made.batch_call_id, TaskQuery())).tasks}
    call_id = tasks[PEOPLE[0]].call_id or ""
    call = await scene.backend.get_call(made.batch_call_id, call_id)
    paths = [one.path for one in fake_of(scene).requests]
    assert f"/v1/agents/conversations/{call_id}" in paths
    assert paths[-1] == f"/v1/agents/conversations/{call_id}/messages"
    assert call.transcript == (
        Turn(speaker="agent", text="Hi, this is the clinic.", at_seconds=1),
        Turn(speaker="person", text="Yes, I will be there.", at_seconds=4),
    )
    assert call.recording_url == f"https://recordings.example/{call_id}.ogg"
    assert (call.task.status, call.ended_reason) == (TaskStatus.PLACED, "caller_hangup")
    assert (call.task.duration_seconds, call.task.cost) == (42, Money(Decimal("0.07"), "USD"))
    other = await scene.backend.get_call(made.batch_call_id, tasks[PEOPLE[1]].call_id or "")
    assert other.task.status is TaskStatus.VOICEMAIL


async def test_a_call_of_another_batch_call_is_not_one_of_its_own(scene: Scene) -> None:
    first = await scene.backend.create(replace(PLAIN, send_now=True))
    other = await scene.backend.create(replace(PLAIN, name="Other", send_now=True))
    (task, *_) = (await scene.backend.tasks(other.batch_call_id, TaskQuery())).tasks
    with pytest.raises(NotFound, match="not one of its calls"):
        await scene.backend.get_call(first.batch_call_id, task.call_id or "")
