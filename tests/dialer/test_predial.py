"""The gate before each dial: a real server is asked about each call, and without its yes no phone rings."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from batchcall_mcp.cli import cli
from batchcall_mcp.dialer.domain.predial import AT_ONCE, DOWN_AFTER, LONGEST_DELAY, Patience, delay
from batchcall_mcp.dialer.storage import stops
from batchcall_mcp.dialer.webhooks import predial as predial_module
from batchcall_mcp.dialer.webhooks.predial import LONGEST_REASON, MOST_BYTES, PredialUrl, verdict
from batchcall_mcp.signed_http.url_policy import WebhookAddresses
from tests.dialer.conftest import CALLER, Caller, NewCaller, emptied_postgresql, eventually, numbers, on_sqlite
from tests.dialer.receiver import Received, Receiver, Reply, receiving, status
from tests.dialer.test_health import anonymous

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def saying(body: Any, *headers: str) -> Reply:
    """Answer 200 with this body."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    async def reply(_received: Received, writer: asyncio.StreamWriter) -> None:
        head = "\r\n".join(("HTTP/1.1 200 OK", f"Content-Length: {len(content)}", *headers, "", ""))
        writer.write(head.encode() + content)
        await writer.drain()

    return reply


YES, NO = saying({"dial": True}), saying({"dial": False, "reason": "she\u202e asked\nus by mail"})


def about(received: Received) -> dict[str, Any]:
    """What was asked about."""
    data: dict[str, Any] = json.loads(received.body)["data"]
    return data


@dataclass
class Gated:
    """A dialer with a gate."""

    caller: Caller
    gate: Receiver
    during: list[Callable[[dict[str, Any]], Awaitable[object]]] = field(default_factory=list)
    """What happens between a question and its yes, once each."""

    async def running(self, to_numbers: list[str], **fields: Any) -> str:
        return await self.caller.create(to_numbers, send_now=True, **fields)

    async def task(self, batch_call_id: str) -> dict[str, Any]:
        [task] = await self.caller.tasks(batch_call_id)
        return task

    def asked(self) -> Counter[str]:
        return Counter(about(received)["to_number"] for received in self.gate.received)


@pytest.fixture(params=["sqlite", "postgresql"])
async def gated(new_caller: NewCaller, request: pytest.FixtureRequest) -> AsyncIterator[Gated]:
    database = emptied_postgresql() if request.param == "postgresql" else None
    async with gating(new_caller, database=database) as made:
        yield made


@asynccontextmanager
async def gating(new_caller: NewCaller, **options: Any) -> AsyncIterator[Gated]:
    async with receiving() as gate:
        url = PredialUrl(gate.url("/before-dial"), SECRET, WebhookAddresses(allow_private=True))
        async with new_caller(predial=url, **options) as caller:
            made = Gated(caller, gate)

            async def answer(received: Received, writer: asyncio.StreamWriter) -> None:
                if made.during:
                    await made.during.pop(0)(about(received))
                await YES(received, writer)

            gate.always = answer
            yield made


@on_sqlite("gated")
async def test_it_is_asked_about_each_call_with_ids_and_numbers_alone_and_signed(gated: Gated) -> None:
    [number] = numbers(1)
    batch_call_id = await gated.caller.create([number], agent_id="agent_1", name="Spring")
    patch = {"tasks": [{"to_number": number, "name": "Ann", "dynamic_variables": {"debt": "900"}}], "send_now": True}
    await gated.caller.ask("PATCH", f"/batch-call/{batch_call_id}", patch)
    await gated.caller.until_status(batch_call_id, "completed")
    [received] = gated.gate.received
    task = await gated.task(batch_call_id)
    # Its own tolerance is by the machine's clock; the dialer's is the test's.
    timestamp = int(received.headers["webhook-timestamp"])
    assert timestamp == int(gated.caller.clock().timestamp())
    signed = Webhook(SECRET).sign(received.message_id, datetime.fromtimestamp(timestamp, UTC), received.body.decode())
    assert received.headers["webhook-signature"] == signed
    assert about(received) == {
        "batch_call_id": batch_call_id,
        "task_id": task["task_id"],
        "attempt": 1,
        "organization_id": "local",
        "to_number": number,
        "from_number": CALLER,
        "agent_id": "agent_1",
    }
    assert [line["to_number"] for line in gated.caller.dialled()] == [number]


@on_sqlite("gated")
async def test_a_clear_no_skips_the_task_with_its_reason_as_harmless_text(gated: Gated) -> None:
    one, two = numbers(2)
    gated.gate.replies = [NO]
    batch_call_id = await gated.running([one, two], max_concurrency=1)
    await gated.caller.until_status(batch_call_id, "completed")
    refused, called = await gated.caller.tasks(batch_call_id)
    assert (refused["status"], refused["attempts"]) == ("skipped", 0)
    assert refused["error_message"] == "the pre-dial gate refused it: she  asked us by mail"
    assert (called["status"], [line["to_number"] for line in gated.caller.dialled()]) == ("completed", [two])
    assert (await gated.caller.ask("GET", "/account"))["calls_today"] == 1


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("reply", "because"),
    [
        (status(503), "answered 503"),
        (status(302, "Location: /yes"), "answered 302; redirects are not followed"),
        (status(204), "answered 204"),
        (saying(b""), "its answer is not"),
        (saying(b'{"dial": false, "dial": true}'), "its answer is not"),
        (saying({"dial": True}, "Content-Encoding: gzip"), "its answer is compressed"),
        (saying(b'{"dial": true}' + b" " * MOST_BYTES), "its answer is longer than"),
        (saying({"dial": True}, "X-Long: " + "x" * 1_000_000), "the connection failed"),
        (saying({"dial": True}, "Transfer-Encoding: gzip"), "the connection failed"),
        (saying({"dial": True}, "Content-Length: 5"), "the connection failed"),
    ],
    ids=["5xx", "redirect", "204", "empty", "twice", "compressed", "long", "long head", "packed", "two lengths"],
)
async def test_any_other_answer_puts_the_call_off_and_counts_no_attempt(
    new_caller: NewCaller, reply: Reply, because: str
) -> None:
    async with gating(new_caller) as gated:
        gated.gate.replies = [reply]
        batch_call_id = await gated.running(numbers(1))
        data = await gated.caller.until(batch_call_id, lambda data: bool(data["held_back"]))
        until = int(gated.caller.clock().timestamp() * 1000) + 5_000
        assert data["held_back"] == [{"reason": "predial", "calls": 1, "until": until}]
        task = await gated.task(batch_call_id)
        assert (task["status"], task["attempts"], gated.caller.dialled()) == ("pending", 0, [])
        assert because in task["error_message"]
        gated.caller.clock.forward(seconds=5)
        await gated.caller.until_status(batch_call_id, "completed")
        assert len(gated.gate.received) == 2
        assert len(gated.caller.dialled()) == 1


@pytest.mark.parametrize(
    "body", ["null", "true", '"yes"', "{}", "[]", '{"dial": 1}', '{"dial": "true"}', '{"dial": null}', '{"dial": tru',
             '{"dial": true, "reason": 5}', '[{"dial": true}]', "\ufeff{}", "[" * 100_000],
)  # fmt: skip
def test_only_true_and_false_are_clear(body: str) -> None:
    assert verdict(body.encode()).said == "nothing"


def test_a_reason_is_cut_and_printable() -> None:
    said = verdict(json.dumps({"dial": False, "reason": "\x1b[31m" + "x" * 1_000, "more": [1]}).encode())
    assert said.said == "no"
    assert said.reason is not None
    assert len(said.reason) <= LONGEST_REASON
    assert said.reason.isprintable()
    assert verdict(b'{"dial": true, "reason": null}').said == "yes"


async def paused(caller: Caller, asked: dict[str, Any]) -> None:
    await caller.ask("POST", f"/batch-call/{asked['batch_call_id']}/pause")


async def cancelled(caller: Caller, asked: dict[str, Any]) -> None:
    await caller.ask("POST", f"/batch-call/{asked['batch_call_id']}/cancel")


async def stopped(caller: Caller, _asked: dict[str, Any]) -> None:
    await anyio.to_thread.run_sync(stops.stop, caller.dialer.store())


async def expired(caller: Caller, _asked: dict[str, Any]) -> None:
    caller.clock.forward(seconds=9)


async def opted_out(caller: Caller, asked: dict[str, Any]) -> None:
    await caller.ask("POST", "/do-not-call", {"to_numbers": [asked["to_number"]]})


@pytest.mark.sweep
@pytest.mark.parametrize(
    ("happens", "becomes", "of_tasks"),
    [
        (paused, "paused", "pending"),
        (cancelled, "cancelled", "cancelled"),
        (stopped, "paused", "pending"),
        (expired, "completed", "expired"),
        (opted_out, "completed", "skipped"),
    ],
)
async def test_what_happens_between_the_question_and_the_yes_is_obeyed(
    gated: Gated, happens: Callable[[Caller, dict[str, Any]], Awaitable[None]], becomes: str, of_tasks: str
) -> None:
    """The dial looks again: after a pause has answered nobody is dialled, whatever the gate says then."""
    gated.during = [lambda asked: happens(gated.caller, asked)]
    at = gated.caller.clock() + timedelta(seconds=9)
    batch_call_id = await gated.running(numbers(1), expires_timestamp=at.isoformat())
    await gated.caller.until(
        batch_call_id, lambda data: (data["status"], data["counts"][of_tasks]) == (becomes, 1) and not gated.during
    )
    task = await gated.task(batch_call_id)
    assert (task["attempts"], gated.caller.dialled()) == (0, [])


@on_sqlite("gated")
async def test_a_yes_counts_for_ten_seconds(gated: Gated) -> None:
    async def late(_asked: dict[str, Any]) -> None:
        gated.caller.clock.forward(seconds=10)

    gated.during = [late]
    batch_call_id = await gated.running(numbers(1))
    await gated.caller.until_status(batch_call_id, "completed")
    assert (len(gated.gate.received), len(gated.caller.dialled())) == (2, 1)
    assert (await gated.task(batch_call_id))["attempts"] == 1


@on_sqlite("gated")
async def test_twenty_are_asked_about_at_once_and_a_question_without_answer_holds_up_nobody_else(
    gated: Gated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predial_module, "TIME_LIMIT", timedelta(seconds=60))
    silent, release = set(numbers(2)), asyncio.Event()
    open_now, most = Counter[str](), [0]

    async def answer(received: Received, writer: asyncio.StreamWriter) -> None:
        number = about(received)["to_number"]
        open_now[number] += 1
        most[0] = max(most[0], open_now.total())
        if number in silent:
            await release.wait()
        elif most[0] < AT_ONCE:
            await eventually(lambda: most[0] == AT_ONCE)
        open_now[number] -= 1
        await YES(received, writer)

    gated.gate.always = answer
    first = await gated.running(numbers(30), max_concurrency=50)
    other = await gated.running(numbers(32)[30:])
    await gated.caller.until_status(other, "completed")
    await gated.caller.until(first, lambda data: data["completed"] == 28)
    assert ((await gated.caller.get(first))["counts"]["calling"], most[0]) == (2, AT_ONCE)
    release.set()
    await gated.caller.until_status(first, "completed")
    assert gated.asked() == Counter(dict.fromkeys(numbers(32), 1))
    assert len(gated.caller.dialled()) == 32


async def test_no_answer_in_time_is_no_answer(new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predial_module, "TIME_LIMIT", timedelta(milliseconds=50))

    over = asyncio.Event()

    async def silence(_received: Received, _writer: asyncio.StreamWriter) -> None:
        await over.wait()

    async with gating(new_caller) as gated:
        gated.gate.replies = [silence]
        batch_call_id = await gated.running(numbers(1))
        await gated.caller.until(batch_call_id, lambda data: bool(data["held_back"]))
        assert "no answer within 0.05 s" in (await gated.task(batch_call_id))["error_message"]
        over.set()


def nobody_can_be_dialled(data: Mapping[str, Any]) -> bool:
    """It is over, or everybody waits for the gate."""
    held = sum(held["calls"] for held in data["held_back"])
    return bool(data["status"] == "completed" or held == data["counts"]["pending"] > 0 == data["counts"]["calling"])


@on_sqlite("gated")
async def test_a_gate_that_is_down_is_left_alone_and_everybody_waits_for_it(gated: Gated) -> None:
    """Five questions in vain, not one for each; then it answers, and each is dialled once."""
    gated.gate.replies = [status(503)] * (AT_ONCE + DOWN_AFTER)
    batch_call_id = await gated.running(numbers(60), max_concurrency=50)
    data = await gated.caller.until(batch_call_id, nobody_can_be_dialled)
    assert [held["reason"] for held in data["held_back"]] == ["predial"]
    assert len(gated.gate.received) <= AT_ONCE + DOWN_AFTER
    gated.gate.replies.clear()
    while (data := await gated.caller.until(batch_call_id, nobody_can_be_dialled))["status"] != "completed":
        gated.caller.clock.now = datetime.fromtimestamp(data["held_back"][0]["until"] / 1_000, UTC)
    assert Counter(line["to_number"] for line in gated.caller.dialled()) == Counter(dict.fromkeys(numbers(60), 1))


async def test_a_dialer_that_ends_while_it_asks_dials_nobody_and_asks_again_when_it_is_back(
    new_caller: NewCaller,
) -> None:
    async with receiving() as gate:
        asked, never = asyncio.Event(), asyncio.Event()

        async def silence(_received: Received, _writer: asyncio.StreamWriter) -> None:
            asked.set()
            await never.wait()

        gate.always = silence
        url = PredialUrl(gate.url(), SECRET, WebhookAddresses(allow_private=True))
        async with new_caller(predial=url) as caller:
            batch_call_id = await caller.create(numbers(1), send_now=True)
            await asked.wait()
        never.set()
        async with new_caller(start=False) as caller:
            [task] = await caller.tasks(batch_call_id)
            assert (task["status"], task["attempts"], caller.dialled()) == ("pending", 0, [])
        gate.always = YES
        async with new_caller(predial=url) as caller:
            await caller.until_status(batch_call_id, "completed")
            assert len(caller.dialled()) == 1


NOW = datetime(2026, 11, 23, tzinfo=UTC)
QUESTIONS = st.lists(
    st.tuples(st.integers(0, 9).map(str), st.booleans(), st.timedeltas(timedelta(0), timedelta(minutes=6))),
    max_size=60,
)


@given(QUESTIONS)
def test_it_is_never_left_alone_for_longer_than_the_longest_delay(questions: list[tuple[str, bool, timedelta]]) -> None:
    patience, now, in_a_row = Patience(), NOW, 0
    for task_id, clear, later in questions:
        now += later
        if clear:
            patience.clear(task_id)
            in_a_row = 0
            assert patience.rest(now) is None
            assert not patience.down
        else:
            until, _ = patience.unclear(task_id, "answered 503", now)
            in_a_row += 1
            assert now + delay(1) <= until <= now + LONGEST_DELAY
            assert patience.down >= (in_a_row >= 2 * DOWN_AFTER)
        rest = patience.rest(now)
        assert rest is None or rest.until <= now + LONGEST_DELAY
        assert in_a_row >= DOWN_AFTER or not patience.down
        assert patience.rest(now + LONGEST_DELAY) is None
        assert patience.rest(now - timedelta(days=1)) is None


def test_the_delays_double_up_to_five_minutes() -> None:
    assert [delay(times).total_seconds() for times in (1, 2, 3, 6, 7, 10**6)] == [5, 10, 20, 160, 300, 300]


async def test_a_process_without_the_gate_dials_and_launches_nothing_from_a_database_that_has_one(
    new_caller: NewCaller, tmp_path: Path
) -> None:
    """One that takes the engine over, or runs next to it on PostgreSQL: a setting that it lacks is no yes."""
    async with gating(new_caller) as gated:
        draft = await gated.caller.create(numbers(3))
        running = await gated.caller.create(numbers(2, 1), trigger_timestamp="2026-11-23T20:05:00Z")
    async with new_caller() as without:
        without.clock.forward(minutes=6)
        refused = await without.ask("POST", f"/batch-call/{draft}/execute", status=409)
        assert refused["code"] == "dialer_halted"
        assert "BATCHCALL_PREDIAL_URL" in refused["error"]
        assert "`batchcall-mcp dialer remove-gate`" in refused["error"]
        async with anonymous(without.dialer.app) as http:
            ready = (await http.get("/readyz")).json()
        assert (ready["code"], ready["engine"]) == ("gate_missing", "standby")
        # A process that has the gate goes on, while this one is still there.
        async with gating(new_caller) as gated:
            await gated.caller.until_status(running, "completed")
            assert set(gated.asked()) == set(numbers(2, 1))
    removed = CliRunner().invoke(cli, ["dialer", "remove-gate"], env={"BATCHCALL_DATA_DIR": str(tmp_path)})
    assert (removed.exit_code, "without a gate" in removed.output) == (0, True), removed.output
    async with new_caller() as without:
        await without.ask("POST", f"/batch-call/{draft}/execute")
        await without.until_status(draft, "completed")


async def test_on_postgresql_a_process_without_the_gate_leaves_the_calls_to_one_that_has_it(
    new_caller: NewCaller, tmp_path: Path
) -> None:
    database = emptied_postgresql()
    async with new_caller(database=database, folder=tmp_path / "without") as without:
        async with gating(new_caller, database=database, folder=tmp_path / "with") as gated:
            batch_call_id = await gated.running(numbers(20))
            await gated.caller.until_status(batch_call_id, "completed")
            assert set(gated.asked()) == set(numbers(20))
        assert without.dialled() == []
