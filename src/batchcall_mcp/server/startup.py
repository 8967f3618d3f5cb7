"""What every process does first; and the short way to the first answer over stdio, for which MCP clients wait."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from io import BufferedReader, FileIO

from batchcall_mcp.server import log
from batchcall_mcp.settings import Settings, own_environment, settings_file

_OBJECTS_BEFORE_A_LOOK = 10_000
_COLOURS = "rich.console"
_OPTIONAL = (_COLOURS, "uvicorn")
"""What the SDK imports if it is there (for colours in logs, to watch an HTTP server stop) and stdio never uses."""


def serve_stdio(taken: tuple[BufferedReader, FileIO] | None = None) -> None:
    """Read the settings, make the server and serve it until stdin ends.

    `taken`: the client's ends of the pipes, where `batchcall_mcp.fast_start` has them and has answered the handshake.
    Then the dialer need not wait for that.

    Raises:
        ConfigurationError: the settings do not work.
    """
    settings = load_settings()
    with _not_imported(_OPTIONAL):
        from batchcall_mcp.server.app import build_server
        from batchcall_mcp.server.transports.stdio import Wire, run_stdio

        server = build_server(settings, transport="stdio")
    server.service.prepare = server.prepare
    if taken is not None:
        server.service.head_start_s = 0
    collect_garbage_again()
    run_stdio(server, Wire(*taken) if taken else None)


def load_settings() -> Settings:
    """Read the settings, and log as they say from here on.

    Raises:
        ConfigurationError: naming each variable that does not work.
    """
    settings = Settings.load()
    log.configure(settings)
    return settings


def load_settings_of_init() -> Settings:
    """As `load_settings`, for the commands of a person: without one of our variables, those that `init` has kept.

    So `stop` finds the account whose calls it has to stop. A server never looks there: its client names the file.

    Raises:
        ConfigurationError: naming each variable that does not work.
    """
    kept = settings_file()
    if own_environment() or not kept.is_file():
        return load_settings()
    settings = Settings.load(kept)
    log.configure(settings)
    sys.stderr.write(f"batchcall-mcp: settings from {kept}, as `batchcall-mcp init` wrote them.\n")
    return settings


def collect_garbage_again() -> None:
    """Turn the collector on, and never look through what start-up has made.

    It looks less often than Python does by itself: a list of 100,000 people is no garbage, and looking through it while
    it is made takes a fifth of the time.
    """
    gc.freeze()
    gc.set_threshold(_OBJECTS_BEFORE_A_LOOK)
    gc.enable()


def without_colours() -> AbstractContextManager[None]:
    """The SDK's colours for logs, which are never used here, stay out of memory; `rich` can be imported afterwards."""
    return _not_imported((_COLOURS,))


@contextmanager
def _not_imported(names: tuple[str, ...]) -> Iterator[None]:
    """Make optional imports fail, as if these modules were not installed; afterwards they can be imported."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None means "cannot be imported"
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
