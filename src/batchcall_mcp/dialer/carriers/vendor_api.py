"""Asking a vendor over HTTP on behalf of one carrier: reads in their pace, and a create that leaves at most once.

Nothing here repeats a request and nothing follows a redirect. What an answer means for a call is the carrier's to say.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Final

import anyio
import httpx2

from batchcall_mcp.clock import Clock, retry_after
from batchcall_mcp.dialer.carriers.base import CarrierUnavailable, Line
from batchcall_mcp.dialer.carriers.reading import Pace
from batchcall_mcp.vendor_http.client import Failed, may_go_to, one_try, open_client, request_of
from batchcall_mcp.vendor_http.http_call import HttpCall
from batchcall_mcp.vendor_http.http_errors import Answer, backend_said, backend_words, error_body, harmless, plain
from batchcall_mcp.vendor_http.json_values import unpacked

LOG = logging.getLogger(__name__)
READ_S: Final = 15.0
CREATE_S: Final = 30.0
"""Some vendors set up the whole call before they answer."""
STALE_S: Final = 10.0
"""A connection that was open for longer before its request may be closed at the far end: the answer would be lost."""
ARRIVES_S: Final = 0.05
"""So long after its last byte a request for a call may take to arrive: a pause that answers meanwhile waits for that.
Longer ones would hold up the engine, which has one permit at a time."""
LATER_S: Final = 5.0
"""At the earliest so long after a refusal for the moment a call is placed again."""
KEY_REFUSED: Final = frozenset({401, 402, 403})
TOO_MANY: Final = 429
_SHORTEST_SECRET: Final = 8
"""A shorter value of a header is a version or the like, and part of ordinary words."""
_GAVE_UP: Final = frozenset({408, 425})
"""The vendor gave up on the request: that is no refusal."""


class Refused(CarrierUnavailable):
    """The vendor's no (4xx, or 501): nothing was done. `body`: its JSON, else its text; `said`: its words as a
    sentence that can be shown, or "".
    """

    def __init__(self, title: str, status: int, body: Any, said: str, wait: float | None) -> None:
        super().__init__(f"{title} answered HTTP {status}.{said}", retry_after=wait)
        self.status = status
        self.body = body
        self.said = said


class Lost(Exception):
    """The request for a call may have arrived, and its answer does not say what came of it. The text says why.

    `is_turned_away`: a plain 503, which is how a service says that it has not looked at it.
    """

    def __init__(self, why: str, *, is_turned_away: bool = False, wait: float | None = None) -> None:
        super().__init__(why)
        self.is_turned_away = is_turned_away
        self.retry_after = wait


class VendorApi:
    """The connections to a vendor: some are kept for reads, and whatever changes something has a new one.

    A connection that was kept may be closed at the far end just when a create leaves on it, and its answer would be
    lost. `auth` gives the headers with the key; `secrets` are taken out of every text that comes back.
    """

    def __init__(
        self,
        title: str,
        base_url: str,
        auth: Callable[[], Mapping[str, str]],
        secrets: tuple[str, ...],
        pace: Pace,
        now: Clock,
    ) -> None:
        self._title = title
        self._base_url = base_url.rstrip("/")
        self._auth = auth
        self._given_secrets = secrets
        self._pace = pace
        self._now = now
        self._kept = open_client()
        self._fresh = open_client(kept_alive=0)
        self.ahead = timedelta(0)
        """How much later it is by the vendor's clock than by ours, to the second."""
        self.says_time = False
        """Whether that is known."""

    async def read(self, call: HttpCall, url: str | None = None) -> Any:
        """The JSON of an answer to a request that may be made at any time; None, where there is none.

        `url`: an address that the vendor named. It gets no key.

        Raises:
            CarrierUnavailable: no answer, or none that can be read now.
            Refused: the vendor's no.
        """
        if url is not None and not may_go_to(url, self._base_url):
            raise CarrierUnavailable(f"{self._title} names an address that is not https, or not on the internet")
        await self._pace.turn()
        headers = self._auth() if url is None else {}
        client = self._kept if call.method == "GET" else self._fresh
        request = request_of(client, call, url or self._base_url + call.path, headers, READ_S)
        result = await one_try(request, READ_S)
        answer = self._answer(result, READ_S)
        if answer.status == TOO_MANY:
            self._pace.slower(self._wait(answer))
        else:
            self._pace.taken()
        if (400 <= answer.status < 500 and answer.status not in _GAVE_UP) or answer.status == 501:  # noqa: PLR2004 - HTTP
            raise self._refused(answer)
        body = unpacked(answer.body) if answer.body.strip() else None
        if not 200 <= answer.status < 300 or (answer.body.strip() and body is None):  # noqa: PLR2004 - HTTP
            raise CarrierUnavailable(f"{self._title} gave no readable answer (HTTP {answer.status})")
        return body

    async def create(self, call: HttpCall, line: Line, hidden: tuple[str, ...]) -> dict[str, Any]:
        """The JSON of the answer to the one request that asks for a call. `hidden`: is taken out of words as well.

        Raises:
            CarrierUnavailable: nothing left.
            NoLongerWanted: from `line`; nothing left.
            Refused: the vendor's no; nobody is rung.
            Lost: it left, and whether somebody is rung is not known.
        """
        limit = anyio.CancelScope()
        permit = _Permit(line, self._title, limit)
        url = self._base_url + call.path
        request = request_of(self._fresh, call, url, self._auth(), CREATE_S, {"trace": permit.trace})
        result = await one_try(lambda: permit.around(request), CREATE_S, limit)
        if isinstance(result, Failed) and permit.may_have_left:
            raise Lost(self._why(result, CREATE_S))
        answer = self._answer(result, CREATE_S)
        if 200 <= answer.status < 300:  # noqa: PLR2004 - HTTP
            body = unpacked(answer.body)
            if not isinstance(body, dict):
                raise Lost(f"{self._title} answered with something else than a JSON object")
            return body
        if answer.status < 400 or answer.status >= 500 or answer.status in _GAVE_UP:  # noqa: PLR2004 - HTTP
            why = f"{self._title} answered HTTP {answer.status}.{self._said(answer, hidden)}"
            raise Lost(why, is_turned_away=answer.status == 503, wait=self._wait(answer))  # noqa: PLR2004 - HTTP
        raise self._refused(answer, hidden)

    def words(self, text: str) -> str:
        """The vendor's words as they can be quoted: cut, without secrets, tags and what does not print."""
        return harmless(text, self._secrets)

    def said(self, text: str, hidden: tuple[str, ...]) -> str:
        """The same as a sentence, "" if nothing can be shown. `hidden`: is taken out as well."""
        return backend_said(text, (*self._secrets, *hidden), self._title)

    def plain(self, text: str, hidden: tuple[str, ...]) -> str:
        """The same of a sentence that quotes them."""
        return plain(text, (*self._secrets, *hidden))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._kept.aclose()
        await self._fresh.aclose()

    @property
    def _secrets(self) -> tuple[str, ...]:
        """Also as they stand in the headers, which some servers echo."""
        headers = (value.rpartition(" ")[2] for value in self._auth().values())
        return (*self._given_secrets, *(value for value in headers if len(value) >= _SHORTEST_SECRET))

    def _answer(self, result: Answer | Failed, limit_s: float) -> Answer:
        if isinstance(result, Failed):
            raise CarrierUnavailable(self._why(result, limit_s), retry_after=LATER_S, whole_account=True)
        if "age" not in result.headers:  # else it is from a cache, and as old as that
            self._set_clock(result.headers.get("date"))
        return result

    def _set_clock(self, date: str | None) -> None:
        with suppress(ValueError, TypeError):  # what is no date says nothing
            self.ahead = parsedate_to_datetime(date or "") - self._now()
            self.says_time = True

    def _why(self, failed: Failed, limit_s: float) -> str:
        return failed.why.format(who=self._title, url=self._base_url, limit_s=limit_s)

    def _refused(self, answer: Answer, hidden: tuple[str, ...] = ()) -> Refused:
        return Refused(self._title, answer.status, error_body(answer), self._said(answer, hidden), self._wait(answer))

    def _said(self, answer: Answer, hidden: tuple[str, ...]) -> str:
        return self.said(backend_words(error_body(answer)), hidden)

    def _wait(self, answer: Answer) -> float | None:
        return retry_after(answer.headers.get("retry-after"), self._now())


class _Permit:
    """Holds `Line.sending` from the moment in which the connection is open until the request has arrived: its answer
    begins, or `ARRIVES_S` are over since it was written.

    `limit`: that of the whole request. While the engine lets it wait, for the account's pace, it does not run.
    """

    def __init__(self, line: Line, title: str, limit: anyio.CancelScope) -> None:
        self._line = line
        self._title = title
        self._limit = limit
        self._held = AsyncExitStack()
        self._arriving: asyncio.Task[None] | None = None
        self.may_have_left = False

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by the HTTP client at each step; what it raises ends the request."""
        if event.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":  # a proxy's tunnel
            opened = anyio.current_time()
            self._limit.deadline = math.inf
            await self._held.enter_async_context(self._line.sending())
            let_go = anyio.current_time()
            self._limit.deadline = let_go + CREATE_S
            if let_go - opened > STALE_S:
                why = f"the connection to {self._title} stood open for too long before the call could be asked for"
                raise CarrierUnavailable(why, retry_after=LATER_S)
            self.may_have_left = True
        elif self.may_have_left and event.endswith("send_request_body.complete"):
            self._arriving = asyncio.ensure_future(self._release_in_time())
        elif self.may_have_left and event.endswith("receive_response_headers.complete"):
            await self._release()

    @asynccontextmanager
    async def around(
        self, request: Callable[[], AbstractAsyncContextManager[httpx2.Response]]
    ) -> AsyncIterator[httpx2.Response]:
        """The request; whatever becomes of it, nothing is held after it."""
        try:
            async with request() as response:
                yield response
        finally:
            if self._arriving is not None:
                self._arriving.cancel()
            await self._release()

    async def _release_in_time(self) -> None:
        await asyncio.sleep(ARRIVES_S)
        await self._release()

    async def _release(self) -> None:
        try:
            with anyio.CancelScope(shield=True):
                await self._held.aclose()
        except Exception:
            # The request has left: its answer is worth more than what failed here.
            LOG.exception("What held the batch call still while a request left could not be let go properly")
