"""What the operator is notified of: signed, kept until it is delivered, and never in anybody's way."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from pydantic import SecretStr
from standardwebhooks import Webhook

from batchcall_mcp.dialer.domain.rules import State
from batchcall_mcp.dialer.storage import commands
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import batch_calls
from batchcall_mcp.notifications import notifier as notifier_module
from batchcall_mcp.notifications import store as store_module
from batchcall_mcp.notifications.events import Notice
from batchcall_mcp.notifications.notifier import Notifier
from batchcall_mcp.notifications.store import LEASE, NotificationStore
from batchcall_mcp.notifications.tables import metadata
from batchcall_mcp.settings import Settings
from batchcall_mcp.signed_http.post import Result
from batchcall_mcp.signed_http.retries import DELAYS
from tests.dialer.conftest import Clock
from tests.dialer.receiver import Received, Receiver, receiving, status
from tests.dialer.test_outbox import new_batch_call
from tests.postgresql import postgresql_url

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
LAUNCHED = Notice(event="launched", batch_call_id="bc_1", backend="zudu", tool="start_batch_call", calls=3)


def settings_for(url: str, folder: Path) -> Settings:
    return Settings(data_dir=folder, notify_url=url, notify_secret=SecretStr(SECRET))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[NotificationStore]:
    settings = settings_for("https://hooks.example.com/x", tmp_path)
    if request.param == "postgresql":
        settings = settings.with_database(postgresql_url())
    opened = NotificationStore.open(settings, clock)
    yield opened
    opened.close()


async def told(receiver: Receiver, folder: Path, *notices: Notice, clock: Clock | None = None) -> None:
    """One process that tells of these, and ends."""
    settings = settings_for(receiver.url(), folder)
    notifier = Notifier(settings) if clock is None else Notifier(settings, clock=clock)
    notifier.start()
    for notice in notices:
        notifier.tell(notice)
    await anyio.to_thread.run_sync(notifier.close)


def body_of(received: Received) -> dict[str, Any]:
    """Checked as any receiver of the scheme would."""
    verified = Webhook(SECRET).verify(received.body, received.headers)
    assert verified == json.loads(received.body)
    return dict(verified)


def test_the_migrations_make_the_table_that_the_code_uses(store: NotificationStore) -> None:
    with store.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        differences = [one for one in compare_metadata(context, metadata) if store.schema.versions not in repr(one)]
    assert differences == []


async def test_a_notification_is_signed_and_holds_ids_and_counts(tmp_path: Path) -> None:
    async with receiving() as receiver:
        await told(receiver, tmp_path, LAUNCHED)
    (received,) = receiver.received
    body = body_of(received)
    said = {"batch_call_id": "bc_1", "backend": "zudu", "tool": "start_batch_call", "calls": 3}
    assert (body["type"], body["data"]) == ("launched", said)


def test_what_is_no_word_of_ours_does_not_get_in(clock: Clock) -> None:
    notice = Notice(event="refused", batch_call_id="x\u202e\n" + "y" * 500, reason="call +14155550101 now")
    data = json.loads(notice.payload(clock()))["data"]
    assert data["reason"] == "?"
    assert len(data["batch_call_id"]) <= 200
    assert data["batch_call_id"].isprintable()


async def test_what_was_not_delivered_is_sent_by_the_next_process_as_the_same_message(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving() as receiver:
        receiver.replies.append(status(503))
        await told(receiver, tmp_path, LAUNCHED, clock=clock)
        assert "answered 503; it is tried again in" in caplog.text
        clock.now += DELAYS[0] * 2
        await told(receiver, tmp_path, clock=clock)
        clock.now += DELAYS[1] * 2
        await told(receiver, tmp_path, clock=clock)
    first, second = receiver.received
    assert first.message_id == second.message_id
    assert first.body == second.body


async def test_a_receiver_that_is_gone_is_given_up_and_the_log_says_so(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    async with receiving() as receiver:
        receiver.replies.append(status(410))
        await told(receiver, tmp_path, LAUNCHED, clock=clock)
        clock.now += timedelta(days=1)
        await told(receiver, tmp_path, clock=clock)
    assert len(receiver.received) == 1
    assert "answered 410; it is given up" in caplog.text
    assert SECRET not in caplog.text
    assert "/hook" not in caplog.text


async def test_what_two_processes_see_is_one_message(tmp_path: Path, clock: Clock) -> None:
    finished = Notice(event="finished", batch_call_id="bc_1", at=clock())
    async with receiving() as receiver:
        await told(receiver, tmp_path, finished, clock=clock)
        await told(receiver, tmp_path, finished, clock=clock)
    assert len(receiver.received) == 1


def test_no_two_processes_send_one_at_the_same_time(store: NotificationStore, clock: Clock) -> None:
    store.add([LAUNCHED])
    (claimed,) = store.claim(5)
    assert store.claim(5) == []
    clock.now += LEASE * 2  # the process that had claimed it is gone
    (again,) = store.claim(5)
    assert (again.message_id, again.tries) == (claimed.message_id, 2)
    assert store.record(claimed, Result("answered 500")) is not None  # its lease was over: the second try decides
    assert store.record(again, Result()) is None
    clock.now += timedelta(days=2)
    assert store.claim(5) == []


def test_it_is_given_up_after_the_last_try(store: NotificationStore, clock: Clock) -> None:
    store.add([LAUNCHED])
    for _ in DELAYS:
        (claimed,) = store.claim(5)
        assert store.record(claimed, Result("answered 500")) is not None
        clock.now += timedelta(hours=30)
    (claimed,) = store.claim(5)
    assert store.record(claimed, Result("answered 500")) is None
    assert store.claim(5) == []


def test_the_store_is_bounded(store: NotificationStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MOST_WAITING", 3)
    assert store.add([LAUNCHED] * 5) == 2
    assert len(store.claim(9)) == 3


def test_telling_never_waits_and_never_raises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held = threading.Event()
    monkeypatch.setattr(Notifier, "_opened", lambda self: held.wait(60))  # a database that does not answer
    monkeypatch.setattr(notifier_module, "_MOST_HELD", 2)
    notifier = Notifier(settings_for("https://hooks.example.com/x", tmp_path))
    for _ in range(3):
        notifier.tell(LAUNCHED)
    assert "is dropped: too many wait" in caplog.text
    notifier.close(0)
    assert "still being sent" in caplog.text
    held.set()
    notifier.close()  # what it says of this is not for the log of another test


def test_a_folder_that_cannot_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    notifier = Notifier(settings_for("https://hooks.example.com/x", tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        notifier.tell(LAUNCHED)
        notifier.close()
    assert caplog.text.count("Notifications wait: ") == 1


def test_the_dialer_reports_what_is_late_after_the_commit_and_nothing_without_one(tmp_path: Path) -> None:
    told: list[Notice] = []
    store = Store.open(tmp_path / "dialer.db", tell=told.append)
    try:
        with store.writing() as tx:
            batch_call_id = new_batch_call(tx)
            launched = batch_calls.c.batch_call_id == batch_call_id
            tx.execute(batch_calls.update().where(launched).values(status=State.SENT))

        def rolled_back() -> None:
            with store.writing() as tx:
                commands.pause(tx, [batch_call_id], "late", "late", store.now())
                raise KeyError

        with pytest.raises(KeyError):
            rolled_back()
        assert told == []
        with store.writing() as tx:
            commands.pause(tx, [batch_call_id], "late", "late", store.now())
            assert told == []
        assert [(one.event, one.batch_call_id) for one in told] == [("late", batch_call_id)]
    finally:
        store.close()
