"""What a carrier's vendor reports by itself: signed requests alone are heard, and key presses are kept."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

import anyio
import httpx2
import pytest
import sqlalchemy as sa
from starlette.types import Message

from batchcall_mcp.dialer.carriers.base import DO_NOT_CALL, HearsKeys, KeyPress, ReportsCalls
from batchcall_mcp.dialer.carriers.simulated import SimulatedCarrier, simulate
from batchcall_mcp.dialer.rest.rate_limiter import Limiter
from batchcall_mcp.dialer.storage.tables import attempts, batch_calls, do_not_call, tasks
from batchcall_mcp.dialer.webhooks import carrier_events, key_presses
from tests.dialer.conftest import CALLER, Caller, NewCaller, emptied_postgresql, eventually, numbers, on_sqlite
from tests.dialer.hooks import another_organization

PUBLIC = "https://calls.example.com/dialer/"
URL = "https://calls.example.com/dialer/carriers/simulated"
TOKEN = b"auth-token"
KEYS = {"agent_1": {"1": "confirmed", "2": "later", "9": DO_NOT_CALL}, "agent_2": {"9": "confirmed"}}
ONE = numbers(1)[0]


class Reporting:
    """A carrier that hears keys; Twilio's scheme signs."""

    name = "simulated"

    def __init__(self) -> None:
        self.heard_of: list[tuple[str, bytes | None]] = []

    def verify(self, headers: Mapping[str, str], body: bytes, url: str) -> bool:
        given = headers.get("x-twilio-signature", "")
        return hmac.compare_digest(given.encode("latin-1"), signature(url, body).encode())

    def named(self, body: bytes) -> list[str]:
        form = read(body)
        return [form["CallSid"]] if "CallSid" in form else []

    def heard(self, call_id: str, body: bytes | None = None) -> None:
        self.heard_of.append((call_id, body))

    def key_press(self, body: bytes) -> KeyPress | None:
        form = read(body)
        if "Digits" not in form:
            return None
        return KeyPress(
            call_id=form.get("CallSid", ""),
            from_number=form.get("From", CALLER),
            to_number=form.get("To", ONE),
            keys=form["Digits"],
        )

    def meaning(self, agent_id: str | None, keys: str) -> str | None:
        if agent_id in KEYS:
            return KEYS[agent_id].get(keys)
        return DO_NOT_CALL if any(of.get(keys) == DO_NOT_CALL for of in KEYS.values()) else None

    def reply(self, agent_id: str | None, keys: str) -> str:
        return f"<Response>{agent_id} {keys}</Response>"


def read(body: bytes) -> dict[str, str]:
    return dict(parse_qsl(body.decode("utf-8", "replace")))


def signature(url: str, body: bytes) -> str:
    """base64(HMAC-SHA1(auth token, URL + sorted names and values))."""
    signed = url + "".join(sorted(name + value for name, value in read(body).items()))
    return base64.b64encode(hmac.new(TOKEN, signed.encode(), hashlib.sha1).digest()).decode()


@dataclass
class Scene:
    """A dialer whose calls go on until they are ended, and the way in which the vendor reports."""

    caller: Caller
    carrier: Reporting
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def report(self, body: Mapping[str, str] | bytes, **changed: Any) -> httpx2.Response:
        sent = body if isinstance(body, bytes) else urlencode(body).encode()
        headers = {"X-Twilio-Signature": signature(changed.pop("url", URL), sent)} | changed.pop("headers", {})
        return await self.caller.http.post(
            changed.pop("path", "/carriers/simulated"), content=sent, headers=headers, **changed
        )

    async def pressed(self, call_id: str, keys: str, **form: str) -> str:
        answer = await self.report({"CallSid": call_id, "Digits": keys, **form})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/xml")
        return answer.text

    async def calling(self, to_number: str = ONE, call_id: str | None = "CA1", **fields: Any) -> str:
        """A batch call to one person, who is on the line; the vendor has this id for the call."""
        created = await self.caller.create([to_number], send_now=True, **{"agent_id": "agent_1", **fields})
        await self.caller.until(created, lambda data: data["counts"]["calling"] == 1)
        self.name(created, call_id)
        return created

    def name(self, batch_call_id: str, call_id: str | None) -> None:
        """As the engine does when the create has answered."""
        mine = (attempts.c.batch_call_id == batch_call_id) & attempts.c.outcome.is_(None)
        with self.caller.dialer.store().writing() as tx:
            tx.execute(attempts.update().where(mine).values(carrier_call_id=call_id))

    async def choice(self, batch_call_id: str) -> tuple[str, str | None]:
        (task,) = await self.caller.tasks(batch_call_id)
        return task["status"], task["choice"]

    async def listed(self, **options: Any) -> list[str]:
        found = await self.caller.ask("GET", "/do-not-call", **options)
        return [row["to_number"] for row in found["do_not_call"]]

    def everything(self) -> list[Any]:
        with self.caller.dialer.store().reading() as look:
            tables = (batch_calls, tasks, attempts, do_not_call)
            return [sorted(map(str, look.execute(sa.select(table)))) for table in tables]


@pytest.fixture(params=["sqlite", "postgresql"])
async def scene(
    request: pytest.FixtureRequest, new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Scene]:
    released = asyncio.Event()

    async def outcome(_self: SimulatedCarrier, attempt: Any, *_line: Any) -> Any:
        await released.wait()
        return simulate("+12132000004", 1)[0]  # somebody answered, and the outcome says of no choice

    monkeypatch.setattr(SimulatedCarrier, "outcome", outcome)
    database = emptied_postgresql() if request.param == "postgresql" else None
    async with new_caller(database=database) as caller:
        carrier = Reporting()
        carrier_events.install(caller.dialer.app, carrier, caller.dialer.store, PUBLIC, pauses=(0.0, 0.0))
        yield Scene(caller, carrier, released)
        released.set()


def test_the_scripted_carrier_is_one() -> None:
    assert isinstance(Reporting(), ReportsCalls)
    assert isinstance(Reporting(), HearsKeys)


async def test_a_key_is_the_choice_of_its_call_and_survives_the_outcome(scene: Scene) -> None:
    batch_call_id = await scene.calling()
    assert await scene.pressed("CA1", "1") == "<Response>agent_1 1</Response>"
    assert await scene.choice(batch_call_id) == ("calling", "confirmed")
    assert [call_id for call_id, _ in scene.carrier.heard_of] == ["CA1"]
    scene.released.set()
    await scene.caller.until_status(batch_call_id, "completed")
    assert await scene.choice(batch_call_id) == ("completed", "confirmed")
    assert (await scene.caller.get(batch_call_id))["results"]["choices"] == {"confirmed": 1}
    assert await scene.listed() == []


@on_sqlite("scene")
async def test_who_presses_the_key_for_it_is_on_the_list_of_the_organisation_that_called(scene: Scene) -> None:
    other = another_organization(scene.caller)
    batch_call_id = await scene.calling()
    await scene.pressed("CA1", "9")
    assert await scene.choice(batch_call_id) == ("calling", DO_NOT_CALL)
    assert await scene.listed() == [ONE]
    assert await scene.listed(headers=other) == []
    refused = await scene.caller.ask("DELETE", f"/do-not-call/{ONE}", status=409)
    assert refused["code"] == "opted_out"
    scene.released.set()
    again = await scene.caller.create([ONE], send_now=True)
    await scene.caller.until_status(again, "completed")
    assert (await scene.choice(again))[0] == "skipped"


async def test_a_process_that_has_not_placed_the_call_keeps_its_key(scene: Scene, new_caller: NewCaller) -> None:
    batch_call_id = await scene.calling()
    database = scene.caller.dialer._database
    async with new_caller(start=False, database=database) as other:
        carrier_events.install(other.dialer.app, scene.carrier, other.dialer.store, PUBLIC)
        elsewhere = Scene(other, scene.carrier)
        await elsewhere.pressed("CA1", "9")
    assert await scene.choice(batch_call_id) == ("calling", DO_NOT_CALL)
    assert await scene.listed() == [ONE]


@on_sqlite("scene")
async def test_a_redial_has_no_choice_of_the_call_before_it(scene: Scene) -> None:
    batch_call_id = await scene.calling()
    await scene.pressed("CA1", "2")
    scene.released.set()
    await scene.caller.until_status(batch_call_id, "completed")
    scene.released.clear()
    (task,) = await scene.caller.tasks(batch_call_id)
    await scene.caller.ask("POST", f"/batch-call/{batch_call_id}/retry", {"task_ids": [task["task_id"]]})
    await scene.caller.until(batch_call_id, lambda data: data["counts"]["calling"] == 1)
    assert await scene.choice(batch_call_id) == ("calling", None)
    scene.name(batch_call_id, "CA2")
    await scene.pressed("CA1", "1")  # of the call before, reported late
    assert await scene.choice(batch_call_id) == ("calling", None)
    await scene.pressed("CA2", "1")
    assert await scene.choice(batch_call_id) == ("calling", "confirmed")


async def test_what_is_reported_long_after_a_call_is_no_choice_and_still_an_opt_out(scene: Scene) -> None:
    batch_call_id = await scene.calling()
    scene.released.set()
    await scene.caller.until_status(batch_call_id, "completed")
    scene.caller.clock.now += key_presses.LATEST
    await scene.pressed("CA1", "1")
    assert await scene.choice(batch_call_id) == ("completed", "confirmed")
    scene.caller.clock.now += timedelta(milliseconds=1)
    await scene.pressed("CA1", "2")
    assert await scene.choice(batch_call_id) == ("completed", "confirmed")
    await scene.pressed("CA1", "9")
    assert await scene.choice(batch_call_id) == ("completed", "confirmed")
    assert await scene.listed() == [ONE]
    before = scene.everything()
    await scene.pressed("CA1", "9")
    assert scene.everything() == before


@on_sqlite("scene")
async def test_keys_without_a_meaning_change_nothing(scene: Scene) -> None:
    await scene.calling()
    before = scene.everything()
    for keys in ("5", "19", "99", "#", "confirmed"):
        assert await scene.pressed("CA1", keys) == f"<Response>agent_1 {keys}</Response>"
    assert scene.everything() == before


HEARD: list[tuple[Mapping[str, str] | bytes, dict[str, Any], int]] = [
    ({"CallSid": "CA1", "Digits": "9"}, {"headers": {"X-Twilio-Signature": "bm8="}}, 401),
    ({"CallSid": "CA1", "Digits": "9"}, {"headers": {"X-Twilio-Signature": ""}}, 401),
    ({"CallSid": "CA1", "Digits": "9"}, {"headers": {"X-Twilio-Signature": b"\xff\xfe"}}, 401),
    ({"CallSid": "CA1", "Digits": "9"}, {"url": f"{URL}?agent=1"}, 401),
    ({"CallSid": "CA1", "Digits": "9"}, {"url": "http://dialer/carriers/simulated"}, 401),
    ({"CallSid": "CA1", "Digits": "9"}, {"path": "/carriers/twilio"}, 404),
    ({"CallSid": "CA1", "Digits": "9"}, {"path": "/carriers"}, 404),
    (b"CallSid=CA1&Digits=9" + b" " * carrier_events.MAX_FORM_BYTES, {}, 413),
    ({"CallSid": "CA2", "Digits": "9", "To": "+12132000990"}, {}, 200),
    ({"CallSid": "CA2", "Digits": "9", "From": "+14157770000"}, {}, 200),
    ({"CallSid": "", "Digits": "9", "To": ""}, {}, 200),
    ({"CallSid": "CA1", "CallStatus": "completed"}, {}, 200),
    ({"nothing": "known"}, {}, 200),
    (b"\xff\xfe\x00 not a form", {}, 200),
    (b"CallSid=%FF%00&Digits=%00", {}, 200),
    (b"CallSid=CA2&Digits=9&To=%00", {}, 200),
    (b"CallSid=CA2&Digits=9&From=%EF%BF%BF", {}, 200),
    (b"", {}, 200),
]
"""What is reported, and its status: nothing of it changes anything."""


async def test_nothing_is_changed(scene: Scene) -> None:
    await scene.calling()
    before = scene.everything()
    for body, changed, status in HEARD:
        scene.carrier.heard_of.clear()
        case = f"{body[:40] if isinstance(body, bytes) else body!r} {changed}"
        answer = await scene.report(body, **dict(changed))
        assert answer.status_code == status, case
        assert scene.everything() == before, case
        if status != 200:
            assert answer.json()["error"].endswith("Nothing was changed."), case
            assert scene.carrier.heard_of == [], case


@on_sqlite("scene")
async def test_the_signed_url_has_the_query_as_it_was_sent(scene: Scene) -> None:
    query = "?agent=a%20b&x=%C3%A9"
    path = f"/carriers/simulated{query}"
    assert (await scene.report({"CallSid": "CA1"}, url=URL + query, path=path)).status_code == 200
    assert (await scene.report({"CallSid": "CA1"}, path=path)).status_code == 401


@on_sqlite("scene")
async def test_a_body_that_does_not_say_its_length_is_read_no_further_than_the_limit(scene: Scene) -> None:
    sent = 0

    async def parts() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 64 * 1024
            yield b"x" * 64 * 1024

    answer = await scene.caller.http.post("/carriers/simulated", content=parts())
    assert answer.status_code == 413
    assert sent <= carrier_events.MAX_FORM_BYTES + 2 * 64 * 1024


@on_sqlite("scene")
async def test_a_body_that_does_not_arrive_is_not_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier_events, "ARRIVES_WITHIN_S", 0.01)
    sent: list[Message] = []
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/carriers/simulated",
        "raw_path": b"/carriers/simulated",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"dialer")],
        "client": ("192.0.2.1", 1),
        "server": ("dialer", 80),
    }

    async def never() -> Message:
        await anyio.sleep_forever()
        raise AssertionError

    async def keep(message: Message) -> None:
        sent.append(message)

    with anyio.fail_after(30):
        await scene.caller.dialer.app(scope, never, keep)
    assert sent[0]["status"] == 422


async def test_who_has_no_signature_is_held_off_and_the_vendor_is_not(new_caller: NewCaller) -> None:
    carrier = Reporting()
    async with new_caller(start=False) as caller:
        limiter = Limiter(3, window_s=3600)
        carrier_events.install(caller.dialer.app, carrier, caller.dialer.store, PUBLIC, stranger=limiter.unknown)
        scene = Scene(caller, carrier)
        wrong = [
            (await scene.report({"CallSid": "CA1"}, headers={"X-Twilio-Signature": "no"})).status_code for _ in range(5)
        ]
        assert wrong == [401, 401, 401, 429, 429]
        assert [(await scene.report({"CallSid": "CA1"})).status_code for _ in range(20)] == [200] * 20


@on_sqlite("scene")
async def test_a_wrong_setting_shows_in_the_log_once_a_minute(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(5):
        await scene.report({"CallSid": "CA1", "To": ONE}, headers={"X-Twilio-Signature": "no"})
    said = [record.getMessage() for record in caplog.records if record.name.endswith("carrier_events")]
    assert len(said) == 1
    assert f"for {URL}. " in said[0]
    assert "BATCHCALL_CARRIER_SECRET" in said[0]
    assert ONE not in said[0]


async def test_an_opt_out_is_kept_although_the_answer_to_the_create_was_lost(scene: Scene) -> None:
    """The vendor's id of the call is not known: it is found by its numbers, and by when it began."""
    batch_call_id = await scene.calling(call_id=None)
    await scene.pressed("CA7", "9", From="+14157770000")
    assert await scene.listed() == []
    await scene.pressed("CA7", "9")
    assert await scene.listed() == [ONE]
    assert await scene.choice(batch_call_id) == ("calling", DO_NOT_CALL)


@on_sqlite("scene")
async def test_a_key_of_a_call_of_nobody_s_goes_through_no_table_of_attempts(scene: Scene) -> None:
    """PostgreSQL plans by sizes, and here all tables are small."""
    await scene.calling()
    store = scene.caller.dialer.store()
    plans: list[str] = []

    def explained(connection: sa.Connection, cursor: Any, statement: str, given: Any, *_others: object) -> None:
        if "carrier_call_id" in statement and statement.startswith("SELECT"):
            plans.extend(row[3] for row in cursor.connection.cursor().execute(f"EXPLAIN QUERY PLAN {statement}", given))

    sa.event.listen(store.engine, "after_cursor_execute", explained)
    await scene.pressed("CA9", "9", To="+12132000990")
    looked = [plan for plan in plans if "attempts" in plan.split()]
    assert len(looked) >= 2
    assert [plan for plan in looked if not plan.startswith("SEARCH attempts USING INDEX")] == []


async def test_of_two_calls_without_an_id_nobody_knows_which_one_it_is_and_yet_who_opts_out(scene: Scene) -> None:
    other = another_organization(scene.caller)
    first = await scene.calling(call_id=None)
    data = {"from_number": CALLER, "tasks": [{"to_number": ONE}], "agent_id": "agent_1", "send_now": True}
    always = {"window": {"start": "00:00", "end": "24:00"}}
    await scene.caller.ask("POST", "/batch-call", data | always, headers=other)
    await eventually(lambda: len(scene.everything()[2]) == 2)
    await scene.pressed("CA7", "1")
    assert await scene.choice(first) == ("calling", None)
    await scene.pressed("CA7", "9")
    assert await scene.choice(first) == ("calling", None)
    assert await scene.listed() == [ONE]
    assert await scene.listed(headers=other) == [ONE]


async def test_a_call_that_began_long_ago_or_has_an_outcome_is_not_taken_for_one_without_an_id(scene: Scene) -> None:
    batch_call_id = await scene.calling(call_id=None)
    scene.caller.clock.now += key_presses.RECENT
    await scene.pressed("CA7", "9")
    assert await scene.listed() == []
    scene.caller.clock.now -= timedelta(minutes=1)
    scene.released.set()
    await scene.caller.until_status(batch_call_id, "completed")
    await scene.pressed("CA7", "9")
    assert await scene.listed() == []


async def test_an_opt_out_is_kept_although_the_batch_call_was_deleted_meanwhile(scene: Scene) -> None:
    batch_call_id = await scene.calling()
    scene.released.set()
    await scene.caller.until_status(batch_call_id, "completed")
    await scene.caller.ask("DELETE", f"/batch-call/{batch_call_id}")
    assert await scene.pressed("CA1", "9") == "<Response>None 9</Response>"
    assert await scene.listed() == [ONE]


async def test_a_key_waits_for_a_database_that_is_away(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.calling()
    outages = [sa.exc.OperationalError("look", {}, Exception("away"))] * 2
    keep: Callable[..., Any] = key_presses.keep

    def sometimes(*given: Any) -> Any:
        if outages:
            raise outages.pop()
        return keep(*given)

    monkeypatch.setattr(key_presses, "keep", sometimes)
    await scene.pressed("CA1", "9")
    assert await scene.listed() == [ONE]


async def test_an_opt_out_and_its_choice_are_written_together_or_not_at_all(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.calling()
    before = scene.everything()
    monkeypatch.setattr(key_presses, "tasks", attempts)  # the second statement fails
    with pytest.raises(AttributeError):
        await scene.pressed("CA1", "9")
    assert scene.everything() == before


@on_sqlite("scene")
async def test_the_document_of_the_api_names_the_endpoint(scene: Scene) -> None:
    document = scene.caller.dialer.app.openapi()
    assert list(document["paths"]["/carriers/simulated"]) == ["post"]
    refused = await scene.caller.http.get("/carriers/simulated")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
