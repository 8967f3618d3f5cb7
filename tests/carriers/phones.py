"""What the fakes of Retell and Vapi share: phones that behave by their last digit, faults by name, requests recorded.

Time is the fake's own, in seconds: `pass_time` moves it, and a carrier under test sleeps by it. With `speed` it passes
by itself, so many times as fast as the real one.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, Literal, TypeVar

from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig, HttpCarrier
from tests.vendors.serving import Recording, Simulated

T = TypeVar("T", bound=HttpCarrier)
RINGING = 2.0
E164 = re.compile(r"\+[1-9][0-9]{6,14}")
End = Literal["answered", "short", "no_answer", "busy", "voicemail", "failed"]
_LASTS: Mapping[End, tuple[float, float]] = {
    "answered": (RINGING, 20.0),
    "short": (RINGING, 3.0),
    "no_answer": (20.0, 0.0),
    "busy": (0.5, 0.0),
    "voicemail": (RINGING, 6.0),
    "failed": (0.2, 0.0),
}
"""Seconds until it is answered or given up, and seconds of talk."""


def end_of(number: str, before: int) -> End:
    """How a call to a number ends that was rung `before` times. Last digit as the simulator has them."""
    by_digit: Mapping[str, End] = {"4": "short", "7": "busy", "8": "voicemail", "9": "failed"}
    return "no_answer" if number[-1] == "6" and not before else by_digit.get(number[-1], "answered")


@dataclass
class Phone:
    """One call: when it was asked for, when somebody answered, and when it is over; all by the fake's time."""

    id: str
    body: Mapping[str, Any]
    number: str
    asked: datetime
    end: End
    word: str | None = None
    """The vendor's word for its end; None: what the vendor says for this kind of end."""
    waits: bool = False
    """It has no free line yet: nobody is rung."""
    stopped: datetime | None = None
    more: dict[str, Any] = field(default_factory=dict)
    """Members that its answers have in addition."""

    @property
    def answered(self) -> datetime:
        """When somebody answered it, or it was given up."""
        return self.asked + timedelta(seconds=_LASTS[self.end][0])

    @property
    def over(self) -> datetime:
        """When it is over."""
        return self.stopped or self.answered + timedelta(seconds=_LASTS[self.end][1])

    @property
    def talked(self) -> float:
        """Seconds; 0: nobody answered."""
        return max((self.over - self.answered).total_seconds(), 0.0)


class Refused(Exception):
    """An error answer of the vendor."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(str(body))
        self.response = JSONResponse(body, status, headers=dict(headers or {}))


class Phones(Simulated):
    """`rung`: whose phone rang and when. `fail_next`: what the next creates answer instead of placing a call."""

    def __init__(self, routes: Sequence[Route], key: str, create: str) -> None:
        self.key = key
        self._begun, self._moved = datetime.now(UTC).replace(microsecond=0), 0.0
        self._started, self.speed = monotonic(), 0.0
        self._later: list[tuple[float, Callable[[], None]]] = []
        self.rung: list[tuple[str, datetime]] = []
        self.phones: dict[str, Phone] = {}
        self.fail_next: list[Refused] = []
        self.without: set[str] = set()
        """Paths that this version of the API does not have."""
        self.next_word: str | None = None
        """How the next call ends, in the vendor's word."""
        self.recording = Recording(
            Starlette(routes=list(routes), exception_handlers={Refused: _refusal, HTTPException: self._not_there}),
            lambda one: one.method == "POST" and one.path == create,
        )

    @property
    def creates(self) -> list[Any]:
        """The bodies of all requests that ask for a call, in order."""
        return [one.json for one in self.writes]

    @property
    def _elapsed(self) -> float:
        return self._moved + self.speed * (monotonic() - self._started)

    @property
    def now(self) -> datetime:
        """What time it is."""
        return self._begun + timedelta(seconds=self._elapsed)

    def pass_time(self, seconds: float) -> None:
        """Move its time."""
        self._moved += seconds
        while self._later and self._later[0][0] <= self._elapsed:
            self._later.pop(0)[1]()

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something when so much time has passed."""
        self._later = sorted([*self._later, (self._elapsed + seconds, act)], key=lambda one: one[0])

    async def sleep(self, seconds: float) -> None:
        """For a carrier: its waits are the time that passes here."""
        if self.speed:
            await asyncio.sleep(seconds / self.speed)
            return
        await asyncio.sleep(0)
        self.pass_time(seconds)

    def clock(self) -> float:
        """The same time, in seconds; moments are less exact."""
        return self._elapsed

    @asynccontextmanager
    async def carrier(self, kind: type[T], **settings: Any) -> AsyncIterator[T]:
        """A carrier of this vendor, by the time of the fake."""
        async with self.served() as url, self.carrier_at(kind, url, **settings) as made:
            yield made

    @asynccontextmanager
    async def carrier_at(self, kind: type[T], url: str, **settings: Any) -> AsyncIterator[T]:
        """The same, of a fake that is served already."""
        made = kind(
            replace(CarrierConfig(key=SecretStr(self.key), url=url), **settings),
            clock=self.clock,
            sleep=self.sleep,
            now=lambda: self.now,
        )
        try:
            yield made
        finally:
            await made.aclose()

    def drop_create_answer(self) -> None:
        """The next create takes effect, and its answer breaks off."""
        self.recording.swallow_next_write = True

    def status(self, status: int, message: str = "try later", *, retry_after: int | None = None) -> None:
        """The next create is answered by this status, and places no call."""
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        self.fail_next.append(Refused(status, self.error(status, message), headers))

    def error(self, status: int, message: str) -> Any:
        """How this vendor writes an error down."""
        raise NotImplementedError

    def place(self, call_id: str, body: Mapping[str, Any], number: str, *, waits: bool = False) -> Phone:
        """Ring a phone, where there is a free line."""
        before = sum(one == number for one, _ in self.rung)
        phone = Phone(call_id, body, number, self.now, end_of(number, before), self.next_word, waits)
        self.next_word = None
        self.phones[call_id] = phone
        if not waits:
            self.rung.append((number, self.now))
        return phone

    def check_key(self, request: Request) -> None:
        """Refuse what does not carry the key as a bearer token."""
        if request.url.path in self.without:
            raise HTTPException(404)
        if request.headers.get("authorization") != f"Bearer {self.key}":
            raise Refused(401, self.error(401, "the key is not valid"))

    def take_fault(self) -> None:
        """Answer a create with the next fault, if one waits."""
        if self.fail_next:
            raise self.fail_next.pop(0)

    async def json(self, request: Request) -> dict[str, Any]:
        """The body, which has to be a JSON object and say so."""
        if request.headers.get("content-type", "").split(";")[0] != "application/json":
            raise Refused(400, self.error(400, "the body is not JSON"))
        found = json.loads(await request.body())
        if not isinstance(found, dict):
            raise Refused(400, self.error(400, "the body is not an object"))
        return found

    def _not_there(self, _request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse(self.error(error.status_code, "there is nothing here"), error.status_code)


def _refusal(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response
