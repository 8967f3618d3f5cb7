"""Webhooks over REST: registered, listed, removed; each organisation has its own."""

from __future__ import annotations

import base64
import contextlib
import functools
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import anyio
import pytest
import sqlalchemy as sa

from batchcall_mcp.clock import utc_now
from batchcall_mcp.dialer.rest.webhook_service import MOST, TooManyWebhooks, WebhookService
from batchcall_mcp.dialer.storage.store import Store, WriteRequest
from batchcall_mcp.dialer.storage.tables import recorded_answers, webhook_outbox, webhooks
from batchcall_mcp.signed_http.url_policy import WebhookAddresses
from tests.dialer.conftest import Caller, numbers, on_sqlite
from tests.dialer.hooks import LOCAL, PUBLIC, add_messages, another_organization, message, with_webhooks
from tests.postgresql import postgresql_url

URL = "https://hooks.example.com/in?token=t0ken"


@pytest.fixture
def hooks(desk: Caller) -> Caller:
    return with_webhooks(desk, PUBLIC)


async def create(caller: Caller, url: str = URL, **options: Any) -> Mapping[str, Any]:
    data: Mapping[str, Any] = await caller.ask("POST", "/webhooks", {"url": url}, **options)
    return data


@on_sqlite("desk")
async def test_the_secret_is_shown_at_registration_and_in_no_list(hooks: Caller) -> None:
    made = await create(hooks)
    secret = made["secret"]
    assert secret.startswith("whsec_")
    assert 24 <= len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) <= 64
    listed = await hooks.ask("GET", "/webhooks")
    told = {name: value for name, value in made.items() if name != "secret"}
    assert listed == {"webhooks": [told]}
    assert told == {
        "webhook_id": made["webhook_id"],
        "url": URL,
        "events": None,
        "created_at": "2026-11-23T20:00:00.000+00:00",
    }
    assert (await create(hooks))["secret"] != secret


@on_sqlite("desk")
async def test_a_repetition_gets_its_answer_whatever_has_become_of_the_host(desk: Caller) -> None:
    """Refused with "nothing was changed", it would be believed, and the secret would be lost."""

    def gone(_host: str, _port: int) -> list[str]:
        raise OSError

    key = {"Idempotency-Key": "k"}
    made = await create(with_webhooks(desk, PUBLIC), headers=key)
    assert await create(with_webhooks(desk, WebhookAddresses(resolve=gone)), headers=key) == made
    await desk.ask("POST", "/webhooks", {"url": URL}, status=422)


@on_sqlite("desk")
async def test_a_resolver_that_hangs_holds_up_nobody_s_pause(desk: Caller) -> None:
    """There are 40 threads for all other requests."""
    hanging = threading.Event()

    def hang(_host: str, _port: int) -> list[str]:
        hanging.wait(20)
        return []

    hooks = with_webhooks(desk, WebhookAddresses(resolve=hang))
    batch_call_id = await desk.create(numbers(1), send_now=True)
    try:
        async with anyio.create_task_group() as asking:
            for number in range(50):
                content = {"url": f"https://{number}.example.com"}
                asking.start_soon(functools.partial(hooks.ask, "POST", "/webhooks", content, status=422))
            await anyio.wait_all_tasks_blocked()
            with anyio.fail_after(60):
                await desk.ask("POST", f"/batch-call/{batch_call_id}/pause")
            hanging.set()
    finally:
        hanging.set()


async def test_a_repetition_gets_the_secret_again_which_is_kept_in_one_place(hooks: Caller) -> None:
    key = {"Idempotency-Key": "k"}
    made = await create(hooks, headers=key)
    assert await create(hooks, headers=key) == made
    assert len((await hooks.ask("GET", "/webhooks"))["webhooks"]) == 1
    with hooks.dialer.store().reading() as tx:
        assert made["secret"] not in str(tx.execute(sa.select(recorded_answers)).all())
    await hooks.ask("DELETE", f"/webhooks/{made['webhook_id']}")
    assert "secret" not in await create(hooks, headers=key)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "http://hooks.example.com/"}, "url"),
        ({"url": "https://example.com/" + "x" * 2000}, "url"),
        ({"url": URL, "events": []}, "events"),
        ({"url": URL, "events": ["batch_call.exploded"]}, "events"),
        ({"url": URL, "secret": "whsec_mine"}, "secret"),
    ],
)
@on_sqlite("desk")
async def test_what_is_wrong_is_refused_by_name(desk: Caller, body: Any, field: str) -> None:
    with_webhooks(desk, WebhookAddresses(resolve=lambda host, _port: [host if host[0] == "1" else "93.184.216.34"]))
    refused = await desk.ask("POST", "/webhooks", body, status=422)
    assert refused["code"] == "invalid_input"
    assert field in refused["error"]
    assert "Nothing was changed" in refused["error"]
    assert (await desk.ask("GET", "/webhooks"))["webhooks"] == []


@on_sqlite("desk")
async def test_where_the_operator_allows_it_private_addresses_may_be_registered(desk: Caller) -> None:
    with_webhooks(desk, LOCAL)
    assert (await create(desk, "http://127.0.0.1:9/"))["url"] == "http://127.0.0.1:9/"


async def test_an_organization_has_at_most_ten(hooks: Caller) -> None:
    made = [await create(hooks) for _ in range(MOST)]
    refused = await hooks.ask("POST", "/webhooks", {"url": URL}, status=409)
    assert refused["code"] == "too_many_webhooks"
    await hooks.ask("DELETE", f"/webhooks/{made[0]['webhook_id']}")
    await create(hooks)
    assert (await create(hooks, headers=another_organization(hooks)))["url"] == URL


def test_ten_are_ten_if_two_ask_at_once() -> None:
    """Both count before either writes, if they can."""
    both = threading.Barrier(2)

    def clock() -> datetime:
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.5)
        return utc_now()

    store = Store.open(postgresql_url())
    service = WebhookService(lambda: store, PUBLIC)

    def ask(_number: int) -> bool:
        try:
            service.create(WriteRequest("local", None, ""), b'{"url": "https://example.com/"}')
        except TooManyWebhooks:
            return False
        return True

    assert all(ask(number) for number in range(MOST - 1))
    store.clock = clock
    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(ask, range(2))) == [False, True]
    with store.reading() as tx:
        assert tx.scalar(sa.select(sa.func.count()).select_from(webhooks)) == MOST
    store.close()


async def test_another_organization_sees_nothing(hooks: Caller) -> None:
    webhook_id = (await create(hooks))["webhook_id"]
    [message_id] = add_messages(hooks.dialer.store(), webhook_id)
    other = another_organization(hooks)
    assert await hooks.ask("GET", "/webhooks", headers=other) == {"webhooks": []}
    for method, path in (
        ("DELETE", f"/webhooks/{webhook_id}"),
        ("GET", f"/webhooks/{webhook_id}/deliveries"),
        ("POST", f"/webhooks/{webhook_id}/deliveries/{message_id}/resend"),
    ):
        refused = await hooks.ask(method, path, headers=other, status=404)
        assert refused["code"] == "not_found"
        await hooks.ask(method, path, headers={"X-API-KEY": "nobody"}, status=401)
    assert len((await hooks.ask("GET", "/webhooks"))["webhooks"]) == 1


async def test_no_id_holds_a_nul(hooks: Caller) -> None:
    """PostgreSQL refuses to look for one, which is no failure of the dialer."""
    webhook_id = (await create(hooks))["webhook_id"]
    for method, path in (
        ("DELETE", "/webhooks/%00"),
        ("GET", "/webhooks/%00/deliveries"),
        ("POST", "/webhooks/%00/deliveries/msg_1/resend"),
        ("POST", f"/webhooks/{webhook_id}/deliveries/%00/resend"),
    ):
        assert (await hooks.ask(method, path, status=404))["code"] == "not_found"


async def test_a_webhook_that_is_deleted_takes_its_messages_along(hooks: Caller) -> None:
    gone, kept = [(await create(hooks))["webhook_id"] for _ in range(2)]
    store = hooks.dialer.store()
    add_messages(store, gone, 3)
    [message_id] = add_messages(store, kept)
    await hooks.ask("DELETE", f"/webhooks/{gone}")
    with store.reading() as tx:
        assert tx.scalars(sa.select(webhook_outbox.c.message_id)).all() == [message_id]
    await hooks.ask("DELETE", f"/webhooks/{gone}", status=404)
    await hooks.ask("GET", f"/webhooks/{gone}/deliveries", status=404)


async def test_deliveries_come_in_pages_newest_first(hooks: Caller) -> None:
    webhook_id = (await create(hooks))["webhook_id"]
    store = hooks.dialer.store()
    ids = []
    for _ in range(5):
        hooks.clock.forward(seconds=1)
        ids += add_messages(store, webhook_id)
    path = f"/webhooks/{webhook_id}/deliveries"
    pages = [await hooks.ask("GET", f"{path}?limit=2&page={page}") for page in range(3)]
    assert [one["message_id"] for page in pages for one in page["deliveries"]] == ids[::-1]
    assert [page["pagination"]["has_next_page"] for page in pages] == [True, True, False]
    assert pages[0]["deliveries"][0] == {
        "message_id": ids[-1],
        "event": "task.finished",
        "created_at": "2026-11-23T20:00:05.000+00:00",
        "tries": 0,
        "delivered_at": None,
        "due_at": "2026-11-23T20:00:05.000+00:00",
        "last_error": None,
    }
    await hooks.ask("GET", f"{path}?limit=101", status=422)


async def test_a_message_can_be_sent_again(hooks: Caller) -> None:
    webhook_id, other_id = [(await create(hooks))["webhook_id"] for _ in range(2)]
    store = hooks.dialer.store()
    [message_id] = add_messages(store, webhook_id)
    with store.writing() as tx:
        tx.execute(webhook_outbox.update().values(due_at=None, tries=10, last_error="answered 500"))
    again = await hooks.ask("POST", f"/webhooks/{webhook_id}/deliveries/{message_id}/resend")
    assert (again["tries"], again["last_error"], again["due_at"]) == (0, None, "2026-11-23T20:00:00.000+00:00")
    assert message(store, message_id)["due_at"] == store.now()
    await hooks.ask("POST", f"/webhooks/{other_id}/deliveries/{message_id}/resend", status=404)
    await hooks.ask("POST", f"/webhooks/{webhook_id}/deliveries/msg_0/resend", status=404)


@on_sqlite("desk")
async def test_the_document_describes_them(hooks: Caller) -> None:
    document = (await hooks.http.get("/openapi.json")).json()
    body = document["paths"]["/webhooks"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body == {"$ref": "#/components/schemas/WebhookBody"}
    schema = document["components"]["schemas"]["WebhookBody"]
    assert schema["required"] == ["url"]
    assert "task.finished" in str(schema)
