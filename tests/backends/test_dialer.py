"""Our adapter against our real dialer: both sides of the dialect, in one process, without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from pydantic import SecretStr

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.rest_api.dialer import DialerBackend, open_dialer_client
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.errors import AuthenticationFailed, IllegalTransition, InvalidInput, NotFound
from batchcall_mcp.model import (
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    CallingWindow,
    CallTask,
    ListQuery,
    RetryPolicy,
    TaskQuery,
    TaskStatus,
)
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials

FROM = "+14155550100"
ALWAYS = CallingWindow(start="00:00", end="24:00", timezone="UTC")
TASKS = tuple(
    CallTask(to_number=f"+1415555012{last}", name=f"P{last}", dynamic_variables={"n": str(last)}, timezone="UTC")
    for last in (0, 7, 9)
)
REQUEST = BatchCallRequest(name="B", from_number=FROM, tasks=TASKS, window=ALWAYS)


@pytest.fixture
async def dialer(tmp_path: Path) -> AsyncIterator[EmbeddedDialer]:
    dialer = EmbeddedDialer(tmp_path, simulated_speed=10_000)
    await dialer.start()
    yield dialer
    await dialer.aclose()


@pytest.fixture
async def backend(dialer: EmbeddedDialer) -> AsyncIterator[DialerBackend]:
    async with open_dialer_client(dialer.app) as client:
        key, secret = dialer.credentials
        yield DialerBackend(
            BackendHttp(client, DialerBackend.default_url, 10), Credentials(SecretStr(key), SecretStr(secret))
        )


async def until(backend: DialerBackend, batch_call_id: str, reached: Callable[[BatchCall], bool]) -> BatchCall:
    with anyio.fail_after(60):
        while True:
            found = await backend.get(batch_call_id)
            if reached(found):
                return found
            await anyio.sleep(0.02)


async def test_a_draft_is_made_changed_started_and_its_outcomes_are_told(backend: DialerBackend) -> None:
    made = await backend.create(replace(REQUEST, max_concurrency=3, retry_of="b0"), "key-1")
    assert (made.status, made.counts.total, made.window, made.max_concurrency, made.retry_of) == (
        BatchStatus.DRAFT,
        3,
        ALWAYS,
        3,
        "b0",
    )
    again = await backend.create(replace(REQUEST, max_concurrency=3, retry_of="b0"), "key-1")
    assert again.batch_call_id == made.batch_call_id
    policy = RetryPolicy(max_retries=0, on=("busy", "failed"), after_minutes=1)
    changed = await backend.update(made, BatchCallRequest(name="C", max_concurrency=2, retry=policy))
    assert (changed.name, changed.max_concurrency) == ("C", 2)
    started = await backend.start(changed, None)
    assert started.status is BatchStatus.RUNNING
    done = await until(backend, made.batch_call_id, lambda found: found.status is BatchStatus.COMPLETED)
    counts = done.counts
    assert (counts.completed, counts.busy, counts.failed, counts.not_reached, counts.pending) == (1, 1, 1, 2, 0)
    assert any("no phone rings" in note for note in done.notes)
    page = await backend.tasks(made.batch_call_id, TaskQuery(statuses=frozenset({TaskStatus.BUSY})))
    (busy,) = page.tasks
    assert (busy.to_number, busy.name, dict(busy.dynamic_variables)) == ("+14155550127", "P7", {"n": "7"})
    assert busy.task_id is not None
    retried = await backend.retry(done, (busy.task_id,), "key-2")
    assert retried.status is BatchStatus.RUNNING
    again = await until(backend, made.batch_call_id, lambda found: found.status is BatchStatus.COMPLETED)
    page = await backend.tasks(made.batch_call_id, TaskQuery(to_number="+14155550127"))
    assert [task.attempts for task in page.tasks] == [2]
    with pytest.raises(IllegalTransition, match="Nothing was sent"):
        backend.check_state(Operation.START, None, again)


async def test_who_was_called_three_times_today_is_held_back_for_a_day(backend: DialerBackend) -> None:
    began = datetime.now(UTC)
    for _ in range(3):
        made = await backend.create(replace(REQUEST, tasks=TASKS[:1], send_now=True))
        await until(backend, made.batch_call_id, lambda found: found.status is BatchStatus.COMPLETED)
    draft = await backend.create(REQUEST)
    found = await backend.get(draft.batch_call_id)
    (held,) = found.held_back
    assert (held.reason, held.calls) == ("daily_cap", 1)
    assert held.until is not None
    assert began <= held.until - timedelta(days=1) <= datetime.now(UTC) + timedelta(milliseconds=1)


async def test_a_replacement_of_the_tasks_keeps_everything_else(backend: DialerBackend) -> None:
    window = CallingWindow(start="09:00", end="12:00", days=("mon", "tue"), timezone="Europe/Rome")
    policy = RetryPolicy(max_retries=2, on=("no_answer", "voicemail"), at="10:30")
    made = await backend.create(replace(REQUEST, window=window, retry=policy, agent_id="a", retry_of="b0"))
    changed = await backend.update(made, BatchCallRequest(tasks=TASKS[:1]))
    assert changed.counts.total == 1
    kept = (changed.status, changed.window, changed.retry, changed.agent_id, changed.retry_of, changed.name)
    assert kept == (BatchStatus.DRAFT, window, policy, "a", "b0", "B")


async def test_a_scheduled_one_is_moved_paused_resumed_cancelled_and_deleted(backend: DialerBackend) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    made = await backend.create(replace(REQUEST, trigger_at=at))
    assert (made.status, made.scheduled_at) == (BatchStatus.SCHEDULED, at)
    moved = await backend.start(made, at + timedelta(hours=1))
    assert moved.scheduled_at == at + timedelta(hours=1)
    paused = await backend.pause(moved)
    assert paused.status is BatchStatus.PAUSED
    resumed = await backend.resume(paused)
    assert resumed.status is BatchStatus.SCHEDULED
    cancelled = await backend.cancel(resumed)
    assert (cancelled.status, cancelled.counts.cancelled) == (BatchStatus.CANCELLED, 3)
    await backend.delete(cancelled)
    with pytest.raises(NotFound):
        await backend.get(made.batch_call_id)
    with pytest.raises(NotFound):
        await backend.pause(cancelled)


async def test_lists_are_filtered_and_the_account_says_that_nothing_rings(backend: DialerBackend) -> None:
    for name in ("one", "two", "three"):
        await backend.create(replace(REQUEST, name=name))
    page = await backend.list(ListQuery(name_contains="T", status=BatchStatus.DRAFT))
    assert [found.name for found in page.batch_calls] == ["three", "two"]
    first = await backend.list(ListQuery(limit=2))
    rest = await backend.list(ListQuery(limit=2, cursor=first.next_cursor))
    assert [found.name for found in first.batch_calls + rest.batch_calls] == ["three", "two", "one"]
    account = await backend.account()
    assert account.organization_id == "local"
    assert "no phone rings" in " ".join(account.notes)


async def test_wrong_words_and_wrong_keys_are_told_apart(dialer: EmbeddedDialer, backend: DialerBackend) -> None:
    with pytest.raises(InvalidInput, match="Nothing was changed"):
        await backend.create(replace(REQUEST, from_number="12"))
    async with open_dialer_client(dialer.app) as client:
        stranger = DialerBackend(
            BackendHttp(client, "http://dialer", 5), Credentials(SecretStr("sk_wrong"), SecretStr("s3cr3t_wrong"))
        )
        with pytest.raises(AuthenticationFailed):
            await stranger.list(ListQuery())


async def test_another_list_keeps_what_no_tool_knows(dialer: EmbeddedDialer, backend: DialerBackend) -> None:
    """An expiry that was set over REST still ends the dialling, and its speed stays."""
    made = await backend.create(REQUEST)
    path, key_pair = f"/batch-call/{made.batch_call_id}", dialer.credentials
    headers = {"X-API-KEY": key_pair.api_key, "X-API-SECRET": key_pair.api_secret}
    held = {"calls_per_second": 0.5, "expires_timestamp": 4_102_444_800_000}
    async with open_dialer_client(dialer.app) as rest:
        await rest.patch(f"http://dialer{path}", json=held, headers=headers)
        current = await backend.get(made.batch_call_id)
        changed = await backend.update(current, BatchCallRequest(tasks=TASKS[:2], name="C"))
        data = (await rest.get(f"http://dialer{path}", headers=headers)).json()["data"]
    assert (changed.name, changed.counts.total, changed.status) == ("C", 2, BatchStatus.DRAFT)
    assert {name: data[name] for name in held} == held
