"""What an adversary found about real phones: who pays, who is rung for it, and what a vendor's words may do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from batchcall_mcp.backends.rest_api.account import _account as account_of
from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Attempt,
    Carrier,
    CarrierUnavailable,
    Line,
    Outcome,
)
from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig, Progress, Seen
from batchcall_mcp.dialer.carriers.vendors.bland import BlandCarrier
from batchcall_mcp.dialer.carriers.vendors.elevenlabs.call_outcomes import outcome_of as elevenlabs_outcome
from batchcall_mcp.dialer.carriers.vendors.retell import RetellCarrier
from batchcall_mcp.dialer.carriers.vendors.twilio.call_outcomes import outcome_of as twilio_outcome
from batchcall_mcp.dialer.carriers.vendors.vapi.call_outcomes import outcome_of as vapi_outcome
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.money import Money, parse_money, total
from batchcall_mcp.recipients.phone.destinations import allowed_countries, problem
from batchcall_mcp.vendor_http.client import may_go_to
from tests.carriers.scripted import (
    KEY,
    ScriptedCarrier,
    ScriptedLine,
    ScriptedVendor,
    Time,
    attempt_to,
    config_for,
)
from tests.dialer.carriers.phones import AGENT, CALLER, Phones
from tests.walks.stage import ALWAYS, NEW_YORK, Model, Person, number, playing

PERSON = "+12125550123"


class Paid(Phones):
    """An account of its own for each key."""

    def __init__(self, payer: str) -> None:
        super().__init__()
        self.payer = payer


class Bare:
    """A carrier of others, without an account."""

    name = "bare"
    title = "Bare wires"
    places_real_calls = True
    capacity = 10
    calls_per_second: float | None = None
    calls_outlive_us = True

    def dial(self, attempt: Attempt) -> None:
        return

    async def outcome(self, attempt: Attempt, line: Line) -> Outcome:
        return Outcome(TaskStatus.COMPLETED)


def phones(config: CarrierConfig) -> Phones:
    return Paid(f"the account {config.key.get_secret_value()[:1]}…")


def bare(config: CarrierConfig) -> Carrier:
    return Bare()


@pytest.fixture
def installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two distributions with an entry point each."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "adverse-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: adverse\nVersion: 1.0\n")
    points = f"[batchcall_mcp.carriers]\nphones = {__name__}:phones\nbare = {__name__}:bare\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(folder)


def real(folder: Path, key: str = "A-key", **more: Any) -> dict[str, Any]:
    return {"data_dir": folder, "carrier": "phones", "carrier_key": key, "calling_hours": "00:00-24:00", **more}


def wanted(**more: Any) -> dict[str, Any]:
    tasks = [{"to_number": number(NEW_YORK, 0), "dynamic_variables": {"first_name": "Ann"}}]
    return {"from_number": CALLER, "agent_id": AGENT, "tasks": tasks, "window": ALWAYS, **more}


# The question.


@pytest.mark.usefixtures("installed")
async def test_a_yes_to_one_account_is_no_yes_to_another_one(tmp_path: Path) -> None:
    """Asked while account A pays; the settings are changed, and the code comes to a process on account B."""
    async with playing("auto", confirm="code", **real(tmp_path, "A-key")) as model:
        made = await model.call("create_batch_call", **wanted())
        named = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        asked = await model.call("start_batch_call", **named, trigger_timestamp="now")
        assert "the account A… pays" in json.dumps(asked, ensure_ascii=False)
    async with playing("auto", confirm="code", **real(tmp_path, "B-key")) as model:
        code = asked["confirmation_code"]
        again = await model.call("start_batch_call", **named, trigger_timestamp="now", confirmation_code=code)
        assert again["result"] == "confirmation_required", again["summary"]
        assert "the account B… pays" in json.dumps(again, ensure_ascii=False)
        code = again["confirmation_code"]
        started = await model.call("start_batch_call", **named, trigger_timestamp="now", confirmation_code=code)
        assert started["result"] == "started"


@pytest.mark.usefixtures("installed")
async def test_the_question_says_that_real_phones_ring_also_where_nobody_is_known_to_pay(tmp_path: Path) -> None:
    person = Person("no")
    async with playing("auto", person, **real(tmp_path, carrier="bare")) as model:
        made = await model.call("create_batch_call", **wanted())
        named = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await model.refused("start_batch_call", "not_confirmed", **named, trigger_timestamp="now")
    assert "Real phones ring" in person.questions[0]


@pytest.mark.usefixtures("installed")
async def test_a_list_that_was_rehearsed_can_be_made_for_real_phones(tmp_path: Path) -> None:
    """And is not taken for the rehearsal, which no process with real phones ever starts; nor the other way round."""
    ids = []
    for settings in ({"data_dir": tmp_path}, real(tmp_path), {"data_dir": tmp_path}, real(tmp_path)):
        async with playing("auto", Person(), **{**settings, "calling_hours": "00:00-24:00"}) as model:
            made = await model.call("create_batch_call", **wanted())
            ids.append(made["batch_call"]["batch_call_id"])
            again = await model.call("create_batch_call", **wanted())
            assert again["batch_call"]["batch_call_id"] == ids[-1]
    assert ids[0] == ids[2] != ids[1] == ids[3]
    async with playing("auto", Person(), **real(tmp_path)) as model:
        started = await model.call("start_batch_call", batch_call_id=ids[1], trigger_timestamp="now")
    assert started["result"] == "started"


@pytest.mark.usefixtures("installed")
async def test_calls_of_a_rehearsal_count_for_no_real_ones(tmp_path: Path) -> None:
    """Somebody whom the simulator has "called" three times today may be called; a real call counts for the next one."""

    async def called(model: Model, name: str) -> str:
        made = await model.call("create_batch_call", **wanted(name=name))
        named = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        shown = await model.call("get_batch_call", **named)
        if shown["batch_call"].get("held_back"):
            return "held back"
        await model.call("start_batch_call", **named, trigger_timestamp="now")
        for _ in range(3):
            watched = await model.call("watch_batch_call", **named, timeout_seconds=5)
        return str(watched["batch_call"]["status"])

    fast: dict[str, Any] = {"data_dir": tmp_path, "simulated_speed": 10_000, "calling_hours": "00:00-24:00"}
    async with playing("auto", Person(), **fast) as model:
        assert [await called(model, f"rehearsal {n}") for n in range(4)] == ["completed"] * 3 + ["held back"]
    async with playing("auto", Person(), **real(tmp_path)) as model:
        assert [await called(model, f"real {n}") for n in range(2)] == ["completed", "held back"]


@pytest.mark.usefixtures("installed")
async def test_the_key_of_a_rehearsal_is_not_taken_for_one_of_real_phones(tmp_path: Path) -> None:
    async with playing("auto", Person(), data_dir=tmp_path) as model:
        await model.call("create_batch_call", **wanted(), idempotency_key="once")
    async with playing("auto", Person(), **real(tmp_path)) as model:
        text = await model.refused("create_batch_call", "invalid_input", **wanted(), idempotency_key="once")
    assert "idempotency_key" in text


def test_two_keys_of_one_vendor_are_two_accounts_in_the_question() -> None:
    """Else a yes to one of them would hold for the other one; and nothing of a key is shown."""
    keys = ("key_0123456789abcdef0123", "key_0123456789abcdef0124")
    carriers = [RetellCarrier(CarrierConfig(key=SecretStr(key))) for key in keys]
    first, second = (carrier.payer for carrier in carriers)
    assert first != second
    assert first == RetellCarrier(CarrierConfig(key=SecretStr(keys[0]))).payer
    assert first != RetellCarrier(CarrierConfig(key=SecretStr(keys[0]), url="https://eu.example.com")).payer
    assert "0123" not in first


# Numbers that cost a fortune.


@pytest.mark.parametrize(
    "dear",
    [
        "+447012345678",  # a personal number of the United Kingdom: as dear as the one that it leads to
        "+12129761234",  # the exchange of pay-per-call services, which libphonenumber takes for a fixed line
        "+14165551212",  # directory assistance is paid for
        "+12125551212",
        "+16002345678",  # Canada's numbers for satellites
    ],
)
def test_numbers_that_only_look_ordinary_are_refused(dear: str) -> None:
    assert problem(dear, {"GB", "US", "CA"}) is not None


@pytest.mark.parametrize(
    "plain", ["+12125550123", "+12129775555", "+14155551213", "+447400123456", "+15005550006", "+60123456789"]
)
def test_their_neighbours_are_called(plain: str) -> None:
    assert problem(plain, {"GB", "US", "CA", "MY"}) is None


def test_caller_numbers_without_a_plus_say_their_country_too() -> None:
    """As some vendors list them: otherwise nobody at all could be called from such an account."""
    assert allowed_countries(None, ["14155550123", "+442079460958"], CALLER) == {"US", "GB"}


# A vendor's words.

NASTY = f'<script>x</script> IGNORE {PERSON} {KEY} \x1b[31m "now"'


class Talkative(ScriptedCarrier):
    """What it returns from a look is an exception with the vendor's words."""

    fault: type[AccountAtFault | CarrierUnavailable] = AccountAtFault

    async def look(self, call_id: str, attempt: Attempt) -> Seen:
        return self.fault(f"The vendor says {NASTY}")


@pytest.mark.parametrize("fault", [AccountAtFault, CarrierUnavailable])
async def test_words_of_a_call_that_nobody_was_rung_for_are_made_harmless(
    fault: type[AccountAtFault | CarrierUnavailable],
) -> None:
    time = Time()
    async with ScriptedVendor().served() as vendor:
        carrier = Talkative(config_for(vendor.url), clock=time.clock, sleep=time.sleep, now=time.now)
        carrier.fault = fault
        with pytest.raises(fault) as raised:
            await carrier.outcome(attempt_to(PERSON), ScriptedLine())
        await carrier.aclose()
    said = str(raised.value)
    assert KEY not in said
    assert PERSON not in said
    assert "<" not in said
    assert said.isprintable()


# Who was talked to is not rung again.


def test_a_call_at_vapi_that_lasted_was_rung_whatever_word_it_ends_with() -> None:
    times = {"startedAt": "2026-03-02T15:00:00Z", "endedAt": "2026-03-02T15:00:20Z"}
    for word in ("assistant-request-failed", "assistant-not-found"):
        found = vapi_outcome({"status": "ended", "endedReason": word, **times})
        assert isinstance(found, Outcome), word
        assert found.permanent
        assert found.duration_seconds == 20


async def test_a_call_at_bland_that_lasted_was_rung_whatever_it_says_of_money() -> None:
    call = {
        "call_id": "c1",
        "completed": True,
        "queue_status": "error",
        "status": "failed",
        "error_message": "insufficient balance",
        "corrected_duration": "20",
    }
    carrier = BlandCarrier(CarrierConfig(key=SecretStr("bland-key-0123456789")))

    async def read(*_: Any, **__: Any) -> Any:
        return call

    carrier.read = read  # type: ignore[method-assign]
    seen = await carrier.look("c1", attempt_to(PERSON))
    await carrier.aclose()
    assert isinstance(seen, Outcome)
    assert seen.permanent


def test_a_conversation_at_elevenlabs_that_lasted_was_neither_busy_nor_unanswered() -> None:
    for words in ("the model is busy", "no answer from the tool"):
        found = elevenlabs_outcome(
            {"status": "failed", "metadata": {"call_duration_secs": 35, "termination_reason": words}}
        )
        assert found is not None
        assert found.status not in {TaskStatus.BUSY, TaskStatus.NO_ANSWER}
        assert found.permanent


# Who does not want to be called again.


async def test_an_opt_out_at_retell_that_comes_a_moment_after_the_end_is_not_lost() -> None:
    """`disconnection_reason` is optional: a call may be `ended` in one read, and say why only in the next one."""
    ended = {"call_id": "c1", "call_status": "ended", "duration_ms": 20_000}
    answers = [ended, {**ended, "disconnection_reason": "user_requested_dnc"}]
    carrier = RetellCarrier(CarrierConfig(key=SecretStr("retell-key-0123456789")))

    async def read(*_: Any, **__: Any) -> Any:
        return answers.pop(0)

    carrier.read = read  # type: ignore[method-assign]
    assert await carrier.look("c1", attempt_to(PERSON)) is Progress.GOING
    seen = await carrier.look("c1", attempt_to(PERSON))
    await carrier.aclose()
    assert isinstance(seen, Outcome)
    assert seen.opted_out


# Money.


def test_what_two_legs_cost_can_be_read_again_whatever_a_vendor_says() -> None:
    most = {"status": "completed", "duration": "9", "price": "-999999999", "price_unit": "USD"}
    found = twilio_outcome(most, [most])
    costs = [] if found.cost is None else [(str(found.cost), 1)]
    total(costs)
    assert all(isinstance(parse_money(text), Money) for text, _ in costs)


# A server that talks too much.


def test_what_an_account_says_of_itself_floods_neither_the_question_nor_the_model() -> None:
    words = "no phone rings " * 1000
    data = {"places_real_calls": True, "payer": words, "notes": [words] * 1000, "numbers": [], "agents": []}
    account = account_of({"data": data})
    assert len(account.payer or "") <= 100
    assert sum(map(len, account.notes)) < 10_000


# Addresses that a vendor names.


@pytest.mark.parametrize(
    "inside",
    [
        "https://localhost./x",
        "https://vapi.localhost/x",
        "https://2130706433/x",
        "https://0x7f000001/x",
        "https://127.1/x",
        "https://0177.0.0.1/x",
        "https://metadata.google.internal/x",
        "https://printer.local/x",
        "https://intranet/x",
    ],
)
def test_no_request_goes_into_our_own_network_however_it_is_spelled(inside: str) -> None:
    assert not may_go_to(inside, "https://api.vapi.ai")


def test_an_address_of_the_vendor_is_asked() -> None:
    assert may_go_to("https://phone-call-websocket.aws-us-west-2.vapi.ai/x", "https://api.vapi.ai")
    assert may_go_to("http://127.0.0.1:8080/x", "http://127.0.0.1:8080")
    assert may_go_to("https://8.8.8.8/x", "https://api.vapi.ai")
