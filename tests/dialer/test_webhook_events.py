"""What a webhook is told while the engine dials: each thing that happened, once, and nothing that did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from standardwebhooks import Webhook

from batchcall_mcp.clock import utc_now
from tests.dialer.conftest import Caller, NewCaller, eventually, numbers
from tests.dialer.hooks import LOCAL
from tests.dialer.receiver import Receiver, receiving

BUSY_ONCE_MORE = {"retry_rules": [{"condition": "busy", "retry_timing": {"type": "AFTER", "duration_minutes": 0}}]}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture
async def caller(new_caller: NewCaller) -> AsyncIterator[Caller]:
    async with new_caller(webhook_addresses=LOCAL, clock=utc_now) as made:
        yield made


async def listening(caller: Caller, receiver: Receiver) -> Webhook:
    made = await caller.ask("POST", "/webhooks", {"url": receiver.url()})
    return Webhook(made["secret"])


def told(receiver: Receiver, webhook: Webhook) -> list[tuple[str, dict[str, Any]]]:
    events = [webhook.verify(one.body, one.headers) for one in receiver.received]
    assert len({one.message_id for one in receiver.received}) == len(receiver.received)
    return [(event["type"], event["data"]) for event in events]


async def test_a_batch_call_is_reported_from_its_time_to_its_end(caller: Caller, receiver: Receiver) -> None:
    """A busy person who is dialled again is told of once, when that is over."""
    webhook = await listening(caller, receiver)
    people = [*numbers(3), *numbers(1, 7), "+870773111630"]
    batch_call_id = await caller.create(
        people, trigger_timestamp=utc_now().timestamp() + 0.1, name="Reminders", **BUSY_ONCE_MORE
    )
    await caller.until_status(batch_call_id, "completed")
    await eventually(lambda: len(receiver.received) == 3 + len(people))
    events = told(receiver, webhook)
    assert Counter(event for event, _ in events) == {
        "batch_call.scheduled": 1,
        "batch_call.started": 1,
        "batch_call.completed": 1,
        "task.finished": len(people),
    }
    finished = {data["to_number"]: data for event, data in events if event == "task.finished"}
    assert {number: (data["status"], data["attempts"]) for number, data in finished.items()} == {
        **dict.fromkeys(numbers(3), ("completed", 1)),
        numbers(1, 7)[0]: ("busy", 2),
        "+870773111630": ("skipped", 0),
    }


async def test_pause_resume_and_cancel_are_reported_and_interrupted_calls_too(
    new_caller: NewCaller, receiver: Receiver
) -> None:
    options = {"webhook_addresses": LOCAL, "clock": utc_now}
    async with new_caller(**options, simulated_speed=1) as caller:
        webhook = await listening(caller, receiver)
        batch_call_id = await caller.create(numbers(5), send_now=True, max_concurrency=2)
        await eventually(lambda: len(caller.dialled()) == 2)
        for move in ("pause", "resume", "cancel"):
            await caller.ask("POST", f"/batch-call/{batch_call_id}/{move}")
    async with new_caller(**options):
        await eventually(lambda: len(receiver.received) == 6)
    events = told(receiver, webhook)
    assert Counter(event for event, _ in events) == {
        "batch_call.started": 1,
        "batch_call.paused": 1,
        "batch_call.resumed": 1,
        "batch_call.cancelled": 1,
        "task.finished": 2,
    }
    assert [data["status"] for event, data in events if event == "task.finished"] == ["interrupted"] * 2
