"""ElevenLabs: exact requests, its documented answers, and the traps of its documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any, cast

import pytest

from batchcall_mcp.backends.base import At, Now
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.vendors.elevenlabs import ElevenLabsBackend
from batchcall_mcp.errors import IllegalTransition, InvalidInput, NotFound, NotSupported, PermissionDenied
from batchcall_mcp.model import (
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    CallTask,
    Counts,
    ListQuery,
    TaskQuery,
    TaskStatus,
    Turn,
)
from batchcall_mcp.money import Money
from batchcall_mcp.testing import Case, opened
from batchcall_mcp.testing.scene import Scene
from tests.backends.recorder import CREDENTIALS, Status, Vendor
from tests.vendors import elevenlabs
from tests.vendors.elevenlabs import ElevenLabs

CASE = Case(backend=ElevenLabsBackend, fake=ElevenLabs, app=attrgetter("recording"))
PEOPLE = ("+12025550101", "+12025550102", "+12025550103")
AT = datetime(2100, 12, 1, 9, 0, 0, 250_000, tzinfo=UTC)
PLAIN = BatchCallRequest(
    name="Reminders",
    from_number=elevenlabs.NUMBER,
    agent_id=elevenlabs.AGENT,
    tasks=(CallTask(to_number=PEOPLE[0], dynamic_variables={"name": "Ann"}), CallTask(to_number=PEOPLE[1])),
)
DOCUMENTED: dict[str, Any] = {
    "id": "batchcall_1234567890abcdef",
    "phone_number_id": "phone_abc123xyz789",
    "phone_provider": "twilio",
    "whatsapp_params": None,
    "name": "Customer Satisfaction Survey April 2024",
    "agent_id": "agent_987654321",
    "branch_id": "branch_nyc_001",
    "environment": "production",
    "created_at_unix": 1712000000,
    "scheduled_time_unix": 1712086400,
    "timezone": "America/New_York",
    "total_calls_dispatched": 0,
    "total_calls_scheduled": 150,
    "total_calls_finished": 0,
    "last_updated_at_unix": 1712000000,
    "status": "pending",
    "retry_count": 0,
    "telephony_call_config": {"ringing_timeout_secs": 60, "twilio_call_recording_enabled": False},
    "target_concurrency_limit": 5,
    "agent_name": "Survey",
    "branch_name": "NYC",
}


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with opened(CASE) as one:
        yield one


def fake_of(scene: Scene) -> ElevenLabs:
    return cast("ElevenLabs", scene.fake)


async def three(scene: Scene, **changes: Any) -> BatchCall:
    """A batch call of three that dials, as it was read then."""
    tasks = tuple(CallTask(to_number=number) for number in PEOPLE)
    made = await scene.backend.create(replace(PLAIN, tasks=tasks, send_now=True, **changes))
    return await scene.backend.get(made.batch_call_id)


async def test_a_create_at_a_time_is_exactly_the_documented_request(scene: Scene) -> None:
    request = replace(PLAIN, trigger_at=AT, timezone="America/New_York", max_concurrency=5)
    made = await scene.backend.create(request)
    (asked,) = fake_of(scene).writes
    assert (asked.method, asked.path) == ("POST", "/v1/convai/batch-calling/submit")
    assert asked.headers["xi-api-key"] == elevenlabs.KEY
    assert "authorization" not in asked.headers
    assert asked.json == {
        "call_name": "Reminders",
        "agent_id": elevenlabs.AGENT,
        "agent_phone_number_id": elevenlabs.NUMBER_ID,
        "scheduled_time_unix": int(AT.timestamp()) + 1,  # whole seconds, never before what was confirmed
        "timezone": "America/New_York",
        "target_concurrency_limit": 5,
        "recipients": [
            {
                "phone_number": PEOPLE[0],
                "conversation_initiation_client_data": {"dynamic_variables": {"name": "Ann"}},
            },
            {"phone_number": PEOPLE[1]},
        ],
    }
    assert (made.status, made.backend_status, made.from_number) == (BatchStatus.SCHEDULED, "pending", PLAIN.from_number)
    assert made.scheduled_at == AT.replace(microsecond=0) + timedelta(seconds=1)
    assert scene.backend.dials(Operation.CREATE, request, None) == At(AT)
    assert fake_of(scene).dialled == []


async def test_a_create_without_a_time_dials_and_is_not_called_scheduled(scene: Scene) -> None:
    made = await scene.backend.create(replace(PLAIN, send_now=True))
    (asked,) = fake_of(scene).writes
    assert "scheduled_time_unix" not in asked.json
    assert (made.status, made.backend_status) == (BatchStatus.UNKNOWN, "pending")
    assert fake_of(scene).dialled == list(PEOPLE[:2])
    for request in (PLAIN, replace(PLAIN, send_now=True)):
        assert scene.backend.dials(Operation.CREATE, request, None) == Now()


async def test_a_time_that_is_past_means_now_and_is_not_sent(scene: Scene) -> None:
    made = await scene.backend.create(replace(PLAIN, trigger_at=datetime(2020, 1, 1, tzinfo=UTC)))
    assert "scheduled_time_unix" not in fake_of(scene).writes[0].json
    assert made.status is BatchStatus.UNKNOWN


@pytest.mark.parametrize("number", [elevenlabs.INBOUND, "+14155559999"])
async def test_a_number_that_cannot_call_out_is_refused_before_anything_is_sent(scene: Scene, number: str) -> None:
    with pytest.raises(InvalidInput, match=r"from_number: .* is not an active number .* Nothing was sent"):
        await scene.backend.create(replace(PLAIN, from_number=number, send_now=True))
    assert fake_of(scene).writes == []


async def test_a_number_without_the_deprecated_field_can_call_out(scene: Scene) -> None:
    await scene.backend.create(replace(PLAIN, from_number=elevenlabs.OTHER_NUMBER, trigger_at=AT))
    assert fake_of(scene).writes[0].json["agent_phone_number_id"] == elevenlabs.OTHER_NUMBER_ID


async def test_the_terms_of_batch_calling_are_named(scene: Scene) -> None:
    fake_of(scene).agreed = False
    with pytest.raises(PermissionDenied, match="Accept the batch calling terms"):
        await scene.backend.create(replace(PLAIN, trigger_at=AT))


async def test_the_documented_row_is_read_with_all_that_it_says() -> None:
    numbers = [{"phone_number": "+14155550100", "label": "L", "phone_number_id": "phone_abc123xyz789"}]
    answers: dict[str, Any] = {
        "GET /v1/convai/batch-calling/b1": {**DOCUMENTED, "id": "b1"},
        "GET /v1/convai/phone-numbers": [numbers],
    }
    vendor = Vendor(answers)
    async with vendor.http() as http:
        found = await ElevenLabsBackend(http, CREDENTIALS).get("b1")
    assert found == BatchCall(
        batch_call_id="b1",
        status=BatchStatus.SCHEDULED,
        backend_status="pending",
        name="Customer Satisfaction Survey April 2024",
        from_number="+14155550100",
        agent_id="agent_987654321",
        timezone="America/New_York",
        scheduled_at=datetime(2024, 4, 2, 19, 33, 20, tzinfo=UTC),
        created_at=datetime(2024, 4, 1, 19, 33, 20, tzinfo=UTC),
        max_concurrency=5,
        counts=Counts(total=150, sent=0),
    )


@pytest.mark.parametrize("numbers", [Status(403, {"detail": {"status": "missing_permissions", "message": "no"}}), [[]]])
async def test_a_caller_number_that_cannot_be_read_is_not_its_id(numbers: Any) -> None:
    answers: dict[str, Any] = {
        "GET /v1/convai/batch-calling/b1": {**DOCUMENTED, "id": "b1"},
        "GET /v1/convai/phone-numbers": numbers,
    }
    async with Vendor(answers).http() as http:
        assert (await ElevenLabsBackend(http, CREDENTIALS).get("b1")).from_number is None


@pytest.mark.parametrize(("dispatched", "scheduled"), [(1, 1712086400), (0, 1712000000)])
async def test_pending_is_scheduled_only_while_nobody_is_dialled(dispatched: int, scheduled: int) -> None:
    row = {**DOCUMENTED, "id": "b1", "total_calls_dispatched": dispatched, "scheduled_time_unix": scheduled}
    async with Vendor({"GET /v1/convai/batch-calling/b1": row}).http() as http:
        found = await ElevenLabsBackend(http, CREDENTIALS).get("b1")
    assert (found.status, found.backend_status) == (BatchStatus.UNKNOWN, "pending")


async def test_what_is_finished_is_not_called_completed(scene: Scene) -> None:
    running = await three(scene)
    outcomes = {PEOPLE[0]: "no_answer", PEOPLE[1]: "voicemail"}
    fake_of(scene).finish(running.batch_call_id, outcomes)
    found = await scene.backend.get(running.batch_call_id)
    counts = found.counts
    assert (counts.total, counts.completed, counts.failed, counts.voicemail) == (3, 1, 1, 1)
    assert (counts.no_answer, counts.busy) == (None, None)
    (row,) = (await scene.backend.list(ListQuery())).batch_calls
    assert row.counts == Counts(total=3, sent=3)


async def test_tasks_come_with_their_variables_and_words(scene: Scene) -> None:
    made = await scene.backend.create(replace(PLAIN, trigger_at=AT))
    fake_of(scene).say_task_status(made.batch_call_id, PEOPLE[1], "levitating")
    page = await scene.backend.tasks(made.batch_call_id, TaskQuery())
    first, second = page.tasks
    assert (first.to_number, first.dynamic_variables, first.status) == (PEOPLE[0], {"name": "Ann"}, TaskStatus.PENDING)
    assert first.task_id is not None
    assert first.task_id.startswith("rcpt_")
    assert (second.status, second.backend_status) == (TaskStatus.UNKNOWN, "levitating")
    one = await scene.backend.tasks(made.batch_call_id, TaskQuery(limit=1))
    rest = await scene.backend.tasks(made.batch_call_id, TaskQuery(limit=1, cursor=one.next_cursor))
    assert [task.to_number for task in (*one.tasks, *rest.tasks)] == list(PEOPLE[:2])
    assert rest.next_cursor is None


async def test_a_retry_calls_everybody_again_whose_call_failed(scene: Scene) -> None:
    running = await three(scene)
    fake_of(scene).finish(running.batch_call_id, {PEOPLE[0]: "no_answer", PEOPLE[1]: "busy"})
    over = await scene.backend.get(running.batch_call_id)
    scene.backend.check_state(Operation.RETRY, None, over)
    assert scene.backend.dials(Operation.RETRY, None, over) == Now()
    again = await scene.backend.retry(over, ("rcpt_of_one_person",))
    asked = fake_of(scene).writes[-1]
    assert (asked.method, asked.path) == ("POST", f"/v1/convai/batch-calling/{over.batch_call_id}/retry")
    assert asked.json is None
    assert fake_of(scene).dialled == [*PEOPLE, *PEOPLE[:2]]
    assert again.status is BatchStatus.RUNNING
    assert again.notes == ("Its people whose call failed were called again. Retries so far: 1.",)


async def test_a_second_retry_while_calls_ring_is_never_sent(scene: Scene) -> None:
    running = await three(scene)
    fake_of(scene).finish(running.batch_call_id, otherwise="no_answer")
    over = await scene.backend.get(running.batch_call_id)
    await scene.backend.retry(over, ())
    written = len(fake_of(scene).writes)
    with pytest.raises(IllegalTransition, match=r"it is in_progress.*Nothing was sent.*call people twice"):
        await scene.backend.retry(over, ())  # as it was read before
    assert len(fake_of(scene).writes) == written
    assert fake_of(scene).dialled == [*PEOPLE, *PEOPLE]


@pytest.mark.parametrize("status", sorted(set(BatchStatus) - {BatchStatus.COMPLETED, BatchStatus.FAILED}))
async def test_a_retry_is_refused_from_every_other_state(scene: Scene, status: BatchStatus) -> None:
    current = BatchCall(batch_call_id="b1", status=status, name="N")
    with pytest.raises(IllegalTransition, match="Nothing was sent"):
        scene.backend.check_state(Operation.RETRY, None, current)


async def test_a_cancel_is_sent_for_what_runs_and_for_a_word_that_nobody_knows(scene: Scene) -> None:
    running = await three(scene)
    cancelled = await scene.backend.cancel(running)
    asked = fake_of(scene).writes[-1]
    assert (asked.method, asked.path) == ("POST", f"/v1/convai/batch-calling/{running.batch_call_id}/cancel")
    assert cancelled.status is BatchStatus.CANCELLED
    assert cancelled.counts.cancelled == 3
    odd = replace(running, status=BatchStatus.UNKNOWN, backend_status="levitating")
    scene.backend.check_state(Operation.CANCEL, None, odd)
    with pytest.raises(IllegalTransition, match="only from running or scheduled"):
        scene.backend.check_state(Operation.CANCEL, None, cancelled)


async def test_a_delete_has_no_answer_and_waits_for_the_end(scene: Scene) -> None:
    running = await three(scene)
    with pytest.raises(IllegalTransition):
        scene.backend.check_state(Operation.DELETE, None, running)
    over = await scene.backend.cancel(running)
    scene.backend.check_state(Operation.DELETE, None, over)
    await scene.backend.delete(over)
    asked = fake_of(scene).writes[-1]
    assert (asked.method, asked.path) == ("DELETE", f"/v1/convai/batch-calling/{running.batch_call_id}")
    assert fake_of(scene).batches == {}


async def test_the_list_is_followed_by_the_vendors_own_cursor(scene: Scene) -> None:
    made = [(await scene.backend.create(replace(PLAIN, trigger_at=AT))).batch_call_id for _ in range(3)]
    other = replace(PLAIN, trigger_at=AT, agent_id=elevenlabs.OTHER_AGENT)
    await scene.backend.create(other)
    found, cursor = [], None
    for _ in range(3):
        page = await scene.backend.list(ListQuery(limit=1, agent_id=elevenlabs.AGENT, cursor=cursor))
        found += [one.batch_call_id for one in page.batch_calls]
        cursor = page.next_cursor
    assert found == list(reversed(made))
    assert cursor is None
    asked = [one for one in fake_of(scene).requests if one.path.endswith("/workspace")]
    assert all(one.query["agent_id"] == elevenlabs.AGENT and one.query["limit"] == "100" for one in asked)


async def test_a_page_of_the_list_goes_on_where_the_vendor_says() -> None:
    rows = [{**DOCUMENTED, "id": f"b{number}"} for number in range(3)]
    pages = [
        {"batch_calls": rows[:2], "next_doc": "doc-2", "has_more": True},
        {"batch_calls": rows[2:], "next_doc": "doc-3", "has_more": False},
    ]
    vendor = Vendor({"GET /v1/convai/batch-calling/workspace": pages, "GET /v1/convai/phone-numbers": [[]]})
    async with vendor.http() as http:
        page = await ElevenLabsBackend(http, CREDENTIALS).list(ListQuery(limit=10))
    assert [one.batch_call_id for one in page.batch_calls] == ["b0", "b1", "b2"]
    assert page.next_cursor is None
    assert [asked.query.get("last_doc") for asked in vendor.asked[:2]] == [None, ["doc-2"]]


async def test_what_was_said_in_a_call(scene: Scene) -> None:
    running = await three(scene)
    fake_of(scene).finish(running.batch_call_id, {PEOPLE[1]: "voicemail"})
    first, second, _ = (await scene.backend.tasks(running.batch_call_id, TaskQuery())).tasks
    call = await scene.backend.get_call(running.batch_call_id, first.call_id or "")
    assert fake_of(scene).requests[-1].path == f"/v1/convai/conversations/{first.call_id}"
    assert call.transcript == (
        Turn(speaker="agent", text="Hi, this is the clinic.", at_seconds=1),
        Turn(speaker="person", text="Yes, I will be there.", at_seconds=4),
    )
    assert call.ended_reason == "Client ended call"
    assert call.recording_url == f"{CASE.url}/v1/convai/conversations/{first.call_id}/audio"
    task = call.task
    assert (task.to_number, task.task_id, task.call_id) == (PEOPLE[0], first.task_id, first.call_id)
    assert (task.status, task.duration_seconds, task.summary) == (
        TaskStatus.COMPLETED,
        42,
        "She confirmed the appointment.",
    )
    assert task.cost == Money(Decimal("0.062500"), "USD")  # not the 310 credits
    assert task.extracted == {"wants_callback": "no"}
    missed = await scene.backend.get_call(running.batch_call_id, second.call_id or "")
    assert (missed.task.status, missed.transcript, missed.recording_url) == (TaskStatus.VOICEMAIL, (), None)


async def test_a_call_of_another_batch_call_is_not_one_of_its_own(scene: Scene) -> None:
    running, other = await three(scene), await three(scene)
    (task, *_) = (await scene.backend.tasks(other.batch_call_id, TaskQuery())).tasks
    with pytest.raises(NotFound, match="not one of its calls"):
        await scene.backend.get_call(running.batch_call_id, task.call_id or "")


async def test_the_account_has_the_numbers_that_can_call_and_all_agents(scene: Scene) -> None:
    account = await scene.backend.account()
    assert [one.from_number for one in account.numbers or ()] == [elevenlabs.NUMBER, elevenlabs.OTHER_NUMBER]
    assert [one.agent_id for one in account.agents or ()] == [elevenlabs.AGENT, elevenlabs.OTHER_AGENT]
    asked = {one.path: one.query for one in fake_of(scene).requests}
    assert asked == {"/v1/convai/phone-numbers": {}, "/v1/convai/agents": {"page_size": "100"}}


async def test_what_it_does_not_have_is_refused_without_a_request(scene: Scene) -> None:
    current = BatchCall(batch_call_id="b1", status=BatchStatus.RUNNING, name="N")
    for doing in (
        scene.backend.pause(current),
        scene.backend.resume(current),
        scene.backend.start(current, None),
        scene.backend.update(current, BatchCallRequest(name="M")),
        scene.backend.append(current, PLAIN.tasks or ()),
    ):
        with pytest.raises(NotSupported, match="Nothing was sent"):
            await doing
    assert fake_of(scene).requests == []
