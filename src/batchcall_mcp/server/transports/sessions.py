"""How many sessions and SSE connections there may be, of one caller and of all, and whose end first. Pure ASGI.

A server whose backend is elsewhere cannot know by itself which key pairs are real. A session whose pair the backend has
never accepted is a stranger's: it stays as long as there is room, and ends first when there is none. A newcomer takes
its place only with a pair that the backend accepts, which is asked then; so strangers do not displace each other.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import anyio
from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.server.credentials import AcceptedPairs
from batchcall_mcp.server.transports.access import caller_of, json_rpc_refusal, refusal
from batchcall_mcp.server.transports.pair_checks import PairChecks

SESSION_HEADER = "mcp-session-id"
VERSION_HEADER = "mcp-protocol-version"

_LEEWAY_S = 1.0
"""An idle session is counted for this much longer than the SDK keeps it: never more may be open than counted."""


@dataclass(eq=False, slots=True, kw_only=True)
class Session:
    """A session or a stream. `ident` is None until the request that opens it is answered; `used` in clock seconds.

    `close` ends the request that opens it: an SSE connection, or a session that has no id yet.
    """

    caller: str
    used: float
    close: Callable[[], object] = lambda: None
    under_way: int = 1
    ident: str | None = None


def own_to_end(sessions: Iterable[Session], caller: str) -> Session | None:
    """The caller's session that was used longest ago and has no request under way. Pure."""
    idle = (one for one in sessions if one.caller == caller and not one.under_way)
    return min(idle, key=lambda one: one.used, default=None)


def stranger_to_end(sessions: Iterable[Session], accepted: AcceptedPairs) -> Session | None:
    """The stranger's session that was used longest ago, in use or not: to use it costs nothing. Pure."""
    strange = (one for one in sessions if one.caller not in accepted)
    return min(strange, key=lambda one: one.used, default=None)


@dataclass(eq=False, kw_only=True)
class Bounded(ABC):
    """What sessions and streams share: counting, and making room.

    `most` of all callers together, and `most_per_caller`; `refused` makes the answer to a caller without a place.
    """

    refused: Callable[[int, str], JSONResponse] = field(init=False)  # a subclass says which
    app: ASGIApp = field(kw_only=False)
    path: str
    most: int
    most_per_caller: int
    idle_timeout_s: float
    checks: PairChecks
    all: list[Bounded] = field(default_factory=list)
    """Where it puts itself, for whoever counts what is open."""
    sessions: list[Session] = field(default_factory=list, init=False)
    _making_room: anyio.Lock = field(default_factory=anyio.Lock, init=False)

    def __post_init__(self) -> None:
        self.all.append(self)

    @abstractmethod
    async def end(self, session: Session, scope: Scope) -> None:
        """End a session that is counted no longer; `scope` is the request that needs its place."""

    def current(self) -> Sequence[Session]:
        """The sessions that the SDK has not ended for idleness; a stream is never idle."""
        since = time.monotonic() - self.idle_timeout_s - _LEEWAY_S
        self.sessions = [one for one in self.sessions if one.under_way or one.used > since]
        return self.sessions

    def forget(self, session: Session) -> None:
        if session in self.sessions:
            self.sessions.remove(session)

    async def admitted(self, scope: Scope) -> Session | JSONResponse:
        """A counted place for the session that a request opens, made free where it must be."""
        caller: str = scope["user"].username
        checked = caller in self.checks.accepted
        while True:
            async with self._making_room:
                place = await self._place(caller, scope)
            if place is not None:
                return place
            if checked:
                return self.refused(503, f"{self.most} sessions are open. Nothing was sent. Try again later.")
            refused = await self._not_accepted(scope)
            if refused is not None:
                return refused
            checked = True

    async def _place(self, caller: str, scope: Scope) -> Session | JSONResponse | None:
        """A place; a refusal; None where there is none for a caller who is not accepted, or for anybody."""
        current = self.current()
        ended: Session | None = None
        if sum(one.caller == caller for one in current) >= self.most_per_caller:
            ended = own_to_end(current, caller)
            if ended is None:
                return self.refused(
                    429,
                    f"This key pair has {self.most_per_caller} sessions open, and all are in use. Nothing was "
                    "sent. Close one, then try again.",
                )
        elif len(current) >= self.most:
            ended = stranger_to_end(current, self.checks.accepted) if caller in self.checks.accepted else None
            if ended is None:
                return None
        session = Session(caller=caller, used=time.monotonic())
        self.sessions.append(session)
        if ended is not None:
            self.forget(ended)
            await self.end(ended, scope)
        return session

    async def _not_accepted(self, scope: Scope) -> JSONResponse | None:
        """None where the backend accepts the pair of a request, else the refusal."""
        try:
            known = await self.checks.accepts(scope)
        except BatchCallError:
            return self.refused(
                503,
                f"{self.most} sessions are open, and the backend could not be asked about this key pair. Nothing "
                "was sent. Try again later.",
            )
        if known:
            return None
        return self.refused(
            401,
            f"{self.most} sessions are open, and the backend does not accept this key pair. Nothing was sent. "
            "Check the headers X-API-KEY and X-API-SECRET.",
        )


class BoundedSessions(Bounded):
    """Bounds the sessions of streamable HTTP. Requests of the protocol without sessions pass."""

    refused = staticmethod(json_rpc_refusal)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" and scope["path"] == self.path else None
        if headers is None or headers.get(VERSION_HEADER, HANDSHAKE_PROTOCOL_VERSIONS[0]) not in (
            HANDSHAKE_PROTOCOL_VERSIONS
        ):
            await self.app(scope, receive, send)
        elif SESSION_HEADER in headers:
            await self._go_on(headers[SESSION_HEADER], scope, receive, send)
        else:
            place = await self.admitted(scope)
            if isinstance(place, JSONResponse):
                await place(scope, receive, send)
            else:
                await self._open(place, scope, receive, send)

    async def end(self, session: Session, scope: Scope) -> None:
        if session.ident is None:
            session.close()
            return
        headers = [(SESSION_HEADER.encode(), session.ident.encode())]

        async def nothing() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def unheard(_message: Message) -> None:
            """Nobody waits for that answer."""

        request = {**scope, "method": "DELETE", "headers": headers, "user": caller_of(session.caller)}
        await self.app(request, nothing, unheard)

    async def _open(self, session: Session, scope: Scope, receive: Receive, send: Send) -> None:
        started = False
        opening = anyio.CancelScope()
        session.close = opening.cancel

        async def learning(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if message["status"] < 400:  # noqa: PLR2004 - HTTP
                    session.ident = Headers(raw=message["headers"]).get(SESSION_HEADER)
            await send(message)

        try:
            with opening:
                await self.app(scope, receive, learning)
        finally:
            self._left(session)
            if session.ident is None:
                self.forget(session)
        if opening.cancelled_caught and not started:
            displaced = self.refused(503, "The session ended before it was open. Nothing was sent. Try again later.")
            await displaced(scope, receive, send)

    async def _go_on(self, ident: str, scope: Scope, receive: Receive, send: Send) -> None:
        caller = scope["user"].username
        session = next((one for one in self.sessions if one.ident == ident and one.caller == caller), None)
        if session is None:
            await self.app(scope, receive, send)
            return

        async def noticing(message: Message) -> None:
            ended = scope["method"] == "DELETE" and message.get("status") == 200  # noqa: PLR2004 - HTTP
            if ended or message.get("status") == 404:  # noqa: PLR2004 - HTTP
                self.forget(session)
            await send(message)

        session.under_way += 1
        try:
            await self.app(scope, receive, noticing)
        finally:
            self._left(session)

    def _left(self, session: Session) -> None:
        session.under_way -= 1
        session.used = time.monotonic()


class BoundedStreams(Bounded):
    """Bounds the connections of SSE, and ends each with one response.

    When a stream has ended, mcp 2.3 sends an empty response after it, which uvicorn reports as a crash.
    """

    refused = staticmethod(refusal)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; an SSE connection is one request as long as it lasts."""
        if scope["type"] != "http" or scope["path"] != self.path:
            await self.app(scope, receive, send)
            return
        place = await self.admitted(scope)
        if isinstance(place, JSONResponse):
            await place(scope, receive, send)
            return
        started = ended = False
        over = anyio.Event()
        place.close = over.set

        async def send_one_response(message: Message) -> None:
            nonlocal started, ended
            if ended or (started and message["type"] == "http.response.start"):
                return
            started = True
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        try:
            await self.app(scope, _until(over, receive), send_one_response)
        finally:
            self.forget(place)

    async def end(self, session: Session, scope: Scope) -> None:  # noqa: ARG002 - as of `Bounded`
        session.close()


def _until(over: anyio.Event, receive: Receive) -> Receive:
    """A receive to which the client seems gone when `over` is set: the SDK then closes what it has open for it."""

    async def received() -> Message:
        messages: list[Message] = []

        async def from_client() -> None:
            messages.append(await receive())
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(from_client)
            await over.wait()
            group.cancel_scope.cancel()
        return messages[0] if messages else {"type": "http.disconnect"}

    return received
