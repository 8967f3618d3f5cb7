"""One try to deliver a webhook message: signed, sent to an address that was judged, and what came of it."""

from __future__ import annotations

import base64
import hmac
import math
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from http import HTTPStatus
from typing import Final, TypeVar

import anyio
import httpx2

from batchcall_mcp import __version__, clock
from batchcall_mcp.signed_http.url_policy import Destination, NotAllowed, WebhookAddresses

T = TypeVar("T")

TIME_LIMIT: Final = timedelta(seconds=10)
"""For a try as a whole, from looking the host up to the first line of the answer."""
_CONNECT_S: Final = 4.0
_LOOKED_UP_AT_ONCE: Final = 20


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is sent, and where."""

    message_id: str
    payload: str
    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a try. `error` is None: delivered. It repeats nothing of the URL, the secret or the answer.

    Attributes:
        error: why it was not delivered.
        retry_after: how long the receiver wants to be left alone, if it says so.
        gone: the receiver wants this message never again.
    """

    error: str | None = None
    retry_after: timedelta | None = None
    gone: bool = False


class Post:
    """Sends messages."""

    def __init__(self, addresses: WebhookAddresses, tls: ssl.SSLContext | None = None) -> None:
        self._addresses = addresses
        self._given_tls = tls
        # Threads of its own kind: resolvers that hang hold up webhooks, and nothing else of this process.
        self._resolvers = anyio.CapacityLimiter(_LOOKED_UP_AT_ONCE)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made for the first message: reading the authorities takes 30 ms, and most dialers have no webhook."""
        return self._given_tls or httpx2.create_ssl_context()

    async def send(self, message: Message, now: datetime) -> Result:
        """Try once. Raises nothing but cancellation: whatever goes wrong is the result."""

        async def status(answer: httpx2.Response) -> Result:
            return judged(answer.status_code, answer.headers.get("retry-after"), now)

        return await self.exchange(message, now, TIME_LIMIT, status, Result)

    async def exchange(
        self,
        message: Message,
        now: datetime,
        limit: timedelta,
        read: Callable[[httpx2.Response], Awaitable[T]],
        failed: Callable[[str], T],
    ) -> T:
        """Try once: what `read` makes of the answer, or `failed` of the reason why there is none. All within `limit`.

        Raises nothing but cancellation.
        """
        try:
            with anyio.fail_after(limit.total_seconds()):
                to = await anyio.to_thread.run_sync(
                    self._addresses.destination, message.url, limiter=self._resolvers, abandon_on_cancel=True
                )
                return await self._exchange(to, message, now, read)
        except TimeoutError:
            return failed(f"no answer within {limit.total_seconds():g} s")
        except NotAllowed as error:
            return failed(f"not sent: {error.reason}")
        except (httpx2.TransportError, httpx2.InvalidURL) as error:
            return failed(f"the connection failed ({type(error).__name__})")
        except Exception as error:  # noqa: BLE001 - one message must not end the sending of all others
            return failed(f"the try failed ({type(error).__name__})")

    async def _exchange(
        self, to: Destination, message: Message, now: datetime, read: Callable[[httpx2.Response], Awaitable[T]]
    ) -> T:
        timestamp = math.floor(now.timestamp())
        headers = {
            "host": to.url.netloc.decode("ascii"),
            "content-type": "application/json",
            "accept-encoding": "identity",
            "user-agent": f"batchcall-mcp/{__version__}",
            "webhook-id": message.message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": _signature(message, timestamp),
        }
        # The bare transport, not a client: it follows no redirect, keeps no cookie and logs no URL. No proxy either:
        # it would look the name up by itself and reach what was never judged. A new one for each try: no connection
        # is shared between two names of one address, of which only one was verified.
        async with httpx2.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            for address in to.addresses:
                request = httpx2.Request(
                    "POST",
                    to.url.copy_with(host=address),
                    headers=headers,
                    content=message.payload.encode(),
                    extensions={
                        "sni_hostname": to.url.raw_host.decode("ascii").rstrip("."),
                        "timeout": {"connect": _CONNECT_S},
                    },
                )
                try:
                    answer = await transport.handle_async_request(request)
                except (httpx2.ConnectError, httpx2.ConnectTimeout):
                    if address == to.addresses[-1]:
                        raise
                    continue
                try:
                    return await read(answer)
                finally:
                    await answer.aclose()
        raise AssertionError("a destination has an address")


def _signature(message: Message, timestamp: int) -> str:
    """By the Standard Webhooks scheme: over id, time and body, with the bytes that the secret stands for."""
    key = base64.b64decode(message.secret.removeprefix("whsec_"))
    if not key:
        raise ValueError("the webhook has no secret")
    signed = f"{message.message_id}.{timestamp}.{message.payload}".encode()
    return "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode("ascii")


def judged(status: int, retry_after: str | None, now: datetime) -> Result:
    """What an answer means."""
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Result()
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Result(f"answered {status}; redirects are not followed")
    wait_s = clock.retry_after(retry_after, now)
    span = None if wait_s is None else timedelta(seconds=wait_s)
    return Result(f"answered {status}", span, gone=status == HTTPStatus.GONE)
