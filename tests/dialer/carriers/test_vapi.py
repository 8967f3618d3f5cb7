"""Vapi as a carrier, against its strict fake: what is sent, what comes back, and nobody rung twice."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from batchcall_mcp.dialer.carriers.base import AccountAtFault, Attempt, CarrierUnavailable, HasAccount, Outcome
from batchcall_mcp.dialer.carriers.vendors.vapi.carrier import VapiCarrier, name_of
from batchcall_mcp.model import Agent, CallerNumber, TaskStatus
from tests.carriers.scripted import ScriptedLine, attempt_to
from tests.carriers.vapi import (
    ASSISTANT,
    FREE_NUMBER,
    FREE_NUMBER_ID,
    NUMBER,
    NUMBER_ID,
    OTHER_ASSISTANT,
    OVER_LIMIT,
    Full,
    Vapi,
)

BODY = {"assistantId": ASSISTANT, "phoneNumberId": NUMBER_ID}


def to(last: str = "0", **more: Any) -> Attempt:
    return attempt_to(f"+1212555012{last}", **{"from_number": NUMBER, "agent_id": ASSISTANT} | more)


async def call(vendor: Vapi, attempt: Attempt, line: ScriptedLine | None = None) -> Outcome:
    async with vendor.carrier(VapiCarrier) as carrier:
        return await carrier.outcome(attempt, line or ScriptedLine())


async def test_one_call_is_asked_for_as_vapi_documents_it() -> None:
    vendor, line = Vapi(), ScriptedLine()
    found = await call(vendor, to(dynamic_variables='{"name":"Ana","age":42}'), line)

    attempt_id = f"task_{'0' * 32}:1"
    assert vendor.creates == [
        {
            "assistantId": ASSISTANT,
            "phoneNumberId": NUMBER_ID,
            "customer": {"number": "+12125550120"},
            "name": attempt_id,
            "assistantOverrides": {
                "variableValues": {"name": "Ana", "age": 42},
                "metadata": {"attempt_id": attempt_id},
                "maxDurationSeconds": 600,
            },
        }
    ]
    assert found == Outcome(
        TaskStatus.COMPLETED,
        duration_seconds=20.0,
        backend_status="customer-ended-call",
        cost=found.cost,
        summary="They were reminded.",
    )
    assert str(found.cost) == "0.1234 USD"
    assert line.did == ["held", "let go", next(iter(vendor.phones))]


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
    vendor = Vapi()
    found = await call(vendor, to(last))

    assert (found.status, found.permanent, len(vendor.rung)) == (status, False, 1)


def test_a_name_is_the_attempt_and_never_longer_than_vapi_takes() -> None:
    """Up to the 99th dial of a person it is the id itself; two ids never have one name."""
    ids = [f"task_{'0' * 32}:{n}" for n in (1, 99, 100, 101, 1000)]

    assert [name_of(one) for one in ids[:2]] == ids[:2]
    assert {len(name_of(one)) for one in ids[1:]} == {40}
    assert len({name_of(one) for one in ids}) == 5


@pytest.mark.parametrize("n", [1, 100])
async def test_a_lost_answer_is_looked_up_by_name_and_never_sent_again(n: int) -> None:
    vendor, line = Vapi(), ScriptedLine()
    vendor.drop_create_answer()
    found = await call(vendor, to(n=n), line)

    assert found.status is TaskStatus.COMPLETED
    assert (len(vendor.creates), len(vendor.rung)) == (1, 1)
    assert line.did == ["held", "let go", next(iter(vendor.phones))]
    (asked,) = [one for one in vendor.requests if one.method == "GET" and one.path == "/call"]
    assert set(asked.query) == {"assistantId", "createdAtGe", "limit"}


async def test_a_lost_create_that_never_arrived_is_interrupted_and_never_sent_again() -> None:
    vendor = Vapi()
    vendor.status(500, "Internal server error")
    found = await call(vendor, to())

    assert (found.status, len(vendor.creates), vendor.rung) == (TaskStatus.INTERRUPTED, 1, [])
    assert len([one for one in vendor.requests if one.method == "GET" and one.path == "/call"]) == 4


async def test_a_killed_process_s_call_is_found_on_a_later_page() -> None:
    """Many calls were made after it."""
    vendor = Vapi()
    vendor.place("ours", {**BODY, "name": to().attempt_id}, "+12125550120")
    since = vendor.now
    for n in range(250):
        vendor.pass_time(0.5)
        vendor.place(f"other_{n}", {**BODY, "name": f"other_{n}"}, "+12125550121")
    vendor.place("assistant_of_others", {**BODY, "assistantId": OTHER_ASSISTANT, "name": to().attempt_id}, "+121255501")
    line = ScriptedLine(asked_since=since)
    found = await call(vendor, to(), line)

    assert (found.status, vendor.creates, line.did) == (TaskStatus.COMPLETED, [], ["ours"])


async def test_calls_of_before_and_two_of_one_name_are_not_taken() -> None:
    """A name comes again, where an attempt was withdrawn and placed later."""
    vendor = Vapi()
    vendor.place("withdrawn", {**BODY, "name": to().attempt_id}, "+12125550120")
    vendor.pass_time(600)
    vendor.place("ours", {**BODY, "name": to().attempt_id}, "+12125550120")
    line = ScriptedLine(asked_since=vendor.now)
    assert (await call(vendor, to(), line)).status is TaskStatus.COMPLETED
    assert line.did == ["ours"]

    vendor.place("second", {**BODY, "name": to().attempt_id}, "+12125550120")
    found = await call(vendor, to(), ScriptedLine(asked_since=vendor.now - timedelta(seconds=60)))
    assert (found.status, vendor.creates) == (TaskStatus.INTERRUPTED, [])


@pytest.mark.parametrize("full", ["refused", "ended", "blocked"])
async def test_over_the_limit_in_three_shapes_is_later(full: Full) -> None:
    """Refused; ended at once; accepted, waiting, and ended by us before it rang."""
    vendor = Vapi()
    vendor.when_full = full
    async with vendor.carrier(VapiCarrier) as carrier:
        with pytest.raises(CarrierUnavailable) as caught:
            await carrier.outcome(to(), ScriptedLine())
        assert caught.value.whole_account
        assert vendor.rung == []
        assert vendor.controlled == ([{"type": "end-call"}] if full == "blocked" else [])
        vendor.free_a_line()
        found = await carrier.outcome(to(), ScriptedLine())

    assert (found.status, len(vendor.rung)) == (TaskStatus.COMPLETED, 1)


async def test_a_call_that_gets_a_line_just_before_it_is_ended_is_not_placed_again() -> None:
    """Nobody answered it, but the phone may have rung: Vapi had given it to its telephone provider."""
    vendor = Vapi()
    vendor.when_full, vendor.before_control = "blocked", vendor.free_a_line
    found = await call(vendor, to())

    assert (found.status, found.error) == (TaskStatus.INTERRUPTED, "the call was ended before it was answered")
    assert (len(vendor.creates), len(vendor.rung)) == (1, 1)


async def test_a_call_that_waits_and_cannot_be_ended_is_followed_and_not_placed_again() -> None:
    """It gets a line after all, and rings once."""
    vendor = Vapi()
    vendor.when_full, vendor.control_url = "blocked", "http://example.com/control"
    vendor.later(30, vendor.free_a_line)
    found = await call(vendor, to())

    assert (found.status, len(vendor.creates), len(vendor.rung)) == (TaskStatus.COMPLETED, 1, 1)


@pytest.mark.sweep
@pytest.mark.parametrize(
    "address", ["http://{other}/control", "ftp://{own}/control", "http://[::1", "{own}", "//{own}"]
)
async def test_an_address_of_live_control_that_is_not_vapis_is_not_asked(address: str) -> None:
    """Then nothing can end a call that waits for too long."""
    vendor, other = Vapi(), Vapi()
    async with other.served() as elsewhere, vendor.carrier(VapiCarrier) as carrier:
        own = str(carrier.config.url).removeprefix("http://")
        vendor.control_url = address.format(other=elsewhere.removeprefix("http://"), own=own)
        vendor.when_full = "blocked"
        found = await carrier.outcome(to(), ScriptedLine())

    assert (found.status, len(vendor.creates), vendor.controlled) == (TaskStatus.INTERRUPTED, 1, [])
    assert other.requests == []


async def test_a_call_of_an_earlier_process_that_waits_too_long_is_ended() -> None:
    """Its ring time and a minute: it must not ring at any later time."""
    vendor = Vapi()
    phone = vendor.place("waits", BODY, "+12125550120", waits=True)
    line = ScriptedLine(call_id="waits", asked_since=vendor.now)
    async with vendor.carrier(VapiCarrier) as carrier:
        phone.more["control"] = f"{carrier.config.url}/live/waits/control"
        found = await carrier.outcome(to(), line)

    assert (found.status, found.backend_status) == (TaskStatus.INTERRUPTED, "manually-canceled")
    assert (vendor.controlled, vendor.rung) == ([{"type": "end-call"}], [])
    assert not [one for one in vendor.requests if one.method == "DELETE"]


async def test_a_word_for_no_line_at_the_end_is_later() -> None:
    vendor = Vapi()
    vendor.next_word = OVER_LIMIT
    with pytest.raises(CarrierUnavailable, match="concurrency"):
        await call(vendor, to("7"))


async def test_503_and_429_are_placed_later() -> None:
    vendor = Vapi()
    vendor.status(503)
    with pytest.raises(CarrierUnavailable, match="503"):
        await call(vendor, to())
    vendor.status(429, "Too many requests", retry_after=17)
    with pytest.raises(CarrierUnavailable, match="Too many requests") as caught:
        await call(vendor, to())

    assert (caught.value.retry_after, caught.value.whole_account, vendor.rung) == (17, True, [])


@pytest.mark.parametrize(
    ("status", "message", "fault"),
    [
        (401, "Invalid Key.", True),
        (402, "Payment required", True),
        (403, "Forbidden", True),
        (400, "Couldn't find assistant for assistantId a.", True),
        (400, "Couldn't find phone number for phoneNumberId n.", True),
        (400, "Numbers Bought On Vapi Have A Daily Outbound Call Limit.", True),
        (400, "assistantOverrides.property x should not exist", True),
        (400, "customer.number must be a valid phone number in the E.164 format", False),
        (400, "Free Vapi numbers do not support international calls.", False),
    ],
)
async def test_a_refusal_pauses_the_batch_call_or_is_this_persons(status: int, message: str, fault: bool) -> None:
    vendor = Vapi()
    vendor.status(status, message)
    if fault:
        with pytest.raises(AccountAtFault) as caught:
            await call(vendor, to())
        assert message.rstrip(".") in str(caught.value)
    else:
        found = await call(vendor, to())
        assert (found.status, found.permanent) == (TaskStatus.FAILED, True)
        assert message.rstrip(".") in str(found.error)
    assert (len(vendor.creates), vendor.rung) == (1, [])


async def test_the_account_s_numbers_and_assistants_are_read() -> None:
    vendor = Vapi()
    async with vendor.carrier(VapiCarrier) as carrier:
        assert isinstance(carrier, HasAccount)
        account = await carrier.account()

        assert account.numbers == (
            CallerNumber(from_number=NUMBER, name="Main line", number_id=NUMBER_ID),
            CallerNumber(from_number=FREE_NUMBER, name="Free", number_id=FREE_NUMBER_ID),
        )
        assert account.agents == (Agent(agent_id=ASSISTANT, name="Reminder"), Agent(agent_id=OTHER_ASSISTANT))
        assert carrier.problem(account, to()) is None
        assert "needs an agent" in str(carrier.problem(account, to(agent_id=None)))
        assert "agent is not one" in str(carrier.problem(account, to(agent_id="a")))
        assert "caller number is not one" in str(carrier.problem(account, to(from_number="+14155550111")))


async def test_without_its_list_of_numbers_nothing_is_called() -> None:
    vendor = Vapi()
    vendor.without.add("/phone-number")
    with pytest.raises(AccountAtFault, match="Vapi wants the id of the caller number"):
        await call(vendor, to())
    assert vendor.creates == []


async def test_a_wrong_key_says_so_after_one_request() -> None:
    vendor = Vapi()
    async with vendor.carrier(VapiCarrier) as carrier:
        vendor.key = "5a0c1d7e-0000-4000-8000-0000000000bb"
        for _ in range(3):
            with pytest.raises(AccountAtFault, match="401"):
                await carrier.outcome(to(), ScriptedLine())

    assert len(vendor.requests) == 1


@pytest.mark.parametrize("word", ["not-found", "deletion-failed"])
async def test_a_deleted_call_is_interrupted(word: str) -> None:
    vendor = Vapi()
    vendor.place("gone", BODY, "+12125550120").more["status"] = word
    vendor.pass_time(60)
    found = await call(vendor, to(), ScriptedLine(call_id="gone"))

    assert (found.status, found.backend_status) == (TaskStatus.INTERRUPTED, word)


async def test_what_was_said_in_a_call_can_be_read() -> None:
    vendor = Vapi()
    phone = vendor.place("said", BODY, "+12125550120")
    vendor.pass_time(60)
    async with vendor.carrier(VapiCarrier) as carrier:
        found = await carrier.details("said")
        phone.more["artifact"] = {"transcript": "AI: Hello.\nUser: Yes?\n"}
        plain = await carrier.details("said")

    assert [(turn.speaker, turn.text, turn.at_seconds) for turn in found.transcript or ()] == [
        ("agent", "Hello, this is a reminder.", 0.5),
        ("person", "Thank you.", 2.25),
    ]
    assert [(turn.speaker, turn.text) for turn in plain.transcript or ()] == [("agent", "Hello."), ("person", "Yes?")]
    assert (found.summary, found.ended_reason) == ("They were reminded.", "customer-ended-call")
    assert found.recording_url == "https://storage.vapi.ai/recording.wav"


async def test_a_webhook_is_vapis_only_by_the_token_of_its_credential() -> None:
    vendor = Vapi()
    body = json.dumps({"message": {"type": "end-of-call-report", "call": {"id": "c1"}}}).encode()
    async with vendor.carrier(VapiCarrier, secret=SecretStr("token_1")) as carrier:

        def verified(**headers: str) -> bool:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            return carrier.verify(sent, body, "https://example.com/carriers/vapi")

        assert verified(authorization="Bearer token_1")
        assert verified(x_vapi_secret="token_1")
        wrong: tuple[dict[str, str], ...] = (
            {},
            {"authorization": ""},
            {"authorization": "Bearer token_2"},
            {"x_vapi_secret": "é"},
        )
        assert not any(verified(**one) for one in wrong)
        assert carrier.named(body) == ("c1",)
        assert [carrier.named(one) for one in (b"", b"[]", b'{"message":1}', b"\xff")] == [()] * 4
    async with vendor.carrier(VapiCarrier) as carrier:
        assert not carrier.verify({"x-vapi-secret": "", "authorization": "Bearer "}, body, "")
