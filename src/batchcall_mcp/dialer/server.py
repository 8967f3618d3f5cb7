"""`batchcall-mcp dialer`: the dialer as a server of its own, and its keys."""

from __future__ import annotations

import signal
import socket
import sys
from types import FrameType

import anyio
import uvicorn

from batchcall_mcp.dialer import keys
from batchcall_mcp.dialer.embedded import EmbeddedDialer
from batchcall_mcp.dialer.keys import LOCAL, KeyPair
from batchcall_mcp.dialer.store import Store
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.listening import bound_socket, url_of
from batchcall_mcp.settings import Settings

_NOT_STARTED = 3


def serve(settings: Settings, *, host: str, port: int) -> None:
    """Serve and dial until SIGINT or SIGTERM. On the first start one key pair is made, or taken from the settings.

    Raises:
        SystemExit: after a signal (0).
        ConfigurationError: the address cannot be had, the data folder or the do-not-call list cannot be used, or only
            one half of the first pair is set.
    """
    given = _given_pair(settings)
    with bound_socket(host, port) as listening:
        dialer = EmbeddedDialer.of(settings)
        _say_pair(dialer.store(), given)
        anyio.run(_serve, dialer, listening, url_of(host, listening))


async def _serve(dialer: EmbeddedDialer, listening: socket.socket, url: str) -> None:
    # Not left to uvicorn, which would print a traceback of a setting that does not work.
    await dialer.start()
    try:
        _say(f"Dialling through the simulated carrier: no phone rings. {url}")

        def _leave(_number: int, _frame: FrameType | None) -> None:
            raise SystemExit(0)

        # uvicorn stops by itself on these, then raises them again for whoever was listening before.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave)
        # The process's own log, whose lines are masked; no access log: a URL may hold a phone number.
        config = uvicorn.Config(
            dialer.app, log_config=None, access_log=False, log_level="warning", timeout_graceful_shutdown=5
        )
        server = uvicorn.Server(config)
        await server.serve([listening])
        if not server.started:
            raise SystemExit(_NOT_STARTED)
    finally:
        await dialer.aclose()


def create_key(settings: Settings, organization_id: str = LOCAL) -> KeyPair:
    """Make a key pair; it is not stored and cannot be shown again."""
    store = EmbeddedDialer.of(settings).store()
    pair = keys.new_pair()
    keys.add(store, pair, organization_id)
    store.close()
    return pair


def _given_pair(settings: Settings) -> KeyPair | None:
    if settings.api_key is None and settings.api_secret is None:
        return None
    if settings.api_key is None or settings.api_secret is None:
        raise ConfigurationError(
            "BATCHCALL_API_KEY and BATCHCALL_API_SECRET belong together, and only one is set. Nothing was started."
        )
    return KeyPair(settings.api_key.get_secret_value(), settings.api_secret.get_secret_value())


def _say_pair(store: Store, given: KeyPair | None) -> None:
    """What to call with, where it has to be said: a new pair, or that the one in the settings is not known."""
    first = keys.first_pair(store, given)
    if first is not None and given is None:
        _say(
            "The first key pair, shown only now (in a request: X-API-KEY and X-API-SECRET):\n"
            f"BATCHCALL_API_KEY={first.api_key}\nBATCHCALL_API_SECRET={first.api_secret}"
        )
    elif first is not None:
        _say("The first key pair is BATCHCALL_API_KEY and BATCHCALL_API_SECRET.")
    elif given is not None and keys.organization_of(store, *given) is None:
        _say(
            "BATCHCALL_API_KEY and BATCHCALL_API_SECRET are no pair that this dialer knows: it takes them only at its "
            "first start. `batchcall-mcp dialer keys create` makes another pair."
        )


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
