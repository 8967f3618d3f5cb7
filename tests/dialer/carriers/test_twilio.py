"""Twilio through the carrier that all vendors stand on, against a strict simulator on a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode
from uuid import uuid4

import pytest
from pydantic import SecretStr

from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Attempt,
    CallDetails,
    CarrierUnavailable,
    HasAccount,
    HearsKeys,
    KeyPress,
    NoLongerWanted,
    NotCallable,
    Outcome,
    ReportsCalls,
)
from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig, Progress
from batchcall_mcp.dialer.carriers.vendors.twilio import TwilioCarrier
from batchcall_mcp.dialer.carriers.vendors.twilio.call_outcomes import Reason, outcome_of
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.model import CallerNumber, TaskStatus
from batchcall_mcp.money import parse_money
from tests.carriers.scripted import ScriptedLine, Time, attempt_to
from tests.carriers.twilio import CALLER_ID, FORM, KEY, NUMBER, SECRET, SMS_NUMBER, Twilio

AGENTS = """
[reminder]
say = "Hello {{name}}."
name = "Reminder"
[looking]
say = "Hello."
machine = "hang_up"
[leaving]
play = "https://example.com/a.mp3"
machine = "leave_message"
[voice]
sip = "sip:agent@example.com"
[socket]
stream = "wss://example.com/agent"
"""
WITH_KEYS = '[asking]\nsay = "Press 1."\nkeys = {1 = "confirmed", 9 = "do_not_call"}\n[other]\nsay = "Hello."\n'
PUBLIC_URL = "https://dialer.example.com"
PERSON = "+14155551230"


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
async def vendor() -> AsyncIterator[Twilio]:
    """Its clock is another one than the carrier's: its answers say what time it is there."""
    twilio = Twilio()
    async with twilio.served() as twilio.url:
        yield twilio


@pytest.fixture
async def carrier(vendor: Twilio, time: Time, tmp_path: Path) -> AsyncIterator[TwilioCarrier]:
    async with carrier_of(vendor, time, tmp_path) as carrier:
        yield carrier


def config_of(folder: Path, written: str = AGENTS, **more: Any) -> CarrierConfig:
    path = folder / "agents.toml"
    path.write_text(written, encoding="utf-8")
    given = {"key": SecretStr(KEY), "secret": SecretStr(SECRET), "agents": path, **more}
    return CarrierConfig(**given)


@asynccontextmanager
async def carrier_of(
    vendor: Twilio, time: Time, folder: Path, written: str = AGENTS, **more: Any
) -> AsyncIterator[TwilioCarrier]:
    config = config_of(folder, written, **{"url": vendor.url + vendor.prefix} | more)
    carrier = TwilioCarrier(config, clock=time.clock, sleep=time.sleep, now=time.now)
    try:
        yield carrier
    finally:
        await carrier.aclose()


def call_to(to_number: str = PERSON, agent_id: str | None = "reminder", **more: Any) -> Attempt:
    given = {"from_number": NUMBER, "agent_id": agent_id, "dynamic_variables": '{"name":"Ada"}', **more}
    return attempt_to(to_number, **given)


def only(vendor: Twilio) -> dict[str, list[str]]:
    """The one form that asked for a call."""
    (create,) = vendor.creates
    assert create.headers["content-type"] == FORM
    return parse_qs(create.body.decode("ascii"), strict_parsing=True)


async def test_one_form_asks_for_a_call(vendor: Twilio, carrier: TwilioCarrier) -> None:
    outcome = await carrier.outcome(call_to(), ScriptedLine())
    assert only(vendor) == {
        "To": [PERSON],
        "From": [NUMBER],
        "Twiml": ["<Response><Say>Hello Ada.</Say></Response>"],
        "Timeout": ["30"],
        "TimeLimit": ["600"],
    }
    assert [number for number, _ in vendor.rung] == [PERSON]
    assert outcome == Outcome(
        TaskStatus.COMPLETED, duration_seconds=20, backend_status="completed", cost=parse_money("0.014 USD")
    )


def test_it_offers_what_the_engine_asks_of_it(tmp_path: Path) -> None:
    carrier = TwilioCarrier(config_of(tmp_path))
    assert isinstance(carrier, HasAccount)
    assert isinstance(carrier, ReportsCalls)
    assert isinstance(carrier, HearsKeys)
    assert (carrier.name, carrier.title, carrier.capacity, carrier.calls_per_second) == ("twilio", "Twilio", 10, 1.0)


@pytest.mark.parametrize(
    ("digit", "agent_id", "status", "answered_by", "seconds"),
    [
        ("0", "reminder", TaskStatus.COMPLETED, None, 20),
        ("0", "looking", TaskStatus.COMPLETED, "human", 20),
        ("4", "looking", TaskStatus.COMPLETED, "human", 3),
        ("5", "looking", TaskStatus.COMPLETED, None, 100),  # Twilio could not say who it was
        ("6", "looking", TaskStatus.NO_ANSWER, None, None),
        ("7", "looking", TaskStatus.BUSY, None, None),
        ("8", "reminder", TaskStatus.COMPLETED, None, 8),  # nobody looked: it may have been a machine
        ("8", "leaving", TaskStatus.VOICEMAIL, "machine", 8),
        ("8", "looking", TaskStatus.VOICEMAIL, "machine", 8),
        ("9", "looking", TaskStatus.FAILED, None, None),
    ],
)
async def test_who_answered_is_known_only_if_somebody_looked(
    carrier: TwilioCarrier, digit: str, agent_id: str, status: str, answered_by: str | None, seconds: int | None
) -> None:
    outcome = await carrier.outcome(call_to(PERSON[:-1] + digit, agent_id), ScriptedLine())
    assert (outcome.status, outcome.answered_by, outcome.duration_seconds) == (status, answered_by, seconds)
    assert not outcome.permanent


@pytest.mark.parametrize(
    ("agent_id", "detection"), [("reminder", None), ("looking", "Enable"), ("leaving", "DetectMessageEnd")]
)
async def test_a_machine_is_looked_for_only_where_the_agent_wants_that(
    vendor: Twilio, carrier: TwilioCarrier, agent_id: str, detection: str | None
) -> None:
    await carrier.outcome(call_to(agent_id=agent_id), ScriptedLine())
    assert only(vendor).get("MachineDetection") == (None if detection is None else [detection])


async def test_a_machine_is_hung_up_on_once(vendor: Twilio, carrier: TwilioCarrier) -> None:
    outcome = await carrier.outcome(call_to(PERSON[:-1] + "8", "looking"), ScriptedLine())
    stops = [one for one in vendor.writes if one not in vendor.creates]
    assert [one.body for one in stops] == [b"Status=completed"]
    assert (outcome.status, outcome.backend_status) == (TaskStatus.VOICEMAIL, "machine_start")


@pytest.mark.parametrize("agent_id", ["leaving", "reminder"])
async def test_a_machine_that_may_hear_the_message_is_left_alone(
    vendor: Twilio, carrier: TwilioCarrier, agent_id: str
) -> None:
    await carrier.outcome(call_to(PERSON[:-1] + "8", agent_id), ScriptedLine())
    assert vendor.writes == vendor.creates


@pytest.mark.parametrize(
    ("agent", "status", "said"),
    [
        ("completed", TaskStatus.COMPLETED, None),
        ("busy", TaskStatus.FAILED, "answered, then the voice agent was not there (busy)"),
        ("no-answer", TaskStatus.FAILED, "answered, then the voice agent was not there (no-answer)"),
        ("failed", TaskStatus.FAILED, "answered, then the voice agent was not there (failed)"),
        ("canceled", TaskStatus.FAILED, "answered, then the voice agent was not there (canceled)"),
        (None, TaskStatus.FAILED, "answered, then the voice agent was not there (not called)"),
    ],
)
async def test_with_a_sip_agent_the_second_leg_decides(
    vendor: Twilio, carrier: TwilioCarrier, agent: str | None, status: str, said: str | None
) -> None:
    vendor.agent = agent
    outcome = await carrier.outcome(call_to(agent_id="voice"), ScriptedLine())
    assert (outcome.status, outcome.error, outcome.permanent) == (status, said, said is not None)
    assert outcome.backend_status == "completed"


async def test_a_sip_call_that_nobody_answers_has_no_second_leg(vendor: Twilio, carrier: TwilioCarrier) -> None:
    outcome = await carrier.outcome(call_to(PERSON[:-1] + "7", "voice"), ScriptedLine())
    assert outcome.status == TaskStatus.BUSY
    assert not any("ParentCallSid" in one.query for one in vendor.requests)


async def test_the_second_leg_is_waited_for(vendor: Twilio, carrier: TwilioCarrier) -> None:
    parent = vendor.place(PERSON, fields={"Twiml": ["<Response><Dial><Sip>sip:a@example.com</Sip></Dial></Response>"]})
    leg = next(call for call in vendor.calls.values() if call.parent == parent.sid)
    parent.path, leg.path = ["completed"], ["in-progress"]
    assert await carrier.look(parent.sid, call_to(agent_id="voice")) is Progress.GOING
    leg.path = ["completed"]
    seen = await carrier.look(parent.sid, call_to(agent_id="voice"))
    assert isinstance(seen, Outcome)
    assert seen.status == TaskStatus.COMPLETED


async def test_of_an_agent_that_the_file_has_no_more_the_legs_tell(vendor: Twilio, carrier: TwilioCarrier) -> None:
    vendor.agent = "busy"
    sip = vendor.place(PERSON, fields={"Twiml": ["<Response><Dial><Sip>sip:a@example.com</Sip></Dial></Response>"]})
    said = vendor.place(PERSON)
    for call in (sip, said):
        call.path = ["completed"]
    found = [await carrier.look(call.sid, call_to(agent_id="gone")) for call in (sip, said)]
    assert [one.status for one in found if isinstance(one, Outcome)] == [TaskStatus.FAILED, TaskStatus.COMPLETED]


async def test_values_are_spoken_and_never_obeyed(vendor: Twilio, carrier: TwilioCarrier) -> None:
    attack = "</Say><Dial>+19005550100</Dial>&<Say>"
    for agent_id in ("reminder", "voice", "socket"):
        await carrier.outcome(
            call_to(agent_id=agent_id, dynamic_variables=json.dumps({"name": attack})), ScriptedLine()
        )
    heard = [[element.tag for element in call.document.iter()] for call in vendor.calls.values() if call.parent is None]
    assert heard == [
        ["Response", "Say"],
        ["Response", "Dial", "Sip"],
        ["Response", "Connect", "Stream", "Parameter"],
    ]
    said, _, socket = (call.document for call in vendor.calls.values() if call.parent is None)
    assert said[0].text == f"Hello {attack}."
    assert socket[0][0][0].attrib == {"name": "name", "value": attack}
    assert vendor.rung[0][0] == PERSON


@pytest.mark.parametrize("code", [21211, 21214, 21215, 21216, 21217, 21219, 573005])
async def test_a_number_that_cannot_be_called_is_never_dialled_again(
    vendor: Twilio, carrier: TwilioCarrier, code: int
) -> None:
    vendor.fault(400, code)
    outcome = await carrier.outcome(call_to(), ScriptedLine())
    assert (outcome.status, outcome.permanent, outcome.backend_status) == (TaskStatus.FAILED, True, str(code))


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, 20003), (403, 20003), (403, 20403), (400, 21210), (400, 21212), (400, 21213), (402, 0), (400, 10001)],
)
async def test_an_account_at_fault_fails_nobody(vendor: Twilio, carrier: TwilioCarrier, status: int, code: int) -> None:
    vendor.fault(status, code)
    with pytest.raises(AccountAtFault):
        await carrier.outcome(call_to(), ScriptedLine())
    assert vendor.rung == []


@pytest.mark.parametrize(
    ("status", "code", "retry_after", "waits"),
    [(429, 20429, None, 5), (429, 20429, 30, 30), (400, 10004, None, 5), (400, 22005, 1, 5), (429, 0, 7, 7)],
)
async def test_too_many_calls_are_placed_later(
    vendor: Twilio, carrier: TwilioCarrier, status: int, code: int, retry_after: int | None, waits: float
) -> None:
    vendor.fault(status, code, retry_after=retry_after)
    with pytest.raises(CarrierUnavailable) as later:
        await carrier.outcome(call_to(), ScriptedLine())
    assert (later.value.retry_after, later.value.whole_account) == (waits, True)
    assert vendor.rung == []


async def test_another_refusal_fails_one_call_in_twilios_words(vendor: Twilio, carrier: TwilioCarrier) -> None:
    vendor.fault(400, 20001)
    outcome = await carrier.outcome(call_to(), ScriptedLine())
    assert (outcome.status, outcome.permanent) == (TaskStatus.FAILED, False)
    assert "A fault" in str(outcome.error)


async def test_a_wrong_key_asks_for_nothing(vendor: Twilio, time: Time, tmp_path: Path) -> None:
    wrong = SecretStr("wrong_0123456789")
    async with carrier_of(vendor, time, tmp_path, secret=wrong) as carrier:
        for _ in range(100):
            with pytest.raises(AccountAtFault) as fault:
                await carrier.outcome(call_to(), ScriptedLine())
    assert (vendor.creates, len(vendor.requests)) == ([], 1)
    assert "wrong_0123456789" not in str(fault.value)
    assert KEY not in str(fault.value)


async def test_a_dropped_answer_is_looked_up_and_never_sent_again(vendor: Twilio, carrier: TwilioCarrier) -> None:
    vendor.place(PERSON).created -= timedelta(minutes=5)  # an older call between the same numbers
    vendor.drop_create_answer()
    vendor.lag = 2
    line = ScriptedLine()
    outcome = await carrier.outcome(call_to(), line)
    assert outcome.status == TaskStatus.COMPLETED
    assert len(vendor.creates) == 1
    assert line.did == ["held", "let go", list(vendor.calls)[-1]]
    looked = [one.query for one in vendor.requests if "To" in one.query]
    assert looked == [{"To": PERSON, "From": NUMBER, "PageSize": "50"}] * 3


async def test_a_call_that_twilio_made_before_its_error_is_found(vendor: Twilio, carrier: TwilioCarrier) -> None:
    vendor.fault(500, performed=True)
    outcome = await carrier.outcome(call_to(), ScriptedLine())
    assert (outcome.status, len(vendor.creates), len(vendor.rung)) == (TaskStatus.COMPLETED, 1, 1)


async def test_of_two_that_may_be_it_nobody_says_which(vendor: Twilio, carrier: TwilioCarrier) -> None:
    vendor.place(PERSON)
    vendor.drop_create_answer()
    outcome = await carrier.outcome(call_to(), ScriptedLine())
    assert (outcome.status, len(vendor.creates)) == (TaskStatus.INTERRUPTED, 1)


async def test_a_call_to_another_number_is_not_it(vendor: Twilio, carrier: TwilioCarrier, time: Time) -> None:
    vendor.place(PERSON[:-1] + "1")
    vendor.place(PERSON, CALLER_ID)
    assert await carrier.find(call_to(), time.now() - timedelta(hours=1)) == []


@pytest.mark.parametrize(
    "written",
    [
        lambda _moment: None,  # a queued call may have none yet
        lambda moment: format_datetime(moment.replace(tzinfo=None)),  # "-0000"
        lambda moment: moment.isoformat(),
    ],
    ids=["none", "without a zone", "iso"],
)
async def test_a_call_is_found_however_its_moment_is_written(
    vendor: Twilio, carrier: TwilioCarrier, written: Callable[[datetime], str | None]
) -> None:
    vendor.written = written
    vendor.drop_create_answer()
    outcome = await carrier.outcome(call_to(), ScriptedLine())
    assert (outcome.status, len(vendor.creates)) == (TaskStatus.COMPLETED, 1)


async def test_503_is_looked_up_once_then_placed_later(vendor: Twilio, carrier: TwilioCarrier) -> None:
    vendor.fault(503, retry_after=9)
    with pytest.raises(CarrierUnavailable) as later:
        await carrier.outcome(call_to(), ScriptedLine())
    assert later.value.retry_after == 9
    assert [len(vendor.creates), len([one for one in vendor.requests if "To" in one.query])] == [1, 1]


async def test_a_call_of_an_earlier_process_is_read_on_by_its_id(vendor: Twilio, carrier: TwilioCarrier) -> None:
    call = vendor.place(PERSON)
    outcome = await carrier.outcome(call_to(), ScriptedLine(call_id=call.sid))
    assert (outcome.status, vendor.creates) == (TaskStatus.COMPLETED, [])


async def test_a_call_of_an_earlier_process_without_its_id_is_looked_up(
    vendor: Twilio, carrier: TwilioCarrier, time: Time
) -> None:
    call = vendor.place(PERSON)
    line = ScriptedLine(asked_since=time.now())
    outcome = await carrier.outcome(call_to(), line)
    assert (outcome.status, vendor.creates, line.did) == (TaskStatus.COMPLETED, [], [call.sid])


async def test_nothing_leaves_after_a_pause(vendor: Twilio, carrier: TwilioCarrier) -> None:
    with pytest.raises(NoLongerWanted):
        await carrier.outcome(call_to(), ScriptedLine(refuses=NoLongerWanted()))
    assert vendor.creates == []


async def test_a_call_that_twilio_still_queues_does_not_ring_later(
    vendor: Twilio, carrier: TwilioCarrier, time: Time
) -> None:
    call = vendor.place(PERSON)
    call.path = ["queued"]
    outcome = await carrier.outcome(call_to(), ScriptedLine(call_id=call.sid, asked_since=time.now()))
    assert (outcome.status, call.status) == (TaskStatus.INTERRUPTED, "canceled")
    assert 90 <= time.elapsed <= 110


@pytest.mark.parametrize(("status", "ends"), [("ringing", "canceled"), ("in-progress", "completed"), ("busy", "busy")])
async def test_hanging_up_ends_a_call_in_any_state(
    vendor: Twilio, carrier: TwilioCarrier, status: str, ends: str
) -> None:
    call = vendor.place(PERSON)
    call.path = [status]
    await carrier.hang_up(call.sid)
    assert call.status == ends


async def test_why_a_call_failed_is_read_where_it_is_noted(vendor: Twilio, carrier: TwilioCarrier) -> None:
    vendor.error_code = "13224"
    outcome = await carrier.outcome(call_to(PERSON[:-1] + "9"), ScriptedLine())
    assert (outcome.status, outcome.permanent) == (TaskStatus.FAILED, True)
    assert outcome.error == "the number is not valid, or Twilio does not call it (13224)"
    vendor.error_code = "32102"
    outcome = await carrier.outcome(call_to(PERSON[:-1] + "9"), ScriptedLine())
    assert (outcome.permanent, outcome.error) == (False, "Dial: Invalid phone number (32102)")
    vendor.error_code = None
    outcome = await carrier.outcome(call_to(PERSON[:-1] + "9"), ScriptedLine())
    assert (outcome.permanent, outcome.error) == (False, "Twilio could not connect the call")


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_why_a_call_failed_need_not_be_readable(vendor: Twilio, carrier: TwilioCarrier, status: int) -> None:
    vendor.error_code = "13224"
    vendor.reads_notifications = status
    outcome = await carrier.outcome(call_to(PERSON[:-1] + "9"), ScriptedLine())
    assert (outcome.status, outcome.permanent) == (TaskStatus.FAILED, False)


async def test_a_call_that_failed_since_there_are_too_many_was_none(vendor: Twilio, carrier: TwilioCarrier) -> None:
    vendor.error_code = "10004"
    with pytest.raises(CarrierUnavailable, match="10004") as later:
        await carrier.outcome(call_to(PERSON[:-1] + "9"), ScriptedLine())
    assert (later.value.retry_after, later.value.whole_account) == (5, True)


CALL = {"status": "completed", "duration": "12", "price": "-0.0140", "price_unit": "USD"}


@pytest.mark.parametrize(
    ("call", "legs", "expected"),
    [
        ({**CALL, "price": None}, None, Outcome(TaskStatus.COMPLETED, duration_seconds=12, backend_status="completed")),
        (
            {**CALL, "answered_by": "fax", "price": "0"},
            None,
            Outcome(
                TaskStatus.VOICEMAIL,
                duration_seconds=12,
                answered_by="machine",
                backend_status="fax",
                cost=parse_money("0 USD"),
            ),
        ),
        (
            CALL,
            [{**CALL, "price": "-0.004"}],
            Outcome(
                TaskStatus.COMPLETED, duration_seconds=12, backend_status="completed", cost=parse_money("0.018 USD")
            ),
        ),
        (
            CALL,
            [{**CALL, "price": None}],
            Outcome(TaskStatus.COMPLETED, duration_seconds=12, backend_status="completed"),
        ),
        (
            {"status": "canceled", "duration": "0"},
            None,
            Outcome(TaskStatus.FAILED, "the call was cancelled at Twilio", permanent=True, backend_status="canceled"),
        ),
        ({"status": "Busy"}, None, Outcome(TaskStatus.BUSY, backend_status="busy")),
        (
            {"status": "vanished", "duration": "3"},
            None,
            Outcome(
                TaskStatus.COMPLETED,
                "Twilio says: vanished",
                duration_seconds=3,
                permanent=True,
                backend_status="vanished",
            ),
        ),
        (
            {"status": "vanished", "duration": "0"},
            None,
            Outcome(
                TaskStatus.FAILED,
                "Twilio says: vanished",
                duration_seconds=0,
                permanent=True,
                backend_status="vanished",
            ),
        ),
    ],
)
def test_what_a_call_that_is_over_came_to(
    call: dict[str, Any], legs: list[dict[str, Any]] | None, expected: Outcome
) -> None:
    assert outcome_of(call, legs) == expected


def test_a_reason_without_a_code_is_said_as_it_is() -> None:
    assert outcome_of({"status": "failed"}, reason=Reason(None, "no route")).error == "no route"
    assert outcome_of({"status": "failed"}, reason=Reason(None, None)).error == "Twilio could not connect the call"


# The account.


async def test_the_account_has_its_voice_numbers_and_the_agents_of_the_file(carrier: TwilioCarrier) -> None:
    account = await carrier.account()
    assert account.numbers == (
        CallerNumber(from_number=NUMBER, name="Main line"),
        CallerNumber(from_number=CALLER_ID, name="(415) 555-0102"),
    )
    assert account.agents is not None
    assert [(agent.agent_id, agent.name, agent.variables, agent.begins) for agent in account.agents] == [
        ("reminder", "Reminder", ("name",), "Hello {{name}}."),
        ("looking", None, (), "Hello."),
        ("leaving", None, (), None),
        ("voice", None, None, None),
        ("socket", None, None, None),
    ]


@pytest.mark.parametrize("status", [403, 404])
async def test_numbers_that_may_not_be_read_are_not_known(vendor: Twilio, carrier: TwilioCarrier, status: int) -> None:
    vendor.reads_numbers = status
    assert (await carrier.account()).numbers is None
    assert (await carrier.outcome(call_to(), ScriptedLine())).status == TaskStatus.COMPLETED


async def test_without_a_list_of_verified_numbers_the_bought_ones_are_known(
    vendor: Twilio, carrier: TwilioCarrier
) -> None:
    vendor.reads_caller_ids = 404
    assert (await carrier.account()).numbers == (CallerNumber(from_number=NUMBER, name="Main line"),)


async def test_the_numbers_are_read_page_by_page(vendor: Twilio, carrier: TwilioCarrier) -> None:
    vendor.bought = [(f"+1415556{number:04}", f"Line {number}", True) for number in range(2500)]
    account = await carrier.account()
    assert account.numbers is not None
    assert len(account.numbers) == 2501
    pages = [one.query for one in vendor.requests if "IncomingPhoneNumbers" in one.path]
    assert pages == [
        {"PageSize": "1000"},
        {"PageSize": "1000", "Page": "1", "PageToken": "PA1"},
        {"PageSize": "1000", "Page": "2", "PageToken": "PA2"},
    ]


@pytest.mark.parametrize(
    ("attempt", "fault", "said"),
    [
        (call_to(from_number="+14155550199"), AccountAtFault, "caller number"),
        (call_to(from_number=SMS_NUMBER), AccountAtFault, "caller number"),
        (call_to(agent_id="nobody"), AccountAtFault, "The agent is not in the agents file."),
        (call_to(agent_id=None), AccountAtFault, "An agent is needed."),
        (call_to(dynamic_variables=None), NotCallable, "needs name"),
        (call_to(dynamic_variables='{"name":" "}'), NotCallable, "needs name"),
        (call_to(dynamic_variables=json.dumps({"name": "x" * 201})), NotCallable, "200 characters"),
        (call_to("+19005550123"), NotCallable, ""),
        (call_to("+911"), NotCallable, ""),
        (call_to("+442079460000"), NotCallable, ""),
    ],
)
async def test_what_cannot_be_called_is_not_asked_for(
    vendor: Twilio, carrier: TwilioCarrier, attempt: Attempt, fault: type[Exception], said: str
) -> None:
    with pytest.raises(fault) as refused:
        await carrier.outcome(attempt, ScriptedLine())
    assert said in str(refused.value)
    assert attempt.to_number not in str(refused.value)
    assert vendor.creates == []


def test_the_account_that_pays_is_named_without_its_sid(tmp_path: Path) -> None:
    assert TwilioCarrier(config_of(tmp_path)).payer == "the Twilio account AC…cdef"
    for url, payer in (
        ("https://api.dublin.ie1.twilio.com", "the Twilio account AC…cdef"),
        ("https://clinic.signalwire.com/api/laml", "the SignalWire account AC…cdef"),
        ("http://127.0.0.1:8099", "the Twilio account AC…cdef at 127.0.0.1"),
        ("https://twilio.com.example.net", "the Twilio account AC…cdef at twilio.com.example.net"),
    ):
        assert TwilioCarrier(config_of(tmp_path, url=url)).payer == payer
    assert TwilioCarrier(config_of(tmp_path, key=SecretStr("short"))).payer == (
        "the Twilio account of BATCHCALL_CARRIER_KEY"
    )


def test_the_key_is_in_no_repr(tmp_path: Path) -> None:
    carrier = TwilioCarrier(config_of(tmp_path))
    assert SECRET not in repr(carrier) + repr(carrier.config)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"secret": None}, "BATCHCALL_CARRIER_SECRET is not set"),
        ({"agents": None}, "BATCHCALL_AGENTS is not set"),
        ({"agents": Path("/nowhere/agents.toml")}, "BATCHCALL_AGENTS: /nowhere/agents.toml cannot be read"),
    ],
)
def test_what_is_missing_is_named_at_the_start(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        TwilioCarrier(config_of(tmp_path, **more))


# SignalWire.


async def test_signalwire_is_another_address_with_other_ids(time: Time, tmp_path: Path) -> None:
    project, prefix = str(uuid4()), "/api/laml"
    vendor = Twilio(key=project, prefix=prefix, new_id=lambda: str(uuid4()))
    vendor.reads_caller_ids = 404
    async with (
        vendor.served() as vendor.url,
        carrier_of(vendor, time, tmp_path, key=SecretStr(project)) as carrier,
    ):
        line = ScriptedLine()
        assert (await carrier.outcome(call_to(), line)).status == TaskStatus.COMPLETED
        assert line.did[-1] in vendor.calls
        assert vendor.creates[0].path == f"{prefix}/2010-04-01/Accounts/{project}/Calls.json"


# What Twilio reports by itself.


def test_keys_that_could_not_be_believed_are_refused_at_the_start(tmp_path: Path) -> None:
    """SignalWire signs with another key than the token: an opt-out would be lost."""
    url = "https://clinic.signalwire.com/api/laml"
    with_keys = config_of(tmp_path, WITH_KEYS, url=url, public_url="https://calls.example.com")
    with pytest.raises(ConfigurationError, match=r"\[asking\] keys: SignalWire signs .* Remove the keys"):
        TwilioCarrier(with_keys)
    TwilioCarrier(config_of(tmp_path, url=url, public_url="https://calls.example.com"))


async def test_keys_are_asked_for_only_with_a_public_address(vendor: Twilio, time: Time, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"\[asking\] keys: .* BATCHCALL_PUBLIC_URL is not set"):
        TwilioCarrier(config_of(tmp_path, WITH_KEYS))
    async with carrier_of(vendor, time, tmp_path, WITH_KEYS, public_url=f"{PUBLIC_URL}/") as carrier:
        await carrier.outcome(call_to(agent_id="asking"), ScriptedLine())
    assert only(vendor)["StatusCallback"] == [f"{PUBLIC_URL}/carriers/twilio"]
    (gather,) = next(iter(vendor.calls.values())).document
    assert (gather.tag, gather.get("action"), gather[0].text) == ("Gather", KEYS_URL, "Press 1.")


KEYS_URL = f"{PUBLIC_URL}/carriers/twilio"


def keyed(folder: Path) -> TwilioCarrier:
    return TwilioCarrier(config_of(folder, WITH_KEYS, public_url=PUBLIC_URL))


FIELDS = {"CallSid": "CA123", "From": NUMBER, "To": PERSON, "Digits": "9", "Empty": "", "Caller": "Ä & Ö"}


def test_a_signature_is_over_the_address_and_all_fields(tmp_path: Path) -> None:
    carrier, vendor = keyed(tmp_path), Twilio()
    body = urlencode(FIELDS).encode()
    signature = vendor.signature(KEYS_URL, FIELDS)
    assert carrier.verify({"x-twilio-signature": signature}, body, KEYS_URL)
    for address in (KEYS_URL.replace(".com", ".com:443"), KEYS_URL.replace(".com", ".com:8443")):
        with_port = vendor.signature(address, FIELDS)
        assert carrier.verify({"x-twilio-signature": with_port}, body, address)
    queried = f"{KEYS_URL}?a=b&c"
    assert carrier.verify({"x-twilio-signature": vendor.signature(queried, FIELDS)}, body, queried)


def test_the_example_of_twilios_pages_is_accepted(tmp_path: Path) -> None:
    """twilio.com/docs/usage/webhooks/webhooks-security, "12345" as the token."""
    url = "https://mycompany.com/myapp.php?foo=1&bar=2"
    fields = {
        "CallSid": "CA1234567890ABCDE",
        "Caller": "+12349013030",
        "Digits": "1234",
        "From": "+12349013030",
        "To": "+18005551212",
    }
    carrier = TwilioCarrier(config_of(tmp_path, secret=SecretStr("12345")))
    given = {"x-twilio-signature": "0/KCTR6DLpKmkAf8muzZqo1nDgQ="}
    assert carrier.verify(given, urlencode(fields).encode(), url)


@pytest.mark.parametrize(
    "given", [{}, {"x-twilio-signature": ""}, {"x-twilio-signature": "ä"}, {"x-twilio-signature": "AAAA"}]
)
def test_what_is_not_signed_is_not_twilios(tmp_path: Path, given: dict[str, str]) -> None:
    assert not keyed(tmp_path).verify(given, urlencode(FIELDS).encode(), KEYS_URL)


@pytest.mark.parametrize(
    "body",
    [
        urlencode({**FIELDS, "Digits": "1"}).encode(),
        urlencode({**FIELDS, "More": "x"}).encode(),
        urlencode([*FIELDS.items(), ("Digits", "1")]).encode(),
        b"",
        b"\xff\xfe",
    ],
)
def test_a_changed_body_is_not_twilios(tmp_path: Path, body: bytes) -> None:
    signature = Twilio().signature(KEYS_URL, FIELDS)
    assert not keyed(tmp_path).verify({"x-twilio-signature": signature}, body, KEYS_URL)


def test_a_body_names_its_call_and_what_was_pressed(tmp_path: Path) -> None:
    carrier = keyed(tmp_path)
    body = urlencode(FIELDS).encode()
    assert carrier.named(body) == ["CA123"]
    assert carrier.key_press(body) == KeyPress(call_id="CA123", from_number=NUMBER, to_number=PERSON, keys="9")
    for other in (b"", b"\xff", b"Digits=1", b"CallSid=CA123", b"CallSid=CA123&Digits="):
        assert carrier.key_press(other) is None
    assert carrier.named(b"Digits=1") == []


def test_a_key_means_what_the_file_says(tmp_path: Path) -> None:
    carrier = keyed(tmp_path)
    assert carrier.meaning("asking", "1") == "confirmed"
    assert carrier.meaning("asking", "9") == "do_not_call"
    assert carrier.meaning("asking", "5") is None
    assert carrier.meaning("other", "9") is None
    assert [carrier.meaning(agent, "9") for agent in (None, "gone")] == ["do_not_call"] * 2
    assert [carrier.meaning(agent, "1") for agent in (None, "gone")] == [None] * 2
    assert carrier.reply("asking", "1") == carrier.reply(None, "5") == "<Response><Hangup /></Response>"


async def test_what_a_call_says_of_itself(vendor: Twilio, carrier: TwilioCarrier) -> None:
    done, failed = vendor.place(PERSON), vendor.place(PERSON[:-1] + "9")
    failed.error_code = "13224"
    for call in (done, failed):
        call.path = call.path[-1:]
    assert await carrier.details(done.sid) == CallDetails(ended_reason="completed")
    assert await carrier.details(failed.sid) == CallDetails(ended_reason="Dial: Invalid phone number")
