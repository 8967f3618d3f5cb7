"""From spawn to the answer to tools/list over stdio, beside a bare MCPServer with ten tools, in turns.

Run: python benchmarks/startup.py [rounds]. Promise: at most 1.2 times the bare server.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

PROMISE = 1.2
BARE = '''
from typing import Annotated
from mcp.server import MCPServer
from pydantic import Field

server = MCPServer("bare", version="1")


def add(name):
    @server.tool(name=name)
    def tool(text: Annotated[str, Field(description="A text")], number: int = 1) -> str:
        """Give the text back."""
        return text


for number in range(10):
    add(f"tool_{number}")
server.run("stdio")
'''


def main() -> None:
    """Measure in turns, so that a busy machine slows both, and print medians and their ratio."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(BARE, encoding="utf-8")
        environment = {**os.environ, "BATCHCALL_DATA_DIR": folder}
        commands = {"bare": [sys.executable, str(bare)], "ours": [sys.executable, "-m", "batchcall_mcp"]}
        for command in commands.values():
            spawn_to_list(command, environment)  # byte code is written
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                seconds[name].append(spawn_to_list(command, environment))
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    ratio = medians["ours"] / medians["bare"]
    versions = f"Python {platform.python_version()}, mcp {version('mcp')}, {os.cpu_count()} cores, {rounds} rounds"
    print(f"spawn to tools/list, median: bare {medians['bare'] * 1000:.0f} ms, ours {medians['ours'] * 1000:.0f} ms")
    print(f"ratio {ratio:.2f} (promise {PROMISE}); {versions}")


def spawn_to_list(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Seconds from starting the process to its complete answer."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")

        def send(**message: object) -> None:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
            process.stdin.flush()

        client = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
        send(id=1, method="initialize", params=client)
        process.stdout.readline()
        send(method="notifications/initialized")
        send(id=2, method="tools/list")
        answer = json.loads(process.stdout.readline())
        took = time.perf_counter() - began
        process.kill()
    if not answer["result"]["tools"]:
        raise RuntimeError("no tools were listed")
    return took


if __name__ == "__main__":
    main()
