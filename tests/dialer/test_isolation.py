"""Another organisation cannot see, guess or change anything: every operation of the OpenAPI document is tried.

An operation that is not in `ASKED` fails the test: whoever adds one says here how it is called.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.storage import api_keys, outbox, tables
from tests.dialer.conftest import ALWAYS, CALLER, Caller, body, client_of, numbers
from tests.sampling import spread

ABSENT = {
    "batch_call_id": "batch_call_" + "0" * 32,
    "task_id": "task_" + "0" * 32,
    "webhook_id": "webhook_" + "0" * 32,
    "message_id": "msg_" + "0" * 32,
    "do_not_call": "+13102000001",
}
"""Ids of nothing, of the shape of those of something."""
METHODS = {"get", "put", "post", "patch", "delete"}


@dataclass(frozen=True)
class Asked:
    """How an operation is called: its JSON, in which `{task_id}` and the like stand for ids."""

    content: Any = None
    states: tuple[str, ...] = ("draft", "sent", "completed")
    query: dict[str, str] = field(default_factory=dict)


ASKED: dict[tuple[str, str], Asked] = {
    ("post", "/batch-call"): Asked(body(numbers(1), retry_of="{batch_call_id}")),
    ("get", "/batch-call/list"): Asked(),
    ("post", "/batch-call/list"): Asked({}),
    ("get", "/batch-call/{batch_call_id}"): Asked(),
    ("put", "/batch-call/{batch_call_id}"): Asked(body(numbers(1))),
    ("patch", "/batch-call/{batch_call_id}"): Asked({"name": "mine now"}),
    ("delete", "/batch-call/{batch_call_id}"): Asked(),
    ("get", "/batch-call/{batch_call_id}/tasks"): Asked(query={"status": "pending"}),
    ("post", "/batch-call/{batch_call_id}/tasks"): Asked({"tasks": [{"to_number": "+13102000000"}]}),
    ("get", "/batch-call/{batch_call_id}/tasks/{task_id}/attempts"): Asked(),
    ("get", "/batch-call/{batch_call_id}/tasks/{task_id}/call"): Asked(),
    ("get", "/batch-call/{batch_call_id}/export.csv"): Asked(),
    ("post", "/batch-call/{batch_call_id}/retry"): Asked({"task_ids": ["{task_id}"]}),
    ("post", "/batch-call/{batch_call_id}/execute"): Asked(),
    ("post", "/batch-call/{batch_call_id}/pause"): Asked(),
    ("post", "/batch-call/{batch_call_id}/resume"): Asked(),
    ("post", "/batch-call/{batch_call_id}/cancel"): Asked(),
    ("post", "/do-not-call"): Asked({"to_numbers": ["{do_not_call}"]}),
    ("get", "/do-not-call"): Asked(),
    ("delete", "/do-not-call/{to_number}"): Asked(),
    ("get", "/account"): Asked(),
    ("get", "/metrics"): Asked(),
    ("get", "/healthz"): Asked(),
    ("get", "/readyz"): Asked(),
    ("post", "/webhooks"): Asked({"url": "https://203.0.114.9/{webhook_id}"}),
    ("get", "/webhooks"): Asked(),
    ("delete", "/webhooks/{webhook_id}"): Asked(),
    ("get", "/webhooks/{webhook_id}/deliveries"): Asked(),
    ("post", "/webhooks/{webhook_id}/deliveries/{message_id}/resend"): Asked(),
}
SECRET_NAME = "Operation Nightingale"


def on_both(operations: list[tuple[str, str]]) -> list[Any]:
    """Each operation on one of the databases, the first of each method on both; all of them by `make torture`."""
    ways = spread(operations, ("sqlite", "postgresql"), lambda operation: operation[0])
    return [pytest.param(way, key, id=f"{way}-{' '.join(key)}") for way, keys in ways for key in keys]


def filled(template: Any, ids: dict[str, str]) -> Any:
    """The JSON or path with ids in the place of their names."""
    text = json.dumps(template)
    for name, value in ids.items():
        text = text.replace(f"{{{name}}}", value)
    return json.loads(text)


def rows(desk: Caller) -> dict[str, list[str]]:
    """The whole database, table by table."""
    with desk.dialer.store().reading() as tx:
        return {
            name: sorted(map(repr, tx.execute(sa.select(table)).all()))
            for name, table in tables.metadata.tables.items()
        }


async def first_organisation_s(desk: Caller, state: str) -> dict[str, str]:
    """The ids of a batch call in this state, whose task was dialled if it is over."""
    batch_call_id = await desk.create(numbers(1), name=SECRET_NAME)
    [task] = await desk.tasks(batch_call_id)
    with desk.dialer.store().writing() as tx:
        tx.execute(tables.batch_calls.update().values(status=state))
        if state == "completed":
            tx.execute(tables.tasks.update().values(status="completed", attempts=1, answered=True))
            tx.execute(
                tables.attempts.insert().values(
                    task_id=task["task_id"],
                    n=1,
                    batch_call_id=batch_call_id,
                    organization_id="local",
                    to_number=numbers(1)[0],
                    started_at=1,
                    ended_at=2,
                    outcome="completed",
                )
            )
    with desk.dialer.store().writing() as tx:
        webhook_id = f"webhook_{secrets.token_hex(16)}"
        webhook = {"webhook_id": webhook_id, "organization_id": "local", "url": "https://203.0.114.9/theirs"}
        tx.execute(tables.webhooks.insert().values(**webhook, secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZI", created_at=1))
        outbox.batch_call_events(tx, [(batch_call_id, "batch_call.started")], 1)
        mine = tables.webhook_outbox.c.webhook_id == webhook_id
        message_id = tx.execute(sa.select(tables.webhook_outbox.c.message_id).where(mine)).scalar_one()
        theirs = {"to_number": "+13102000002", "organization_id": "local", "source": "api", "added_at": 1}
        tx.execute(tables.do_not_call.delete())
        tx.execute(tables.do_not_call.insert().values(**theirs))
    return {
        "batch_call_id": batch_call_id,
        "do_not_call": theirs["to_number"],
        "task_id": task["task_id"],
        "webhook_id": webhook_id,
        "message_id": message_id,
    }


async def called(
    http: httpx2.AsyncClient, operation: tuple[str, str], ids: dict[str, str], key: str
) -> tuple[Any, ...]:
    """Status, media type and text of the answer, with the ids taken out."""
    method, path = operation
    asked = ASKED[operation]
    answer = await http.request(
        method.upper(),
        filled(path, {**ids, "to_number": ids["do_not_call"]}),
        json=filled(asked.content, ids),
        params=asked.query,
        headers={"Idempotency-Key": key},
    )
    text = answer.text
    for value in ids.values():
        text = text.replace(value, "ID")
    return answer.status_code, answer.headers["content-type"], text


async def test_every_operation_is_known_here(desk: Caller) -> None:
    """A new one is added to `ASKED`, one that is gone is taken out."""
    document = (await desk.http.get("/openapi.json")).json()
    found = {(method, path) for path, item in document["paths"].items() for method in item if method in METHODS}
    assert found == ASKED.keys()


@pytest.mark.sweep
@pytest.mark.parametrize(("desk", "operation"), on_both([key for key in ASKED if "{" in key[1]]), indirect=["desk"])
async def test_another_organisation_s_ids_are_as_those_of_nothing(desk: Caller, operation: tuple[str, str]) -> None:
    """The same status, the same text; nothing in the database changes, and no key is used up."""
    pair = api_keys.new_pair()
    api_keys.add(desk.dialer.store(), pair, "other")
    async with client_of(desk.dialer.app, *pair) as stranger:
        for state in ASKED[operation].states:
            theirs = await first_organisation_s(desk, state)
            before = rows(desk)
            answers = [await called(stranger, operation, ids, "key") for ids in (theirs, ABSENT)]
            assert answers[0] == answers[1]
            assert answers[0][0] == 404
            assert SECRET_NAME not in answers[0][2]
            assert rows(desk) == before


@pytest.mark.parametrize(("desk", "operation"), on_both([key for key in ASKED if "{" not in key[1]]), indirect=["desk"])
async def test_what_names_no_id_shows_only_one_s_own(desk: Caller, operation: tuple[str, str]) -> None:
    """Also where the first organisation has used the same Idempotency-Key, and where a body names its ids."""
    pair = api_keys.new_pair()
    api_keys.add(desk.dialer.store(), pair, "other")
    theirs = await first_organisation_s(desk, "completed")
    await called(desk.http, operation, theirs, "key")
    before = rows(desk)
    async with client_of(desk.dialer.app, *pair) as stranger:
        status, _, text = await called(stranger, operation, ABSENT, "key")
    assert status == 200
    for secret in (SECRET_NAME, theirs["batch_call_id"], theirs["task_id"], '"local"', '"calls_today":1', "replayed"):
        assert secret not in text
    after = rows(desk)
    # One's own may be added; what was there stays, row by row.
    assert {name: set(before[name]) - set(found) for name, found in after.items()} == {name: set() for name in after}


async def test_a_stranger_s_task_cannot_be_reached_through_one_s_own_batch_call(desk: Caller) -> None:
    """Ids inside a path or body are checked against the batch call that is one's own."""
    pair = api_keys.new_pair()
    api_keys.add(desk.dialer.store(), pair, "other")
    theirs = await first_organisation_s(desk, "completed")
    async with client_of(desk.dialer.app, *pair) as http:
        other = Caller(desk.dialer, http, desk.clock, desk.data_dir)
        own = await other.ask(
            "POST",
            "/batch-call",
            {"from_number": CALLER, "tasks": [{"to_number": "+13102000000"}], "window": ALWAYS, "send_now": True},
        )
        before = rows(desk)
        for task_id in (theirs["task_id"], ABSENT["task_id"]):
            path = f"/batch-call/{own['batch_call_id']}"
            attempts = await other.ask("GET", f"{path}/tasks/{task_id}/attempts", status=404)
            assert attempts["error"] == f"There is no task '{task_id}' in this batch call. Nothing was changed."
            retry = await other.ask("POST", f"{path}/retry", {"task_ids": [task_id]}, status=422)
            assert retry["error"].splitlines()[0] == (
                "task_ids: not all are tasks of this batch call. Nothing was changed."
            )
    assert rows(desk) == before
