"""`batchcall-mcp dialer`: the dialer as a server of its own, and its keys."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Final

import uvicorn

from batchcall_mcp.dialer import keys
from batchcall_mcp.dialer.embedded import EmbeddedDialer
from batchcall_mcp.dialer.keys import LOCAL, KeyPair
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.settings import Settings

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PORT: Final = 8080


def serve(settings: Settings, *, host: str = DEFAULT_HOST, port: int = DEFAULT_PORT) -> None:
    """Serve and dial until SIGINT or SIGTERM. On the first start one key pair is made, or taken from the settings.

    Raises:
        SystemExit: after a signal (0), or if the address cannot be had (1).
        ConfigurationError: only one half of the first pair is set.
    """
    dialer = EmbeddedDialer.of(settings)
    pair = keys.first_pair(dialer.store(), _given_pair(settings))
    if pair is not None:
        _say_first_pair(pair, given=settings.api_key is not None)
    _say(f"Dialling through the simulated carrier: no phone rings. http://{host}:{port}")

    def _leave(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(0)

    # uvicorn stops by itself on these, then raises them again for whoever was listening before.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    # No access log: a URL may hold a phone number.
    uvicorn.run(dialer.app, host=host, port=port, access_log=False, log_level="warning", timeout_graceful_shutdown=5)


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


def _say_first_pair(pair: KeyPair, *, given: bool) -> None:
    if given:
        _say("The first key pair is BATCHCALL_API_KEY and BATCHCALL_API_SECRET.")
        return
    _say(f"The first key pair, shown only now:\n  X-API-KEY: {pair.api_key}\n  X-API-SECRET: {pair.api_secret}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
