"""The REST face, without an engine where nothing needs to ring."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.dialer.rest import http_responses
from batchcall_mcp.dialer.rest.messages import mapping
from batchcall_mcp.dialer.storage import api_keys
from batchcall_mcp.dialer.storage.api_keys import KeyPair
from batchcall_mcp.errors import InvalidInput
from tests.dialer.conftest import ALWAYS, CALLER, Caller, NewCaller, body, client_of, numbers, on_sqlite

DOCUMENTED = {
    "from_number": "+14157774444",
    "tasks": [{"to_number": "+12137774445", "dynamic_variables": {"first_name": "John"}, "max_retries": 3}],
    "name": "Updated Campaign Name",
    "trigger_timestamp": 1835718500000,
    "agent_id": "agent_7ff47846-c8a0-4304-ae13-88cfc31c1a03",
    "timezone": "UTC",
    "status": "scheduled",
    "send_now": False,
}
TASK = {"to_number": "+12137774445"}


@on_sqlite("desk")
async def test_the_seed_s_put_is_answered_in_the_seed_s_words(desk: Caller) -> None:
    """Every field of the documented answer, with the documented meaning."""
    batch_call_id = await desk.create(numbers(2))
    answer = await desk.http.put(f"/batch-call/{batch_call_id}", json=DOCUMENTED)
    http_responses = answer.json()
    data = http_responses.pop("data")
    assert http_responses == {"message": "Batch call updated successfully", "status": "success", "error": None}
    documented = {
        "batch_call_id": batch_call_id,
        "name": "Updated Campaign Name",
        "from_number": "+14157774444",
        "scheduled_timestamp": 1835718500000,
        "total_task_count": 1,
        "total": 1,
        "sent": 0,
        "picked_up": 0,
        "completed": 0,
        "agent_id": "agent_7ff47846-c8a0-4304-ae13-88cfc31c1a03",
        "organization_id": "local",
        "status": "scheduled",
        "timezone": "UTC",
        "last_sent_timestamp": None,
        "tasks_url": f"/batch-call/{batch_call_id}/tasks",
        "created_timestamp": int(desk.clock().timestamp() * 1000),
    }
    assert {name: data[name] for name in documented} == documented
    assert data["carrier"] == "simulated"
    [task] = await desk.tasks(batch_call_id)
    assert task["dynamic_variables"] == {"first_name": "John"}
    assert task["max_retries"] == 3


async def test_without_a_word_about_when_a_batch_call_is_a_draft(caller: Caller) -> None:
    """Unlike the vendor's, which dials at once."""
    batch_call_id = await caller.create(numbers(3))
    assert (await caller.get(batch_call_id))["status"] == "draft"
    assert caller.dialled() == []


@on_sqlite("desk")
async def test_a_put_without_a_time_takes_the_schedule_back(desk: Caller) -> None:
    """It is the whole batch call anew: what is not given is gone."""
    batch_call_id = await desk.create(numbers(1), trigger_timestamp=1835718500, name="a", timezone="UTC")
    await desk.ask("PUT", f"/batch-call/{batch_call_id}", body(numbers(2)))
    data = await desk.get(batch_call_id)
    assert (data["status"], data["scheduled_timestamp"], data["name"], data["total"]) == ("draft", None, None, 2)


@on_sqlite("desk")
async def test_a_patch_changes_only_what_is_given(desk: Caller) -> None:
    """Nulls are not given either."""
    batch_call_id = await desk.create(numbers(2), name="a", trigger_timestamp=1835718500)
    before = await desk.get(batch_call_id)
    desk.clock.forward(seconds=1)
    await desk.ask("PATCH", f"/batch-call/{batch_call_id}", {"name": "b", "agent_id": None})
    after = await desk.get(batch_call_id)
    assert after == before | {"name": "b", "updated_timestamp": before["updated_timestamp"] + 1000}


async def test_a_patch_can_replace_the_tasks_and_the_caller(desk: Caller) -> None:
    """But the caller must not call itself, whichever of the two came first."""
    batch_call_id = await desk.create(numbers(2))
    await desk.ask("PATCH", f"/batch-call/{batch_call_id}", {"tasks": [TASK]})
    assert [task["to_number"] for task in await desk.tasks(batch_call_id)] == ["+12137774445"]
    refused = await desk.ask("PATCH", f"/batch-call/{batch_call_id}", {"from_number": "+12137774445"}, status=422)
    assert "from_number" in refused["error"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"bogus": 1}, "bogus: this field is not known"),
        ({"tasks": [{"to_number": "+12137774445", "nam": "x"}]}, "tasks.0.nam: this field is not known"),
        ({"from_number": "4157774444"}, "from_number: is not a number in E.164"),
        ({"from_number": 14157774444}, "from_number: "),
        ({"tasks": []}, "tasks: "),
        ({"tasks": [TASK, {"to_number": CALLER}]}, "tasks.1.to_number: is the from_number"),
        ({"tasks": [TASK, {**TASK, "max_retries": 11}]}, "tasks.1.max_retries: "),
        ({"tasks": [{**TASK, "timezone": "PST"}]}, "tasks.0.timezone: "),
        ({"tasks": [{**TASK, "dynamic_variables": {"a": "x" * 5200}}]}, "tasks.0.dynamic_variables: "),
        ({"name": "x" * 256}, "name: "),
        ({"timezone": "PST"}, "America/Los_Angeles"),
        ({"trigger_timestamp": "tomorrow"}, "trigger_timestamp: "),
        ({"trigger_timestamp": "2026-12-01T09:00"}, "trigger_timestamp: the time has no offset"),
        ({"trigger_timestamp": 1e300}, "trigger_timestamp: "),
        ({"send_now": "yes"}, "send_now: "),
        ({"status": "completed"}, "status: "),
        ({"status": "scheduled"}, "needs a trigger_timestamp"),
        ({"status": "draft", "send_now": True}, "contradicts"),
        ({"window": {"start": "9:00", "end": "17:00"}}, "window.start: is not a local time"),
        ({"window": {"start": "09:00", "end": "17:00", "days": [7]}}, "window.days.0: "),
        ({"window": {"start": "09:00", "end": "17:00", "days": []}}, "window.days"),
        ({"window": {"start": "09:00", "end": "09:00"}}, "window"),
        ({"quiet_hours": {"start_time": "22:00", "end_time": "08:00"}}, "window and quiet_hours"),
        ({"max_concurrency": 0}, "max_concurrency: "),
        ({"retry_config": {"max_attempts": 11}}, "retry_config.max_attempts: "),
        ({"retry_rules": [{"condition": "hung_up", "retry_timing": {"type": "AT", "time": "13:00"}}]}, "condition: "),
        ({"retry_rules": [{"condition": "busy", "retry_timing": {"type": "AT"}}]}, "time: "),
    ],
)
@on_sqlite("desk")
async def test_a_wrong_request_is_refused_by_field(desk: Caller, change: dict[str, Any], field: str) -> None:
    """And nothing is stored."""
    refused = await desk.ask("POST", "/batch-call", body(numbers(1)) | change, status=422)
    assert refused["code"] == "invalid_input"
    assert field in refused["error"]
    assert "Nothing was" in refused["error"]
    assert (await desk.ask("GET", "/batch-call/list"))["pagination"]["total_count"] == 0


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"from_number": "\\ud800"}', "\x00"])
@on_sqlite("desk")
async def test_what_is_not_a_json_object_is_refused(desk: Caller, content: str) -> None:
    """With the envelope."""
    answer = await desk.http.post("/batch-call", content=content)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


@on_sqlite("desk")
async def test_a_body_that_is_too_large_is_not_read(desk: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded whatever is sent."""
    monkeypatch.setattr(http_responses, "MAX_BODY_BYTES", 1000)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100_000:
            sent += 100
            yield b" " * 100

    answer = await desk.http.post("/batch-call", content=endless())
    assert (answer.status_code, answer.json()["code"]) == (413, "quota_exceeded")
    assert "Nothing was changed" in answer.json()["error"]


@pytest.mark.parametrize("path", ["/batch-call/list", "/batch-call/{}/retry", "/webhooks"])
async def test_what_is_wrong_with_a_body_takes_little_memory_however_much_it_is(
    new_caller: NewCaller, path: str
) -> None:
    """Each problem is a kilobyte: one body of 64 MB would have ended the process, and the calls of everybody."""
    async with new_caller(start=False) as desk:
        path = path.format(await desk.create(numbers(1)))
        large = await desk.http.post(path, content=b" " * (http_responses.MAX_READ_AT_ONCE_BYTES + 1))
        assert (large.status_code, large.json()["code"]) == (413, "quota_exceeded")
        unknown = dict.fromkeys(map(str, range(mapping.MOST_PROBLEMS + 1)), 1)
        assert "body: more than 100000 fields are wrong" in (await desk.ask("POST", path, unknown, status=422))["error"]


@on_sqlite("desk")
async def test_of_a_long_list_of_wrong_ids_the_first_one_is_named(desk: Caller) -> None:
    path = f"/batch-call/{await desk.create(numbers(1))}/retry"
    for name in ("task_ids", "task_status"):
        told = (await desk.ask("POST", path, {name: [1] * 1000}, status=422))["error"]
        assert f"- {name}.0: " in told
        assert "more" not in told


@on_sqlite("desk")
async def test_an_upload_that_breaks_off_does_not_count_as_a_failure_of_the_dialer(
    desk: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing raised to the server, which would log a traceback for each."""
    arriving = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    answered: list[int] = []

    async def receive() -> Any:
        return next(arriving)

    async def send(message: Any) -> None:
        answered.append(message.get("status", 0))

    key, secret = desk.dialer.credentials
    headers = [(b"x-api-key", key.encode()), (b"x-api-secret", secret.encode())]
    scope = {"type": "http", "method": "POST", "path": "/batch-call", "query_string": b"", "headers": headers}
    await desk.dialer.app(scope, receive, send)
    assert answered[0] == 400
    assert "failed" not in caplog.text


@on_sqlite("desk")
async def test_quiet_hours_are_kept_as_the_window_that_they_leave(desk: Caller) -> None:
    """The vendor's own sample."""
    asked = {"enabled": True, "start_time": "22:00", "end_time": "08:00", "timezone": "Asia/Calcutta"}
    asked_body = body(numbers(1), quiet_hours=asked)
    del asked_body["window"]
    data = await desk.ask("POST", "/batch-call", asked_body)
    expected = {"start": "08:00", "end": "22:00", "days": [0, 1, 2, 3, 4, 5, 6], "timezone": "Asia/Calcutta"}
    assert data["window"] == expected


async def test_without_hours_the_operator_s_hours_hold(new_caller: NewCaller) -> None:
    """On each called person's own clock, and the answer shows them."""
    async with new_caller(start=False, calling_hours="10:00-18:00") as desk:
        data = await desk.ask("POST", "/batch-call", {"from_number": CALLER, "tasks": [TASK]})
    assert data["window"] == {"start": "10:00", "end": "18:00", "days": [0, 1, 2, 3, 4, 5, 6], "timezone": "recipient"}


@on_sqlite("desk")
async def test_window_days_come_back_as_they_were_sent(desk: Caller) -> None:
    """0 is Sunday."""
    window = {"start": "09:00", "end": "17:00", "days": [1, 2, 6], "timezone": "Europe/Berlin"}
    batch_call_id = await desk.create(numbers(1), window=window)
    assert (await desk.get(batch_call_id))["window"] == window


MOVES = {
    "draft": {"execute": "sent"},
    "scheduled": {"execute": "sent", "pause": "paused", "cancel": "cancelled"},
    "sent": {"pause": "paused", "resume": "sent", "cancel": "cancelled"},
    "paused": {"pause": "paused", "resume": "sent", "cancel": "cancelled"},
    "cancelled": {"cancel": "cancelled"},
}


async def reach(desk: Caller, status: str) -> str:
    batch_call_id = await desk.create(
        numbers(2), **({"trigger_timestamp": 1835718500} if status == "scheduled" else {})
    )
    steps = {"sent": ["execute"], "paused": ["execute", "pause"], "cancelled": ["execute", "cancel"]}
    for step in steps.get(status, []):
        await desk.ask("POST", f"/batch-call/{batch_call_id}/{step}")
    assert (await desk.get(batch_call_id))["status"] == status
    return batch_call_id


@pytest.mark.parametrize("action", ["execute", "pause", "resume", "cancel"])
@pytest.mark.parametrize("status", MOVES)
@on_sqlite("desk")
async def test_moves(desk: Caller, status: str, action: str) -> None:
    """What is not possible is a 409 that says the status and changes nothing."""
    batch_call_id = await reach(desk, status)
    before = await desk.get(batch_call_id)
    expected = MOVES[status].get(action)
    if expected:
        data = await desk.ask("POST", f"/batch-call/{batch_call_id}/{action}")
        assert data["status"] == expected
    else:
        refused = await desk.ask("POST", f"/batch-call/{batch_call_id}/{action}", status=409)
        assert refused["code"] == "illegal_transition"
        assert f"status {status}" in refused["error"]
        assert await desk.get(batch_call_id) == before


@pytest.mark.parametrize("status", MOVES)
@on_sqlite("desk")
async def test_only_what_cannot_dial_is_deleted(desk: Caller, status: str) -> None:
    """Drafts and what is over."""
    batch_call_id = await reach(desk, status)
    possible = status in {"draft", "cancelled"}
    await desk.ask("DELETE", f"/batch-call/{batch_call_id}", status=200 if possible else 409)
    await desk.ask("GET", f"/batch-call/{batch_call_id}", status=404 if possible else 200)


@pytest.mark.parametrize("status", ["sent", "paused", "cancelled"])
@on_sqlite("desk")
async def test_after_the_start_only_the_name_can_change(desk: Caller, status: str) -> None:
    """Not whom it calls, nor when."""
    batch_call_id = await reach(desk, status)
    await desk.ask("PATCH", f"/batch-call/{batch_call_id}", {"name": "new"})
    for change in ({"agent_id": "a"}, {"tasks": [TASK]}, {"status": "draft"}, {"trigger_timestamp": 1835718500}):
        refused = await desk.ask("PATCH", f"/batch-call/{batch_call_id}", change, status=409)
        assert refused["code"] == "illegal_transition"
    await desk.ask("PUT", f"/batch-call/{batch_call_id}", body(numbers(1)), status=409)
    assert (await desk.get(batch_call_id))["name"] == "new"


@on_sqlite("desk")
async def test_what_was_paused_before_its_time_waits_for_it_again(desk: Caller) -> None:
    """Resuming must not dial a day early."""
    batch_call_id = await reach(desk, "scheduled")
    await desk.ask("POST", f"/batch-call/{batch_call_id}/pause")
    assert (await desk.ask("POST", f"/batch-call/{batch_call_id}/resume"))["status"] == "scheduled"


async def test_cancelling_ends_every_task_that_was_not_dialled(desk: Caller) -> None:
    """And says when."""
    batch_call_id = await reach(desk, "sent")
    data = await desk.ask("POST", f"/batch-call/{batch_call_id}/cancel")
    assert (data["counts"]["cancelled"], data["counts"]["pending"]) == (2, 0)
    assert data["completed_timestamp"] == int(desk.clock().timestamp() * 1000)


async def test_the_same_key_and_request_take_effect_once(desk: Caller) -> None:
    """The second answer is the first one, and says so in a header and in its body."""
    headers = {"Idempotency-Key": "one"}
    answers = [await desk.http.post("/batch-call", json=body(numbers(1)), headers=headers) for _ in range(3)]
    first = answers[0].json()
    assert [answer.json() for answer in answers] == [first, *[first | {"replayed": True}] * 2]
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true", "true"]
    assert (await desk.ask("GET", "/batch-call/list"))["pagination"]["total_count"] == 1


async def test_the_same_key_with_another_request_is_a_conflict(desk: Caller) -> None:
    """Another body, or another path."""
    headers = {"Idempotency-Key": "one"}
    data = await desk.ask("POST", "/batch-call", body(numbers(1)), headers=headers)
    refused = await desk.ask("POST", "/batch-call", body(numbers(2)), status=409, headers=headers)
    assert refused["code"] == "idempotency_conflict"
    path = f"/batch-call/{data['batch_call_id']}/execute"
    assert (await desk.ask("POST", path, status=409, headers=headers))["code"] == "idempotency_conflict"
    assert (await desk.get(data["batch_call_id"]))["status"] == "draft"


async def test_a_refused_write_leaves_its_key_free(desk: Caller) -> None:
    """Nothing happened, so there is nothing to replay."""
    headers = {"Idempotency-Key": "one"}
    batch_call_id = await desk.create(numbers(1))
    path = f"/batch-call/{batch_call_id}/resume"
    await desk.ask("POST", path, status=409, headers=headers)
    await desk.ask("POST", f"/batch-call/{batch_call_id}/execute")
    await desk.ask("POST", f"/batch-call/{batch_call_id}/pause")
    await desk.ask("POST", path, headers=headers)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
@on_sqlite("desk")
async def test_a_write_is_replayed_after_its_expiry_too(desk: Caller, method: str) -> None:
    """Refused with "nothing was changed", whoever lost the first answer would make the batch call again."""
    path = "/batch-call" if method == "POST" else f"/batch-call/{await desk.create(numbers(1))}"
    expires_at = (desk.clock() + timedelta(hours=1)).isoformat()
    content = body(numbers(1), send_now=True, expires_timestamp=expires_at)
    headers = {"Idempotency-Key": "one"}
    first = await desk.ask(method, path, content, headers=headers)
    desk.clock.forward(hours=2)
    assert await desk.ask(method, path, content, headers=headers) == first


async def test_what_fails_in_the_database_is_reported_without_what_was_to_be_written(desk: Caller) -> None:
    """The server logs the exception: the log masks numbers in it, but knows no name, variable or secret."""
    with desk.dialer.store().writing() as tx:
        tx.execute(sa.text("ALTER TABLE batch_calls RENAME COLUMN agent_id TO away"))
    try:
        with pytest.raises(sa.exc.DBAPIError) as caught:
            await desk.create(numbers(1), name="Private", agent_id="an_agent")
    finally:
        with desk.dialer.store().writing() as tx:
            tx.execute(sa.text("ALTER TABLE batch_calls RENAME COLUMN away TO agent_id"))
    assert "Private" not in str(caught.value)


async def test_a_key_is_forgotten_after_a_week(desk: Caller) -> None:
    """The table does not grow for ever."""
    headers = {"Idempotency-Key": "one"}
    await desk.ask("POST", "/batch-call", body(numbers(1)), headers=headers)
    desk.clock.forward(days=8)
    await desk.ask("POST", "/batch-call", body(numbers(2)), headers=headers)


async def test_a_delete_can_be_repeated_with_its_key(desk: Caller) -> None:
    """Without it the second one is a 404."""
    batch_call_id = await desk.create(numbers(1))
    for _ in range(2):
        await desk.ask("DELETE", f"/batch-call/{batch_call_id}", headers={"Idempotency-Key": "gone"})
    await desk.ask("DELETE", f"/batch-call/{batch_call_id}", status=404)


async def test_lists_are_paged_sorted_and_filtered(desk: Caller) -> None:
    """By query and by body alike."""
    for name in ("Alpha", "beta", "Alphabet"):
        await desk.create(numbers(1), name=name, agent_id=name[0])
        desk.clock.forward(minutes=1)
    await reach(desk, "sent")

    async def names(**query: Any) -> list[str]:
        data = await desk.ask("GET", "/batch-call/list", params=query)
        return [item["name"] for item in data["batch_calls"]]

    assert await names() == [None, "Alphabet", "beta", "Alpha"]
    assert await names(sort_by="created_at", sort_order="ascending", limit=2) == ["Alpha", "beta"]
    assert await names(sort_by="created_at", sort_order="ascending", limit=2, page=1) == ["Alphabet", None]
    assert await names(name="ALPHA") == ["Alphabet", "Alpha"]
    assert await names(name="%") == []
    assert await names(agent_id="b") == ["beta"]
    assert await names(status=["sent", "paused"]) == [None]
    assert await names(created_after="2026-11-23T20:00:30Z") == [None, "Alphabet", "beta"]
    filtered = await desk.ask(
        "POST",
        "/batch-call/list",
        {"filter_criteria": {"status": ["draft"], "name": ["alpha"]}, "pagination": {"page": 0, "limit": 1}},
    )
    assert [item["name"] for item in filtered["batch_calls"]] == ["Alphabet"]
    assert filtered["pagination"] == {
        "page": 0,
        "limit": 1,
        "total_count": 2,
        "total_pages": 2,
        "has_next_page": True,
        "has_previous_page": False,
    }


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "page=-1", "sort_by=phone", "status=running", "page=x"])
@on_sqlite("desk")
async def test_a_list_is_bounded(desk: Caller, query: str) -> None:
    """No query reads everything."""
    refused = await desk.ask("GET", f"/batch-call/list?{query}", status=422)
    assert query.partition("=")[0] in refused["error"]


async def test_tasks_are_paged_and_filtered_in_the_order_of_the_list(desk: Caller) -> None:
    """By status, several of them, and by number."""
    batch_call_id = await desk.create(numbers(5))

    async def found(query: str) -> tuple[list[str], int]:
        data = await desk.ask("GET", f"/batch-call/{batch_call_id}/tasks?{query}")
        return [task["to_number"] for task in data["tasks"]], data["pagination"]["total_count"]

    assert await found("") == (numbers(5), 5)
    assert await found("limit=2&page=1") == (numbers(5)[2:4], 5)
    assert await found("status=completed&status=busy") == ([], 0)
    assert await found("status=completed&status=pending&limit=1") == (numbers(1), 5)
    assert await found("to_number=%2B12132000030") == (["+12132000030"], 1)
    await desk.ask("GET", f"/batch-call/{batch_call_id}/tasks?limit=1001", status=422)
    await desk.ask("GET", "/batch-call/batch_call_none/tasks", status=404)


@on_sqlite("desk")
async def test_without_a_known_key_everything_is_a_401(desk: Caller) -> None:
    """Missing, half or wrong; only health and the OpenAPI document are open."""
    key, secret = desk.dialer.credentials
    for pair in ((None, None), (key, None), (key, key), ("ö", secret)):
        given = zip((b"x-api-key", b"x-api-secret"), pair, strict=True)
        encoded = [(name, value.encode()) for name, value in given if value is not None]
        async with client_of(desk.dialer.app, "", "") as anonymous:
            for method, path in (("GET", "/batch-call/list"), ("POST", "/batch-call"), ("GET", "/account")):
                answer = await anonymous.request(method, path, headers=encoded)
                assert (answer.status_code, answer.json()["code"]) == (401, "authentication_failed")
            assert (await anonymous.get("/healthz")).status_code == 200


async def test_organisations_see_only_their_own(desk: Caller) -> None:
    """What is another's is not there, for reading, for writing and for idempotency."""
    pair = api_keys.new_pair()
    api_keys.add(desk.dialer.store(), pair, "other")
    batch_call_id = await desk.create(numbers(1))
    await desk.ask("POST", "/batch-call", body(numbers(1)), headers={"Idempotency-Key": "one"})
    async with client_of(desk.dialer.app, *pair) as http:
        other = Caller(desk.dialer, http, desk.clock, desk.data_dir)
        for method, path in (("GET", ""), ("GET", "/tasks"), ("POST", "/execute"), ("DELETE", "")):
            refused = await other.ask(method, f"/batch-call/{batch_call_id}{path}", status=404)
            assert refused["code"] == "not_found"
        assert (await other.ask("GET", "/batch-call/list"))["batch_calls"] == []
        assert (await other.ask("GET", "/account"))["organization_id"] == "other"
        made = await other.ask("POST", "/batch-call", body(numbers(1)), headers={"Idempotency-Key": "one"})
        assert made["organization_id"] == "other"


@on_sqlite("desk")
async def test_the_account_says_what_it_is(desk: Caller) -> None:
    """Honest about ringing no phone."""
    assert await desk.ask("GET", "/account") == {
        "organization_id": "local",
        "numbers": None,
        "agents": None,
        "carrier": "simulated",
        "carrier_title": "the simulated carrier",
        "places_real_calls": False,
        "payer": None,
        "calls_at_once": None,
        "countries": None,
        "keeps_dates": True,
        "calls_today": 0,
        "notes": [],
    }


@on_sqlite("desk")
async def test_an_unknown_path_or_method_answers_in_the_envelope(desk: Caller) -> None:
    """So that a client of the dialect can read it."""
    assert (await desk.ask("GET", "/campaigns", status=404))["code"] == "not_found"
    assert (await desk.ask("PUT", "/batch-call/x/pause", status=405))["code"] == "method_not_allowed"


@on_sqlite("desk")
async def test_the_openapi_document_holds_every_body(desk: Caller) -> None:
    """All references lead somewhere, though bodies are not read by FastAPI."""
    document = (await desk.http.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in schemas
    taken = document["paths"]["/batch-call"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert taken == {"$ref": "#/components/schemas/BatchCallBody"}
    assert schemas["BatchCallBody"]["additionalProperties"] is False


@on_sqlite("desk")
async def test_a_hundred_thousand_tasks_in_one_request(desk: Caller) -> None:
    """Stored whole, counted and paged."""
    tasks = [f"+1{213 + index // 90_000}2{index % 90_000:05d}0" for index in range(100_000)]
    batch_call_id = await desk.create(tasks)
    data = await desk.get(batch_call_id)
    assert data["counts"]["pending"] == data["total"] == 100_000
    page = await desk.ask("GET", f"/batch-call/{batch_call_id}/tasks?limit=1000&page=99")
    assert [task["to_number"] for task in page["tasks"]] == tasks[-1000:]


@given(st.datetimes(datetime(1980, 1, 1), datetime(2190, 1, 1), timezones=st.just(UTC)))
def test_a_moment_is_read_alike_in_every_spelling(moment: datetime) -> None:
    """Seconds, milliseconds, ISO 8601 with an offset, and without one in the batch call's zone."""
    moment = moment.replace(microsecond=0)
    seconds = int(moment.timestamp())
    spellings: list[float | str] = [
        seconds,
        seconds * 1000,
        moment.isoformat(),
        moment.isoformat().replace("+00:00", "Z"),
    ]
    assert [mapping.moment(spelling, None) for spelling in spellings] == [moment] * 4
    assert mapping.moment(moment.replace(tzinfo=None).isoformat(), "UTC") == moment


SPELLINGS: st.SearchStrategy[float | str] = st.text(max_size=30) | st.floats() | st.integers()


@given(SPELLINGS)
def test_any_text_or_number_is_a_moment_or_refused(value: float | str) -> None:
    """Never anything else."""
    found: datetime | None = None
    with contextlib.suppress(InvalidInput):
        found = mapping.moment(value, "Europe/Berlin")
    assert found is None or (found.tzinfo is UTC and 1970 <= found.year <= 2200)


def test_secrets_do_not_show() -> None:
    """Not even when a pair is printed by mistake."""
    pair = api_keys.new_pair()
    assert pair.api_secret not in repr(pair)
    assert pair.api_key not in str(pair)
    assert isinstance(pair, KeyPair)


@on_sqlite("desk")
async def test_window_always_is_accepted(desk: Caller) -> None:
    """`00:00` to `24:00`."""
    batch_call_id = await desk.create(numbers(1), window=ALWAYS)
    assert (await desk.get(batch_call_id))["window"]["end"] == "24:00"
