"""Messages arrive signed, at least once, in time, and never where they may not go."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from batchcall_mcp.clock import to_ms, utc_now
from batchcall_mcp.dialer.storage import outbox
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import webhook_outbox, webhooks
from batchcall_mcp.dialer.webhooks import delivery as module
from batchcall_mcp.dialer.webhooks.delivery import (
    CONCURRENCY,
    LEASE,
    TO_ONE,
    Deliveries,
    lanes,
    prune,
)
from batchcall_mcp.signed_http import post as webhook_post
from batchcall_mcp.signed_http.post import Result, judged
from batchcall_mcp.signed_http.retries import DELAYS, next_try
from batchcall_mcp.signed_http.url_policy import WebhookAddresses
from tests.dialer.certificates import authority_and_server
from tests.dialer.conftest import Clock, eventually
from tests.dialer.hooks import LOCAL, SECRET, add_messages, add_webhook, message, opened, turn
from tests.dialer.receiver import Received, Receiver, receiving, status
from tests.dialer.test_outbox import new_batch_call
from tests.documented.markdown import Block, parts_of
from tests.postgresql import postgresql_url
from tests.server.transports import ROOT

(DOCUMENTED,) = (
    part.text
    for part in parts_of((ROOT / "docs" / "dialer.md").read_text(encoding="utf-8"))
    if isinstance(part, Block) and part.language == "python"
)
"""How the page verifies a message."""


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> Iterator[Store]:
    made = opened(tmp_path, clock)
    yield made
    made.close()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@asynccontextmanager
async def running(deliveries: Deliveries) -> AsyncIterator[None]:
    """`run`, until the block ends."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deliveries.run)
        try:
            yield
        finally:
            deliveries.stop()


async def test_a_message_arrives_with_a_signature_that_verifies(
    tmp_path: Path, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    store = opened(tmp_path, lambda: utc_now().astimezone(ZoneInfo("Asia/Tokyo")))
    add_webhook(store, receiver.url("/hook?token=1"))
    with store.writing() as tx:
        batch_call_id = new_batch_call(tx)
        outbox.batch_call_events(tx, [(batch_call_id, "batch_call.completed")], store.now())
        message_id = tx.scalar(sa.select(webhook_outbox.c.message_id))
    async with running(Deliveries(store, LOCAL, poll_seconds=0.01)):
        await eventually(lambda: message(store, str(message_id))["delivered_at"] is not None)
    [received] = receiver.received
    told = Webhook(SECRET).verify(received.body, received.headers)
    assert (told["type"], told["data"]["batch_call_id"]) == ("batch_call.completed", batch_call_id)
    assert received.message_id == message_id
    assert received.path == "/hook?token=1"
    assert received.headers["content-type"] == "application/json"
    documented: dict[str, Any] = {}
    exec(DOCUMENTED.replace("whsec_…", SECRET), documented)
    documented["receive"](received.headers, received.body)
    assert capsys.readouterr().out.startswith(f"{message_id} batch_call.completed {{")
    store.close()


async def test_what_fails_is_tried_again_at_the_times_of_the_table_and_then_given_up(
    store: Store, clock: Clock, receiver: Receiver
) -> None:
    [message_id] = add_messages(store, add_webhook(store, receiver.url()))
    receiver.always = status(500)
    deliveries = Deliveries(store, LOCAL)
    await turn(deliveries)
    for tries, delay in enumerate(DELAYS, 1):
        row = message(store, message_id)
        assert len(receiver.received) == row["tries"] == tries
        assert (row["delivered_at"], row["last_error"]) == (None, "answered 500")
        clock.now += delay - timedelta(milliseconds=1)
        await turn(deliveries)
        assert len(receiver.received) == tries
        clock.now += delay * 0.1 + timedelta(milliseconds=2)
        await turn(deliveries)
    row = message(store, message_id)
    assert (row["tries"], row["due_at"], row["last_error"]) == (10, None, "answered 500")
    clock.forward(days=30)
    await turn(deliveries)
    assert len(receiver.received) == 10
    assert {received.message_id for received in receiver.received} == {message_id}
    assert len({received.headers["webhook-timestamp"] for received in receiver.received}) == 10


async def test_a_receiver_that_is_dead_is_a_line_a_minute_and_not_one_for_each_message(
    store: Store, clock: Clock, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """For each webhook: another one that is dead too is not drowned by it."""
    dead, other = add_webhook(store, receiver.url("/dead")), add_webhook(store, receiver.url("/other"))
    add_messages(store, dead, 60)
    [alone] = add_messages(store, other)
    receiver.always = status(500)

    def said(webhook_id: str) -> list[str]:
        return [one.getMessage() for one in caplog.records if f"Webhook {webhook_id} to" in one.getMessage()]

    deliveries = Deliveries(store, LOCAL)
    while len(receiver.received) < 61:
        await turn(deliveries)
    assert (len(said(dead)), len(said(other))) == (1, 1)
    assert message(store, alone)["last_error"] == "answered 500"
    clock.forward(seconds=61)
    while len(receiver.received) < 122:
        await turn(deliveries)
    assert (len(said(dead)), len(said(other))) == (2, 2)
    assert "answered 500" in said(dead)[1]


async def test_a_try_that_succeeds_is_the_last(store: Store, clock: Clock, receiver: Receiver) -> None:
    [message_id] = add_messages(store, add_webhook(store, receiver.url()))
    receiver.replies = [status(503)]
    deliveries = Deliveries(store, LOCAL)
    await turn(deliveries)
    clock.forward(seconds=6)
    await turn(deliveries)
    row = message(store, message_id)
    assert (row["delivered_at"], row["due_at"], row["last_error"], row["tries"]) == (store.now(), None, None, 2)
    clock.forward(days=2)
    await turn(deliveries)
    assert len(receiver.received) == 2


async def test_who_dies_after_sending_leaves_it_to_be_sent_again_with_the_same_id(
    store: Store, clock: Clock, receiver: Receiver
) -> None:
    [message_id] = add_messages(store, add_webhook(store, receiver.url()))
    died = Deliveries(store, LOCAL)
    [claimed] = await died._step()
    await died._send(claimed)
    other = Deliveries(store, LOCAL)
    clock.now += LEASE - timedelta(milliseconds=1)
    await turn(other)
    assert len(receiver.received) == 1
    clock.now += timedelta(milliseconds=1)
    await turn(other)
    assert [received.message_id for received in receiver.received] == [message_id] * 2
    assert message(store, message_id)["delivered_at"] == store.now()


async def test_a_late_failure_does_not_undo_another_s_success(store: Store, clock: Clock, receiver: Receiver) -> None:
    [message_id] = add_messages(store, add_webhook(store, receiver.url()))
    slow, quick = Deliveries(store, LOCAL), Deliveries(store, LOCAL)
    [claimed] = await slow._step()
    clock.now += LEASE
    await turn(quick)
    slow._done.append((claimed, Result("answered 500")))
    await slow._step()
    row = message(store, message_id)
    assert (row["due_at"], row["last_error"]) == (None, None)


async def test_a_name_that_became_private_since_the_registration_is_not_sent_to(
    store: Store, receiver: Receiver
) -> None:
    answers = [["93.184.216.34"], ["127.0.0.1"]]
    addresses = WebhookAddresses(resolve=lambda _host, _port: answers.pop(0))
    url = receiver.url(host="hooks.example.com", scheme="https")
    assert addresses.destination(url).addresses == ("93.184.216.34",)
    [message_id] = add_messages(store, add_webhook(store, url))
    await turn(Deliveries(store, addresses))
    assert receiver.received == []
    assert "private network" in message(store, message_id)["last_error"]
    assert answers == []


async def test_a_name_is_looked_up_once_a_try_and_that_address_is_connected_to(
    store: Store, receiver: Receiver
) -> None:
    """The name itself exists nowhere: whoever looked it up a second time would not arrive."""
    asked: list[str] = []

    def resolve(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    add_messages(store, add_webhook(store, receiver.url(host="hooks.invalid")))
    await turn(Deliveries(store, WebhookAddresses(allow_private=True, resolve=resolve)))
    [received] = receiver.received
    assert received.headers["host"] == f"hooks.invalid:{receiver.port}"
    assert asked == ["hooks.invalid"]


async def test_the_next_address_is_tried_where_nobody_listens_on_the_first(store: Store, receiver: Receiver) -> None:
    addresses = WebhookAddresses(allow_private=True, resolve=lambda _host, _port: ["127.0.0.2", "127.0.0.1"])
    add_messages(store, add_webhook(store, receiver.url(host="hooks.invalid")))
    await turn(Deliveries(store, addresses))
    assert len(receiver.received) == 1


async def test_a_redirect_is_not_followed(store: Store, receiver: Receiver) -> None:
    async with receiving() as elsewhere:
        receiver.replies = [status(307, f"Location: {elsewhere.url()}")]
        [message_id] = add_messages(store, add_webhook(store, receiver.url()))
        await turn(Deliveries(store, LOCAL))
        assert elsewhere.received == []
    assert message(store, message_id)["last_error"] == "answered 307; redirects are not followed"


async def test_no_proxy_and_no_cookie_is_used(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.always = status(204, "Set-Cookie: a=b")
    async with receiving() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url(""))
        add_messages(store, add_webhook(store, receiver.url()), 10)
        await turn(Deliveries(store, LOCAL))
        assert proxy.received == []
    assert len(receiver.received) == 10
    assert not any("cookie" in received.headers for received in receiver.received)


@pytest.mark.parametrize("part", ["status line", "headers"])
async def test_an_answer_that_drips_ends_at_the_limit(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    monkeypatch.setattr(webhook_post, "TIME_LIMIT", timedelta(seconds=0.3))

    async def drip(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 " if part == "status line" else b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    receiver.always = drip
    [message_id] = add_messages(store, add_webhook(store, receiver.url()))
    await turn(Deliveries(store, LOCAL))
    assert message(store, message_id)["last_error"] == "no answer within 0.3 s"


async def test_a_body_without_an_end_is_not_read(store: Store, receiver: Receiver) -> None:
    written = 0

    async def flood(_received: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        for _ in range(1_000):
            writer.write(b"x" * 100_000)
            await writer.drain()
            written += 100_000

    receiver.always = flood
    [message_id] = add_messages(store, add_webhook(store, receiver.url()))
    await turn(Deliveries(store, LOCAL))
    assert message(store, message_id)["delivered_at"] is not None
    assert written < 50_000_000


async def test_a_resolver_that_hangs_ends_at_the_limit(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_post, "TIME_LIMIT", timedelta(seconds=0.2))
    over = threading.Event()

    def resolve(_host: str, _port: int) -> list[str]:
        over.wait(20)
        return ["127.0.0.1"]

    [message_id] = add_messages(store, add_webhook(store, receiver.url(host="hooks.invalid")))
    await turn(Deliveries(store, WebhookAddresses(allow_private=True, resolve=resolve)))
    over.set()
    assert message(store, message_id)["last_error"] == "no answer within 0.2 s"
    assert receiver.received == []


@pytest.mark.parametrize("reply", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200"])
async def test_what_does_not_answer_is_a_failure(store: Store, receiver: Receiver, reply: bytes) -> None:
    async def answer(_received: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(reply)

    receiver.always = answer
    [message_id] = add_messages(store, add_webhook(store, receiver.url()))
    await turn(Deliveries(store, LOCAL))
    assert message(store, message_id)["last_error"] == "the connection failed (RemoteProtocolError)"


async def test_gone_gives_this_message_up(store: Store, clock: Clock, receiver: Receiver) -> None:
    receiver.replies = [status(410)]
    webhook_id = add_webhook(store, receiver.url())
    [message_id] = add_messages(store, webhook_id)
    deliveries = Deliveries(store, LOCAL)
    await turn(deliveries)
    assert (message(store, message_id)["due_at"], message(store, message_id)["last_error"]) == (None, "answered 410")
    add_messages(store, webhook_id)
    await turn(deliveries)
    assert len(receiver.received) == 2


@pytest.mark.parametrize(
    ("header", "least"),
    [
        (None, DELAYS[0]),
        ("1", DELAYS[0]),
        ("3600", timedelta(hours=1)),
        ("99999999999999999999", timedelta(hours=24)),
        ("Mon, 23 Nov 2026 20:30:00 GMT", timedelta(minutes=30)),
        ("Mon, 23 Nov 2020 20:30:00 GMT", DELAYS[0]),
        ("-5", DELAYS[0]),
        ("soon", DELAYS[0]),
        ("\u0663", DELAYS[0]),
        ("Mon, 23 Nov 99999999999 20:30:00 GMT", DELAYS[0]),
    ],
)
def test_retry_after_is_honoured_within_limits(clock: Clock, header: str | None, least: timedelta) -> None:
    again = next_try(1, judged(503, header, clock()))
    assert again is not None
    assert least <= again <= least * 1.1


async def test_retry_after_arrives_in_the_outbox(store: Store, clock: Clock, receiver: Receiver) -> None:
    receiver.replies = [status(429, "Retry-After: 1800")]
    [message_id] = add_messages(store, add_webhook(store, receiver.url()))
    await turn(Deliveries(store, LOCAL))
    assert message(store, message_id)["due_at"] >= to_ms(clock() + timedelta(minutes=30))


async def test_one_that_does_not_answer_does_not_hold_up_the_others(store: Store, receiver: Receiver) -> None:
    async with receiving() as hanging:

        async def hang(_received: Received, _writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(60)

        hanging.always = hang
        add_messages(store, add_webhook(store, hanging.url()), 50)
        ids = add_messages(store, add_webhook(store, receiver.url()), 30)
        async with running(Deliveries(store, LOCAL, poll_seconds=0.01)):
            await eventually(lambda: len(receiver.received) == 30 and len(hanging.received) == TO_ONE)
    assert {received.message_id for received in receiver.received} == set(ids)
    assert len(hanging.received) == TO_ONE


@given(
    st.lists(st.sampled_from("abcdefgh"), unique=True),
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, TO_ONE)),
    st.integers(0, CONCURRENCY),
)
def test_lanes_are_given_to_who_has_the_fewest(due: list[str], busy: dict[str, int], room: int) -> None:
    given = lanes(due, busy, room)
    after = {webhook_id: busy.get(webhook_id, 0) + given.get(webhook_id, 0) for webhook_id in due}
    assert sum(given.values()) == min(room, sum(TO_ONE - busy.get(webhook_id, 0) for webhook_id in due))
    for webhook_id in given:
        assert after[webhook_id] <= min(after.values()) + 1
        assert after[webhook_id] <= TO_ONE


def delivered(store: Store) -> int:
    with store.reading() as tx:
        return len(
            tx.scalars(sa.select(webhook_outbox.c.message_id).where(webhook_outbox.c.delivered_at.is_not(None))).all()
        )


async def test_two_processes_never_send_one_message_at_the_same_time(clock: Clock, receiver: Receiver) -> None:
    """The clock stands still, so that no lease ends: whatever arrives twice was claimed twice."""
    url = postgresql_url()
    stores = [opened(url, clock) for _ in range(2)]
    ids: list[str] = []
    for _ in range(4):
        ids += add_messages(stores[0], add_webhook(stores[0], receiver.url()), 50)
    one, other = (Deliveries(store, LOCAL, poll_seconds=0.01) for store in stores)
    async with running(one), running(other):
        await eventually(lambda: delivered(stores[0]) == 200)
    assert Counter(received.message_id for received in receiver.received) == Counter(ids)
    for opened_here in stores:
        opened_here.close()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_claims_at_the_same_moment_share_the_messages(kind: str, tmp_path: Path, clock: Clock) -> None:
    where = tmp_path if kind == "sqlite" else postgresql_url()
    stores = [opened(where, clock) for _ in range(4)]
    ids: list[str] = []
    for _ in range(5):
        ids += add_messages(stores[0], add_webhook(stores[0], "http://x/"), 40)
    together = threading.Barrier(4)

    def claim(store: Store) -> list[str]:
        sender, mine = Deliveries(store, LOCAL), []
        together.wait()
        while claimed := sender._record_and_claim([], {}, CONCURRENCY):
            mine += [one.message.message_id for one in claimed]
        return mine

    with ThreadPoolExecutor(4) as threads:
        claimed = [message_id for mine in threads.map(claim, stores) for message_id in mine]
    assert Counter(claimed) == Counter(ids)
    for opened_here in stores:
        opened_here.close()


async def test_a_webhook_that_is_deleted_while_its_message_is_sent_leaves_nothing(
    store: Store, receiver: Receiver
) -> None:
    add_messages(store, add_webhook(store, receiver.url()), 2)
    deliveries = Deliveries(store, LOCAL)
    [sent, failed] = await deliveries._step()
    with store.writing() as tx:
        tx.execute(webhooks.delete())
    deliveries._done += [(sent, Result()), (failed, Result("answered 500"))]
    await turn(deliveries)
    with store.reading() as tx:
        assert tx.execute(sa.select(webhook_outbox)).all() == []


def test_what_is_old_and_over_is_removed(store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PRUNED_AT_ONCE", 2)
    webhook_id = add_webhook(store, "http://x/")
    over = add_messages(store, webhook_id, 5)
    [waiting] = add_messages(store, webhook_id)
    with store.writing() as tx:
        tx.execute(webhook_outbox.update().where(webhook_outbox.c.message_id.in_(over)).values(due_at=None))
    clock.forward(days=1)
    [young] = add_messages(store, webhook_id)
    with store.writing() as tx:
        tx.execute(webhook_outbox.update().where(webhook_outbox.c.message_id == young).values(due_at=None))
    clock.forward(days=6)
    prune(store)
    with store.reading() as tx:
        assert len(tx.execute(sa.select(webhook_outbox)).all()) == 7
    clock.forward(seconds=1)
    prune(store)
    with store.reading() as tx:
        assert set(tx.scalars(sa.select(webhook_outbox.c.message_id))) == {waiting, young}


def test_what_somebody_has_sent_again_meanwhile_is_not_removed(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    [message_id] = add_messages(store, add_webhook(store, "http://x/"))
    with store.writing() as tx:
        tx.execute(webhook_outbox.update().values(due_at=None))
    clock.forward(days=8)
    writing = store.writing

    def meanwhile() -> AbstractContextManager[sa.Connection]:
        with writing() as tx:
            tx.execute(webhook_outbox.update().values(due_at=store.now()))
        return writing()

    monkeypatch.setattr(store, "writing", meanwhile)
    prune(store)
    assert message(store, message_id)["due_at"] == store.now()


async def test_run_removes_what_is_old(store: Store, clock: Clock) -> None:
    add_messages(store, add_webhook(store, "http://x/"))
    with store.writing() as tx:
        tx.execute(webhook_outbox.update().values(due_at=None))
    clock.forward(days=8)

    def empty() -> bool:
        with store.reading() as tx:
            return not tx.execute(sa.select(webhook_outbox)).all()

    async with running(Deliveries(store, LOCAL, poll_seconds=0.01)):
        await eventually(empty)


async def test_neither_log_nor_outbox_shows_a_secret(
    store: Store, clock: Clock, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    receiver.always = status(500)
    ids = add_messages(store, add_webhook(store, receiver.url("/t0ken/hook?key=t0ken")))
    ids += add_messages(store, add_webhook(store, "http://127.0.0.1:1/t0ken"))
    ids += add_messages(store, add_webhook(store, "https://93.184.216.34/t0ken", secret="whsec_dDBrZW4=not"))
    deliveries = Deliveries(store, WebhookAddresses(allow_private=True, resolve=lambda host, _port: [host]))
    for _ in DELAYS:
        with anyio.fail_after(30):
            for claimed in await deliveries._step():
                if "93.184" in claimed.message.url:
                    deliveries._done.append((claimed, Result("the connection failed (ConnectError)")))
                    deliveries._busy[claimed.webhook_id] -= 1
                else:
                    await deliveries._send(claimed)
        clock.forward(days=2)
    await deliveries._step()
    assert "http://127.0.0.1: answered 500. 1 tries failed since" in caplog.text
    for text in (caplog.text, *(str(message(store, one)["last_error"]) for one in ids)):
        assert "t0ken" not in text
        assert "whsec" not in text
        assert SECRET.removeprefix("whsec_") not in text


async def test_a_message_that_cannot_be_tried_at_all_does_not_stop_the_others(store: Store, receiver: Receiver) -> None:
    [broken] = add_messages(store, add_webhook(store, receiver.url(), secret="whsec_"))
    [whole] = add_messages(store, add_webhook(store, receiver.url()))
    async with running(Deliveries(store, LOCAL, poll_seconds=0.01)):
        await eventually(lambda: message(store, whole)["delivered_at"] is not None)
        await eventually(lambda: message(store, broken)["last_error"] is not None)
    assert message(store, broken)["last_error"] == "the try failed (ValueError)"


async def test_a_database_that_is_away_for_a_while_holds_messages_up_and_loses_none(
    store: Store, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    [message_id] = add_messages(store, add_webhook(store, receiver.url()))
    deliveries = Deliveries(store, LOCAL, poll_seconds=0.01)
    record_and_claim = deliveries._record_and_claim
    failing = 0

    def away(done: list[object], busy: dict[str, int], room: int) -> object:
        nonlocal failing
        if done and failing < 3:
            failing += 1
            raise sa.exc.OperationalError("", {}, Exception("away"))
        return record_and_claim(done, busy, room)  # type: ignore[arg-type]  # passed on as it came

    monkeypatch.setattr(deliveries, "_record_and_claim", away)
    async with running(deliveries):
        await eventually(lambda: message(store, message_id)["delivered_at"] is not None)
    assert failing == 3
    assert len(receiver.received) == 1


async def test_what_was_delivered_when_somebody_stops_is_recorded(store: Store, receiver: Receiver) -> None:
    [message_id] = add_messages(store, add_webhook(store, receiver.url()))
    deliveries = Deliveries(store, LOCAL)
    [claimed] = await deliveries._step()
    await deliveries._send(claimed)
    deliveries.stop()
    await deliveries.run()
    assert message(store, message_id)["delivered_at"] == store.now()


async def test_a_stop_does_not_wait_for_who_does_not_answer(store: Store, receiver: Receiver) -> None:
    async def hang(_received: Received, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    receiver.always = hang
    [message_id] = add_messages(store, add_webhook(store, receiver.url()))
    with anyio.fail_after(60):
        async with running(Deliveries(store, LOCAL, poll_seconds=60)):
            await eventually(lambda: len(receiver.received) == 1)
    assert message(store, message_id)["due_at"] == store.now() + LEASE // timedelta(milliseconds=1)


async def test_tls_is_verified_against_the_name_of_the_url(store: Store, clock: Clock, tmp_path: Path) -> None:
    """The connection goes to an address; the certificate has to be the name's."""
    trusted, server = authority_and_server(tmp_path, "hooks.example.com")
    addresses = WebhookAddresses(allow_private=True, resolve=lambda _host, _port: ["127.0.0.1"])
    async with receiving(server) as receiver:
        [right] = add_messages(store, add_webhook(store, receiver.url(host="hooks.example.com", scheme="https")))
        [wrong] = add_messages(store, add_webhook(store, receiver.url(host="other.example.com", scheme="https")))
        await turn(Deliveries(store, addresses, tls=trusted))
        await turn(Deliveries(store, addresses, tls=trusted))
        assert [received.message_id for received in receiver.received] == [right]
        assert message(store, wrong)["last_error"] == "the connection failed (ConnectError)"
        clock.forward(seconds=6)
        await turn(Deliveries(store, addresses))
        assert len(receiver.received) == 1, "an authority that nobody trusts"


def test_the_usual_authorities_are_trusted(store: Store) -> None:
    tls = Deliveries(store, LOCAL)._post._tls
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
