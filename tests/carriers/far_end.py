"""What the fakes share: phones that behave by their last digit, and faults that a test asks for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.vendors.serving import Recorded, Recording, Simulated

Answer: TypeAlias = Literal["answered", "short", "no_answer", "busy", "voicemail", "failed"]
_BY_DIGIT: Mapping[str, Answer] = {"4": "short", "7": "busy", "8": "voicemail", "9": "failed"}


JUNK: tuple[Any, ...] = (None, True, 7, -1, 1e300, "?" * 2000, "\x00<b>", [], [[7]], {}, {"status": {}})
"""What no document has at any place."""


class Refused(Exception):
    """An error answer."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(body)
        self.response = JSONResponse(body, status, headers)


@dataclass(frozen=True)
class _Fault:
    status: int
    headers: Mapping[str, str]
    body: Any
    rings: bool


class FarEnd(Simulated):
    """A vendor that is played. `rung`: each phone that rang, and when. `says`: odd answers, by path.

    Nothing happens by itself: a call goes on with each look at it, and is over at the look number `looks`.
    """

    key: str
    looks = 3

    def __init__(self, routes: Sequence[Route], is_create: Callable[[Recorded], bool]) -> None:
        self.clock: Callable[[], datetime] = lambda: datetime.now(UTC)
        self.rung: list[tuple[str, datetime]] = []
        self._faults: deque[_Fault] = deque()
        self.says: dict[str, Any] = {}
        app = Starlette(routes=list(routes), exception_handlers={Refused: _answer_refusal})

        async def answers(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope.get("path")
            await (JSONResponse(self.says[path]) if path in self.says else app)(scope, receive, send)

        self.recording = Recording(answers, is_create)

    @property
    def creates(self) -> list[Recorded]:
        """The requests that ask for a call."""
        return self.writes

    def drop_create_answer(self) -> None:
        """The phone of the next create rings, and its answer breaks off."""
        self.recording.swallow_next_write = True

    def status(
        self, status: int, retry_after: int | None = None, *, body: Any = None, times: int = 1, rings: bool = False
    ) -> None:
        """What the next creates are answered with. `rings`: they take effect nevertheless."""
        headers = {} if retry_after is None else {"retry-after": str(retry_after)}
        self._faults += [_Fault(status, headers, {} if body is None else body, rings)] * times

    def fault(self, ring: Callable[[], Any]) -> None:
        """The fault that was asked for, if any; `ring` lets the phone ring.

        Raises:
            Refused: it.
        """
        if not self._faults:
            return
        fault = self._faults.popleft()
        if fault.rings:
            ring()
        raise Refused(fault.status, fault.body, fault.headers)

    def ring(self, number: str) -> Answer:
        """A phone rings; what will come of it."""
        before = sum(one == number for one, _ in self.rung)
        self.rung.append((number, self.clock()))
        if number.endswith("6") and not before:
            return "no_answer"
        return _BY_DIGIT.get(number[-1], "answered")


async def _answer_refusal(_request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return refused.response
