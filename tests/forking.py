"""The process that forks; see `forked`. It has imported what a server, a command and a dialer need, and run nothing."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import runpy
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import alembic.command
import anyio
import coverage
import dbos
import psycopg
import uvicorn
from mcp import Client

import batchcall_mcp.cli
import batchcall_mcp.dialer.app
import batchcall_mcp.dialer.engine.lanes.dbos_queue
import batchcall_mcp.dialer.server
import batchcall_mcp.server.app
import batchcall_mcp.server.startup
import batchcall_mcp.server.transports.http
import batchcall_mcp.server.transports.stdio
from batchcall_mcp.__main__ import main
from batchcall_mcp.server.app import build_server
from batchcall_mcp.settings import Settings
from batchcall_mcp.vendor_http.client import BackendHttp, open_client
from tests.forks import Forks
from tests.made_once import made_once

IMPORTED = (alembic.command, coverage, dbos, psycopg, uvicorn, batchcall_mcp)


def _hurries() -> None:
    """Between two tries of a backend a hundredth of the time: how long it really is, `backends/test_http.py` looks."""

    async def sleep(seconds: float) -> None:
        await anyio.sleep(seconds / 100)

    by_default = BackendHttp.__init__.__kwdefaults__ or {}
    assert by_default["sleep"] is anyio.sleep
    by_default["sleep"] = sleep


async def _plays_every_part(home: Path) -> None:
    """What a server does first, on each backend; on the dialer a whole launch too, in which nobody answers."""
    async with open_client():
        pass  # it has read the certificates
    for backend in ("zudu", "magpipe", "batchcall", "dialer"):
        account: dict[str, Any] = {"api_key": "key", "api_secret": "secret", "url": "http://127.0.0.1:9"}
        settings = Settings(backend=backend, data_dir=home, **(account if backend != "dialer" else {}))
        async with Client(build_server(settings, transport="stdio")) as client:
            await client.list_tools()
            if backend == "dialer":
                tasks = [{"to_number": number} for number in ("+12125550100", "+442079460000")]
                made = await client.call_tool("create_batch_call", {"from_number": "+14155550100", "tasks": tasks})
                launch = {"batch_call_id": made.structured_content["batch_call"]["batch_call_id"]}
                await client.call_tool("get_batch_call", launch)
                await client.call_tool("start_batch_call", launch | {"trigger_timestamp": "now"})


_ENDS_WITHIN_S = 10
"""A worker of an event loop that was closed ends a moment later."""


def _warms_up(kept: ExitStack) -> None:
    """Every child begins with what is the same in all of them: tools, tables, compiled statements, lazy imports."""
    kept.enter_context(made_once())
    root = logging.getLogger()
    before, level, handlers = dict(os.environ), root.level, list(root.handlers)
    for name in [name for name in before if name.startswith("BATCHCALL_")]:
        del os.environ[name]
    root.addHandler(logging.NullHandler())  # so that the SDK adds none, which would write to a test's stderr
    with tempfile.TemporaryDirectory(prefix="batchcall-warm-") as home:
        os.environ["BATCHCALL_FILES"] = home
        anyio.run(_plays_every_part, Path(home))
    os.environ.clear()
    os.environ.update(before)
    root.handlers[:] = handlers  # the SDK's own: a child sets up its log itself
    root.setLevel(level)
    for ending in set(threading.enumerate()) - {threading.current_thread()}:
        ending.join(_ENDS_WITHIN_S)
    assert threading.active_count() == 1, "a thread would not come along into a child"


def _run() -> NoReturn:
    """The program, to its end. That Python takes itself apart is left out: half of what a short command costs."""
    try:
        if sys.argv[1:2] == ["-m"]:
            module = sys.argv[2]
            del sys.argv[1:3]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        else:
            main()
        code: object = 0
    except SystemExit as ended:
        code = ended.code or 0
    threading._shutdown()  # type: ignore[attr-defined]  # waits for the threads that are no daemons, as Python does
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _hurries()
    _warms_up(ExitStack())
    forks = Forks(sys.argv[1])
    gc.freeze()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    asked = forks.serve()
    if asked is not None:
        sys.argv = [str(Path(batchcall_mcp.__file__).with_name("__main__.py")), *asked]
        __package__ = "batchcall_mcp"  # by which click knows what the program is called
        __spec__ = sys.modules["batchcall_mcp.__main__"].__spec__  # type: ignore[assignment]  # what workers that it spawns import
        _run()
