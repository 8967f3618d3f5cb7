"""`POST /carriers/{name}`: what the carrier's vendor reports of calls by itself.

A request that the vendor has not signed changes nothing. A signed one only lets the call be read now: its body is not
the outcome. The exception are keys that people press, where the vendor reports them nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from math import inf
from time import monotonic
from typing import Any, Final

import anyio
import anyio.to_thread
import sqlalchemy as sa
from fastapi import FastAPI, Request
from fastapi.responses import Response

from batchcall_mcp import errors
from batchcall_mcp.dialer.carriers.base import HearsKeys, KeyPress, ReportsCalls
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.webhooks import key_presses

LOG = logging.getLogger(__name__)
MAX_BODY_BYTES: Final = 2 * 1024 * 1024
"""A vendor's report holds everything that was said in a long call."""
MAX_FORM_BYTES: Final = 64 * 1024
"""Where keys are reported it is a form of a few fields, which has to be taken apart before it is known who sent it."""
ARRIVES_WITHIN_S: Final = 10.0
TRIED_AGAIN_S: Final = (0.25, 0.5, 1.0, 2.0, 4.0)
"""The pauses in which a database that is away may come back before a key press is given up: vendors wait 15 s."""

SAID_EVERY_S: Final = 60.0
"""How often the log says that requests are refused."""
_AWAY: Final = (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError)


def path_of(carrier: str) -> str:
    """Where its vendor's requests go, below BATCHCALL_PUBLIC_URL."""
    return f"/carriers/{carrier}"


def anybody(_address: str) -> None:
    """No address is too busy."""


@dataclass
class _Refusals:
    """What the log has not said yet of requests that the vendor has not signed."""

    url: str
    said_at: float = -inf
    count: int = 0

    def add(self) -> None:
        """One line, unless there was one a moment ago: a wrong setting would show nowhere else."""
        self.count += 1
        if monotonic() - self.said_at < SAID_EVERY_S:
            return
        LOG.warning(
            "Requests refused since this was last said: %d. They are not signed by the carrier's vendor for %s. If "
            "they are its reports, check BATCHCALL_CARRIER_KEY and BATCHCALL_CARRIER_SECRET, and that the vendor has "
            "this address.",
            self.count,
            self.url,
        )
        self.said_at, self.count = monotonic(), 0


def install(
    app: FastAPI,
    carrier: ReportsCalls,
    open_store: Callable[[], Store],
    public_url: str,
    *,
    stranger: Callable[[str], None] = anybody,
    pauses: Sequence[float] = TRIED_AGAIN_S,
) -> None:
    """Add the endpoint. `public_url`: where the vendor finds this app.

    `stranger` is called with the address of each request that the vendor has not signed, and raises if it is too busy.
    """
    path = path_of(carrier.name)
    signed_url = public_url.rstrip("/") + path
    refusals = _Refusals(signed_url)
    largest = MAX_FORM_BYTES if isinstance(carrier, HearsKeys) else MAX_BODY_BYTES
    refused: dict[int | str, dict[str, Any]] = {
        HTTPStatus.UNAUTHORIZED.value: {"description": "not signed by the vendor"},
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE.value: {"description": "larger than any report"},
    }

    @app.post(path, response_class=Response, responses=refused)
    async def report(request: Request) -> Response:
        body = await _body(request, largest)
        query = request.scope["query_string"].decode("latin-1")
        if not carrier.verify(request.headers, body, f"{signed_url}?{query}" if query else signed_url):
            refusals.add()
            stranger(request.client.host if request.client else "")
            raise errors.AuthenticationFailed("The signature is missing or not the vendor's. Nothing was changed.")
        for call_id in carrier.named(body):
            carrier.heard(call_id, body)
        press = carrier.key_press(body) if isinstance(carrier, HearsKeys) else None
        if press is None or not isinstance(carrier, HearsKeys):
            return Response()
        known = await _kept(partial(_keep, open_store, carrier.name, press, carrier.meaning), pauses)
        return Response(carrier.reply(known.agent_id if known else None, press.keys), media_type="text/xml")


def _keep(
    open_store: Callable[[], Store], name: str, press: KeyPress, meaning: Callable[[str | None, str], str | None]
) -> key_presses.Pressed | None:
    store = open_store()
    with store.writing() as tx:
        return key_presses.keep(tx, name, press, meaning, store.now())


async def _kept(keep: Callable[[], key_presses.Pressed | None], pauses: Sequence[float]) -> key_presses.Pressed | None:
    """The vendor reports a key once: an outage of the database loses it only if it is longer than these pauses."""
    for pause in pauses:
        try:
            return await anyio.to_thread.run_sync(keep)
        except _AWAY as error:
            LOG.warning("A key press waits for the database: %s", getattr(error, "orig", error))
        await anyio.sleep(pause)
    return await anyio.to_thread.run_sync(keep)


async def _body(request: Request, largest: int) -> bytes:
    """All of it, which is not read where it says that it is too large.

    Raises:
        QuotaExceeded: it is too large.
        InvalidInput: it does not arrive in time.
    """
    said = request.headers.get("content-length", "0")
    read = bytearray()
    with anyio.move_on_after(ARRIVES_WITHIN_S) as limit:
        if not said.isdigit() or int(said) <= largest:
            async for part in request.stream():
                read += part
                if len(read) > largest:
                    break
            else:
                return bytes(read)
    if limit.cancelled_caught:
        raise errors.InvalidInput(f"The body did not arrive within {ARRIVES_WITHIN_S:g} s. Nothing was changed.")
    raise errors.QuotaExceeded(f"The body is larger than {largest} bytes. Nothing was changed.")
