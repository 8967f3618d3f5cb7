"""Bland: what its words mean, and how calls are placed there. Against a strict fake; not tried live."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from batchcall_mcp.dialer.carriers.base import AccountAtFault, Attempt, CarrierUnavailable, HasAccount, Outcome
from batchcall_mcp.dialer.carriers.vendor_api import Refused
from batchcall_mcp.dialer.carriers.vendors.bland import BlandCarrier
from batchcall_mcp.dialer.carriers.vendors.bland.call_outcomes import outcome_of
from batchcall_mcp.model import Agent, CallerNumber, TaskStatus
from batchcall_mcp.money import parse_money
from tests.carriers.bland import (
    KEY,
    NUMBER,
    OTHER_NUMBER,
    OTHER_PATHWAY,
    PATHWAY,
    PERSONA,
    SECRET,
    Bland,
    signed,
)
from tests.carriers.far_end import JUNK
from tests.carriers.scripted import ScriptedLine, Time, attempt_to, config_for

PERSON = "+12125550120"
HOOK = "https://dialer.example/carriers/bland"


def call(status: str | None = None, **members: Any) -> dict[str, Any]:
    """A call that is over, unless `members` say otherwise."""
    return {
        "call_id": "c1",
        "completed": True,
        "status": status,
        "queue_status": "complete",
        "answered_by": None,
        "error_message": None,
        "call_length": 0.0,
        "corrected_duration": "0",
        "price": None,
        "summary": None,
        **members,
    }


@pytest.mark.parametrize(
    "read",
    [
        call(None, completed=False, queue_status="new"),
        call("unknown", completed=False, queue_status="queued"),
        call("unknown", completed=False, queue_status="started", answered_by="human"),
        call("completed", completed=False, call_length=1.0),
        {"status": "error", "message": "?"},
    ],
)
def test_a_call_goes_on_as_long_as_completed_says_so(read: dict[str, Any]) -> None:
    assert outcome_of(read) is None


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        *(
            pytest.param(
                call("completed", answered_by=by, corrected_duration="42", price=0.068, summary="Yes."),
                Outcome(
                    TaskStatus.COMPLETED,
                    duration_seconds=42,
                    answered_by="human" if by == "human" else None,
                    backend_status="completed",
                    cost=parse_money("0.068 USD"),
                    summary="Yes.",
                ),
                id=f"completed, answered by {by}: completed",
            )
            for by in ("human", "unknown", None)
        ),
        pytest.param(
            call(None, answered_by="human", call_length=0.5, corrected_duration=None),
            Outcome(TaskStatus.COMPLETED, duration_seconds=30, answered_by="human", backend_status="complete"),
            id="without a status, and with minutes alone: completed",
        ),
        pytest.param(
            call("completed", queue_status="started", answered_by="voicemail", corrected_duration="9"),
            Outcome(TaskStatus.VOICEMAIL, duration_seconds=9, answered_by="machine", backend_status="completed"),
            id="answered by voicemail, and completed is ahead of the queue: voicemail",
        ),
        pytest.param(
            call("no-answer"), Outcome(TaskStatus.NO_ANSWER, backend_status="no-answer"), id="no-answer: no_answer"
        ),
        pytest.param(
            call("completed", answered_by="no-answer", corrected_duration="20"),
            Outcome(TaskStatus.NO_ANSWER, backend_status="completed"),
            id="answered by no-answer: no_answer",
        ),
        pytest.param(call("busy"), Outcome(TaskStatus.BUSY, backend_status="busy"), id="busy: busy"),
        pytest.param(
            call("busy", answered_by="no-answer"),
            Outcome(TaskStatus.BUSY, backend_status="busy"),
            id="busy, and nobody answered: busy",
        ),
        pytest.param(
            call("failed", error_message="The number is not in service.", price=0.015),
            Outcome(
                TaskStatus.FAILED,
                "The number is not in service.",
                backend_status="failed",
                cost=parse_money("0.015 USD"),
            ),
            id="failed: failed",
        ),
        pytest.param(
            call("failed", completed=False, queue_status="started"),
            Outcome(TaskStatus.FAILED, "Bland calls this call failed", backend_status="failed"),
            id="failed, not completed: failed",
        ),
        pytest.param(
            call(None, completed=False, queue_status="error", error_message="No credit"),
            Outcome(TaskStatus.FAILED, "No credit", backend_status="error"),
            id="an error in the queue: failed",
        ),
        pytest.param(
            call("unknown", completed=False, queue_status="error"),
            Outcome(TaskStatus.FAILED, "Bland calls this call error", backend_status="error"),
            id="an error in the queue, status unknown: failed",
        ),
        pytest.param(
            call("unknown"),
            Outcome(TaskStatus.FAILED, "Bland calls this call unknown", backend_status="unknown"),
            id="unknown: failed",
        ),
        pytest.param(
            call("canceled"),
            Outcome(TaskStatus.FAILED, "Bland calls this call canceled", backend_status="canceled"),
            id="canceled, not by us: failed",
        ),
        pytest.param(
            call("failed", corrected_duration="7", answered_by="human", error_message="LLM error"),
            Outcome(
                TaskStatus.FAILED,
                "answered, then: LLM error",
                duration_seconds=7,
                answered_by="human",
                permanent=True,
                backend_status="failed",
            ),
            id="failed after it was answered: nobody is rung twice for that",
        ),
        pytest.param(
            call("transferred", corrected_duration="7"),
            Outcome(
                TaskStatus.COMPLETED,
                "Bland calls this call transferred",
                duration_seconds=7,
                permanent=True,
                backend_status="transferred",
            ),
            id="a word nobody knows, answered: completed",
        ),
        pytest.param(
            call("dropped"),
            Outcome(TaskStatus.FAILED, "Bland calls this call dropped", permanent=True, backend_status="dropped"),
            id="a word nobody knows, not answered: failed",
        ),
    ],
)
def test_a_word_of_theirs_as_ours(read: dict[str, Any], expected: Outcome) -> None:
    assert outcome_of(read) == expected


@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_no_answer_of_theirs_is_too_odd(junk: Any) -> None:
    """Whatever a member holds, it is an outcome or it goes on."""
    read = call("failed", corrected_duration="3")
    for name in read:
        outcome_of({**read, name: junk})
    carrier = BlandCarrier(config_for(None))
    assert carrier.created(junk, attempt()) is None
    refusal = carrier.refused(Refused("Bland", 400, junk, "", None), attempt())
    assert refusal.status is TaskStatus.FAILED


@asynccontextmanager
async def organization(time: Time | None = None, **more: Any) -> AsyncIterator[tuple[Bland, BlandCarrier]]:
    """The vendor, and a carrier on it whose pauses are none."""
    vendor, time = Bland(), time or Time()
    async with vendor.served() as url:
        config = config_for(url, **{"key": SecretStr(KEY), "secret": SecretStr(SECRET)} | more)
        carrier = BlandCarrier(config, clock=time.clock, sleep=time.sleep, now=time.now)
        try:
            yield vendor, carrier
        finally:
            await carrier.aclose()


def attempt(to_number: str = PERSON, **more: Any) -> Attempt:
    return attempt_to(to_number, **{"from_number": NUMBER, "agent_id": PATHWAY} | more)


async def test_the_numbers_and_agents_of_the_account() -> None:
    async with organization() as (_, carrier):
        account = await carrier.account()
    assert account.numbers == (CallerNumber(from_number=NUMBER), CallerNumber(from_number=OTHER_NUMBER))
    assert account.agents == (
        Agent(agent_id=PATHWAY, name="Reminder"),
        Agent(agent_id=OTHER_PATHWAY, name="Sales"),
        Agent(agent_id=PERSONA, name="Ann"),
    )


@pytest.mark.parametrize(
    ("missing", "numbers", "agents"),
    [
        ({"/v1/outbound", "/v1/personas"}, [NUMBER], [PATHWAY, OTHER_PATHWAY]),
        ({"/v1/inbound", "/v1/pathway"}, [OTHER_NUMBER], [PERSONA]),
        ({"/v1/inbound", "/v1/outbound", "/v1/pathway", "/v1/personas"}, None, None),
    ],
)
async def test_lists_that_are_not_there_are_not_known(
    missing: set[str], numbers: list[str] | None, agents: list[str] | None
) -> None:
    async with organization() as (vendor, carrier):
        vendor.missing = missing
        account = await carrier.account()
    assert (account.numbers and [one.from_number for one in account.numbers]) == numbers
    assert (account.agents and [one.agent_id for one in account.agents]) == agents


async def test_without_any_list_a_pathway_is_called_with() -> None:
    async with organization() as (vendor, carrier):
        vendor.missing = {"/v1/inbound", "/v1/outbound", "/v1/pathway", "/v1/personas"}
        outcome = await carrier.outcome(attempt(), ScriptedLine())
    assert outcome.status is TaskStatus.COMPLETED
    assert vendor.creates[0].json["pathway_id"] == PATHWAY


@pytest.mark.parametrize(("agent", "member"), [(PATHWAY, "pathway_id"), (PERSONA, "persona_id")])
async def test_a_call(agent: str, member: str) -> None:
    line = ScriptedLine()
    async with organization(public_url="https://dialer.example/") as (vendor, carrier):
        variables = json.dumps({"name": "Ann", "age": 7})
        outcome = await carrier.outcome(attempt(agent_id=agent, dynamic_variables=variables), line)
    (create,) = vendor.creates
    assert create.headers["authorization"] == KEY
    assert create.json == {
        "phone_number": PERSON,
        "from": NUMBER,
        member: agent,
        "request_data": {"name": "Ann", "age": 7},
        "metadata": {"attempt_id": "task_" + "0" * 32 + ":1"},
        "max_duration": 10,
        "answered_by_enabled": True,
        "webhook": HOOK,
    }
    assert [number for number, _ in vendor.rung] == [PERSON]
    assert line.did == ["held", "let go", *vendor.calls]
    assert outcome == Outcome(
        TaskStatus.COMPLETED,
        duration_seconds=42,
        answered_by="human",
        backend_status="completed",
        cost=parse_money("0.068 USD"),
        summary="She confirmed.",
    )


@pytest.mark.parametrize("more", [{}, {"public_url": "https://dialer.example", "secret": None}])
async def test_no_webhook_is_asked_for_that_could_not_be_verified(more: dict[str, Any]) -> None:
    async with organization(**more) as (vendor, carrier):
        await carrier.outcome(attempt(), ScriptedLine())
    assert set(vendor.creates[0].json) == {
        *("phone_number", "from", "pathway_id", "metadata", "max_duration", "answered_by_enabled")
    }


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("+12125550124", TaskStatus.COMPLETED),
        ("+12125550126", TaskStatus.NO_ANSWER),
        ("+12125550127", TaskStatus.BUSY),
        ("+12125550128", TaskStatus.VOICEMAIL),
        ("+12125550129", TaskStatus.FAILED),
    ],
)
async def test_phones(number: str, expected: TaskStatus) -> None:
    async with organization() as (vendor, carrier):
        outcome = await carrier.outcome(attempt(number), ScriptedLine())
    assert outcome.status is expected
    assert not outcome.permanent
    assert len(vendor.creates) == 1


async def test_a_call_that_only_waits_there_is_stopped_alone_before_it_could_ring_too_late() -> None:
    time = Time()
    async with organization(time) as (vendor, carrier):
        vendor.queued = True
        outcome = await carrier.outcome(attempt(), ScriptedLine())
    assert outcome.status is TaskStatus.INTERRUPTED
    assert vendor.stopped == list(vendor.calls)
    assert [one.path for one in vendor.requests if one.method == "POST"] == [
        "/v1/calls",
        f"/v1/calls/{vendor.stopped[0]}/stop",
    ]
    assert 120 < time.elapsed < 140


async def test_a_call_without_credit_is_the_account_s_fault_after_it_was_accepted_too() -> None:
    async with organization() as (vendor, carrier):
        vendor.breaks = "Insufficient balance to dispatch this call"
        with pytest.raises(AccountAtFault, match="check the balance"):
            await carrier.outcome(attempt(), ScriptedLine())


async def test_an_odd_call_is_read_on() -> None:
    async with organization() as (vendor, carrier):
        await carrier.outcome(attempt(), ScriptedLine())
        (call_id,) = vendor.calls
        for odd in (["?"], {"status": "error", "message": "Call not found"}):
            vendor.says[f"/v1/calls/{call_id}"] = odd
            with pytest.raises(CarrierUnavailable, match="without a call"):
                await carrier.look(call_id, attempt())


async def test_completed_is_ahead_of_what_came_of_it() -> None:
    async with organization() as (vendor, carrier):
        vendor.settles_after = 2
        outcome = await carrier.outcome(attempt("+12125550127"), ScriptedLine())
    assert outcome.status is TaskStatus.BUSY


async def test_what_came_of_it_is_not_waited_for_without_end() -> None:
    time = Time()
    async with organization(time) as (vendor, carrier):
        vendor.settles_after = 999
        outcome = await carrier.outcome(attempt("+12125550129"), ScriptedLine())
    assert (outcome.status, outcome.backend_status) == (TaskStatus.FAILED, "unknown")
    assert time.elapsed < 30


@pytest.mark.parametrize("without_plus", [False, True])
@pytest.mark.parametrize("lag", [0, 2])
async def test_a_lost_answer_is_looked_up_by_the_attempt_and_never_sent_again(lag: int, without_plus: bool) -> None:
    line = ScriptedLine()
    async with organization() as (vendor, carrier):
        vendor.lag, vendor.without_plus = lag, without_plus
        other = await carrier.outcome(attempt(n=2), ScriptedLine())
        vendor.drop_create_answer()
        outcome = await carrier.outcome(attempt(), line)
    assert (other.status, outcome.status) == (TaskStatus.COMPLETED, TaskStatus.COMPLETED)
    assert len(vendor.creates) == len(vendor.rung) == 2
    assert line.did == ["held", "let go", list(vendor.calls)[1]]


async def test_what_is_not_found_is_interrupted() -> None:
    async with organization() as (vendor, carrier):
        vendor.lag = 99
        vendor.drop_create_answer()
        outcome = await carrier.outcome(attempt(), ScriptedLine())
    assert (outcome.status, len(vendor.creates)) == (TaskStatus.INTERRUPTED, 1)


@pytest.mark.parametrize(
    ("message", "wait"),
    [("Rate limit exceeded", 5), ("Concurrency limit reached", 5), ("You have reached your daily limit", 600)],
)
async def test_a_success_that_says_later(message: str, wait: float) -> None:
    async with organization() as (vendor, carrier):
        vendor.refusal = message
        with pytest.raises(CarrierUnavailable, match="no more calls") as later:
            await carrier.outcome(attempt(), ScriptedLine())
    assert (later.value.retry_after, later.value.whole_account, vendor.rung) == (wait, True, [])


@pytest.mark.parametrize(
    "message",
    ["Insufficient balance", "Invalid `from` number", "From is not one of your numbers", "Pathway not found"],
)
async def test_a_success_that_is_the_account_s_fault(message: str) -> None:
    async with organization() as (vendor, carrier):
        vendor.refusal = message
        with pytest.raises(AccountAtFault, match="check the balance"):
            await carrier.outcome(attempt(), ScriptedLine())
    assert vendor.rung == []


@pytest.mark.parametrize(
    ("message", "permanent"),
    [
        (f"Invalid phone number {PERSON}: blocked from receiving calls", True),
        ("Something went wrong", False),
    ],
)
async def test_a_success_that_is_none(message: str, permanent: bool) -> None:
    async with organization() as (vendor, carrier):
        vendor.refusal = message
        outcome = await carrier.outcome(attempt(), ScriptedLine())
    assert (outcome.status, outcome.permanent, vendor.rung) == (TaskStatus.FAILED, permanent, [])
    assert message[:15] in (outcome.error or "")
    assert PERSON not in (outcome.error or "")


def _no(message: str) -> dict[str, Any]:
    return {"status": "error", "message": message, "errors": [message]}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, _no("phone_number: E.164 is required"), Outcome(TaskStatus.FAILED, permanent=True)),
        (400, _no("from: it is not yours"), AccountAtFault),
        (400, _no("Insufficient balance"), AccountAtFault),
        (400, _no("?"), Outcome(TaskStatus.FAILED)),
        (401, _no("Invalid API key"), AccountAtFault),
        (402, _no("Insufficient balance"), AccountAtFault),
        (403, _no("no"), AccountAtFault),
        (429, _no("Rate limit exceeded"), CarrierUnavailable),
        (503, {}, CarrierUnavailable),
    ],
)
async def test_a_refusal(status: int, body: Any, expected: type[Exception] | Outcome) -> None:
    async with organization() as (vendor, carrier):
        vendor.status(status, body=body)
        if isinstance(expected, Outcome):
            outcome = await carrier.outcome(attempt(), ScriptedLine())
            assert (outcome.status, outcome.permanent) == (expected.status, expected.permanent)
        else:
            with pytest.raises(expected):
                await carrier.outcome(attempt(), ScriptedLine())
    assert (len(vendor.creates), vendor.rung) == (1, [])


@pytest.mark.parametrize(("message", "wait"), [("Daily limit", 600), ("Rate limit", 30)])
async def test_too_many_of_a_day_wait_longer(message: str, wait: float) -> None:
    async with organization() as (vendor, carrier):
        vendor.status(429, 30, body=_no(message))
        with pytest.raises(CarrierUnavailable) as later:
            await carrier.outcome(attempt(), ScriptedLine())
    assert later.value.retry_after == wait


async def test_an_error_of_theirs_after_the_phone_rang_is_looked_up() -> None:
    async with organization() as (vendor, carrier):
        vendor.status(502, rings=True)
        outcome = await carrier.outcome(attempt(), ScriptedLine())
    assert (outcome.status, len(vendor.creates), len(vendor.rung)) == (TaskStatus.COMPLETED, 1, 1)


async def test_a_call_of_an_earlier_process_is_found_and_read_on() -> None:
    async with organization() as (vendor, carrier):
        await carrier.outcome(attempt(), ScriptedLine())
        (call_id,) = vendor.calls
        by_id = await carrier.outcome(attempt(), ScriptedLine(call_id=call_id, asked_since=vendor.clock()))
        line = ScriptedLine(asked_since=vendor.clock())
        by_attempt = await carrier.outcome(attempt(), line)
    assert by_id.status is by_attempt.status is TaskStatus.COMPLETED
    assert (line.did, len(vendor.creates)) == ([call_id], 1)


async def test_neither_the_key_nor_the_number_is_in_what_they_say() -> None:
    async with organization() as (vendor, carrier):
        said = f"The key {KEY} and {SECRET} may not call {PERSON} nor {PERSON[1:]}."
        vendor.status(400, body=_no(said))
        by_status = await carrier.outcome(attempt(), ScriptedLine())
        vendor.refusal = said
        by_word = await carrier.outcome(attempt(), ScriptedLine())
        vendor.refusal = f"{said} Too many."
        with pytest.raises(CarrierUnavailable) as later:
            await carrier.outcome(attempt(), ScriptedLine())
        vendor.refusal, vendor.breaks = None, f"{said} No balance."
        with pytest.raises(AccountAtFault) as fault:
            await carrier.outcome(attempt(), ScriptedLine())
    for text in (by_status.error or "", by_word.error or "", str(later.value), str(fault.value)):
        assert "may not call" in text
        assert not [secret for secret in (KEY, SECRET, PERSON[1:]) if secret in text]


async def test_what_could_not_be_placed_is_named_before() -> None:
    async with organization() as (_, carrier):
        account = await carrier.account()
    assert carrier.problem(account, attempt()) is None
    for one in (
        attempt(agent_id=None),
        attempt(agent_id="another"),
        attempt(from_number=""),
        attempt(from_number="+14155550777"),
    ):
        assert carrier.problem(account, one) is not None


def test_it_is_a_carrier_with_an_account() -> None:
    carrier = BlandCarrier(config_for(None))
    assert isinstance(carrier, HasAccount)
    assert (carrier.capacity, carrier.calls_per_second, carrier.places_real_calls) == (8, 1.0, True)
    assert "Bland" in carrier.payer


def test_a_webhook_is_theirs_only_with_their_signature() -> None:
    carrier = BlandCarrier(config_for(None, secret=SecretStr(SECRET)))
    body = b'{"call_id":"c1"}'
    assert carrier.verify(signed(body), body, HOOK)
    assert not carrier.verify(signed(body), body + b" ", HOOK)
    assert not carrier.verify(signed(body, "another"), body, HOOK)
    assert not carrier.verify({"x-webhook-signature": "é"}, body, HOOK)
    assert not carrier.verify({}, body, HOOK)
    assert not BlandCarrier(config_for(None, secret=None)).verify(signed(body, ""), body, HOOK)


async def test_a_webhook_only_names_its_call() -> None:
    async with organization() as (vendor, carrier):
        await carrier.outcome(attempt(), ScriptedLine())
        (call_id,) = vendor.calls
        headers, body = vendor.ended(call_id)
    assert carrier.verify(headers, body, HOOK)
    assert carrier.named(body) == (call_id,)
    assert carrier.told(call_id, body) is None
    assert [carrier.named(other) for other in (b"?", b"[]", b"{}")] == [(), (), ()]


async def test_what_was_said() -> None:
    async with organization() as (vendor, carrier):
        await carrier.outcome(attempt(), ScriptedLine())
        (call_id,) = vendor.calls
        details = await carrier.details(call_id)
    assert details.transcript is not None
    assert [(turn.speaker, turn.text, turn.at_seconds) for turn in details.transcript] == [
        ("agent", "Hi, this is the clinic.", 0),
        ("person", "I will be there.", 4),
    ]
    assert (details.summary, details.ended_reason) == ("She confirmed.", "USER")
    assert details.recording_url == "https://recordings.example/one.mp3"
