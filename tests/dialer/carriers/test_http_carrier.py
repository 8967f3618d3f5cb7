"""A carrier over an API, against a vendor on a real socket: nobody is asked for twice, and no id is lost."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from batchcall_mcp.dialer.carriers import vendor_api
from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Attempt,
    CallDetails,
    Carrier,
    CarrierAccount,
    CarrierUnavailable,
    HasAccount,
    Line,
    NoLongerWanted,
    NotCallable,
    Outcome,
)
from batchcall_mcp.dialer.carriers.http_carrier import HttpCarrier, Seen
from batchcall_mcp.dialer.carriers.vendor_api import CREATE_S, READ_S, STALE_S, Refused
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.vendor_http import client
from batchcall_mcp.vendor_http.http_call import HttpCall
from tests.carriers.scripted import (
    BEGIN,
    KEY,
    SECRET,
    Placed,
    ScriptedCarrier,
    ScriptedLine,
    ScriptedVendor,
    Step,
    Time,
    attempt_to,
    config_for,
)
from tests.dialer.certificates import authority_and_server
from tests.faults.server import Answerer, answer, endless, exactly, hang_up, listening, read_request, reset, time_passes

NUMBER = "+12125550123"
TALKED = Outcome(TaskStatus.COMPLETED, "as the vendor has it", backend_status="completed")


@asynccontextmanager
async def carrier_of(
    vendor: ScriptedVendor, time: Time | None = None, kind: type[ScriptedCarrier] = ScriptedCarrier, **more: Any
) -> AsyncIterator[ScriptedCarrier]:
    time = time or Time()
    carrier = kind(config_for(vendor.url, **more), clock=time.clock, sleep=time.sleep, now=time.now)
    try:
        yield carrier
    finally:
        await carrier.aclose()


async def outcome_of(
    vendor: ScriptedVendor,
    line: ScriptedLine | None = None,
    time: Time | None = None,
    attempt: Attempt | None = None,
    **more: Any,
) -> Outcome:
    async with carrier_of(vendor, time, **more) as carrier:
        return await carrier.outcome(attempt or attempt_to(NUMBER), line or ScriptedLine())


def pauses(time: Time) -> list[float]:
    """The pauses between looks, without the short ones of the pace of reads."""
    return [round(pause, 3) for pause in time.slept if pause >= 0.5]


async def silence(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """No answer within any limit."""
    time_passes(CREATE_S + 1)
    await reader.read()


CUT_SHORT = exactly(b'HTTP/1.1 201 X\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"id": "call_')


# What it offers.


def test_it_offers_what_the_engine_and_the_api_ask_of_a_carrier() -> None:
    carrier: Carrier = ScriptedCarrier(config_for(None))
    line: Line = ScriptedLine()
    assert line.call_id is None
    assert isinstance(carrier, HasAccount)
    assert (carrier.capacity, carrier.calls_per_second) == (7, 1.0)
    assert carrier.places_real_calls
    assert carrier.calls_outlive_us
    carrier = ScriptedCarrier(config_for(None, concurrency=3, calls_per_second=0.5))
    assert (carrier.capacity, carrier.calls_per_second) == (3, 0.5)
    assert KEY not in carrier.payer


@pytest.mark.parametrize("setting", ["key", "secret"])
def test_a_key_that_cannot_stand_in_a_header_is_refused_without_showing_it(setting: str) -> None:
    with pytest.raises(ConfigurationError, match=f"BATCHCALL_CARRIER_{setting.upper()} contains white space") as caught:
        ScriptedCarrier(config_for(None, **{setting: SecretStr("a secret\n")}))
    assert "a secret" not in caught.value.message


def test_a_vendor_without_lists_webhooks_or_a_stop_leaves_out_their_hooks() -> None:
    class Plain(HttpCarrier):
        name, title, default_url = "plain", "Plain", "https://api.plain.example"

    async def answers() -> None:
        assert await carrier.account() == CarrierAccount(numbers=None, agents=None)
        await carrier.hang_up("call_1")

    carrier = Plain(config_for(None))
    asyncio.run(answers())
    assert carrier.auth() == {"authorization": f"Bearer {KEY}"}
    assert not carrier.verify({}, b"", "https://here.example")
    assert carrier.named(b"{}") == ()
    assert carrier.told("call_1", b"{}") is None
    carrier.heard("call_1")  # before and after its event loop


# A new call.


async def test_a_call_is_asked_for_once_while_it_is_held_and_read_until_it_is_over() -> None:
    async with ScriptedVendor("queued", "going", "completed").served() as vendor:
        line, time = ScriptedLine(), Time()
        vendor.during = line.did.append
        assert await outcome_of(vendor, line, time) == TALKED
    assert line.did.index("held") < line.did.index("create") < line.did.index("call_1")
    assert line.did.index("let go") < line.did.index("call_1")
    assert line.did.count("create") == 1
    assert pauses(time) == [1, 2, 3]


async def test_the_batch_call_is_held_until_the_vendor_has_begun_to_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written may be on its way when a pause answers: the vendor would see it after that."""
    monkeypatch.setattr(vendor_api, "ARRIVES_S", 60)
    async with ScriptedVendor("completed").served() as vendor:
        line = ScriptedLine()
        vendor.during = line.did.append
        assert await outcome_of(vendor, line) == TALKED
    assert line.did[line.did.index("held") :][:4] == ["held", "create", "let go", "call_1"]


async def test_a_vendor_that_does_not_answer_does_not_hold_the_batch_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor_api, "ARRIVES_S", 0)
    async with ScriptedVendor("completed").served() as vendor:
        vendor.goes_wrong("create", lambda reader, _writer: ignored(reader), done=True)
        line = ScriptedLine()
        async with carrier_of(vendor) as carrier:
            call = asyncio.ensure_future(carrier.outcome(attempt_to(NUMBER), line))
            await until(lambda: "let go" in line.did)
            assert not call.done()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call


async def test_a_request_goes_out_on_a_connection_of_its_own() -> None:
    async with ScriptedVendor("completed").served() as vendor:
        await outcome_of(vendor)
    (create,) = vendor.asked("create")
    assert create.json == {"to": NUMBER, "from": "+12125550100", "attempt": f"task_{'0' * 32}:1"}
    assert create.is_json
    assert create.credentials == f"Bearer {KEY}"


async def test_later_looks_are_every_three_seconds_and_after_a_minute_every_five() -> None:
    time = Time()
    moments: list[float] = []
    async with ScriptedVendor(*["going"] * 30, "completed").served() as vendor:
        vendor.during = lambda kind: moments.append(time.elapsed) if kind == "look" else None
        await outcome_of(vendor, time=time)
    looks = pauses(time)
    early = sum(moment < 60 for moment in moments) - 1
    assert looks == [1, 2, *[3] * early, *[5] * (31 - 2 - early)]
    assert 18 <= early <= 21


async def test_nothing_leaves_once_the_engine_refuses() -> None:
    async with ScriptedVendor().served() as vendor:
        line = ScriptedLine(refuses=NoLongerWanted("paused"))
        with pytest.raises(NoLongerWanted):
            await outcome_of(vendor, line)
    assert vendor.asked("create") == []
    assert line.did == []


async def test_through_a_proxy_it_is_the_request_that_is_held_and_not_the_tunnel(tmp_path: Path) -> None:
    trusting, serving = authority_and_server(tmp_path, "api.scripted.example")
    line = ScriptedLine()
    seen: list[tuple[str, list[str]]] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(((await read_request(reader)).method, list(line.did)))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await writer.start_tls(serving)
        seen.append(((await read_request(reader)).method, line.did[:1]))
        await answer(201, '{"id": "call_1"}')(reader, writer)

    async with listening(proxy) as url, carrier_of(ScriptedVendor()) as carrier:
        await carrier._api._fresh.aclose()
        carrier._api._fresh = httpx2.AsyncClient(verify=trusting, proxy=url)
        call = HttpCall("POST", "/calls", json={})
        carrier._api._base_url = "https://api.scripted.example"
        assert await carrier._api.create(call, line, ()) == {"id": "call_1"}
    assert seen == [("CONNECT", []), ("POST", ["held"])]
    assert line.did == ["held", "let go"]


async def test_what_the_engine_lets_wait_is_not_asked_for_on_a_stale_connection() -> None:
    async with ScriptedVendor().served() as vendor:
        line = ScriptedLine(on_sending=lambda: time_passes(STALE_S + 1))
        with pytest.raises(CarrierUnavailable, match="stood open for too long") as caught:
            await outcome_of(vendor, line)
    assert (caught.value.retry_after, caught.value.whole_account) == (5.0, False)
    assert vendor.asked("create") == []
    assert line.did == ["held", "let go"]


async def test_what_the_engine_lets_wait_for_its_turn_has_its_whole_time_after_that() -> None:
    async with ScriptedVendor("completed").served() as vendor:
        line = ScriptedLine(on_sending=lambda: time_passes(STALE_S - 1))
        vendor.during = lambda kind: time_passes(CREATE_S - 1) if kind == "create" else None
        assert await outcome_of(vendor, line) == TALKED


async def test_what_fails_in_the_engine_after_the_request_left_loses_no_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(ScriptedLine):
        @asynccontextmanager
        async def sending(self) -> AsyncIterator[None]:
            yield
            raise OSError("the database is away")

        async def placed(self, call_id: str) -> None:
            raise OSError("the database is away")

    async with ScriptedVendor("completed").served() as vendor:
        assert await outcome_of(vendor, Broken()) == TALKED
    assert len(vendor.asked("create")) == 1
    assert "could not be stored" in caplog.text
    assert "could not be let go" in caplog.text


# A no to a create.


async def test_a_vendor_says_what_its_own_no_means() -> None:
    async with ScriptedVendor().served() as vendor:
        vendor.goes_wrong("create", answer(400, json.dumps({"message": f"{NUMBER} is blocked, key {KEY}"})))
        outcome = await outcome_of(vendor)
    assert outcome.status == TaskStatus.FAILED
    assert outcome.permanent
    assert outcome.error == 'Refused. Scripted said: "[redacted] is blocked, key [redacted]"'
    assert vendor.asked("find") == []


async def test_a_key_is_not_shown_in_the_form_that_its_header_has() -> None:
    class Basic(ScriptedCarrier):
        def auth(self) -> Mapping[str, str]:
            return {"authorization": "Basic QUMwOnRvaw=="}

    async with ScriptedVendor().served() as vendor, carrier_of(vendor, kind=Basic) as carrier:
        with pytest.raises(AccountAtFault, match=r"wrong key: Basic \[redacted\]"):
            await carrier.account()


@pytest.mark.parametrize("status", [400, 409, 422])
async def test_another_no_is_a_failed_call_in_the_vendors_harmless_words(status: int) -> None:
    async with ScriptedVendor().served() as vendor:
        vendor.goes_wrong("create", answer(status, '{"message": "no <b>way</b>"}'))
        outcome = await outcome_of(vendor)
    assert outcome == Outcome(TaskStatus.FAILED, f'Scripted refused the call (HTTP {status}). Scripted said: "no way"')
    assert (len(vendor.asked("create")), vendor.asked("find")) == (1, [])


async def test_a_no_inside_a_success_is_the_vendors_to_explain() -> None:
    async with ScriptedVendor().served() as vendor:
        vendor.created = lambda _call: {"refused": f"no credit for {KEY}"}
        assert await outcome_of(vendor) == Outcome(TaskStatus.FAILED, "no credit for [redacted]")
        vendor.created = lambda _call: {"later": True}
        with pytest.raises(CarrierUnavailable, match="too many calls at once"):
            await outcome_of(vendor)


@pytest.mark.parametrize("status", [401, 402, 403, 404, 405])
async def test_the_account_is_at_fault_and_nobody_is_failed(status: int) -> None:
    async with ScriptedVendor().served() as vendor:
        vendor.goes_wrong("create", answer(status, json.dumps({"message": f"key {KEY}"})))
        with pytest.raises(AccountAtFault) as caught:
            await outcome_of(vendor)
    assert f"(HTTP {status})" in str(caught.value)
    assert KEY not in str(caught.value)
    assert len(vendor.asked("create")) == 1
    assert vendor.asked("find") == []


@pytest.mark.parametrize("status", [401, 402])
async def test_after_a_refused_key_other_calls_are_not_even_tried(status: int) -> None:
    async with ScriptedVendor("completed").served() as vendor:
        time = Time()
        vendor.goes_wrong("create", answer(status, "{}"))
        async with carrier_of(vendor, time) as carrier:
            for _ in range(3):
                with pytest.raises(AccountAtFault):
                    await carrier.outcome(attempt_to(), ScriptedLine())
            assert len(vendor.asked("create")) == 1
            time.elapsed += 6
            assert await carrier.outcome(attempt_to(), ScriptedLine()) == TALKED


@pytest.mark.parametrize(("headers", "wait"), [({}, 5.0), ({"retry_after": "2"}, 5.0), ({"retry_after": "17"}, 17.0)])
async def test_too_many_calls_are_placed_later(headers: dict[str, str], wait: float) -> None:
    async with ScriptedVendor().served() as vendor:
        vendor.goes_wrong("create", answer(429, '{"message": "slow down"}', **headers))
        with pytest.raises(CarrierUnavailable, match=r"HTTP 429.*slow down") as caught:
            await outcome_of(vendor)
    assert (caught.value.retry_after, caught.value.whole_account) == (wait, True)
    assert (len(vendor.asked("create")), vendor.asked("find")) == (1, [])


# A create whose answer is lost.

LOST: dict[str, Answerer] = {
    "500": answer(500, '{"message": "oh"}'),
    "502": answer(502, "<html>bad gateway</html>", content_type="text/html"),
    "504": answer(504),
    "408": answer(408),
    "no answer in time": silence,
    "closed before the headers": hang_up,
    "closed after the headers": CUT_SHORT,
    "reset": reset,
    "not HTTP": exactly(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "too large": endless,
    "redirect": answer(307, location="/elsewhere"),
    "see other": answer(303, location="/calls/call_1"),
    "no id": answer(201, '{"status": "queued"}'),
    "an empty id": answer(201, '{"id": ""}'),
    "not an object": answer(201, '["call_1"]'),
    "not JSON": answer(201, "created"),
    "nothing": answer(201),
}


@pytest.mark.parametrize("fault", LOST)
async def test_a_lost_create_that_is_found_goes_on(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_BODY_BYTES", 1024 * 1024)
    async with ScriptedVendor("completed").served() as vendor:
        vendor.goes_wrong("create", LOST[fault], done=True)
        line, time = ScriptedLine(), Time()
        assert await outcome_of(vendor, line, time) == TALKED
    assert vendor.rung == [NUMBER]
    assert len(vendor.asked("create")) == len(vendor.asked("find")) == 1
    assert line.did == ["held", "let go", "call_1"]
    assert pauses(time) == [1, 1]


@pytest.mark.parametrize("fault", LOST)
async def test_a_lost_create_that_is_not_found_is_interrupted(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "MAX_BODY_BYTES", 1024 * 1024)
    async with ScriptedVendor().served() as vendor:
        vendor.goes_wrong("create", LOST[fault])
        line, time = ScriptedLine(), Time()
        outcome = await outcome_of(vendor, line, time)
    assert outcome.status == TaskStatus.INTERRUPTED
    assert "whether the phone rang is not known" in str(outcome.error)
    assert len(vendor.asked("create")) == 1
    assert len(vendor.asked("find")) == 4
    assert pauses(time) == [1, 2, 4, 8]
    assert line.did == ["held", "let go"]


async def test_a_lost_create_is_found_as_late_as_the_list_shows_it() -> None:
    async with ScriptedVendor("completed").served() as vendor:
        vendor.goes_wrong("create", hang_up, done=True)
        vendor.goes_wrong("find", answer(200, "[]"), answer(503), answer(200, "{"))
        assert await outcome_of(vendor) == TALKED
    assert (len(vendor.asked("create")), len(vendor.asked("find"))) == (1, 4)


async def test_two_calls_that_may_be_it_are_not_known() -> None:
    async with ScriptedVendor().served() as vendor:
        vendor.goes_wrong("create", hang_up)
        vendor.goes_wrong("find", answer(200, '["call_1", "call_2"]'))
        outcome = await outcome_of(vendor)
    assert outcome.status == TaskStatus.INTERRUPTED
    assert "2 calls that may be this one" in str(outcome.error)
    assert len(vendor.asked("create")) == 1


async def test_a_call_of_another_attempt_is_not_taken_for_the_lost_one() -> None:
    async with ScriptedVendor("completed").served() as vendor, carrier_of(vendor) as carrier:
        assert await carrier.outcome(attempt_to(NUMBER, batch_call_id="b2", task_id="task_2"), ScriptedLine()) == TALKED
        vendor.goes_wrong("create", hang_up)
        vendor.goes_wrong("find", *[answer(200, '["call_1", "call_1"]')] * 4)
        assert (await carrier.outcome(attempt_to(NUMBER), ScriptedLine())).status == TaskStatus.INTERRUPTED


async def test_the_call_of_an_earlier_try_that_rang_nobody_is_not_taken_for_the_lost_one() -> None:
    """The earlier one was withdrawn, so the attempt has the same id. If the lost one rings, nobody is asked again."""
    async with ScriptedVendor("later").served() as vendor, carrier_of(vendor) as carrier:
        with pytest.raises(CarrierUnavailable):
            await carrier.outcome(attempt_to(NUMBER), ScriptedLine())
        vendor.story = ("completed",)
        vendor.goes_wrong("create", hang_up, done=True)
        vendor.goes_wrong("find", answer(200, '["call_1"]'))  # the list lags behind
        line = ScriptedLine()
        assert await carrier.outcome(attempt_to(NUMBER), line) == TALKED
    assert line.did[-1] == "call_2"


@pytest.mark.parametrize("is_listed", [True, False])
async def test_another_process_that_finds_a_call_that_rang_nobody_looks_for_a_later_one(is_listed: bool) -> None:
    """Its attempt was withdrawn once, and the one that began again has the same id: perhaps that one rings."""
    async with ScriptedVendor("later").served() as vendor:
        with pytest.raises(CarrierUnavailable):
            await outcome_of(vendor)
        if is_listed:
            vendor.calls["call_2"] = Placed("call_2", vendor.calls["call_1"].attempt, NUMBER, ["completed"])
        vendor.goes_wrong("find", answer(200, '["call_1"]'))  # the list lags behind
        line = ScriptedLine(asked_since=BEGIN)
        if is_listed:
            assert await outcome_of(vendor, line) == TALKED
            assert line.did == ["call_1", "call_2"]
        else:
            with pytest.raises(CarrierUnavailable):
                await outcome_of(vendor, line)
    assert len(vendor.asked("create")) == 1


async def test_a_service_that_takes_nothing_now_is_looked_at_once_and_asked_later() -> None:
    async with ScriptedVendor("completed").served() as vendor:
        vendor.goes_wrong("create", answer(503, '{"message": "maintenance"}', retry_after="40"))
        with pytest.raises(CarrierUnavailable, match=r"HTTP 503.*maintenance") as caught:
            await outcome_of(vendor)
        assert (caught.value.retry_after, caught.value.whole_account) == (40.0, True)
        assert (len(vendor.asked("create")), len(vendor.asked("find"))) == (1, 1)
        vendor.goes_wrong("create", answer(503), done=True)
        assert await outcome_of(vendor) == TALKED
    assert vendor.rung == [NUMBER]


async def test_a_service_that_takes_nothing_at_all_now_is_asked_later() -> None:
    async with ScriptedVendor().served() as vendor:
        vendor.goes_wrong("create", answer(503))
        vendor.goes_wrong("find", *[answer(503)] * 4)
        with pytest.raises(CarrierUnavailable):
            await outcome_of(vendor)
    assert len(vendor.asked("create")) == 1


async def test_a_hook_that_fails_on_an_answer_leaves_the_call_to_be_found() -> None:
    class Odd(ScriptedCarrier):
        def created(self, body: Any, attempt: Attempt) -> str | Outcome | None:
            raise KeyError("id")

    async with ScriptedVendor("completed").served() as vendor:
        assert await outcome_of(vendor, kind=Odd) == TALKED
    assert (len(vendor.asked("create")), len(vendor.asked("find"))) == (1, 1)


async def test_a_hook_that_fails_ends_no_call(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(ScriptedCarrier):
        async def find(self, attempt: Attempt, since: datetime) -> Sequence[str]:
            raise KeyError("calls")

        async def hang_up(self, call_id: str) -> None:
            raise KeyError("status")

        def told(self, call_id: str, body: bytes) -> Outcome | None:
            raise KeyError("type")

    async with ScriptedVendor("queued").served() as vendor, carrier_of(vendor, kind=Odd) as carrier:
        vendor.goes_wrong("create", hang_up)
        assert (await carrier.outcome(attempt_to(), ScriptedLine())).status == TaskStatus.INTERRUPTED
        vendor.during = lambda kind: carrier.heard("call_1", b"odd") if kind == "create" else None
        outcome = await carrier.outcome(attempt_to(n=2), ScriptedLine())
        assert (outcome.status, "did not say in time" in str(outcome.error)) == (TaskStatus.INTERRUPTED, True)
    assert "could not be understood; its call is read" in caplog.text
    assert "is not ended" in caplog.text


async def test_a_look_up_begins_a_little_before_the_create_by_the_vendors_clock() -> None:
    async with ScriptedVendor("completed").served() as vendor:
        an_hour_later = "Mon, 02 Mar 2026 16:00:00 GMT"
        vendor.goes_wrong("agents", answer(200, '[{"id": "agent_2", "needs": []}]', date=an_hour_later))
        vendor.goes_wrong("create", hang_up, done=True)
        cached = {"date": "Mon, 02 Mar 2026 09:00:00 GMT", "age": "25200"}
        vendor.numbers, numbers = [], vendor.numbers
        vendor.goes_wrong("numbers", answer(200, json.dumps(numbers), **cached))
        time = Time()
        await outcome_of(vendor, time=time)
    (find,) = vendor.asked("find")
    assert "2026-03-02T15%3A59%3A55" in find.target


class Keyed(ScriptedCarrier):
    """A vendor to which the same request with the same key is the same call."""

    has_idempotency_key = True


async def test_with_an_idempotency_key_the_same_request_finds_the_call() -> None:
    async with ScriptedVendor("completed").served() as vendor:
        vendor.knows_keys = True
        vendor.goes_wrong("create", hang_up, answer(500), done=True)
        assert await outcome_of(vendor, kind=Keyed) == TALKED
    assert vendor.rung == [NUMBER]
    bodies = [one.body for one in vendor.asked("create")]
    assert len(bodies) == 3
    assert len(set(bodies)) == 1
    assert vendor.asked("find") == []


async def test_with_an_idempotency_key_nothing_is_asked_again_once_the_engine_refuses() -> None:
    class Once(ScriptedLine):
        @asynccontextmanager
        async def sending(self) -> AsyncIterator[None]:
            async with super().sending():
                self.refuses = NoLongerWanted("paused")
                yield

    for done, status, looks in ((True, TaskStatus.COMPLETED, 1), (False, TaskStatus.INTERRUPTED, 4)):
        async with ScriptedVendor("completed").served() as vendor:
            vendor.goes_wrong("create", hang_up, done=done)
            assert (await outcome_of(vendor, Once(), kind=Keyed)).status == status
        assert (len(vendor.asked("create")), len(vendor.asked("find"))) == (1, looks)


async def test_what_may_not_be_asked_for_again_with_its_key_is_found_as_late_as_the_list_shows_it() -> None:
    """So after every create that had no answer in time: its claim is too old for another one."""

    class Once(ScriptedLine):
        @asynccontextmanager
        async def sending(self) -> AsyncIterator[None]:
            async with super().sending():
                self.refuses = NoLongerWanted("its claim is too old")
                yield

    async with ScriptedVendor("completed").served() as vendor:
        vendor.goes_wrong("create", hang_up, done=True)
        vendor.goes_wrong("find", answer(200, "[]"), answer(200, "[]"))
        assert await outcome_of(vendor, Once(), kind=Keyed) == TALKED
    assert (len(vendor.asked("create")), len(vendor.asked("find"))) == (1, 3)


@pytest.mark.parametrize("status", [400, 401, 429, 503])
async def test_a_no_to_the_repeated_request_says_nothing_of_the_first_one(status: int) -> None:
    async with ScriptedVendor("completed").served() as vendor:
        vendor.goes_wrong("create", hang_up)
        vendor.always["create"] = Step(answer(status, "{}"))
        assert (await outcome_of(vendor, kind=Keyed)).status == TaskStatus.INTERRUPTED
    assert len(vendor.asked("find")) == 4


# Nothing left at all.


async def test_a_connection_that_never_opened_is_later(caplog: pytest.LogCaptureFixture) -> None:
    line = ScriptedLine()
    async with ScriptedVendor().served() as vendor, carrier_of(vendor) as carrier:
        await carrier.account()
        gone = vendor.url
    async with carrier_of(vendor) as carrier:
        carrier._account = None
        with pytest.raises(CarrierUnavailable, match="Scripted could not be reached") as caught:
            await carrier._api.create(HttpCall("POST", "/calls", json={}), line, ())
    assert gone in str(caught.value)
    assert (caught.value.retry_after, caught.value.whole_account) == (5.0, True)
    assert line.did == []


async def test_a_failed_handshake_is_later() -> None:
    line, vendor = ScriptedLine(), ScriptedVendor()
    async with listening(exactly(b"SSH-2.0-OpenSSH_9.6\r\n")) as url:
        vendor.url = url.replace("http://", "https://")
        async with carrier_of(vendor) as carrier:
            with pytest.raises(CarrierUnavailable, match="could not be reached"):
                await carrier._api.create(HttpCall("POST", "/calls", json={}), line, ())
    assert line.did == []


async def test_a_name_that_does_not_resolve_is_later(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(*_args: Any, **_more: Any) -> Any:
        raise socket.gaierror("no such name")

    vendor = ScriptedVendor()
    vendor.url = "http://api.scripted.example"
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", nobody)
    with pytest.raises(CarrierUnavailable, match="could not be reached"):
        await outcome_of(vendor)


# A process that ended.


async def test_a_call_whose_id_is_known_is_only_read() -> None:
    async with ScriptedVendor("going", "completed").served() as vendor:
        await outcome_of(vendor)
        vendor.requests.clear()
        line = ScriptedLine(call_id="call_1", asked_since=BEGIN)
        assert await outcome_of(vendor, line) == TALKED
    assert [one.method for one in vendor.requests] == ["GET"]
    assert line.did == []


async def placed_and_forgotten(vendor: ScriptedVendor) -> None:
    """The vendor has the call, and nobody else does."""
    vendor.goes_wrong("create", hang_up, done=True)
    vendor.goes_wrong("find", *[answer(200, "[]")] * 4)
    assert (await outcome_of(vendor)).status == TaskStatus.INTERRUPTED
    vendor.requests.clear()


async def test_a_call_that_may_have_been_asked_for_is_looked_up_and_never_asked_for_again() -> None:
    async with ScriptedVendor("completed").served() as vendor:
        await placed_and_forgotten(vendor)
        line = ScriptedLine(asked_since=BEGIN)
        assert await outcome_of(vendor, line) == TALKED
    assert vendor.asked("create") == []
    assert line.did == ["call_1"]


@pytest.mark.parametrize(("found", "looks"), [([], 5), (["call_1", "call_2"], 1)])
async def test_one_that_is_not_found_or_not_clear_is_interrupted(found: list[str], looks: int) -> None:
    async with ScriptedVendor("completed").served() as vendor:
        vendor.always["find"] = Step(answer(200, json.dumps(found)))
        outcome = await outcome_of(vendor, ScriptedLine(asked_since=BEGIN))
    assert outcome.status == TaskStatus.INTERRUPTED
    assert (vendor.asked("create"), len(vendor.asked("find"))) == ([], looks)


async def test_while_the_vendor_cannot_be_asked_a_call_is_not_given_up() -> None:
    async with ScriptedVendor("completed").served() as vendor:
        await placed_and_forgotten(vendor)
        vendor.goes_wrong("find", *[answer(503), answer(401), answer(429), hang_up] * 5)
        time = Time()
        assert await outcome_of(vendor, ScriptedLine(asked_since=BEGIN - timedelta(days=1)), time) != TALKED
        time = Time()
        vendor.script.clear()
        vendor.goes_wrong("find", *[answer(503), answer(401), answer(429), hang_up] * 5)
        assert await outcome_of(vendor, ScriptedLine(asked_since=BEGIN), time) == TALKED
    assert vendor.asked("create") == []


async def test_a_vendor_without_such_a_list_leaves_it_interrupted() -> None:
    async with ScriptedVendor("completed").served() as vendor:
        vendor.always["find"] = Step(answer(404))
        assert (await outcome_of(vendor, ScriptedLine(asked_since=BEGIN))).status == TaskStatus.INTERRUPTED


async def test_a_call_of_long_ago_is_still_read_for_a_while() -> None:
    async with ScriptedVendor("completed").served() as vendor:
        await placed_and_forgotten(vendor)
        vendor.goes_wrong("look", *[answer(503)] * 5)
        line = ScriptedLine(call_id="call_1", asked_since=BEGIN - timedelta(days=2))
        assert await outcome_of(vendor, line) == TALKED
    assert vendor.asked("stop") == []


# It is cancelled: the engine closes.


async def until(is_so: Callable[[], Any]) -> None:
    while not is_so():  # noqa: ASYNC110 - what the test waits for happens in this loop
        await asyncio.sleep(0)


class Asleep(Time):
    """Nobody's pause ever ends; the pace of reads does."""

    async def sleep(self, seconds: float) -> None:
        if seconds >= 1:
            await asyncio.Event().wait()
        await super().sleep(seconds)


async def test_leaving_hangs_up_on_nobody_and_the_next_process_goes_on() -> None:
    async with ScriptedVendor("going", "completed").served() as vendor:
        line = ScriptedLine()
        async with carrier_of(vendor, Asleep()) as carrier:
            call = asyncio.ensure_future(carrier.outcome(attempt_to(NUMBER), line))
            await until(lambda: "call_1" in line.did)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert vendor.asked("stop") == []
        assert await outcome_of(vendor, ScriptedLine(call_id="call_1", asked_since=BEGIN)) == TALKED
    assert vendor.rung == [NUMBER]


async def test_leaving_while_an_answer_is_on_its_way_leaves_it_to_be_found() -> None:
    async with ScriptedVendor("completed").served() as vendor:
        vendor.goes_wrong("create", lambda reader, _writer: ignored(reader), done=True)
        line = ScriptedLine()
        async with carrier_of(vendor) as carrier:
            call = asyncio.ensure_future(carrier.outcome(attempt_to(NUMBER), line))
            await until(lambda: vendor.rung)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert line.did == ["held", "let go"]
        assert await outcome_of(vendor, ScriptedLine(asked_since=BEGIN)) == TALKED
    assert vendor.rung == [NUMBER]


async def ignored(reader: asyncio.StreamReader) -> None:
    await reader.read()


async def test_leaving_while_an_id_is_stored_stores_it() -> None:
    stored, begun = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedLine):
        async def placed(self, call_id: str) -> None:
            begun.set()
            await stored.wait()
            await super().placed(call_id)

    async with ScriptedVendor().served() as vendor, carrier_of(vendor) as carrier:
        line = Slow()
        call = asyncio.ensure_future(carrier.outcome(attempt_to(), line))
        await begun.wait()
        for _ in range(3):
            call.cancel()
            await asyncio.sleep(0)
        assert not call.done()
        stored.set()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert line.did[-1] == "call_1"
    assert vendor.asked("look") == []


# Reading.


async def test_a_webhook_makes_the_next_look_happen_now() -> None:
    async with ScriptedVendor("going", "completed").served() as vendor:
        line = ScriptedLine()
        async with carrier_of(vendor, Asleep()) as carrier:
            carrier.heard("call_1")  # before any call
            call = asyncio.ensure_future(carrier.outcome(attempt_to(), line))
            await until(lambda: "call_1" in carrier._here)
            assert vendor.asked("look") == []
            await asyncio.to_thread(carrier.heard, "call_of_somebody_else")
            await asyncio.to_thread(carrier.heard, "call_1")
            await until(lambda: len(vendor.asked("look")) == 1)
            await asyncio.to_thread(carrier.heard, "call_1")
            assert await call == TALKED


async def test_only_where_a_vendor_says_so_a_webhook_is_the_outcome() -> None:
    async with ScriptedVendor("going").served() as vendor, carrier_of(vendor, Asleep()) as carrier:
        call = asyncio.ensure_future(carrier.outcome(attempt_to(), ScriptedLine()))
        await until(lambda: "call_1" in carrier._here)
        carrier.heard("call_1", b"call_1 ended: completed")
        await until(lambda: vendor.asked("look"))
        carrier.heard("call_1", b"call_1 busy")
        assert await call == Outcome(TaskStatus.BUSY)
    assert len(vendor.asked("look")) == 1


async def test_what_is_told_before_the_answer_to_the_create_is_not_lost() -> None:
    async with ScriptedVendor("going").served() as vendor, carrier_of(vendor) as carrier:
        await carrier.account()
        vendor.during = lambda kind: carrier.heard("call_1", b"busy") if kind == "create" else None
        assert await carrier.outcome(attempt_to(), ScriptedLine()) == Outcome(TaskStatus.BUSY)


async def test_a_vendor_that_wants_fewer_reads_gets_fewer() -> None:
    moments: list[float] = []
    time = Time()
    async with ScriptedVendor(*["going"] * 5, "completed").served() as vendor:
        vendor.during = lambda kind: moments.append(time.elapsed) if kind == "look" else None
        vendor.goes_wrong("look", answer(429, retry_after="9"))
        assert await outcome_of(vendor, time=time) == TALKED
    assert moments[1] - moments[0] >= 9


@pytest.mark.parametrize("status", [404, 410])
async def test_a_call_that_the_vendor_does_not_know_for_a_moment_is_read_on(status: int) -> None:
    async with ScriptedVendor("completed").served() as vendor:
        vendor.goes_wrong("look", *[answer(status)] * 10)
        assert await outcome_of(vendor) == TALKED


async def test_a_call_that_the_vendor_knows_no_more_is_interrupted() -> None:
    time = Time()
    async with ScriptedVendor("going").served() as vendor:
        vendor.always["look"] = Step(answer(404))
        outcome = await outcome_of(vendor, time=time)
    assert outcome.status == TaskStatus.INTERRUPTED
    assert "knows no such call" in str(outcome.error)
    assert 60 < time.elapsed < 75


ODD_READS = {
    "503": answer(503),
    "401": answer(401),
    "400": answer(400),
    "redirect": answer(302, location="/"),
    "cut short": CUT_SHORT,
    "closed": hang_up,
    "not JSON": answer(200, "{"),
    "an array": answer(200, "[]"),
    "empty": answer(200),
    "an unknown word": answer(200, '{"status": "odd", "words": ""}'),
}


@pytest.mark.parametrize("fault", ODD_READS)
async def test_a_look_that_fails_is_repeated_and_ends_nothing(fault: str) -> None:
    async with ScriptedVendor("completed").served() as vendor:
        vendor.goes_wrong("look", *[ODD_READS[fault]] * 5)
        assert await outcome_of(vendor) == TALKED
    assert (len(vendor.asked("look")), vendor.asked("stop")) == (6, [])


@pytest.mark.parametrize("is_readable", [True, False])
async def test_a_call_without_an_end_is_ended_and_interrupted(is_readable: bool) -> None:
    time = Time()
    async with ScriptedVendor("going").served() as vendor:
        if not is_readable:
            vendor.always["look"] = Step(answer(503))
            vendor.always["stop"] = Step(answer(503))
        outcome = await outcome_of(vendor, time=time)
    assert outcome.status == TaskStatus.INTERRUPTED
    assert len(vendor.asked("stop")) == 1
    assert 30 + 600 + 60 < time.elapsed < 700


async def test_a_call_that_only_waits_at_the_vendor_is_cancelled_there() -> None:
    time = Time()
    async with ScriptedVendor("queued").served() as vendor:
        outcome = await outcome_of(vendor, time=time)
    assert outcome.status == TaskStatus.INTERRUPTED
    assert "cancelled there" in str(outcome.error)
    assert outcome.backend_status == "canceled"
    assert len(vendor.asked("stop")) == 1
    assert 90 < time.elapsed < 105


async def test_a_call_that_waits_at_the_vendor_is_not_dialled_after_its_date() -> None:
    time = Time()
    async with ScriptedVendor("queued").served() as vendor:
        outcome = await outcome_of(vendor, time=time, attempt=attempt_to(until=BEGIN + timedelta(seconds=20)))
    assert outcome.status == TaskStatus.INTERRUPTED
    assert len(vendor.asked("stop")) == 1
    assert 20 < time.elapsed < 30


async def test_a_cancel_that_fails_is_repeated_and_one_that_comes_too_late_keeps_the_outcome() -> None:
    async with ScriptedVendor(*["queued"] * 30, "completed").served() as vendor:
        vendor.always["stop"] = Step(answer(500))
        assert await outcome_of(vendor) == TALKED
    assert len(vendor.asked("stop")) > 1


async def test_what_a_look_shows_may_be_that_nobody_was_rung() -> None:
    async with ScriptedVendor("going", "later").served() as vendor:
        with pytest.raises(CarrierUnavailable) as caught:
            await outcome_of(vendor)
        assert caught.value.retry_after == 30
    for kind in (ScriptedCarrier, Raising):
        async with ScriptedVendor("unpaid").served() as vendor:
            with pytest.raises(AccountAtFault):
                await outcome_of(vendor, kind=kind)


class Raising(ScriptedCarrier):
    """It raises what it should give back."""

    async def look(self, call_id: str, attempt: Attempt) -> Seen:
        seen = await super().look(call_id, attempt)
        if isinstance(seen, AccountAtFault):
            raise seen
        return seen


async def test_an_address_that_the_vendor_names_gets_no_key_and_may_not_be_inside() -> None:
    async with ScriptedVendor("going").served() as vendor, carrier_of(vendor) as carrier:
        with pytest.raises(Refused):
            await carrier.read(HttpCall("POST", "", json={}), url=f"{vendor.url}/calls/call_1/stop")
        assert [one.credentials for one in vendor.requests] == [""]
        carrier._api._base_url = "https://api.scripted.example"
        for url in (
            "http://api.scripted.example/x",
            f"{vendor.url}/x",
            "https://10.0.0.1/x",
            "ftp://x",
            "https://a:b@c/",
        ):
            with pytest.raises(CarrierUnavailable, match="not https, or not on the internet"):
                await carrier.read(HttpCall("POST", ""), url=url)


async def test_what_was_said_in_a_call_is_read_by_its_id() -> None:
    async with ScriptedVendor("completed").served() as vendor, carrier_of(vendor) as carrier:
        await carrier.outcome(attempt_to(), ScriptedLine())
        assert await carrier.details("call_1") == CallDetails(ended_reason="completed")


# The account.


async def test_the_account_is_read_once_in_five_minutes() -> None:
    time = Time()
    async with ScriptedVendor("completed").served() as vendor, carrier_of(vendor, time) as carrier:
        await asyncio.gather(*(carrier.outcome(attempt_to(n=n), ScriptedLine()) for n in range(1, 6)))
        assert (len(vendor.asked("numbers")), len(vendor.asked("agents"))) == (1, 1)
        time.elapsed += 301
        await carrier.account()
        assert (len(vendor.asked("numbers")), len(vendor.asked("agents"))) == (2, 2)


async def test_a_wrong_key_is_shown_once_whoever_asks() -> None:
    time = Time()
    async with ScriptedVendor().served() as vendor, carrier_of(vendor, time, key=SecretStr("wrong_key_1")) as carrier:
        calls = [carrier.outcome(attempt_to(n=n), ScriptedLine()) for n in range(1, 50)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(one) for one in found} == {AccountAtFault}
        assert "BATCHCALL_CARRIER_KEY" in str(found[0])
        assert "wrong_key_1" not in str(found[0])
        for later, requests in ((59, 1), (2, 2)):
            time.elapsed += later
            with pytest.raises(AccountAtFault):
                await carrier.account()
            assert len(vendor.requests) == requests


@pytest.mark.parametrize(("fault", "wait"), [(answer(503), 5), (answer(429, retry_after="8"), 8), (hang_up, 5)])
async def test_an_account_that_cannot_be_read_now_is_later(fault: Answerer, wait: float) -> None:
    async with ScriptedVendor().served() as vendor:
        vendor.goes_wrong("numbers", fault)
        with pytest.raises(CarrierUnavailable) as caught:
            await outcome_of(vendor)
    assert (caught.value.retry_after, caught.value.whole_account) == (wait, True)
    assert vendor.asked("create") == []


@pytest.mark.parametrize("fault", [answer(404), answer(405), answer(501), answer(422), answer(200, '[{"odd": 1}]')])
async def test_a_list_that_the_vendor_does_not_have_is_not_known_and_refuses_nothing(fault: Answerer) -> None:
    async with ScriptedVendor("completed").served() as vendor, carrier_of(vendor) as carrier:
        vendor.goes_wrong("numbers", fault)
        vendor.goes_wrong("agents", fault)
        account = await carrier.account()
        assert (account.numbers, account.agents, len(account.notes)) == (None, None, 2)
        assert await carrier.outcome(attempt_to(agent_id="any"), ScriptedLine()) == TALKED


@dataclass(frozen=True)
class Wrong:
    """A call that cannot be placed, why, and what happens."""

    attempt: Attempt
    why: str
    ends: type[Exception]


WRONG = [
    Wrong(attempt_to(from_number="+13125550100"), "caller number is not one of", AccountAtFault),
    Wrong(attempt_to(agent_id="agent_9"), "agent is not one of", AccountAtFault),
    Wrong(attempt_to(agent_id="agent_1"), "needs the variable name", NotCallable),
    Wrong(attempt_to("+19005550123"), "premium-rate", NotCallable),
    Wrong(attempt_to("+442079460958"), "is in GB, which may not be called", NotCallable),
    Wrong(attempt_to("+1911"), "number", NotCallable),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda one: one.why)
async def test_a_call_that_cannot_be_placed_is_refused_before_it_leaves(wrong: Wrong) -> None:
    async with ScriptedVendor().served() as vendor:
        with pytest.raises(wrong.ends, match=wrong.why) as caught:
            await outcome_of(vendor, attempt=wrong.attempt)
    assert wrong.attempt.to_number not in str(caught.value)
    assert vendor.asked("create") == []


async def test_countries_and_variables_that_are_given_let_it_through() -> None:
    async with ScriptedVendor("completed").served() as vendor:
        attempt = attempt_to("+442079460958", agent_id="agent_1", dynamic_variables='{"name":"Ada"}')
        vendor.numbers = [{"number": "12125550100"}]
        assert await outcome_of(vendor, attempt=attempt, countries=frozenset({"GB"})) == TALKED
        async with carrier_of(vendor) as carrier:
            account = await carrier.account()
            assert carrier.problem(account, attempt) is None
            assert "name" in str(carrier.problem(account, replace(attempt, dynamic_variables=None)))


# Secrets.


async def test_no_key_and_no_number_is_in_any_log_or_error(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said = json.dumps({"message": f"{KEY} {SECRET} {NUMBER} {NUMBER[1:]}"})
    errors: list[str] = []
    for status in (400, 401, 402, 403, 404, 409, 429, 500, 503):
        async with ScriptedVendor("failed").served() as vendor:
            vendor.goes_wrong("create", answer(status, said))
            vendor.goes_wrong("look", answer(400, said))
            vendor.goes_wrong("numbers", answer(422, said))
            vendor.goes_wrong("find", answer(400, said), answer(500, said))
            try:
                errors.append(str(await outcome_of(vendor)))
            except (CarrierUnavailable, AccountAtFault) as error:
                errors.append(f"{error!r}")
    for text in (*errors, caplog.text, repr(config_for("https://x")), repr(ScriptedCarrier(config_for(None)))):
        assert KEY not in text
        assert SECRET not in text
    async with ScriptedVendor("completed").served() as vendor:
        vendor.goes_wrong("look", answer(400, said), answer(500, said), answer(404, said))
        errors.append(str(await outcome_of(vendor)))
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("batchcall_mcp")]
    assert any("cannot be read now" in line for line in ours)
    assert all(NUMBER[1:] not in text for text in (*errors, *ours))


def test_the_limits_are_what_the_documents_of_this_house_say() -> None:
    assert (CREATE_S, READ_S, vendor_api.LATER_S) == (30, 15, 5)
