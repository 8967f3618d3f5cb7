"""A batch call's ETag is another one after each change that people decide by, and If-Match holds a write to it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.rest.messages.preconditions import IfMatch, PreconditionFailed
from tests.dialer.conftest import Caller, NewCaller, body, emptied_postgresql, numbers, on_sqlite

WRITES: dict[str, tuple[str, str, Any]] = {
    "replace": ("PUT", "", body(numbers(2))),
    "change": ("PATCH", "", {"name": "another"}),
    "change the list": ("PATCH", "", {"tasks": [{"to_number": "+12133334444"}]}),
    "schedule": ("PATCH", "", {"trigger_timestamp": "2026-11-25T00:00:00Z"}),
    "append": ("POST", "/tasks", {"tasks": [{"to_number": "+12133334444"}]}),
    "execute": ("POST", "/execute", None),
    "delete": ("DELETE", "", None),
    "resume": ("POST", "/resume", None),
    "retry": ("POST", "/retry", {"task_status": ["completed"]}),
}
"""Each write that takes If-Match."""


@pytest.fixture(params=["sqlite", "postgresql"])
async def dialling(new_caller: NewCaller, request: pytest.FixtureRequest) -> AsyncIterator[Caller]:
    database = emptied_postgresql() if request.param == "postgresql" else None
    async with new_caller(database=database) as made:
        yield made


async def sent(caller: Caller, write: str, batch_call_id: str, **headers: str) -> httpx2.Response:
    method, path, content = WRITES[write]
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await caller.http.request(method, f"/batch-call/{batch_call_id}{path}", json=content, headers=named)


async def tag(caller: Caller, batch_call_id: str) -> str:
    answer = await caller.http.get(f"/batch-call/{batch_call_id}")
    return str(answer.headers["ETag"])


async def ready_for(caller: Caller, write: str) -> str:
    """A batch call that the write can be carried out on; no engine runs."""
    batch_call_id = await caller.create(numbers(2), send_now=write in {"resume", "retry"})
    if write == "resume":
        await caller.ask("POST", f"/batch-call/{batch_call_id}/pause")
    if write == "retry":
        with caller.dialer.store().writing() as tx:
            tx.execute(
                sa.text(
                    "UPDATE tasks SET status = 'completed', last_outcome = 'completed', attempts = 1, answered = true"
                )
            )
            tx.execute(sa.text("UPDATE batch_calls SET status = 'completed'"))
    return batch_call_id


@pytest.mark.parametrize("write", WRITES)
async def test_a_write_is_carried_out_only_while_the_batch_call_is_as_it_was_read(desk: Caller, write: str) -> None:
    batch_call_id = await ready_for(desk, write)
    read = await tag(desk, batch_call_id)
    assert re.fullmatch(r'"[0-9a-f]{16}-\d+"', read)
    await desk.ask("PATCH", f"/batch-call/{batch_call_id}", {"name": "changed by somebody else"})
    before = await desk.get(batch_call_id)

    refused = await sent(desk, write, batch_call_id, If_Match=read)
    assert refused.status_code == 412
    assert refused.json()["code"] == "precondition_failed"
    assert "Nothing was changed" in refused.json()["error"]
    assert await desk.get(batch_call_id) == before

    for given in (f"W/{await tag(desk, batch_call_id)}", '"another"', "", "**"):
        assert (await sent(desk, write, batch_call_id, If_Match=given)).status_code == 412
    now = await tag(desk, batch_call_id)
    done = await sent(desk, write, batch_call_id, If_Match=f'"another", {now}')
    assert done.status_code == 200, done.text
    if write != "delete":
        assert done.headers["ETag"] == await tag(desk, batch_call_id) != now
        assert len({read, now, done.headers["ETag"]}) == 3


@pytest.mark.parametrize("write", WRITES)
@on_sqlite("desk")
async def test_any_batch_call_that_is_there_matches_a_star(desk: Caller, write: str) -> None:
    batch_call_id = await ready_for(desk, write)
    assert (await sent(desk, write, batch_call_id, If_Match="*")).status_code == 200
    assert (await sent(desk, write, "not there", If_Match="*")).status_code == 404


@pytest.mark.parametrize("write", WRITES)
@on_sqlite("desk")
async def test_a_replay_of_what_was_carried_out_is_never_refused(desk: Caller, write: str) -> None:
    """Not even with another condition: that is not part of what the request asks."""
    batch_call_id = await ready_for(desk, write)
    read = await tag(desk, batch_call_id)
    first = await sent(desk, write, batch_call_id, If_Match=read, Idempotency_Key="one")
    assert first.status_code == 200, first.text
    for given in (read, '"another"'):
        again = await sent(desk, write, batch_call_id, If_Match=given, Idempotency_Key="one")
        assert again.status_code == 200
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json()["data"] == first.json()["data"]
        assert again.headers.get("ETag") == first.headers.get("ETag")


async def test_a_refused_write_is_not_recorded_so_its_key_can_be_used_again(desk: Caller) -> None:
    batch_call_id = await ready_for(desk, "execute")
    key = "one"
    assert (await sent(desk, "execute", batch_call_id, If_Match='"x"', Idempotency_Key=key)).status_code == 412
    now = await tag(desk, batch_call_id)
    assert (await sent(desk, "execute", batch_call_id, If_Match=now, Idempotency_Key=key)).status_code == 200


async def test_a_stop_is_never_held_up_by_a_condition(desk: Caller) -> None:
    batch_call_id = await desk.create(numbers(1), send_now=True)
    for action, status in (("pause", "paused"), ("cancel", "cancelled")):
        answer = await desk.http.post(f"/batch-call/{batch_call_id}/{action}", headers={"If-Match": '"another"'})
        assert answer.json()["data"]["status"] == status
        assert answer.headers["ETag"] == await tag(desk, batch_call_id)
    document = (await desk.http.get("/openapi.json")).json()["paths"]
    for action in ("pause", "cancel"):
        assert "412" not in document[f"/batch-call/{{batch_call_id}}/{action}"]["post"]["responses"]
    taking = {
        (path.removeprefix("/batch-call/{batch_call_id}"), method)
        for path, methods in document.items()
        for method, operation in methods.items()
        if any(one["name"] == "If-Match" for one in operation.get("parameters", []))
    }
    assert taking == {(path, method.lower()) for method, path, _ in WRITES.values()}


@on_sqlite("desk")
async def test_writing_what_changes_nothing_leaves_the_tag(desk: Caller) -> None:
    batch_call_id = await desk.create(numbers(1), send_now=True)
    read = await tag(desk, batch_call_id)
    await desk.ask("POST", f"/batch-call/{batch_call_id}/resume")
    await desk.ask("PATCH", f"/batch-call/{batch_call_id}", {})
    await desk.ask("POST", f"/batch-call/{batch_call_id}/retry", {"task_status": ["busy"]})
    assert await tag(desk, batch_call_id) == read


async def test_two_batch_calls_never_have_the_same_tag(desk: Caller) -> None:
    made = [await desk.create(numbers(1)) for _ in range(3)]
    assert len({await tag(desk, one) for one in made}) == 3


async def test_a_dial_leaves_the_tag_and_what_begins_or_ends_by_itself_changes_it(
    dialling: Caller, request: pytest.FixtureRequest
) -> None:
    statements: list[str] = []

    def note(*of: Any) -> None:
        statements.append(of[2])

    # Of requests and of the engine, which has connections of its own.
    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    request.addfinalizer(lambda: sa.event.remove(sa.Engine, "before_cursor_execute", note))
    at = dialling.clock().timestamp() + 60
    batch_call_id = await dialling.create(
        [*numbers(5), *numbers(1, 7)],
        trigger_timestamp=at,
        retry_config={"enabled": True, "max_attempts": 1},
    )
    scheduled = await tag(dialling, batch_call_id)
    dialling.clock.forward(minutes=2)
    await dialling.until(
        batch_call_id, lambda data: data["counts"]["completed"] == 5 and data["counts"]["pending"] == 1
    )
    begun = await tag(dialling, batch_call_id)
    dialling.clock.forward(minutes=10)
    before = len(dialling.dialled())
    await dialling.ask("POST", f"/batch-call/{batch_call_id}/tasks", {"tasks": [{"to_number": "+12133334440"}]})
    await dialling.until_status(batch_call_id, "completed")
    assert len(dialling.dialled()) > before
    ended = await tag(dialling, batch_call_id)
    assert len({scheduled, begun, ended}) == 3
    await dialling.ask("POST", f"/batch-call/{batch_call_id}/retry", {"task_status": ["busy"]})
    await dialling.until_status(batch_call_id, "completed")

    written = [one for one in statements if one.startswith("UPDATE batch_calls")]
    dials = [one for one in written if "revision" not in one]
    assert dials, "the engine wrote down when it dialled last"
    assert all(re.match(r"UPDATE batch_calls SET last_sent_at=\S+ WHERE", one) for one in dials)
    assert len(written) > len(dials)


async def test_the_tag_stays_the_same_while_calls_are_placed_and_end(new_caller: NewCaller) -> None:
    async with new_caller(simulated_speed=20.0) as caller:
        batch_call_id = await caller.create(numbers(3), max_concurrency=1)
        answer = await caller.http.post(f"/batch-call/{batch_call_id}/execute")
        await caller.until(batch_call_id, lambda data: data["completed"] == 1)
        assert await tag(caller, batch_call_id) == answer.headers["ETag"]


@pytest.mark.parametrize(
    ("lines", "matches"),
    [
        (['"a-1"'], True),
        (["*"], True),
        ([" * "], True),
        (['"b", "a-1"'], True),
        (['"b"', '"a-1"'], True),
        (['"b,"a-1"'], False),
        (['"b,", "a-1"'], True),
        ([', ,"a-1",\t'], True),
        (['""', '"a-1"'], True),
        (['W/"a-1"'], False),
        (['W/"a-1", "a-1"'], True),
        (['w/"a-1"'], False),
        (["a-1"], False),
        (['"a-1'], False),
        (['*, "a-1"'], False),
        (['"a-1" "b"'], False),
        (['"a-2"'], False),
        ([""], False),
    ],
)
def test_a_condition_is_read_as_rfc_9110_has_it(lines: list[str], matches: bool) -> None:
    condition = IfMatch.of(lines)
    assert condition is not None
    if matches:
        condition.check('"a-1"')
    else:
        with pytest.raises(PreconditionFailed):
            condition.check('"a-1"')
    assert IfMatch.of([]) is None
