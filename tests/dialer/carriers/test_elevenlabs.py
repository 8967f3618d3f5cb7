"""ElevenLabs: what its words mean, and how calls are placed there. Against a strict fake; not tried live."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Attempt,
    CarrierAccount,
    CarrierUnavailable,
    HasAccount,
    NotCallable,
    Outcome,
)
from batchcall_mcp.dialer.carriers.vendor_api import Refused
from batchcall_mcp.dialer.carriers.vendors.elevenlabs import ElevenLabsCarrier
from batchcall_mcp.dialer.carriers.vendors.elevenlabs.call_outcomes import failure_of, outcome_of
from batchcall_mcp.model import Agent, CallerNumber, TaskStatus
from batchcall_mcp.money import parse_money
from tests.carriers.elevenlabs import (
    AGENT,
    EXOTEL,
    KEY,
    NUMBERS,
    OTHER_AGENT,
    SECRET,
    SIP,
    TWILIO,
    ElevenLabs,
    signed,
)
from tests.carriers.far_end import JUNK
from tests.carriers.scripted import ScriptedLine, Time, attempt_to, config_for

PERSON = "+12125550120"
NO_ANSWER_FIRST, BUSY, VOICEMAIL, FAILS = "+12125550126", "+12125550127", "+12125550128", "+12125550129"


def conversation(status: str, **metadata: Any) -> dict[str, Any]:
    """A conversation with what its document requires."""
    required = {"start_time_unix_secs": 1_790_000_000, "call_duration_secs": 0, "cost": None, "cost_fiat": None}
    return {
        "agent_id": "agent_1",
        "status": status,
        "conversation_id": "conv_1",
        "metadata": {**required, "termination_reason": "", **metadata},
        "transcript": [],
        "analysis": None,
    }


def voicemail_detection(*, used: bool) -> dict[str, Any]:
    return {"voicemail_detection": {"enabled": True, "used": used}}


@pytest.mark.parametrize("status", ["initiated", "in-progress", "processing"])
def test_a_call_goes_on(status: str) -> None:
    assert outcome_of(conversation(status, call_duration_secs=12)) is None


def test_an_answer_without_a_status_says_nothing() -> None:
    assert outcome_of({"detail": "?"}) is None


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        pytest.param(
            conversation("done", call_duration_secs=42, cost=310, cost_fiat=0.0625),
            Outcome(TaskStatus.COMPLETED, duration_seconds=42, backend_status="done", cost=parse_money("0.0625 USD")),
            id="done: completed",
        ),
        pytest.param(
            conversation("done", call_duration_secs=42, features_usage=voicemail_detection(used=False)),
            Outcome(TaskStatus.COMPLETED, duration_seconds=42, answered_by="human", backend_status="done"),
            id="done, and voicemail would have been seen: completed by a person",
        ),
        pytest.param(
            conversation("done", call_duration_secs=9, features_usage=voicemail_detection(used=True)),
            Outcome(TaskStatus.VOICEMAIL, duration_seconds=9, answered_by="machine", backend_status="done"),
            id="done, voicemail was detected: voicemail",
        ),
        pytest.param(
            conversation("failed", call_duration_secs=9, features_usage=voicemail_detection(used=True)),
            Outcome(TaskStatus.VOICEMAIL, duration_seconds=9, answered_by="machine", backend_status="failed"),
            id="failed after voicemail was detected: voicemail",
        ),
        pytest.param(
            conversation("failed", termination_reason="Line busy"),
            Outcome(TaskStatus.BUSY, backend_status="failed"),
            id="failed, busy in the reason: busy",
        ),
        pytest.param(
            conversation("failed", error={"code": 1, "reason": "busy"}),
            Outcome(TaskStatus.BUSY, backend_status="failed"),
            id="failed, busy in the error: busy",
        ),
        pytest.param(
            conversation("failed", termination_reason="no-answer"),
            Outcome(TaskStatus.NO_ANSWER, backend_status="failed"),
            id="failed, no-answer in the reason: no_answer",
        ),
        pytest.param(
            conversation("failed", error={"code": 1, "reason": "No answer"}),
            Outcome(TaskStatus.NO_ANSWER, backend_status="failed"),
            id="failed, no answer in the error: no_answer",
        ),
        pytest.param(
            conversation("failed", phone_call={"call_result": "no_answer"}),
            Outcome(TaskStatus.NO_ANSWER, backend_status="failed"),
            id="failed, no_answer in the newer member: no_answer",
        ),
        pytest.param(
            conversation("failed"),
            Outcome(TaskStatus.FAILED, "ElevenLabs does not say why", backend_status="failed"),
            id="failed without words: failed, and no no_answer is invented",
        ),
        pytest.param(
            conversation("failed", termination_reason="Agent could not join", error={"code": 3000, "reason": "quota"}),
            Outcome(TaskStatus.FAILED, "quota; Agent could not join", backend_status="failed"),
            id="failed else: failed, with the words",
        ),
        pytest.param(
            conversation("failed", call_duration_secs=7, termination_reason="LLM error"),
            Outcome(
                TaskStatus.FAILED,
                "answered, then: LLM error",
                duration_seconds=7,
                permanent=True,
                backend_status="failed",
            ),
            id="failed after it was answered: nobody is rung twice for that",
        ),
        pytest.param(
            conversation("moved", call_duration_secs=5),
            Outcome(
                TaskStatus.COMPLETED,
                "ElevenLabs calls this call moved",
                duration_seconds=5,
                permanent=True,
                backend_status="moved",
            ),
            id="a word nobody knows, answered: completed",
        ),
        pytest.param(
            conversation("moved"),
            Outcome(TaskStatus.FAILED, "ElevenLabs calls this call moved", permanent=True, backend_status="moved"),
            id="a word nobody knows, not answered: failed",
        ),
    ],
)
def test_a_word_of_theirs_as_ours(read: dict[str, Any], expected: Outcome) -> None:
    assert outcome_of(read) == expected


@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_no_answer_of_theirs_is_too_odd(junk: Any) -> None:
    """Whatever a member holds, it is an outcome or it goes on."""
    read = conversation("failed", call_duration_secs=3, error={"code": 1, "reason": "busy"}, phone_call={})
    for name in read:
        outcome_of({**read, name: junk})
    for name in read["metadata"]:
        outcome_of({**read, "metadata": {**read["metadata"], name: junk}})
    failure_of({"failure_reason": junk, "metadata": {"body": {"CallStatus": junk, "sip_status_code": junk}}})
    carrier = ElevenLabsCarrier(config_for(None))
    assert carrier.created(junk, attempt()) is None
    refusal = carrier.refused(Refused("ElevenLabs", 400, {"detail": junk}, "", None), attempt())
    assert refusal.status is TaskStatus.FAILED


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"failure_reason": "busy", "metadata": {"type": "twilio", "body": {}}}, TaskStatus.BUSY),
        ({"failure_reason": "no-answer", "metadata": {"type": "twilio", "body": {}}}, TaskStatus.NO_ANSWER),
        ({"failure_reason": "unknown", "metadata": {"body": {"CallStatus": "busy"}}}, TaskStatus.BUSY),
        ({"failure_reason": "unknown", "metadata": {"body": {"CallStatus": "no-answer"}}}, TaskStatus.NO_ANSWER),
        ({"failure_reason": "unknown", "metadata": {"body": {"sip_status_code": 486}}}, TaskStatus.BUSY),
        ({"failure_reason": "unknown", "metadata": {"body": {"sip_status_code": 480}}}, TaskStatus.NO_ANSWER),
        ({"failure_reason": "unknown", "metadata": {"body": {"sip_status_code": 503}}}, TaskStatus.FAILED),
        ({"failure_reason": "unknown", "metadata": {"body": {"CallStatus": "failed"}}}, TaskStatus.FAILED),
        ({}, TaskStatus.FAILED),
        ({"failure_reason": "unknown", "metadata": {"body": {"sip_status_code": [486]}}}, TaskStatus.FAILED),
        ({"failure_reason": 7, "metadata": ["?"]}, TaskStatus.FAILED),
    ],
)
def test_a_call_that_could_not_begin_by_its_webhook(data: dict[str, Any], expected: TaskStatus) -> None:
    assert failure_of(data).status is expected
    assert not failure_of(data).permanent


@asynccontextmanager
async def workspace(time: Time | None = None, **more: Any) -> AsyncIterator[tuple[ElevenLabs, ElevenLabsCarrier]]:
    """The vendor, and a carrier on it whose pauses are none."""
    vendor, time = ElevenLabs(), time or Time()
    async with vendor.served() as url:
        config = config_for(url, key=SecretStr(KEY), secret=SecretStr(SECRET), **more)
        carrier = ElevenLabsCarrier(config, clock=time.clock, sleep=time.sleep, now=time.now)
        try:
            yield vendor, carrier
        finally:
            await carrier.aclose()


class Told(Time):
    """Time in which `tell` is called after each sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.tell: Callable[[], None] = lambda: None

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        self.tell()


def attempt(to_number: str = PERSON, **more: Any) -> Attempt:
    return attempt_to(to_number, **{"from_number": TWILIO, "agent_id": AGENT} | more)


async def test_the_numbers_and_agents_of_the_account() -> None:
    async with workspace() as (_, carrier):
        account = await carrier.account()
    assert account.numbers is not None
    assert [(one.from_number, one.number_id) for one in account.numbers] == [
        (number, number_id) for number, (number_id, _) in NUMBERS.items()
    ]
    assert account.agents == (
        Agent(agent_id=AGENT, name="Reminder"),
        Agent(agent_id=OTHER_AGENT, name="Sales"),
    )


async def test_lists_that_are_not_there_are_not_known() -> None:
    async with workspace() as (vendor, carrier):
        vendor.lists_agents = vendor.lists_numbers = False
        account = await carrier.account()
        assert (account.numbers, account.agents) == (None, None)
        assert carrier.problem(account, attempt()) is None  # it is looked at again before the call
        with pytest.raises(AccountAtFault, match="cannot be read"):
            await carrier.outcome(attempt(), ScriptedLine())
        assert vendor.creates == []


async def test_an_odd_list_of_numbers_is_not_known() -> None:
    async with workspace() as (vendor, carrier):
        vendor.says["/v1/convai/phone-numbers"] = {"detail": "?"}
        assert (await carrier.account()).numbers is None


async def test_an_odd_conversation_is_read_on() -> None:
    time = Told()
    async with workspace(time) as (vendor, carrier):

        def odd_for_a_while() -> None:
            vendor.says = {f"/v1/convai/conversations/{one}": ["?"] for one in vendor.conversations}
            if time.elapsed > 10:
                vendor.says = {}

        time.tell = odd_for_a_while
        outcome = await carrier.outcome(attempt(), ScriptedLine())
    assert outcome.status is TaskStatus.COMPLETED
    assert time.elapsed > 10


async def test_a_conversation_from_before_is_not_taken_for_it() -> None:
    async with workspace() as (vendor, carrier):
        await carrier.outcome(attempt(), ScriptedLine())
        assert len(await carrier.find(attempt(), vendor.clock() - timedelta(minutes=1))) == 1
        assert await carrier.find(attempt(), vendor.clock() + timedelta(minutes=1)) == []


@pytest.mark.parametrize(
    ("from_number", "path"),
    [(TWILIO, "twilio"), (SIP, "sip-trunk"), (EXOTEL, "exotel")],
)
async def test_a_call_goes_over_the_provider_of_its_number(from_number: str, path: str) -> None:
    variables = json.dumps({"name": "Ann", "age": 7, "vip": True, "none": None, "list": [1]})
    line = ScriptedLine()
    async with workspace() as (vendor, carrier):
        outcome = await carrier.outcome(attempt(from_number=from_number, dynamic_variables=variables), line)
    (create,) = vendor.creates
    assert create.path == f"/v1/convai/{path}/outbound-call"
    assert create.headers["xi-api-key"] == KEY
    assert create.json == {
        "agent_id": AGENT,
        "agent_phone_number_id": NUMBERS[from_number][0],
        "to_number": PERSON,
        "conversation_initiation_client_data": {
            "user_id": "task_" + "0" * 32 + ":1",
            "dynamic_variables": {"name": "Ann", "age": 7, "vip": True, "list": "[1]"},
        },
        "telephony_call_config": {"ringing_timeout_secs": 30},
    }
    assert [number for number, _ in vendor.rung] == [PERSON]
    assert line.did == ["held", "let go", *vendor.conversations]
    assert outcome == Outcome(
        TaskStatus.COMPLETED,
        duration_seconds=42,
        answered_by="human",
        backend_status="done",
        cost=parse_money("0.0625 USD"),
        summary="She confirmed.",
    )


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("+12125550124", TaskStatus.COMPLETED),
        (VOICEMAIL, TaskStatus.VOICEMAIL),
        (FAILS, TaskStatus.FAILED),
        (BUSY, TaskStatus.FAILED),
        (NO_ANSWER_FIRST, TaskStatus.FAILED),
    ],
)
async def test_phones_by_polling_alone(number: str, expected: TaskStatus) -> None:
    async with workspace() as (vendor, carrier):
        outcome = await carrier.outcome(attempt(number), ScriptedLine())
    assert outcome.status is expected
    assert not outcome.permanent
    assert len(vendor.creates) == 1


@pytest.mark.parametrize("stuck", [True, False])
@pytest.mark.parametrize("from_number", [TWILIO, SIP])
@pytest.mark.parametrize(
    ("number", "expected"),
    [(BUSY, TaskStatus.BUSY), (NO_ANSWER_FIRST, TaskStatus.NO_ANSWER), (FAILS, TaskStatus.FAILED)],
)
async def test_a_webhook_says_why_a_call_could_not_begin(
    from_number: str, number: str, expected: TaskStatus, stuck: bool
) -> None:
    time = Told()
    async with workspace(time, public_url="https://dialer.example") as (vendor, carrier):
        vendor.stuck = stuck

        def tell() -> None:
            if time.elapsed >= 10:
                time.tell = lambda: None
                (call_id,) = vendor.conversations
                vendor.clock = time.now
                headers, body = vendor.initiation_failure(call_id)
                assert carrier.verify(headers, body, "https://dialer.example/carriers/elevenlabs")
                assert carrier.named(body) == (call_id,)
                carrier.heard(call_id, body)

        time.tell = tell
        outcome = await carrier.outcome(attempt(number, from_number=from_number), ScriptedLine())
    assert outcome.status is expected
    assert time.elapsed < 20


async def test_a_webhook_that_does_not_come_is_not_waited_for_without_end() -> None:
    time = Time()
    async with workspace(time, public_url="https://dialer.example") as (_, carrier):
        outcome = await carrier.outcome(attempt(BUSY), ScriptedLine())
    assert outcome.status is TaskStatus.FAILED
    assert 15 < time.elapsed < 40


async def test_a_call_that_stays_initiated_is_over_and_nobody_can_hang_up() -> None:
    time = Time()
    async with workspace(time) as (vendor, carrier):
        vendor.stuck = True
        outcome = await carrier.outcome(attempt(BUSY), ScriptedLine())
    assert outcome == Outcome(
        TaskStatus.FAILED,
        "ElevenLabs never said more of this call than that it was initiated",
        backend_status="initiated",
    )
    assert 90 < time.elapsed < 110
    assert {one.method for one in vendor.requests if one not in vendor.creates} == {"GET"}


async def test_a_call_whose_analysis_does_not_end_is_completed() -> None:
    async with workspace() as (vendor, carrier):
        vendor.analysing = True
        outcome = await carrier.outcome(attempt(), ScriptedLine())
    assert (outcome.status, outcome.duration_seconds) == (TaskStatus.COMPLETED, 42)


@pytest.mark.parametrize("lag", [0, 2])
async def test_a_lost_answer_is_looked_up_by_the_attempt_and_never_sent_again(lag: int) -> None:
    line = ScriptedLine()
    async with workspace() as (vendor, carrier):
        vendor.lag = lag
        other = await carrier.outcome(attempt(n=2), ScriptedLine())
        vendor.drop_create_answer()
        outcome = await carrier.outcome(attempt(), line)
    assert (other.status, outcome.status) == (TaskStatus.COMPLETED, TaskStatus.COMPLETED)
    assert len(vendor.creates) == len(vendor.rung) == 2
    assert line.did == ["held", "let go", list(vendor.conversations)[1]]


async def test_an_answer_without_an_id_is_looked_up() -> None:
    async with workspace() as (vendor, carrier):
        vendor.names_no_conversation = True
        outcome = await carrier.outcome(attempt(), ScriptedLine())
    assert outcome.status is TaskStatus.COMPLETED
    assert len(vendor.creates) == 1


async def test_what_is_not_found_is_interrupted() -> None:
    async with workspace() as (vendor, carrier):
        vendor.lag = 99
        vendor.drop_create_answer()
        outcome = await carrier.outcome(attempt(), ScriptedLine())
    assert outcome.status is TaskStatus.INTERRUPTED
    assert len(vendor.creates) == 1


async def test_a_conversation_of_another_user_is_not_taken_for_it() -> None:
    async with workspace() as (vendor, carrier):
        await carrier.outcome(attempt(n=2), ScriptedLine())
        vendor.filters_nothing = True
        assert await carrier.find(attempt(), vendor.clock() - timedelta(minutes=1)) == []


@pytest.mark.parametrize(
    ("message", "retry_after"),
    [("Concurrent call limit reached", 5), ("HTTP 429 error: too many requests (20429)", 5)],
)
async def test_a_success_that_says_later(message: str, retry_after: float) -> None:
    async with workspace() as (vendor, carrier):
        vendor.refusal = message
        with pytest.raises(CarrierUnavailable, match="no more calls") as later:
            await carrier.outcome(attempt(), ScriptedLine())
    assert (later.value.retry_after, later.value.whole_account, vendor.rung) == (retry_after, True, [])


@pytest.mark.parametrize("message", ["This request exceeds your quota", "Authenticate (Twilio error 20003)"])
async def test_a_success_that_is_the_account_s_fault(message: str) -> None:
    async with workspace() as (vendor, carrier):
        vendor.refusal = message
        with pytest.raises(AccountAtFault, match="check the account"):
            await carrier.outcome(attempt(), ScriptedLine())
    assert vendor.rung == []


@pytest.mark.parametrize(
    ("message", "permanent"),
    [
        (f"The phone number you are attempting to call, {PERSON}, is not valid. (Twilio error 21211)", True),
        ("Something went wrong", False),
    ],
)
async def test_a_success_that_is_none(message: str, permanent: bool) -> None:
    async with workspace() as (vendor, carrier):
        vendor.refusal = message
        outcome = await carrier.outcome(attempt(), ScriptedLine())
    assert (outcome.status, outcome.permanent, vendor.rung) == (TaskStatus.FAILED, permanent, [])
    assert message[:20] in (outcome.error or "")
    assert PERSON not in (outcome.error or "")


def _missing(name: str) -> dict[str, Any]:
    return {"detail": [{"loc": ["body", name], "msg": "Field required", "type": "missing"}]}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (401, {"detail": {"status": "quota_exceeded", "message": "0 credits left"}}, AccountAtFault),
        (402, {"detail": {"status": "payment_required", "message": "pay"}}, AccountAtFault),
        (403, {"detail": {"status": "forbidden", "message": "no"}}, AccountAtFault),
        (404, {"detail": {"status": "agent_not_found", "message": "no"}}, AccountAtFault),
        (422, _missing("agent_id"), AccountAtFault),
        (422, _missing("to_number"), Outcome(TaskStatus.FAILED, permanent=True)),
        (422, {"detail": [{"loc": 7}, {"loc": [1, [2]]}, 3]}, Outcome(TaskStatus.FAILED)),
        (422, _missing("telephony_call_config"), Outcome(TaskStatus.FAILED)),
        (400, {"detail": {"status": "too_many_concurrent_requests", "message": "wait"}}, CarrierUnavailable),
        (429, {"detail": {"status": "rate_limited", "message": "wait"}}, CarrierUnavailable),
        (503, {}, CarrierUnavailable),
    ],
)
async def test_a_refusal(status: int, body: Any, expected: type[Exception] | Outcome) -> None:
    async with workspace() as (vendor, carrier):
        vendor.status(status, body=body)
        if isinstance(expected, Outcome):
            outcome = await carrier.outcome(attempt(), ScriptedLine())
            assert (outcome.status, outcome.permanent) == (expected.status, expected.permanent)
        else:
            with pytest.raises(expected):
                await carrier.outcome(attempt(), ScriptedLine())
    assert (len(vendor.creates), vendor.rung) == (1, [])


async def test_an_error_of_theirs_after_the_phone_rang_is_looked_up() -> None:
    async with workspace() as (vendor, carrier):
        vendor.status(500, rings=True)
        outcome = await carrier.outcome(attempt(), ScriptedLine())
    assert (outcome.status, len(vendor.creates), len(vendor.rung)) == (TaskStatus.COMPLETED, 1, 1)


async def test_a_call_of_an_earlier_process_is_read_on() -> None:
    async with workspace() as (vendor, carrier):
        await carrier.outcome(attempt(), ScriptedLine())
        (call_id,) = vendor.conversations
        outcome = await carrier.outcome(attempt(), ScriptedLine(call_id=call_id, asked_since=vendor.clock()))
    assert (outcome.status, len(vendor.creates)) == (TaskStatus.COMPLETED, 1)


async def test_a_wrong_key_rings_nobody_and_is_in_no_text() -> None:
    async with workspace() as (vendor, carrier):
        carrier.config = config_for(None, key=SecretStr("sk_wrong_one"))
        with pytest.raises(AccountAtFault) as fault:
            await carrier.outcome(attempt(), ScriptedLine())
        assert "sk_wrong_one" not in str(fault.value)
        assert (vendor.creates, vendor.rung) == ([], [])


async def test_neither_the_key_nor_the_number_is_in_what_they_say() -> None:
    async with workspace() as (vendor, carrier):
        said = f"The key {KEY} and {SECRET} may not call {PERSON} nor {PERSON[1:]}."
        vendor.status(400, body={"detail": {"status": "no", "message": said}})
        by_status = await carrier.outcome(attempt(), ScriptedLine())
        vendor.refusal = said
        by_word = await carrier.outcome(attempt(), ScriptedLine())
        vendor.refusal = f"{said} Too many."
        with pytest.raises(CarrierUnavailable) as later:
            await carrier.outcome(attempt(), ScriptedLine())
    for text in (by_status.error or "", by_word.error or "", str(later.value)):
        assert "may not call" in text
        assert not [secret for secret in (KEY, SECRET, PERSON[1:]) if secret in text]


async def test_what_could_not_be_placed_is_named_before() -> None:
    async with workspace() as (vendor, carrier):
        account = await carrier.account()
        problems = {
            name: carrier.problem(account, one)
            for name, one in {
                "fine": attempt(),
                "no agent": attempt(agent_id=None),
                "another agent": attempt(agent_id="agent_x"),
                "another number": attempt(from_number="+14155550777"),
                "theirs": attempt(dynamic_variables='{"name":"Ann","system__call_sid":"CA1"}'),
            }.items()
        }
        assert problems.pop("fine") is None
        assert None not in problems.values()
        assert "system__call_sid" in (problems["theirs"] or "")
        with pytest.raises(NotCallable, match="system__"):
            await carrier.outcome(attempt(dynamic_variables='{"system__time":"now"}'), ScriptedLine())
        assert vendor.creates == []


def test_it_is_a_carrier_with_an_account() -> None:
    carrier = ElevenLabsCarrier(config_for(None))
    assert isinstance(carrier, HasAccount)
    assert (carrier.capacity, carrier.calls_per_second, carrier.places_real_calls) == (5, 1.0, True)
    assert "ElevenLabs" in carrier.payer


def test_a_number_of_a_provider_that_nobody_knows() -> None:
    carrier = ElevenLabsCarrier(config_for(None))
    number = CallerNumber(from_number=TWILIO, number_id="phnum_1")
    problem = carrier.problem(CarrierAccount(numbers=(number,), agents=None), attempt())
    assert "no single calls" in (problem or "")


def test_a_webhook_is_theirs_only_with_their_signature() -> None:
    time = Time()
    carrier = ElevenLabsCarrier(config_for(None, secret=SecretStr(SECRET)), now=time.now)
    body, now = b'{"type":"post_call_transcription"}', int(time.now().timestamp())
    url = "https://dialer.example/carriers/elevenlabs"
    assert carrier.verify(signed(body, now), body, url)
    assert carrier.verify(signed(body, now - 1700), body, url)
    assert not carrier.verify(signed(body, now - 1900), body, url)
    assert not carrier.verify(signed(body, now), body + b" ", url)
    assert not carrier.verify(signed(body, now, "wsec_another"), body, url)
    for header in ("", "t=1", f"v0=0,t={now}", "t=٣,v0=0", f"t={now},v0=é", "t=now,v0="):
        assert not carrier.verify({"elevenlabs-signature": header}, body, url)
    assert not carrier.verify({}, body, url)
    unsigned = ElevenLabsCarrier(config_for(None, secret=None), now=time.now)
    assert not unsigned.verify(signed(body, now, ""), body, url)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b'{"type":"post_call_transcription","data":{"conversation_id":"conv_1","status":"done"}}', ("conv_1",)),
        (b'{"type":"call_initiation_failure","data":{"conversation_id":null}}', ()),
        (b"[]", ()),
        (b"?", ()),
    ],
)
def test_other_webhooks_only_name_a_call(body: bytes, named: tuple[str, ...]) -> None:
    carrier = ElevenLabsCarrier(config_for(None))
    assert carrier.named(body) == named
    assert carrier.told("conv_1", body) is None


async def test_what_was_said() -> None:
    async with workspace() as (vendor, carrier):
        await carrier.outcome(attempt(), ScriptedLine())
        (call_id,) = vendor.conversations
        details = await carrier.details(call_id)
    assert details.transcript is not None
    assert [(turn.speaker, turn.at_seconds) for turn in details.transcript] == [("agent", 1), ("person", 4)]
    assert (details.summary, details.ended_reason) == ("She confirmed.", "Client ended call")
    assert (details.recording_url or "").endswith(f"/v1/convai/conversations/{call_id}/audio")
