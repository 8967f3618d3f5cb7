"""What the vendors of real carriers report by themselves, signed as each of them signs, up to the dialer's database."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import itertools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlencode

import httpx2
import pytest
from pydantic import SecretStr

from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.carriers.base import ReportsCalls
from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig, HttpCarrier
from batchcall_mcp.dialer.carriers.vendors.bland import BlandCarrier
from batchcall_mcp.dialer.carriers.vendors.elevenlabs import ElevenLabsCarrier
from batchcall_mcp.dialer.carriers.vendors.retell import RetellCarrier
from batchcall_mcp.dialer.carriers.vendors.twilio import TwilioCarrier
from batchcall_mcp.dialer.carriers.vendors.vapi import VapiCarrier
from batchcall_mcp.settings import Settings
from tests.carriers.twilio import KEY, NUMBER, SECRET, Twilio
from tests.dialer.conftest import Caller, Clock, NewCaller, eventually

PUBLIC = "https://calls.example.com/hooks"
ONE = "+12132000000"
NOW = timedelta()
AGENTS = """
[reminder]
say = "Hello {{name}}. Press 1 to confirm, 9 to opt out."
keys = {1 = "confirmed", 9 = "do_not_call"}
"""
Headers: TypeAlias = Mapping[str, str]


@dataclass(frozen=True)
class Vendor:
    """How it reports a call, and how it signs that (its documents: see docs/carriers/README.md).

    `signed`: the headers of a body that was sent to a URL at a moment, with the key and the secret. `kept`: how long
    such a signature holds; None: it has no time. `signs_body`: not where a token comes along instead.
    """

    kind: type[HttpCarrier]
    body: bytes
    signed: Callable[[bytes, str, float, str, str], Headers]
    kept: timedelta | None = None
    needs_secret: bool = True
    signs_body: bool = True


def _hex(key: str, signed: bytes) -> str:
    return hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()


def _twilio(body: bytes, url: str, _at: float, _key: str, secret: str) -> Headers:
    fields = dict(pair.split("=", 1) for pair in body.decode("latin-1").split("&") if "=" in pair)
    signed = url + "".join(name + fields[name] for name in sorted(fields))
    digest = hmac.new(secret.encode(), signed.encode(), hashlib.sha1).digest()
    return {"X-Twilio-Signature": base64.b64encode(digest).decode()}


def _retell(body: bytes, _url: str, at: float, key: str, _secret: str) -> Headers:
    ms = str(round(at * 1000))
    return {"x-retell-signature": f"v={ms},d={_hex(key, body + ms.encode())}"}


def _elevenlabs(body: bytes, _url: str, at: float, _key: str, secret: str) -> Headers:
    seconds = str(int(at))
    return {"ElevenLabs-Signature": f"t={seconds},v0={_hex(secret, seconds.encode() + b'.' + body)}"}


def _bland(body: bytes, _url: str, _at: float, _key: str, secret: str) -> Headers:
    return {"X-Webhook-Signature": _hex(secret, body)}


def _vapi(_body: bytes, _url: str, _at: float, _key: str, secret: str) -> Headers:
    return {"X-Vapi-Secret": secret}


def _vapi_bearer(_body: bytes, _url: str, _at: float, _key: str, secret: str) -> Headers:
    return {"Authorization": f"Bearer {secret}"}


_VAPI = json.dumps({"message": {"type": "end-of-call-report", "call": {"id": "CA0123456789"}}}).encode()
VENDORS = {
    "twilio": Vendor(TwilioCarrier, b"CallSid=CA0123456789&CallStatus=completed", _twilio),
    "retell": Vendor(
        RetellCarrier,
        json.dumps({"event": "call_ended", "call": {"call_id": "CA0123456789"}}).encode(),
        _retell,
        timedelta(minutes=5),
        needs_secret=False,
    ),
    "elevenlabs": Vendor(
        ElevenLabsCarrier,
        json.dumps({"type": "post_call_transcription", "data": {"conversation_id": "CA0123456789"}}).encode(),
        _elevenlabs,
        timedelta(minutes=30),
    ),
    "vapi": Vendor(VapiCarrier, _VAPI, _vapi, signs_body=False),
    "vapi by a bearer token": Vendor(VapiCarrier, _VAPI, _vapi_bearer, signs_body=False),
    "bland": Vendor(BlandCarrier, json.dumps({"call_id": "CA0123456789"}).encode(), _bland),
}


class Desk:
    """A dialer of one vendor that only serves; what its carrier hears is kept."""

    def __init__(self, vendor: Vendor, caller: Caller, carrier: HttpCarrier, heard: list[tuple[str, bytes]]) -> None:
        self.vendor, self.caller, self.carrier, self.heard = vendor, caller, carrier, heard

    def headers(
        self, body: bytes, *, key: str = "key", secret: str = "secret", ago: timedelta = timedelta()
    ) -> Headers:
        url = f"{PUBLIC}/carriers/{self.carrier.name}"
        return self.vendor.signed(body, url, (self.caller.clock() - ago).timestamp(), key, secret)

    async def post(self, body: bytes, headers: Headers, name: str | None = None) -> httpx2.Response:
        path = f"/carriers/{name or self.carrier.name}"
        return await self.caller.http.post(path, content=body, headers=dict(headers))


@pytest.fixture(params=VENDORS)
async def desk(
    request: pytest.FixtureRequest, new_caller: NewCaller, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Any:
    vendor = VENDORS[request.param]
    config = config_of(tmp_path)
    carrier = vendor.kind(config, now=clock)
    heard: list[tuple[str, bytes]] = []
    monkeypatch.setattr(carrier, "heard", lambda call_id, body: heard.append((call_id, body)))
    async with new_caller(start=False, carrier=carrier, public_url=config.public_url) as caller:
        yield Desk(vendor, caller, carrier, heard)


def config_of(folder: Path, **changed: Any) -> CarrierConfig:
    agents = folder / "agents.toml"
    agents.write_text(AGENTS)
    given: dict[str, Any] = {"key": SecretStr("key"), "secret": SecretStr("secret")}
    return CarrierConfig(**{**given, "agents": agents, "public_url": PUBLIC, **changed})


async def test_a_report_that_the_vendor_has_signed_is_heard(desk: Desk) -> None:
    assert isinstance(desk.carrier, ReportsCalls)
    body = desk.vendor.body
    answer = await desk.post(body, desk.headers(body))
    assert (answer.status_code, answer.content) == (200, b"")
    assert desk.heard == [("CA0123456789", body)]


async def test_without_its_signature_nothing_is_heard(desk: Desk) -> None:
    body = desk.vendor.body
    right = desk.headers(body)
    (name,) = right
    refused: list[tuple[bytes, Headers]] = [
        (body, {}),
        (body, {name: ""}),
        (body, {name: "é"}),
        (body, {name: right[name] + "0"}),
        (body, {name: right[name][:-1]}),
        *([(body.replace(b"CA0123456789", b"CA0123456780"), right)] if desk.vendor.signs_body else []),
        (body, desk.headers(body, key="another", secret="another")),
        (body, desk.headers(body, key="", secret="")),
    ]
    for sent, headers in refused:
        sendable = {key.encode(): value.encode() for key, value in headers.items()}
        answer = await desk.caller.http.post(f"/carriers/{desk.carrier.name}", content=sent, headers=sendable)
        assert answer.status_code == 401
        assert answer.json()["code"] == "authentication_failed"
    assert desk.heard == []


async def test_a_report_that_was_signed_too_long_ago_is_not_heard(desk: Desk) -> None:
    body, kept = desk.vendor.body, desk.vendor.kept
    if kept is None:
        pytest.skip("this vendor signs no time: what comes again only makes a call be read again")
    second = timedelta(seconds=1)
    statuses = [
        (await desk.post(body, desk.headers(body, ago=ago))).status_code
        for ago in (kept - second, second - kept, kept + second, -kept - second)
    ]
    assert statuses == [200, 200, 401, 401]
    assert len(desk.heard) == 2


async def test_another_vendor_s_name_is_not_found_however_it_is_signed(desk: Desk) -> None:
    body = desk.vendor.body
    for name in {vendor.kind.name for vendor in VENDORS.values()} - {desk.carrier.name}:
        assert (await desk.post(body, desk.headers(body), name)).status_code == 404
    assert desk.heard == []


@pytest.mark.parametrize("body", [b"", b"\xff\xfe\x00", b"[" * 100_000, b"null", b'{"call":7,"data":[],"call_id":{}}'])
async def test_what_is_signed_and_cannot_be_understood_is_answered_and_changes_nothing(desk: Desk, body: bytes) -> None:
    body = body[:60_000]
    answer = await desk.post(body, desk.headers(body))
    assert answer.status_code in ({200, 401} if desk.carrier.name == "twilio" else {200})
    assert desk.heard == []


async def test_without_a_secret_that_it_needs_every_report_is_refused(
    desk: Desk, new_caller: NewCaller, clock: Clock, tmp_path: Path
) -> None:
    if desk.carrier.name == "twilio" or not desk.vendor.needs_secret:
        pytest.skip("its own key signs, or it does not start without")
    carrier = desk.vendor.kind(config_of(tmp_path, secret=None), now=clock)
    body = desk.vendor.body
    url = f"{PUBLIC}/carriers/{carrier.name}"
    for secret in ("", "key", "None"):
        headers = desk.vendor.signed(body, url, clock().timestamp(), "key", secret)
        assert not carrier.verify({name.lower(): value for name, value in headers.items()}, body, url)


@pytest.mark.sweep
async def test_without_a_public_url_there_is_no_such_path(desk: Desk, new_caller: NewCaller, tmp_path: Path) -> None:
    async with new_caller(start=False, carrier=desk.carrier, folder=tmp_path / "other") as caller:
        answer = await caller.http.post(f"/carriers/{desk.carrier.name}", content=b"")
        assert answer.status_code == 404
        assert "/carriers" not in str(caller.dialer.app.openapi()["paths"].keys())


async def test_the_settings_of_the_dialer_have_the_path(tmp_path: Path) -> None:
    account = {"carrier": "retell", "carrier_key": "key_1", "public_url": f"{PUBLIC}/"}
    settings = Settings(data_dir=tmp_path, **account)  # type: ignore[arg-type]
    dialer = EmbeddedDialer.of(settings)
    assert "/carriers/retell" in dialer.app.openapi()["paths"]
    await dialer.aclose()


async def test_a_call_over_twilio_is_read_when_it_is_reported_and_the_key_is_its_choice(
    new_caller: NewCaller, clock: Clock, tmp_path: Path
) -> None:
    """A real call against the strict fake, in which no time passes: only reports move it on."""
    vendor = Twilio(clock=clock)

    waits = asyncio.Event()

    async def until_reported(_seconds: float) -> None:
        waits.set()
        await asyncio.Event().wait()

    async with vendor.served() as url:
        config = config_of(tmp_path, key=SecretStr(KEY), secret=SecretStr(SECRET), url=url)
        seconds = itertools.count()  # a second for each look at it: no read waits for its turn
        carrier = TwilioCarrier(config, now=clock, sleep=until_reported, clock=lambda: float(next(seconds)))
        async with new_caller(carrier=carrier, public_url=PUBLIC) as caller:
            created = await caller.ask(
                "POST",
                "/batch-call",
                {
                    "from_number": NUMBER,
                    "agent_id": "reminder",
                    "tasks": [{"to_number": ONE, "dynamic_variables": {"name": "Ann"}}],
                    "window": {"start": "00:00", "end": "24:00"},
                    "send_now": True,
                },
            )
            batch_call_id = created["batch_call_id"]
            await eventually(lambda: bool(vendor.calls))
            ((sid, call),) = vendor.calls.items()
            await eventually(waits.is_set)
            action = call.document.find("Gather")
            assert action is not None
            assert action.get("action") == f"{PUBLIC}/carriers/twilio"

            async def reported(**fields: str) -> str:
                sent = {"CallSid": sid, "From": NUMBER, "To": ONE, "Direction": "outbound-api", **fields}
                signature = vendor.signature(f"{PUBLIC}/carriers/twilio", sent)
                answer = await caller.http.post(
                    "/carriers/twilio", content=urlencode(sent), headers={"X-Twilio-Signature": signature}
                )
                assert answer.status_code == 200
                return answer.text

            def reads() -> int:
                return sum(one.method == "GET" and one.path.endswith(f"{sid}.json") for one in vendor.requests)

            before = reads()
            assert await reported(CallStatus="completed", Digits="1") == "<Response><Hangup /></Response>"
            await eventually(lambda: reads() > before)
            (task,) = await caller.tasks(batch_call_id)
            assert (task["status"], task["choice"]) == ("calling", "confirmed")  # the body is not the outcome
            for word in ("in-progress", "completed"):  # each read moves the fake on by a step
                before = reads()
                await reported(CallStatus=word)
                await eventually(lambda: reads() > before)  # noqa: B023 - at once
            await caller.until_status(batch_call_id, "completed")
            (task,) = await caller.tasks(batch_call_id)
            assert (task["status"], task["choice"]) == ("completed", "confirmed")
            before = reads()
            await reported(Digits="9")
            assert [row["to_number"] for row in (await caller.ask("GET", "/do-not-call"))["do_not_call"]] == [ONE]
            assert reads() == before
    assert [number for number, _ in vendor.rung] == [ONE]
