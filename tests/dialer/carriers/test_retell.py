"""Retell as a carrier, against its strict fake: what is sent, what comes back, and nobody rung twice."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Attempt,
    CarrierUnavailable,
    HasAccount,
    NoLongerWanted,
    Outcome,
)
from batchcall_mcp.dialer.carriers.vendors.retell import RetellCarrier
from batchcall_mcp.model import Agent, CallerNumber, TaskStatus
from tests.carriers.retell import AGENT, NUMBER, OTHER_AGENT, UNBOUND_NUMBER, Retell
from tests.carriers.scripted import ScriptedLine, attempt_to


def to(last: str = "0", **more: Any) -> Attempt:
    return attempt_to(f"+1212555012{last}", **{"from_number": NUMBER, "agent_id": None} | more)


async def call(vendor: Retell, attempt: Attempt, line: ScriptedLine | None = None) -> Outcome:
    async with vendor.carrier(RetellCarrier) as carrier:
        return await carrier.outcome(attempt, line or ScriptedLine())


async def test_one_call_is_asked_for_as_retell_documents_it() -> None:
    vendor, line = Retell(), ScriptedLine()
    values = '{"name":"Ana","age":42,"vip":true,"none":null,"list":["a"]}'
    found = await call(vendor, to(agent_id=OTHER_AGENT, dynamic_variables=values), line)

    attempt_id = f"task_{'0' * 32}:1"
    assert vendor.creates == [
        {
            "from_number": NUMBER,
            "to_number": "+12125550120",
            "override_agent_id": OTHER_AGENT,
            "agent_override": {"agent": {"ring_duration_ms": 30_000, "max_call_duration_ms": 600_000}},
            "retell_llm_dynamic_variables": {"name": "Ana", "age": "42", "vip": "true", "list": '["a"]'},
            "metadata": {"attempt_id": attempt_id},
            "idempotency_key": attempt_id,
        }
    ]
    assert found == Outcome(
        TaskStatus.COMPLETED,
        duration_seconds=20.0,
        answered_by="human",
        backend_status="user_hangup",
        cost=found.cost,
        summary="They were reminded.",
    )
    assert str(found.cost) == "0.1234 USD"
    assert line.did == ["held", "let go", next(iter(vendor.phones))]


async def test_without_an_agent_the_numbers_own_one_speaks() -> None:
    vendor = Retell()
    await call(vendor, to())

    assert set(vendor.creates[0]) == {"from_number", "to_number", "agent_override", "metadata", "idempotency_key"}
    assert [number for number, _ in vendor.rung] == ["+12125550120"]


@pytest.mark.parametrize(
    ("last", "status"),
    [
        ("0", TaskStatus.COMPLETED),
        ("4", TaskStatus.COMPLETED),
        ("6", TaskStatus.NO_ANSWER),
        ("7", TaskStatus.BUSY),
        ("8", TaskStatus.VOICEMAIL),
        ("9", TaskStatus.FAILED),
    ],
)
async def test_phones_end_as_they_do(last: str, status: TaskStatus) -> None:
    vendor = Retell()
    found = await call(vendor, to(last))

    assert (found.status, found.permanent, len(vendor.rung)) == (status, False, 1)


async def test_a_lost_answer_is_asked_for_again_with_the_same_key_and_rings_once() -> None:
    vendor, line = Retell(), ScriptedLine()
    vendor.drop_create_answer()
    found = await call(vendor, to(), line)

    assert found.status is TaskStatus.COMPLETED
    assert len(vendor.creates) == 2
    assert vendor.creates[0] == vendor.creates[1]
    assert len(vendor.rung) == 1
    assert line.did == ["held", "let go", "held", "let go", "call_" + "0" * 27]


async def test_after_a_pause_a_lost_answer_is_only_looked_up() -> None:
    vendor, line = Retell(), ScriptedLine()

    def pause() -> None:
        line.refuses = NoLongerWanted("paused")

    vendor.drop_create_answer()
    line.on_sending = pause
    found = await call(vendor, to(), line)

    assert found.status is TaskStatus.COMPLETED
    assert (len(vendor.creates), len(vendor.rung)) == (1, 1)
    assert vendor.requests[-1].path.startswith("/v2/get-call/")


@pytest.mark.parametrize("status", [500, 502, 504])
async def test_a_5xx_is_asked_for_again_with_the_same_key(status: int) -> None:
    vendor = Retell()
    vendor.status(status)
    found = await call(vendor, to())

    assert (found.status, len(vendor.creates), len(vendor.rung)) == (TaskStatus.COMPLETED, 2, 1)


async def test_503_and_429_are_placed_later() -> None:
    vendor = Retell()
    vendor.status(503)
    with pytest.raises(CarrierUnavailable, match="503"):
        await call(vendor, to())
    vendor.status(429, "Account rate limited, please throttle your requests.", retry_after=17)
    with pytest.raises(CarrierUnavailable, match="rate limited") as caught:
        await call(vendor, to())

    assert (caught.value.retry_after, caught.value.whole_account) == (17, True)
    assert vendor.rung == []


@pytest.mark.parametrize("word", ["concurrency_limit_reached", "no_concurrency_fallback"])
async def test_a_call_that_found_no_line_is_placed_later_with_another_key(word: str) -> None:
    """With the same key Retell would answer with the call that found no line, for an hour."""
    vendor = Retell()
    attempt = to("7")
    async with vendor.carrier(RetellCarrier) as carrier:
        vendor.next_word = word
        with pytest.raises(CarrierUnavailable, match=word):
            await carrier.outcome(attempt, ScriptedLine())
        found = await carrier.outcome(attempt, ScriptedLine())

    assert found.status is TaskStatus.BUSY
    assert [one["idempotency_key"] for one in vendor.creates] == [attempt.attempt_id, f"{attempt.attempt_id}:1"]
    assert vendor.creates[0]["metadata"] == vendor.creates[1]["metadata"]


async def test_another_process_learns_from_the_old_call_that_the_key_is_used() -> None:
    vendor, attempt = Retell(), to("7")
    vendor.next_word = "concurrency_limit_reached"
    for _ in range(2):  # each a carrier of its own
        with pytest.raises(CarrierUnavailable):
            await call(vendor, attempt)
    async with vendor.carrier(RetellCarrier) as carrier:
        with pytest.raises(CarrierUnavailable):
            await carrier.outcome(attempt, ScriptedLine())
        assert (await carrier.outcome(attempt, ScriptedLine())).status is TaskStatus.BUSY

    assert len(vendor.phones) == 2


@pytest.mark.parametrize(
    ("status", "message", "fault"),
    [
        (401, "API key is missing or invalid.", True),
        (402, "Trial has ended, please add payment method.", True),
        (403, "Forbidden", True),
        (422, "Cannot find requested asset under given api key.", True),
        (400, "No outbound agent id set up for phone number", True),
        (400, "Invalid from_number", True),
        (400, "Invalid request format, please check API reference.", False),
        (400, "Only US numbers are supported as destination", False),
    ],
)
async def test_a_refusal_pauses_the_batch_call_or_is_this_persons(status: int, message: str, fault: bool) -> None:
    vendor = Retell()
    vendor.status(status, message)
    if fault:
        with pytest.raises(AccountAtFault, match=message):
            await call(vendor, to())
    else:
        found = await call(vendor, to())
        assert (found.status, found.permanent) == (TaskStatus.FAILED, True)
        assert message in str(found.error)
    assert (len(vendor.creates), vendor.rung) == (1, [])


async def test_a_number_without_an_agent_pauses_the_batch_call() -> None:
    vendor = Retell()
    with pytest.raises(AccountAtFault, match="No outbound agent"):
        await call(vendor, to(from_number=UNBOUND_NUMBER))


async def test_a_refusal_for_want_of_a_line_is_later() -> None:
    vendor = Retell()
    vendor.status(400, "Concurrency limit reached")
    with pytest.raises(CarrierUnavailable, match="no free line"):
        await call(vendor, to())


async def test_a_wrong_key_says_so_after_one_request() -> None:
    vendor = Retell()
    vendor.key = "key_of_somebody_else"
    async with vendor.carrier(RetellCarrier) as carrier:
        vendor.key = "key_0"
        for _ in range(3):
            with pytest.raises(AccountAtFault, match="401") as caught:
                await carrier.outcome(to(), ScriptedLine())

    assert len(vendor.requests) == 1
    assert "key_of_somebody_else" not in str(caught.value)


async def test_the_call_of_an_earlier_process_is_read_by_its_id() -> None:
    vendor = Retell()
    phone = vendor.place("call_of_before", {"from_number": NUMBER}, "+12125550120")
    found = await call(vendor, to(), ScriptedLine(call_id=phone.id, asked_since=vendor.now))

    assert (found.status, vendor.creates) == (TaskStatus.COMPLETED, [])


@pytest.mark.parametrize("old", [False, True])
async def test_the_call_of_a_killed_process_is_found_by_its_metadata_and_never_asked_for(old: bool) -> None:
    vendor = Retell()
    if old:
        vendor.without.add("/v3/list-calls")
    vendor.place("call_of_before", {"from_number": NUMBER, "metadata": {"attempt_id": to().attempt_id}}, "+12125550120")
    vendor.place("call_of_another", {"from_number": NUMBER, "metadata": {"attempt_id": "another"}}, "+12125550121")
    line = ScriptedLine(asked_since=vendor.now)
    found = await call(vendor, to(), line)

    assert (found.status, vendor.creates, line.did) == (TaskStatus.COMPLETED, [], ["call_of_before"])


async def test_a_call_with_its_metadata_is_found_whenever_retell_says_that_it_began() -> None:
    vendor = Retell()
    body = {"from_number": NUMBER, "metadata": {"attempt_id": to().attempt_id}}
    vendor.place("call_of_before", body, "+12125550120").asked -= timedelta(hours=1)
    found = await call(vendor, to(), ScriptedLine(asked_since=vendor.now))

    assert (found.status, vendor.creates) == (TaskStatus.COMPLETED, [])


async def test_a_call_that_was_refused_before_is_not_what_became_of_a_lost_one() -> None:
    vendor = Retell()
    body = {"from_number": NUMBER, "metadata": {"attempt_id": to().attempt_id}}
    refused = vendor.place("refused", body, "+12125550127")
    refused.word, refused.asked = "concurrency_limit_reached", refused.asked - timedelta(hours=1)
    found = await call(vendor, to(), ScriptedLine(asked_since=vendor.now))

    assert (found.status, vendor.creates) == (TaskStatus.INTERRUPTED, [])


async def test_what_cannot_be_found_is_interrupted_and_never_asked_for() -> None:
    vendor = Retell()
    found = await call(vendor, to(), ScriptedLine(asked_since=vendor.now))

    assert (found.status, vendor.creates) == (TaskStatus.INTERRUPTED, [])


async def test_two_calls_of_one_attempt_are_not_guessed_between() -> None:
    vendor = Retell()
    for name in ("one", "two"):
        vendor.place(name, {"from_number": NUMBER, "metadata": {"attempt_id": to().attempt_id}}, "+12125550120")
    found = await call(vendor, to(), ScriptedLine(asked_since=vendor.now))

    assert (found.status, vendor.creates) == (TaskStatus.INTERRUPTED, [])


async def test_a_refused_call_is_not_taken_for_the_one_that_rang() -> None:
    vendor = Retell()
    body = {"from_number": NUMBER, "metadata": {"attempt_id": to().attempt_id}}
    vendor.place("refused", body, "+12125550127").word = "concurrency_limit_reached"
    vendor.pass_time(1)
    vendor.place("rang", body, "+12125550120")
    line = ScriptedLine(asked_since=vendor.now)
    found = await call(vendor, to(), line)

    assert (found.status, line.did) == (TaskStatus.COMPLETED, ["rang"])


async def test_the_analysis_is_waited_for_but_not_for_long() -> None:
    vendor = Retell()
    vendor.analysis_after = 4
    found = await call(vendor, to())
    assert (found.summary, found.answered_by) == ("They were reminded.", "human")

    vendor.analysis_after = 3600
    begun = vendor.now
    found = await call(vendor, to())
    assert (found.status, found.summary, found.answered_by) == (TaskStatus.COMPLETED, None, None)
    assert vendor.now - begun < timedelta(seconds=40)


async def test_a_person_who_opts_out_is_heard() -> None:
    vendor = Retell()
    vendor.next_word = "user_requested_dnc"
    found = await call(vendor, to())

    assert (found.status, found.opted_out, found.permanent) == (TaskStatus.COMPLETED, True, True)


async def test_a_call_that_retell_only_queues_is_stopped_there_in_time() -> None:
    vendor = Retell()
    phone = vendor.place("waits", {"from_number": NUMBER}, "+12125550120")
    phone.asked += timedelta(hours=5)
    found = await call(vendor, to(), ScriptedLine(call_id="waits", asked_since=vendor.now))

    assert (found.status, found.backend_status) == (TaskStatus.INTERRUPTED, "manual_stopped")
    assert [one.path for one in vendor.requests if "stop" in one.path] == ["/v2/stop-call/waits"]


async def test_an_id_that_retell_does_not_know_any_more_is_interrupted() -> None:
    """422, not 404."""
    found = await call(Retell(), to(), ScriptedLine(call_id="call_gone"))

    assert found.status is TaskStatus.INTERRUPTED
    assert "knows no such call" in str(found.error)


@pytest.mark.parametrize(
    "without", [set(), {"/v2/list-agents"}, {"/v2/list-agents", "/list-agents", "/v2/list-phone-numbers"}]
)
async def test_the_account_is_read_by_whichever_lists_there_are(without: set[str]) -> None:
    vendor = Retell()
    vendor.without |= without
    async with vendor.carrier(RetellCarrier) as carrier:
        assert isinstance(carrier, HasAccount)
        account = await carrier.account()

        if "/v2/list-phone-numbers" in without:
            assert (account.numbers, account.agents) == (None, None)
            assert (await carrier.outcome(to(), ScriptedLine())).status is TaskStatus.COMPLETED
            return
        assert account.numbers == (
            CallerNumber(from_number=NUMBER, name="Main line", agent_id=AGENT),
            CallerNumber(from_number=UNBOUND_NUMBER),
        )
        assert account.agents == (Agent(agent_id=AGENT, name="Reminder"), Agent(agent_id=OTHER_AGENT, name="Sales"))
        assert carrier.problem(account, to()) is None
        assert "caller number is not one" in str(carrier.problem(account, to(from_number="+14155550199")))
        assert "agent is not one" in str(carrier.problem(account, to(agent_id="agent_9")))


async def test_what_was_said_in_a_call_can_be_read() -> None:
    vendor = Retell()
    phone = vendor.place("said", {"from_number": NUMBER}, "+12125550120")
    vendor.pass_time(60)
    async with vendor.carrier(RetellCarrier) as carrier:
        found = await carrier.details("said")
        phone.more["transcript_object"] = None
        plain = await carrier.details("said")

    assert [(turn.speaker, turn.text, turn.at_seconds) for turn in found.transcript or ()] == [
        ("agent", "Hello, this is a reminder.", 0.5),
        ("person", "Thank you.", 2.25),
    ]
    assert [(turn.speaker, turn.text) for turn in plain.transcript or ()] == [
        ("agent", "Hello, this is a reminder."),
        ("person", "Thank you."),
    ]
    assert (found.summary, found.ended_reason) == ("They were reminded.", "user_hangup")
    assert found.recording_url == "https://dxc03zgurdly9.cloudfront.net/recording.wav"


async def test_a_webhook_is_retells_only_by_its_signature_and_for_five_minutes() -> None:
    vendor = Retell()
    body = json.dumps({"event": "call_ended", "call": {"call_id": "call_1"}}).encode()
    at = str(int(vendor.now.timestamp() * 1000))
    digest = hmac.new(vendor.key.encode(), body + at.encode(), hashlib.sha256).hexdigest()
    async with vendor.carrier(RetellCarrier) as carrier:

        def verified(signature: str, sent: bytes = body) -> bool:
            return carrier.verify({"x-retell-signature": signature}, sent, "https://example.com/carriers/retell")

        assert verified(f"v={at},d={digest}")
        assert not verified(f"v={at},d={digest}", body + b" ")
        assert not verified(f"v={int(at) + 1},d={digest}")
        assert not any(verified(one) for one in ("", "v=,d=", f"v={at},d=", f"v=-1,d={digest}", "é"))
        assert carrier.named(body) == ("call_1",)
        assert [carrier.named(one) for one in (b"", b"[]", b'{"call":1}', b"\xff")] == [()] * 4
        vendor.pass_time(301)
        assert not verified(f"v={at},d={digest}")


async def test_an_attempt_keeps_its_key_over_retries_of_another() -> None:
    """Each dial of a person has a key of its own."""
    vendor = Retell()
    async with vendor.carrier(RetellCarrier) as carrier:
        for n in (1, 2):
            await carrier.outcome(replace(to("6"), n=n), ScriptedLine())

    assert [one["idempotency_key"][-2:] for one in vendor.creates] == [":1", ":2"]
    assert len(vendor.rung) == 2
