"""Opening a page in the person's own browser, from a process whose stdin and stdout are the protocol's."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Mapping
from typing import Final

import anyio

from batchcall_mcp.settings import plain_environment

logger = logging.getLogger(__name__)

_LONGEST_S: Final = 10
_HAS_A_SCREEN: Final = frozenset({"darwin", "win32", "cygwin"})

# `webbrowser` may start a text browser that takes over the terminal, or wait until the browser is closed: so it runs in
# a child without a terminal, which waits a moment for a failure and then leaves the browser to itself. The address
# comes through stdin, because everybody on the machine can read a process's arguments.
_SCRIPT: Final = """
import os, sys, threading, webbrowser

address = sys.stdin.readline().strip()
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
try:
    browser = webbrowser.get()
except webbrowser.Error:
    sys.exit(1)
name = os.path.basename(str(getattr(browser, "name", "")))
if name.partition(" ")[0] in {"www-browser", "links", "links2", "elinks", "lynx", "w3m", "browsh", "carbonyl"}:
    sys.exit(1)
opened = []
opening = threading.Thread(target=lambda: opened.append(browser.open(address)), daemon=True)
opening.start()
opening.join(3)
sys.stderr.flush()
os._exit(0 if opening.is_alive() or opened == [True] else 1)
"""


def may_have_browser(environment: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether a graphical browser is to be expected: a Unix without a display has none, unless BROWSER names one."""
    return platform in _HAS_A_SCREEN or any(environment.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))


async def open_in_browser(address: str) -> bool:
    """Open an address; False if there is no graphical browser. The address is not logged."""
    environment = plain_environment()
    if not may_have_browser(environment):
        return False
    with anyio.move_on_after(_LONGEST_S):
        try:
            ended = await anyio.run_process(
                [sys.executable, "-I", "-c", _SCRIPT],
                input=f"{address}\n".encode(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
                check=False,
            )
        except OSError as error:
            logger.warning("The program that opens a browser could not be started: %s", type(error).__name__)
            return False
        return ended.returncode == 0
    logger.warning("Opening a browser took longer than %s s", _LONGEST_S)
    return False
