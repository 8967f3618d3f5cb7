"""The real server for clients that are not ours: `batchcall-mcp` with its own dialer and a data folder of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, TypeAlias

from tests import forked
from tests.clients.node import ROOT

Transport: TypeAlias = Literal["stdio", "http", "sse"]
TRANSPORTS: tuple[Transport, ...] = ("stdio", "http", "sse")

_LONGEST_START_S = 30


def server() -> list[str]:
    """The beginning of its command line. It starts at once: what is tested here is how a client speaks to it."""
    return [*forked.program()]


@dataclass(frozen=True)
class Address:
    """Where a client finds the server: a command for stdio, a URL and the caller's headers otherwise."""

    transport: Transport
    environment: Mapping[str, str]
    url: str | None = None
    headers: Mapping[str, str] | None = None

    def told(self) -> str:
        """As a client's script reads it."""
        return json.dumps(
            {
                "transport": self.transport,
                "command": server()[0],
                "args": server()[1:],
                "cwd": str(ROOT),
                "env": dict(self.environment),
                "url": self.url,
                "headers": dict(self.headers or {}),
            }
        )


@contextmanager
def address(transport: Transport, home: Path) -> Iterator[Address]:
    """A server that works in this folder; over stdio the client starts it itself. Its calling hours never end."""
    environment = {
        **{name: value for name, value in os.environ.items() if name.startswith(("PATH", "COV"))},
        "BATCHCALL_DATA_DIR": str(home / "data"),
        "BATCHCALL_FILES": str(home / "files"),
        "BATCHCALL_CALLING_HOURS": "00:00-24:00",
        "BATCHCALL_SIMULATED_SPEED": "0.01",  # a call that is talked for an hour
    }
    if transport == "stdio":
        yield Address(transport, environment)
        return
    created = subprocess.run(
        [*server(), "dialer", "keys", "create"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_LONGEST_START_S,
        check=True,
    ).stdout
    pair = dict(line.split("=", 1) for line in created.splitlines())
    headers = {"X-API-KEY": pair["BATCHCALL_API_KEY"], "X-API-SECRET": pair["BATCHCALL_API_SECRET"]}
    command = [*server(), "serve", "--port", "0", "--transport", transport]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            url = _url(process.stderr)
            reader = threading.Thread(target=process.stderr.read, daemon=True)  # a full pipe would stop the server
            reader.start()
            yield Address(transport, environment, url + {"http": "/mcp", "sse": "/sse"}[transport], headers)
        finally:
            process.terminate()
            process.wait(_LONGEST_START_S)
        reader.join()  # before its end of the pipe is closed


def _url(stderr: IO[str]) -> str:
    seen = ""
    for line in stderr:
        seen += line
        match = re.search(r"Serving MCP on (http://\S+)", line)
        if match:
            return match[1]
    raise RuntimeError(f"batchcall-mcp serve ended: {seen}")
