"""Bland: exact requests, its documented answers, and the traps of its documents."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from operator import attrgetter
from typing import Any, cast

import pytest

from batchcall_mcp.backends.base import At, Now
from batchcall_mcp.backends.capabilities import Operation, unsupported
from batchcall_mcp.backends.vendors.bland import BlandBackend
from batchcall_mcp.errors import IllegalTransition, InvalidInput, NotFound, NotSupported, OutcomeUnknown
from batchcall_mcp.model import (
    Account,
    Agent,
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
from tests.vendors import bland
from tests.vendors.bland import Bland

CASE = Case(backend=BlandBackend, fake=Bland, app=attrgetter("recording"))
PEOPLE = ("+12025550101", "+12025550102", "+12025550103")
AT = datetime(2100, 12, 1, 9, 0, 0, 250_000, tzinfo=UTC)
PLAIN = BatchCallRequest(
    name="Reminders",
    from_number=bland.NUMBER,
    agent_id=bland.PATHWAY,
    tasks=(CallTask(to_number=PEOPLE[0], dynamic_variables={"name": "Ann"}), CallTask(to_number=PEOPLE[1])),
)
ID = "f6ef9224-0ec3-43e4-98a1-bb2a8765d110"
DOCUMENTED = {
    "id": ID,
    "user_id": "64602f94-d670-43d2-8474-bcdcb9522c4f",
    "base_prompt": '{"record":true,"task":"Say hello to the user"}',
    "created_at": "2025-05-08T19:28:12.627Z",
    "call_objects": [{"task": "Say hello to the user", "phone_number": "+1234567890"}],
    "description": "My first batch",
}
COMPLETE = {
    "id": "6398342c-d7de-4a11-ba86-3d86e5746699",
    "batch_id": ID,
    "org_id": "f52eb4b2-c8b6-44a6-a36c-2749aa930c86",
    "event_type": "complete",
    "timestamp": "2025-05-08T19:28:42.748Z",
    "payload": {"calls_total": 1, "calls_failed": 0, "calls_successful": 1},
}
PROGRESS = {
    "id": "a24616b4-be8f-42e4-be29-4c5ec005756c",
    "batch_id": ID,
    "org_id": "f52eb4b2-c8b6-44a6-a36c-2749aa930c86",
    "event_type": "lifecycle",
    "timestamp": "2025-05-08T19:28:15.560Z",
    "payload": {
        "message": "Requested: 3. Validated: 3. Dispatched: 1. CPS: 1.12.",
        "state_change": "in_progress",
    },
}


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with opened(CASE) as one:
        yield one


def fake_of(scene: Scene) -> Bland:
    return cast("Bland", scene.fake)


async def three(scene: Scene) -> BatchCall:
    """A batch call of three that dials, as it was read then."""
    tasks = tuple(CallTask(to_number=number) for number in PEOPLE)
    made = await scene.backend.create(replace(PLAIN, tasks=tasks, send_now=True))
    return await scene.backend.get(made.batch_call_id)


async def read(*logs: Any) -> BatchCall:
    """The documented batch with these logs, the newest first."""
    answers: dict[str, Any] = {
        f"GET /v2/batches/{ID}": {"data": DOCUMENTED, "errors": None},
        f"GET /v2/batches/{ID}/logs": {"data": list(logs), "errors": None},
    }
    async with Vendor(answers).http() as http:
        return await BlandBackend(http, CREDENTIALS).get(ID)


def lifecycle(word: str) -> dict[str, Any]:
    return {**PROGRESS, "payload": {"state_change": word}}


async def test_a_create_at_a_time_is_exactly_the_documented_request(scene: Scene) -> None:
    request = replace(PLAIN, trigger_at=AT)
    made = await scene.backend.create(request)
    (asked,) = fake_of(scene).writes
    assert (asked.method, asked.path) == ("POST", "/v2/batches/create")
    assert asked.headers["authorization"] == bland.KEY  # without Bearer
    start = "2100-12-01 09:00:01+00:00"  # whole seconds, never before what was confirmed
    assert asked.json == {
        "global": {"pathway_id": bland.PATHWAY, "from": bland.NUMBER, "answered_by_enabled": True},
        "call_objects": [
            {"phone_number": PEOPLE[0], "request_data": {"name": "Ann"}, "start_time": start},
            {"phone_number": PEOPLE[1], "start_time": start},
        ],
        "description": "Reminders",
    }
    assert (made.batch_call_id, made.status) == (fake_of(scene).batch_ids()[0], BatchStatus.SCHEDULED)
    assert scene.backend.dials(Operation.CREATE, request, None) == At(AT)
    assert fake_of(scene).dialled == []


async def test_a_create_without_a_time_dials_and_is_not_called_running(scene: Scene) -> None:
    made = await scene.backend.create(replace(PLAIN, send_now=True))
    assert all("start_time" not in one for one in fake_of(scene).writes[0].json["call_objects"])
    assert made.status is BatchStatus.UNKNOWN
    assert fake_of(scene).dialled == list(PEOPLE[:2])
    for request in (PLAIN, replace(PLAIN, send_now=True)):
        assert scene.backend.dials(Operation.CREATE, request, None) == Now()


async def test_a_time_that_is_past_means_now_and_is_not_sent(scene: Scene) -> None:
    made = await scene.backend.create(replace(PLAIN, trigger_at=datetime(2020, 1, 1, tzinfo=UTC)))
    assert all("start_time" not in one for one in fake_of(scene).writes[0].json["call_objects"])
    assert made.status is BatchStatus.UNKNOWN


async def test_without_a_caller_number_none_is_sent(scene: Scene) -> None:
    await scene.backend.create(replace(PLAIN, from_number=None, trigger_at=AT))
    assert "from" not in fake_of(scene).writes[0].json["global"]


async def test_a_name_of_a_retry_fits_and_refers(scene: Scene) -> None:
    made = await scene.backend.create(replace(PLAIN, trigger_at=AT, name="N" * 60, retry_of=ID))
    assert len(fake_of(scene).writes[0].json["description"]) == 60
    assert (await scene.backend.get(made.batch_call_id)).retry_of == ID
    assert unsupported(replace(PLAIN, name="N" * 61), BlandBackend.capabilities)


async def test_a_prompt_in_words_is_not_a_pathway(scene: Scene) -> None:
    with pytest.raises(InvalidInput, match="agent_id: Bland needs it"):
        await scene.backend.create(replace(PLAIN, agent_id=None, trigger_at=AT))
    assert fake_of(scene).requests == []


async def test_an_answer_without_a_batch_is_an_unknown_outcome() -> None:
    bodies: list[dict[str, Any]] = [{"data": None, "errors": [{"message": "odd"}]}, {"data": {}, "errors": None}]
    for body in bodies:
        async with Vendor({"POST /v2/batches/create": body}).http() as http:
            with pytest.raises(OutcomeUnknown):
                await BlandBackend(http, CREDENTIALS).create(replace(PLAIN, trigger_at=AT))


async def test_the_documented_batch_is_read_with_the_documented_logs() -> None:
    found = await read(COMPLETE, PROGRESS)
    assert found == BatchCall(
        batch_call_id=ID,
        status=BatchStatus.COMPLETED,
        name="My first batch",
        created_at=datetime(2025, 5, 8, 19, 28, 12, 627_000, tzinfo=UTC),
        completed_at=datetime(2025, 5, 8, 19, 28, 42, 748_000, tzinfo=UTC),
        counts=Counts(total=1),
    )


async def test_the_preview_of_calls_counts_nobody() -> None:
    found = await read(PROGRESS)
    assert (found.status, found.backend_status) == (BatchStatus.RUNNING, "in_progress")
    assert found.counts == Counts(total=3, sent=1)
    assert (await read()).counts == Counts()


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("validating", BatchStatus.UNKNOWN),
        ("dispatching", BatchStatus.RUNNING),
        ("in_progress", BatchStatus.RUNNING),
        ("in_progress_chunked", BatchStatus.RUNNING),
        ("waiting_for_scheduled_calls", BatchStatus.SCHEDULED),
        ("completed", BatchStatus.COMPLETED),
        ("completed_partial", BatchStatus.COMPLETED),
        ("failed", BatchStatus.FAILED),
        ("levitating", BatchStatus.UNKNOWN),
    ],
)
async def test_its_newest_log_says_its_state(word: str, status: BatchStatus) -> None:
    found = await read({**PROGRESS, "payload": {"message": "CPS: 1"}}, lifecycle(word), lifecycle("validating"))
    assert found.status is status
    assert found.backend_status == (word if word != status else None)


async def test_without_a_log_that_says_it_its_state_is_not_known() -> None:
    found = await read()
    assert (found.status, found.backend_status) == (BatchStatus.UNKNOWN, None)


async def test_logs_that_cannot_be_read_are_said() -> None:
    answers: dict[str, Any] = {
        f"GET /v2/batches/{ID}": {"data": DOCUMENTED, "errors": None},
        f"GET /v2/batches/{ID}/logs": Status(403, {"data": None, "errors": [{"message": "no"}]}),
    }
    async with Vendor(answers).http() as http:
        found = await BlandBackend(http, CREDENTIALS).get(ID)
    assert found.status is BatchStatus.UNKNOWN
    assert found.notes[0].startswith("Its state is not known. Could not read the logs")


async def test_a_start_time_is_only_shown_if_the_whole_preview_has_it(scene: Scene) -> None:
    made = await scene.backend.create(replace(PLAIN, trigger_at=AT))
    found = await scene.backend.get(made.batch_call_id)
    assert found.scheduled_at == datetime(2100, 12, 1, 9, 0, 1, tzinfo=UTC)
    assert (found.status, found.from_number, found.agent_id) == (
        BatchStatus.SCHEDULED,
        bland.NUMBER,
        bland.PATHWAY,
    )
    body = fake_of(scene).batches[made.batch_call_id].body
    body["call_objects"][1]["start_time"] = "2100-12-02 09:00:00+00:00"
    assert (await scene.backend.get(made.batch_call_id)).scheduled_at is None


async def test_people_are_shown_once_they_were_dialled(scene: Scene) -> None:
    waiting = await scene.backend.create(replace(PLAIN, trigger_at=AT))
    assert (await scene.backend.tasks(waiting.batch_call_id, TaskQuery())).tasks == ()
    running = await three(scene)
    outcomes = {PEOPLE[0]: "completed", PEOPLE[1]: "voicemail", PEOPLE[2]: "no_answer"}
    fake_of(scene).finish(running.batch_call_id, outcomes)
    page = await scene.backend.tasks(running.batch_call_id, TaskQuery())
    asked = fake_of(scene).requests[-1]
    assert (asked.path, asked.query) == (
        "/v1/calls",
        {"batch_id": running.batch_call_id, "ascending": "true", "from": "0", "limit": "500"},
    )
    assert [(one.to_number, one.status, one.answered_by) for one in page.tasks] == [
        (PEOPLE[0], TaskStatus.COMPLETED, "human"),
        (PEOPLE[1], TaskStatus.VOICEMAIL, "machine"),
        (PEOPLE[2], TaskStatus.NO_ANSWER, None),
    ]
    first = page.tasks[0]
    assert first.call_id == first.task_id
    assert (first.duration_seconds, first.cost, first.summary) == (
        45,
        Money(Decimal("0.068000"), "USD"),
        "She confirmed the appointment.",
    )


@pytest.mark.parametrize(
    ("call", "status", "word"),
    [
        ({"queue_status": "queued", "completed": False}, TaskStatus.PENDING, "queued"),
        ({"queue_status": "started", "completed": False, "answered_by": "human"}, TaskStatus.CALLING, "started"),
        ({"queue_status": "started", "completed": True}, TaskStatus.PLACED, "completed"),
        ({"queue_status": "complete", "completed": True}, TaskStatus.PLACED, "complete"),
        ({"queue_status": "complete", "answered_by": "unknown"}, TaskStatus.PLACED, "complete: unknown"),
        ({"queue_status": "complete", "answered_by": "human"}, TaskStatus.COMPLETED, "complete: human"),
        ({"queue_status": "complete", "status": "busy", "completed": True}, TaskStatus.BUSY, None),
        ({"queue_status": "call_error", "error_message": "no"}, TaskStatus.FAILED, "call_error"),
        ({"status": "failed", "answered_by": "human", "completed": True}, TaskStatus.FAILED, None),
        ({"queue_status": "levitating", "completed": True}, TaskStatus.UNKNOWN, "levitating"),
    ],
)
async def test_a_call_is_completed_only_if_a_person_answered(
    call: dict[str, Any], status: TaskStatus, word: str | None
) -> None:
    row = {"call_id": "c1", "batch_id": ID, "to": "+12025550101", **call}
    async with Vendor({"GET /v1/calls": {"total_count": 1, "count": 1, "calls": [row]}}).http() as http:
        (task,) = (await BlandBackend(http, CREDENTIALS).tasks(ID, TaskQuery())).tasks
    assert (task.status, task.backend_status) == (status, word)


@pytest.mark.parametrize("other", [None, "8b8e8c57-9e6e-4e4d-84d2-9826b2268c22"])
async def test_a_call_of_another_batch_call_or_of_none_is_not_one_of_its_tasks(other: str | None) -> None:
    """A server that does not filter gives all calls of the account."""
    rows: list[dict[str, Any]] = [
        {"call_id": "c1", "batch_id": other, "to": PEOPLE[0]},
        {"call_id": "c2", "batch_id": ID, "to": PEOPLE[1]},
    ]
    async with Vendor({"GET /v1/calls": {"count": 2, "calls": rows}}).http() as http:
        page = await BlandBackend(http, CREDENTIALS).tasks(ID, TaskQuery())
    assert [task.call_id for task in page.tasks] == ["c2"]


async def test_the_list_has_the_state_of_each(scene: Scene) -> None:
    running = await three(scene)
    waiting = await scene.backend.create(replace(PLAIN, trigger_at=AT))
    fake_of(scene).finish(running.batch_call_id)
    page = await scene.backend.list(ListQuery())
    assert [(one.batch_call_id, one.status) for one in page.batch_calls] == [
        (waiting.batch_call_id, BatchStatus.SCHEDULED),
        (running.batch_call_id, BatchStatus.COMPLETED),
    ]
    asked = next(one for one in fake_of(scene).requests if one.path == "/v2/batches/list")
    assert asked.query == {"take": "50", "skip": "0"}
    chosen = await scene.backend.list(ListQuery(status=BatchStatus.SCHEDULED))
    assert [one.batch_call_id for one in chosen.batch_calls] == [waiting.batch_call_id]


async def test_a_stop_that_was_accepted_is_a_cancel_whatever_the_logs_say(scene: Scene) -> None:
    running = await three(scene)
    stopped = await scene.backend.cancel(running)
    asked = fake_of(scene).writes[-1]
    assert (asked.method, asked.path) == ("POST", f"/v2/batches/{running.batch_call_id}/stop")
    assert asked.json is None
    assert stopped.status is BatchStatus.CANCELLED
    assert stopped.notes == ("Bland answered that it was stopped. Its logs say in_progress.",)
    assert (await scene.backend.get(running.batch_call_id)).status is BatchStatus.RUNNING


async def test_a_stop_of_a_scheduled_batch_call_keeps_everybody_from_being_dialled(scene: Scene) -> None:
    waiting = await scene.backend.create(replace(PLAIN, trigger_at=AT))
    await scene.backend.cancel(await scene.backend.get(waiting.batch_call_id))
    fake_of(scene).tick(datetime(2101, 1, 1, tzinfo=UTC))
    assert fake_of(scene).dialled == []


async def test_a_stop_that_names_errors_was_none() -> None:
    answers: dict[str, Any] = {
        f"POST /v2/batches/{ID}/stop": {"data": None, "errors": [{"error": "E", "message": "not running"}]}
    }
    current = BatchCall(batch_call_id=ID, status=BatchStatus.RUNNING)
    async with Vendor(answers).http() as http:
        with pytest.raises(OutcomeUnknown, match="error inside a success"):
            await BlandBackend(http, CREDENTIALS).cancel(current)


async def test_what_is_over_is_not_stopped(scene: Scene) -> None:
    running = await three(scene)
    fake_of(scene).finish(running.batch_call_id)
    over = await scene.backend.get(running.batch_call_id)
    with pytest.raises(IllegalTransition, match="only from running or scheduled"):
        scene.backend.check_state(Operation.CANCEL, None, over)


async def test_what_was_said_in_a_call(scene: Scene) -> None:
    running = await three(scene)
    fake_of(scene).finish(running.batch_call_id)
    (task, *_) = (await scene.backend.tasks(running.batch_call_id, TaskQuery())).tasks
    call = await scene.backend.get_call(running.batch_call_id, task.call_id or "")
    assert fake_of(scene).requests[-1].path == f"/v1/calls/{task.call_id}"
    assert call.transcript == (
        Turn(speaker="agent", text="Hi, this is the clinic.", at_seconds=0),
        Turn(speaker="person", text="I will be there.", at_seconds=4),
    )
    assert (call.task.status, call.task.summary, call.ended_reason) == (
        TaskStatus.COMPLETED,
        "She confirmed the appointment.",
        "USER",
    )
    other = await three(scene)
    with pytest.raises(NotFound, match="not one of its calls"):
        await scene.backend.get_call(other.batch_call_id, task.call_id or "")


async def test_the_account_has_numbers_of_both_kinds_and_pathways(scene: Scene) -> None:
    account = await scene.backend.account()
    assert {one.from_number for one in account.numbers or ()} == {bland.NUMBER, bland.INBOUND}
    assert [(one.agent_id, one.name) for one in account.agents or ()] == [
        (bland.PATHWAY, "Reminder"),
        (bland.OTHER_PATHWAY, "Sales"),
    ]


@pytest.mark.parametrize("answer", [[[{"id": "p1", "name": "N"}]], {"pathways": [{"id": "p1", "name": "N"}]}])
async def test_pathways_are_read_in_the_shapes_that_are_seen(answer: Any) -> None:
    async with Vendor({"GET /v1/pathway": answer}).http() as http:
        assert await BlandBackend(http, CREDENTIALS).agents() == (Agent(agent_id="p1", name="N"),)


async def test_the_documented_pathway_has_no_id_and_is_said_to_be_no_list() -> None:
    documented: dict[str, Any] = {"name": "Default Demo Pathway", "description": None, "nodes": [], "edges": []}
    async with Vendor({"GET /v1/pathway": documented}).http() as http:
        account: Account = await BlandBackend(http, CREDENTIALS).account()
    assert account.agents is None
    assert any("The agents could not be read" in note for note in account.notes)


async def test_a_base_prompt_that_is_none_says_nothing() -> None:
    for base in (None, 7, "", "{", json.dumps([1]), json.dumps({"from": {"a": 1}})):
        answers: dict[str, Any] = {
            f"GET /v2/batches/{ID}": {"data": {**DOCUMENTED, "base_prompt": base}, "errors": None},
            f"GET /v2/batches/{ID}/logs": {"data": [], "errors": None},
        }
        async with Vendor(answers).http() as http:
            found = await BlandBackend(http, CREDENTIALS).get(ID)
        assert (found.from_number, found.agent_id) == (None, None)


async def test_what_it_does_not_have_is_refused_without_a_request(scene: Scene) -> None:
    current = BatchCall(batch_call_id=ID, status=BatchStatus.RUNNING, name="N")
    for doing in (
        scene.backend.pause(current),
        scene.backend.resume(current),
        scene.backend.start(current, None),
        scene.backend.retry(current, ()),
        scene.backend.delete(current),
        scene.backend.update(current, BatchCallRequest(name="M")),
        scene.backend.append(current, PLAIN.tasks or ()),
    ):
        with pytest.raises(NotSupported, match="Nothing was sent"):
            await doing
    assert fake_of(scene).requests == []
