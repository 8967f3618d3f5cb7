"""A write of ours is held to the batch call as it was read, where the server gave a strong ETag; a stop never is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, TypeAdapter

from batchcall_mcp.backends.rest_api.batchcall import BatchCallBackend
from batchcall_mcp.backends.rest_api.dialer import DialerBackend, open_dialer_client
from batchcall_mcp.backends.rest_api.zudu import ZuduBackend
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.errors import IllegalTransition
from batchcall_mcp.model import BatchCall, BatchCallRequest, BatchStatus, CallingWindow, CallTask, TaskQuery
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials
from tests.backends.recorder import CREDENTIALS, Status, Vendor, envelope

LATER = datetime(2126, 1, 1, tzinfo=UTC)
TAG = '"a1b2-7"'
DRAFT, PAUSED, DONE = BatchStatus.DRAFT, BatchStatus.PAUSED, BatchStatus.COMPLETED
REQUEST = BatchCallRequest(
    name="B",
    from_number="+14155550100",
    tasks=(CallTask(to_number="+14155550120"), CallTask(to_number="+14155550121")),
    window=CallingWindow(start="00:00", end="24:00", timezone="UTC"),
)

Writing = Callable[[BatchCallBackend, BatchCall], Awaitable[object]]
HELD: dict[str, tuple[BatchStatus, Writing]] = {
    "change": (DRAFT, lambda backend, current: backend.update(current, BatchCallRequest(name="C"))),
    "replace": (DRAFT, lambda backend, current: backend.update(current, REQUEST)),
    "start": (DRAFT, lambda backend, current: backend.start(current, None)),
    "schedule": (DRAFT, lambda backend, current: backend.start(current, LATER)),
    "resume": (PAUSED, lambda backend, current: backend.resume(current)),
    "retry": (DONE, lambda backend, current: backend.retry(current, ("t1",))),
    "delete": (DRAFT, lambda backend, current: backend.delete(current)),
}
STOPS: dict[str, Writing] = {
    "pause": lambda backend, current: backend.pause(current),
    "cancel": lambda backend, current: backend.cancel(current),
}


def told(status: BatchStatus) -> dict[str, Any]:
    return envelope({"batch_call_id": "b1", "status": status.value, "from_number": "+14155550100", "total": 2})


def server_with(status: BatchStatus, etag: str | None) -> Vendor:
    """A server that says yes to everything about `b1`."""
    path = "/batch-call/b1"
    posts = [f"{path}/{action}" for action in ("execute", "pause", "resume", "cancel", "retry")]
    done = {f"POST {one}": told(status) for one in posts} | {
        f"{method} {path}": told(status) for method in ("PUT", "PATCH", "DELETE")
    }
    return Vendor({f"GET {path}": Status(200, told(status), {} if etag is None else {"ETag": etag}), **done})


@pytest.mark.parametrize("writing", HELD)
async def test_what_changes_is_held_to_what_was_read(writing: str) -> None:
    status, write = HELD[writing]
    vendor = server_with(status, TAG)
    async with vendor.http() as http:
        backend = BatchCallBackend(http, CREDENTIALS)
        current = await backend.get("b1")
        assert current.etag == TAG
        made = await write(backend, current)
    (written,) = vendor.writes
    assert written.headers["If-Match"] == TAG
    assert getattr(made, "etag", None) is None, "it is another one now"


@pytest.mark.parametrize("stop", STOPS)
async def test_a_stop_is_not_held_to_anything(stop: str) -> None:
    vendor = server_with(BatchStatus.RUNNING, TAG)
    async with vendor.http() as http:
        backend = BatchCallBackend(http, CREDENTIALS)
        current = await backend.get("b1")
        await STOPS[stop](backend, current)
    (written,) = vendor.writes
    assert "If-Match" not in written.headers


async def test_taking_a_scheduled_one_back_to_draft_is_a_stop_too() -> None:
    vendor = server_with(BatchStatus.SCHEDULED, TAG)
    del vendor.answers["POST /batch-call/b1/cancel"]
    async with vendor.http() as http:
        backend = BatchCallBackend(http, CREDENTIALS)
        current = await backend.get("b1")
        await backend.cancel(current)
    assert [one.method for one in vendor.writes] == ["POST", "PATCH"]
    assert not any("If-Match" in one.headers for one in vendor.writes)


@pytest.mark.parametrize(
    "etag",
    [
        None,
        'W/"a1b2-7"',
        "a1b2-7",
        "*",
        '""',
        '"a", "b"',
        '"' + "x" * 201 + '"',
    ],
)
async def test_a_tag_that_is_not_a_strong_one_is_not_sent(etag: str | None) -> None:
    """Another server's may be weak, which no If-Match takes, or anything else."""
    vendor = server_with(DRAFT, etag)
    async with vendor.http() as http:
        backend = BatchCallBackend(http, CREDENTIALS)
        current = await backend.get("b1")
        assert current.etag is None
        await backend.start(current, None)
    (written,) = vendor.writes
    assert "If-Match" not in written.headers


async def test_zudu_is_never_sent_a_condition() -> None:
    vendor = server_with(DRAFT, TAG)
    async with vendor.http() as http:
        backend = ZuduBackend(http, CREDENTIALS)
        current = await backend.get("b1")
        assert current.etag is None
        await backend.start(current, None)
    (written,) = vendor.writes
    assert "If-Match" not in written.headers


def test_no_result_shows_the_tag() -> None:
    shown = TypeAdapter(BatchCall).dump_python(BatchCall(batch_call_id="b1", status=DRAFT, etag=TAG))
    assert "etag" not in shown


@pytest.fixture
async def backend(tmp_path: Path) -> AsyncIterator[DialerBackend]:
    """The adapter on our own dialer, whose engine is not running."""
    dialer = EmbeddedDialer(tmp_path)
    async with open_dialer_client(dialer.app) as client:
        key, secret = dialer.credentials
        yield DialerBackend(
            BackendHttp(client, DialerBackend.default_url, 10), Credentials(SecretStr(key), SecretStr(secret))
        )
    await dialer.aclose()


@pytest.mark.parametrize("writing", ["change", "replace", "start", "schedule", "delete"])
async def test_what_was_changed_since_it_was_read_is_not_changed(backend: DialerBackend, writing: str) -> None:
    made = await backend.create(REQUEST)
    current = await backend.get(made.batch_call_id)
    await backend.update(current, BatchCallRequest(name="somebody else's"))
    with pytest.raises(IllegalTransition) as refused:
        await HELD[writing][1](backend, current)
    said = refused.value.message
    assert "it was changed meanwhile (HTTP 412). Nothing was changed." in said
    assert said.endswith("Read it with get_batch_call and decide again.")
    found = await backend.get(made.batch_call_id)
    assert (found.status, found.name, found.counts.total) == (DRAFT, "somebody else's", 2)
    await HELD[writing][1](backend, found)


async def test_a_launch_that_skips_people_is_held_to_what_was_read(backend: DialerBackend) -> None:
    made = await backend.create(REQUEST)
    current = await backend.get(made.batch_call_id)
    page = await backend.tasks(made.batch_call_id, TaskQuery())
    skipped = [task.task_id for task in page.tasks[:1] if task.task_id]
    await backend.update(current, BatchCallRequest(name="somebody else's"))
    with pytest.raises(IllegalTransition, match="changed meanwhile"):
        await backend.start_without(current, None, {"called today": skipped})
    found = await backend.get(made.batch_call_id)
    started = await backend.start_without(found, None, {"called today": skipped})
    assert (started.status, started.counts.skipped) == (BatchStatus.RUNNING, 1)


async def test_the_same_launch_sent_again_gets_its_answer_and_no_refusal(backend: DialerBackend) -> None:
    """Its first answer was lost, and it has changed the batch call itself."""
    made = await backend.create(REQUEST)
    current = await backend.get(made.batch_call_id)
    assert not (await backend.start(current, None, "key-1")).replayed
    again = await backend.start(current, None, "key-1")
    assert (again.replayed, again.status) == (True, BatchStatus.RUNNING)
