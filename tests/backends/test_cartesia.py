"""Cartesia: exact requests, one version of its API, and the traps of its documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any, cast

import pytest

from batchcall_mcp.backends.base import At
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.vendors.cartesia import CartesiaBackend
from batchcall_mcp.errors import IllegalTransition, InvalidInput, NotFound
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
from batchcall_mcp.testing import Case, opened
from batchcall_mcp.testing.scene import Scene
from tests.backends.recorder import CREDENTIALS, Vendor
from tests.vendors import cartesia
from tests.vendors.cartesia import Cartesia

CASE = Case(backend=CartesiaBackend, fake=Cartesia, app=attrgetter("recording"))
PEOPLE = ("+12025550101", "+12025550102", "+12025550103")
PLAIN = BatchCallRequest(
    name="March outreach",
    from_number=cartesia.NUMBER,
    agent_id=cartesia.AGENT,
    tasks=(CallTask(to_number=PEOPLE[0], dynamic_variables={"customer_id": "cust_123"}), CallTask(to_number=PEOPLE[1])),
)
BATCHES = "/agents/calls/batches"
DOCUMENTED: dict[str, Any] = {
    "id": "acb_PDWFN995PzAudChwFDqVZ2",
    "name": "March outreach",
    "agent_id": "agent_Fo7pKNBUwLZxrTd6jvhpaE",
    "from_number_id": "ap_Q8PRh7lXyZsawXJmN2KcT5",
    "region": "US",
    "target_concurrency_limit": 10,
    "status": "pending",
    "total_calls_scheduled": 2,
    "total_calls_dispatched": 0,
    "total_calls_finished": 0,
    "retry_count": 0,
    "created_at": "2026-03-01T12:00:00Z",
    "last_updated_at": "2026-03-01T12:00:00Z",
}


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with opened(CASE) as one:
        yield one


def fake_of(scene: Scene) -> Cartesia:
    return cast("Cartesia", scene.fake)


async def three(scene: Scene) -> BatchCall:
    """A batch call of three that dials, as it was read then."""
    tasks = tuple(CallTask(to_number=number) for number in PEOPLE)
    made = await scene.backend.create(replace(PLAIN, tasks=tasks, send_now=True))
    return await scene.backend.get(made.batch_call_id)


async def read(**members: Any) -> BatchCall:
    """The documented batch, with other members, as get() reads it."""
    row = {**DOCUMENTED, **members}
    async with Vendor({f"GET {BATCHES}/{row['id']}": row}).http() as http:
        return await CartesiaBackend(http, CREDENTIALS).get(row["id"])


async def test_a_create_at_a_time_is_exactly_the_documented_request(scene: Scene) -> None:
    at = scene.soon()
    request = replace(PLAIN, trigger_at=at, max_concurrency=10)
    made = await scene.backend.create(request)
    (asked,) = fake_of(scene).writes
    assert (asked.method, asked.path) == ("POST", BATCHES)
    assert asked.headers["authorization"] == f"Bearer {cartesia.KEY}"
    assert asked.headers["cartesia-version"] == "2026-08-14"
    assert asked.json == {
        "name": "March outreach",
        "agent_id": cartesia.AGENT,
        "from_number_id": cartesia.NUMBER_ID,
        "target_concurrency_limit": 10,
        "scheduled_at": at.isoformat(timespec="seconds"),
        "recipients": [
            {"to_number": PEOPLE[0], "dynamic_variables": {"customer_id": "cust_123"}},
            {"to_number": PEOPLE[1]},
        ],
    }
    assert asked.json["scheduled_at"].endswith("+00:00")
    assert (made.status, made.backend_status, made.scheduled_at) == (BatchStatus.SCHEDULED, "pending", at)
    assert scene.backend.dials(Operation.CREATE, request, None) == At(at)
    assert {one.headers["cartesia-version"] for one in fake_of(scene).requests} == {"2026-08-14"}


async def test_a_time_is_rounded_up_to_a_second(scene: Scene) -> None:
    at = scene.soon() + timedelta(milliseconds=250)
    await scene.backend.create(replace(PLAIN, trigger_at=at))
    sent = datetime.fromisoformat(fake_of(scene).writes[0].json["scheduled_at"])
    assert sent == at + timedelta(milliseconds=750)


async def test_a_create_now_says_nothing_about_a_time_or_lines(scene: Scene) -> None:
    made = await scene.backend.create(replace(PLAIN, send_now=True))
    assert set(fake_of(scene).writes[0].json) == {"name", "agent_id", "from_number_id", "recipients"}
    assert (made.status, made.backend_status) == (BatchStatus.UNKNOWN, "pending")


async def test_more_than_a_month_ahead_is_refused_before_anything_is_sent(scene: Scene) -> None:
    with pytest.raises(InvalidInput, match="more than Cartesia takes") as caught:
        await scene.backend.create(replace(PLAIN, trigger_at=datetime.now(UTC) + timedelta(days=31)))
    assert "30 days ahead" in str(caught.value.__dict__)
    assert fake_of(scene).requests == []


@pytest.mark.parametrize("name", ["system__caller_id", "secret__token", "2nd", "first name", "x" * 65, "naïve"])
async def test_a_name_that_no_variable_can_have_is_refused_before_anything_is_sent(scene: Scene, name: str) -> None:
    tasks = (CallTask(to_number=PEOPLE[0], dynamic_variables={name: "v"}),)
    with pytest.raises(InvalidInput, match="cannot be the name of a variable"):
        await scene.backend.create(replace(PLAIN, tasks=tasks, send_now=True))
    assert fake_of(scene).requests == []


@pytest.mark.parametrize("name", ["x" * 64, "_first", "system_id", "Name2"])
async def test_other_names_of_variables_are_taken(scene: Scene, name: str) -> None:
    tasks = (CallTask(to_number=PEOPLE[0], dynamic_variables={name: "v"}),)
    made = await scene.backend.create(replace(PLAIN, tasks=tasks, send_now=True))
    (task,) = (await scene.backend.tasks(made.batch_call_id, TaskQuery())).tasks
    assert task.dynamic_variables == {name: "v"}


async def test_the_values_of_an_older_version_are_read_too() -> None:
    row = {"id": "r1", "to_number": PEOPLE[0], "status": "queued", "metadata": {"customer_id": "cust_123"}}
    answers: dict[str, Any] = {f"GET {BATCHES}/{DOCUMENTED['id']}": {**DOCUMENTED, "recipients": [row]}}
    async with Vendor(answers).http() as http:
        (task,) = (await CartesiaBackend(http, CREDENTIALS).tasks(DOCUMENTED["id"], TaskQuery())).tasks
    assert (task.status, task.dynamic_variables) == (TaskStatus.PENDING, {"customer_id": "cust_123"})


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"scheduled_at": "2026-03-02T12:00:00Z"}, BatchStatus.SCHEDULED),
        ({}, BatchStatus.UNKNOWN),
        ({"scheduled_at": "2026-03-02T12:00:00Z", "admitted_at": "2026-03-02T12:00:01Z"}, BatchStatus.UNKNOWN),
        ({"scheduled_at": "2026-03-02T12:00:00Z", "total_calls_dispatched": 1}, BatchStatus.UNKNOWN),
        ({"scheduled_at": "2026-03-02T12:00:00Z", "retry_count": 1}, BatchStatus.UNKNOWN),
    ],
)
async def test_pending_is_scheduled_only_while_nobody_can_be_dialled(
    members: dict[str, Any], status: BatchStatus
) -> None:
    found = await read(**members)
    assert (found.status, found.backend_status) == (status, "pending")


async def test_a_batch_is_completed_only_when_its_calls_are_over(scene: Scene) -> None:
    """Everybody was dispatched: the vendor's word for that is completed."""
    running = await three(scene)
    assert (running.status, running.backend_status, running.counts.calling) == (BatchStatus.RUNNING, "completed", 3)
    (row,) = (await scene.backend.list(ListQuery())).batch_calls
    assert (row.status, row.backend_status, row.counts) == (BatchStatus.RUNNING, "completed", Counts(total=3))
    fake_of(scene).finish(running.batch_call_id)
    for found in (
        await scene.backend.get(running.batch_call_id),
        *(await scene.backend.list(ListQuery())).batch_calls,
    ):
        assert (found.status, found.backend_status) == (BatchStatus.COMPLETED, None)


async def test_dispatched_and_finished_are_not_reached(scene: Scene) -> None:
    fake_of(scene).unreachable.add(PEOPLE[0])
    running = await three(scene)
    fake_of(scene).finish(running.batch_call_id, {PEOPLE[1]: "busy"})
    found = await scene.backend.get(running.batch_call_id)
    counts = found.counts
    assert (counts.total, counts.sent, counts.completed, counts.busy, counts.failed) == (3, 2, 1, 1, 1)
    (first, second, _) = (await scene.backend.tasks(running.batch_call_id, TaskQuery())).tasks
    assert (first.status, first.call_id, first.error) == (TaskStatus.FAILED, None, "The number cannot be called.")
    assert (second.status, second.backend_status) == (TaskStatus.BUSY, "dial_busy")


async def test_a_batch_of_which_nobody_could_be_dialled_is_failed(scene: Scene) -> None:
    fake_of(scene).unreachable.update(PEOPLE)
    found = await three(scene)
    assert (found.status, found.counts.sent, found.counts.failed) == (BatchStatus.FAILED, 0, 3)
    scene.backend.check_state(Operation.RETRY, None, found)


async def test_a_retry_calls_everybody_again_who_was_not_reached(scene: Scene) -> None:
    running = await three(scene)
    fake_of(scene).finish(running.batch_call_id, {PEOPLE[0]: "no_answer", PEOPLE[1]: "busy"})
    over = await scene.backend.get(running.batch_call_id)
    again = await scene.backend.retry(over, ("of one person",))
    asked = fake_of(scene).writes[-1]
    assert (asked.method, asked.path, asked.json) == ("POST", f"{BATCHES}/{over.batch_call_id}/retry", None)
    assert fake_of(scene).dialled == [*PEOPLE, *PEOPLE[:2]]
    assert again.status is BatchStatus.RUNNING
    assert again.notes == ("Who was not reached was called again. Retries so far: 1.",)


async def test_who_waits_for_a_retry_is_pending_whatever_the_call_before_ended_with() -> None:
    row = {"id": "r1", "to_number": PEOPLE[0], "status": "queued", "end_reason": "dial_no_answer"}
    found = await read(recipients=[row], retry_count=1)
    assert (found.counts.pending, found.counts.no_answer) == (1, 0)


async def test_a_second_retry_while_calls_ring_is_never_sent(scene: Scene) -> None:
    running = await three(scene)
    fake_of(scene).finish(running.batch_call_id, otherwise="no_answer")
    over = await scene.backend.get(running.batch_call_id)
    await scene.backend.retry(over, ())
    written = len(fake_of(scene).writes)
    with pytest.raises(IllegalTransition, match=r"Nothing was sent.*watch_batch_call waits"):
        await scene.backend.retry(over, ())  # as it was read before
    assert len(fake_of(scene).writes) == written
    assert fake_of(scene).dialled == [*PEOPLE, *PEOPLE]


async def test_a_cancelled_batch_is_not_retried(scene: Scene) -> None:
    made = await scene.backend.create(replace(PLAIN, send_now=True, max_concurrency=1))
    running = await scene.backend.get(made.batch_call_id)
    assert running.status is BatchStatus.RUNNING
    cancelled = await scene.backend.cancel(running)
    asked = fake_of(scene).writes[-1]
    assert (asked.method, asked.path, asked.json) == ("POST", f"{BATCHES}/{made.batch_call_id}/cancel", None)
    assert (cancelled.status, cancelled.counts.cancelled, cancelled.counts.calling) == (BatchStatus.CANCELLED, 1, 1)
    with pytest.raises(IllegalTransition, match="use create_batch_call with tasks_from"):
        scene.backend.check_state(Operation.RETRY, None, cancelled)


async def test_the_list_is_followed_by_the_last_id(scene: Scene) -> None:
    made = [(await scene.backend.create(replace(PLAIN, trigger_at=scene.soon()))).batch_call_id for _ in range(3)]
    await scene.backend.create(replace(PLAIN, trigger_at=scene.soon(), agent_id=cartesia.OTHER_AGENT))
    page = await scene.backend.list(ListQuery(agent_id=cartesia.AGENT))
    assert [one.batch_call_id for one in page.batch_calls] == list(reversed(made))
    (asked,) = (one for one in fake_of(scene).requests if one.method == "GET" and one.path == BATCHES)
    assert asked.query == {"limit": "100", "agent_id": cartesia.AGENT}


@pytest.mark.parametrize("named", [{"next_page": "b1"}, {}])
async def test_a_page_goes_on_after_the_id_that_is_named_or_the_last_one(named: dict[str, str]) -> None:
    rows = [{**DOCUMENTED, "id": f"b{number}"} for number in range(3)]
    pages = [{"data": rows[:2], "has_more": True, **named}, {"data": rows[2:], "has_more": False}]
    numbers = {"data": [], "has_more": False}
    vendor = Vendor({f"GET {BATCHES}": pages, "GET /agents/phone-numbers": numbers})
    async with vendor.http() as http:
        page = await CartesiaBackend(http, CREDENTIALS).list(ListQuery(limit=10))
    assert [one.batch_call_id for one in page.batch_calls] == ["b0", "b1", "b2"]
    assert [asked.query.get("starting_after") for asked in vendor.asked[:2]] == [None, ["b1"]]


async def test_what_was_said_in_a_call(scene: Scene) -> None:
    running = await three(scene)
    fake_of(scene).finish(running.batch_call_id, {PEOPLE[1]: "no_answer"})
    first, second, _ = (await scene.backend.tasks(running.batch_call_id, TaskQuery())).tasks
    call = await scene.backend.get_call(running.batch_call_id, first.call_id or "")
    asked = next(one for one in fake_of(scene).requests if one.path == f"/agents/calls/{first.call_id}")
    assert asked.query == {"expand": "transcript"}
    assert call.transcript == (
        Turn(speaker="agent", text="Hi, this is the clinic.", at_seconds=1),
        Turn(speaker="person", text="Yes, I will be there.", at_seconds=4.5),
    )
    assert call.recording_url == f"{CASE.url}/agents/calls/{first.call_id}/audio"
    assert call.ended_reason == "client_hangup"
    assert (call.task.status, call.task.to_number, call.task.duration_seconds, call.task.summary, call.task.cost) == (
        TaskStatus.COMPLETED,
        PEOPLE[0],
        42,
        "She confirmed the appointment.",
        None,
    )
    missed = await scene.backend.get_call(running.batch_call_id, second.call_id or "")
    assert (missed.task.status, missed.transcript, missed.recording_url) == (TaskStatus.NO_ANSWER, (), None)


async def test_a_call_of_another_batch_call_is_not_one_of_its_own(scene: Scene) -> None:
    running, other = await three(scene), await three(scene)
    (task, *_) = (await scene.backend.tasks(other.batch_call_id, TaskQuery())).tasks
    with pytest.raises(NotFound, match="not one of its calls"):
        await scene.backend.get_call(running.batch_call_id, task.call_id or "")


@pytest.mark.parametrize(("older", "paths"), [(False, {"/agents/phone-numbers", "/v1/agents"}), (True, {"/agents"})])
async def test_the_account_has_all_numbers_and_agents(older: bool, paths: set[str]) -> None:
    async with opened(replace(CASE, fake=partial(Cartesia, lists_agents_only=older))) as scene:
        account = await scene.backend.account()
        numbers = [(one.from_number, one.number_id) for one in account.numbers or ()]
        assert numbers == [
            (cartesia.NUMBER, cartesia.NUMBER_ID),
            (cartesia.OTHER_NUMBER, cartesia.OTHER_NUMBER_ID),
        ]
        assert [one.agent_id for one in account.agents or ()] == [cartesia.AGENT, cartesia.OTHER_AGENT]
        assert {one.path for one in fake_of(scene).requests} >= paths
