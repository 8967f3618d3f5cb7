"""The tests' own backend with transcripts is found by its entry point, and remembers what it was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal

import pytest
from pydantic import SecretStr

from batchcall_mcp.backends.base import Backend
from batchcall_mcp.backends.registry import backend_class
from batchcall_mcp.errors import NotFound
from batchcall_mcp.model import BatchCallRequest, BatchStatus, CallTask, TaskQuery, TaskStatus
from batchcall_mcp.money import Money
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials, open_client
from tests.vendors import talking
from tests.vendors.talking import Talking, installed

__all__ = ["installed"]  # a fixture

ANN, BOB, EVE, ZOE = (f"+1212555010{digit}" for digit in (0, 4, 7, 9))
REQUEST = BatchCallRequest(
    from_number=talking.NUMBER,
    tasks=tuple(
        CallTask(to_number=one, name="N", dynamic_variables={"first_name": "N"}) for one in (ANN, BOB, EVE, ZOE)
    ),
)


@pytest.fixture
async def vendor() -> Talking:
    return Talking()


@pytest.fixture
async def backend(vendor: Talking, installed: None) -> AsyncIterator[Backend]:
    async with vendor.served() as url, open_client() as client:
        credentials = Credentials(SecretStr(talking.KEY), SecretStr(talking.SECRET))
        yield backend_class("talking")(BackendHttp(client, url, 5), credentials)


async def test_a_call_is_read_with_what_was_said_in_it(vendor: Talking, backend: Backend) -> None:
    made = await backend.create(REQUEST)
    assert made.status is BatchStatus.DRAFT
    assert vendor.dialled == []
    started = await backend.start(made, None)
    assert started.status is BatchStatus.RUNNING
    vendor.finish(made.batch_call_id)
    assert (await backend.get(made.batch_call_id)).status is BatchStatus.COMPLETED
    (bob,) = (await backend.tasks(made.batch_call_id, TaskQuery(to_number=BOB))).tasks
    assert (bob.status, bob.choice, bob.duration_seconds) == (TaskStatus.COMPLETED, "call_back", 95.5)
    assert bob.cost == Money(Decimal("0.28"), "USD")
    assert bob.extracted["wants_callback"] == "yes"
    call = await backend.get_call(made.batch_call_id, bob.call_id or "")
    assert call.task == bob
    assert [turn.speaker for turn in call.transcript or ()] == ["agent", "person", "agent"]
    with pytest.raises(NotFound):
        await backend.get_call(made.batch_call_id, "call_99")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (TaskQuery(choice="confirmed"), [ANN]),
        (TaskQuery(answered_by="machine"), [EVE]),
        (TaskQuery(extracted={"wants_callback": "yes"}), [BOB]),
        (TaskQuery(extracted={"wants_callback": "yes"}, choice="confirmed"), []),
        (TaskQuery(statuses=frozenset({TaskStatus.NO_ANSWER})), [ZOE]),
    ],
)
async def test_tasks_are_found_by_what_came_of_them(
    vendor: Talking, backend: Backend, query: TaskQuery, found: list[str]
) -> None:
    made = await backend.create(REQUEST)
    await backend.start(made, None)
    vendor.finish(made.batch_call_id)
    assert [task.to_number for task in (await backend.tasks(made.batch_call_id, query)).tasks] == found


async def test_a_scheduled_one_is_called_when_its_time_comes(vendor: Talking, backend: Backend) -> None:
    made = await backend.create(REQUEST)
    at = vendor.now + timedelta(hours=1)
    assert (await backend.start(made, at)).status is BatchStatus.SCHEDULED
    vendor.tick(at)
    assert vendor.dialled == [ANN, BOB, EVE, ZOE]
