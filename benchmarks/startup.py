"""From spawn to the answer to tools/list over stdio, beside a bare MCPServer with ten tools, in turns; and the memory
of both over HTTP when they have waited for 5 s.

Run: python benchmarks/startup.py [rounds]. Promises: at most 1.2 times the bare server; at most 88 MiB.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import parts

PROMISE = 1.2
PROMISED_MIB = 88
IDLE_S = 5
BARE = '''
import sys
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
if len(sys.argv) > 1:
    server.run("streamable-http", port=int(sys.argv[1]))
else:
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
        port = parts.free_port()
        serving = {
            "bare": [*commands["bare"], str(port)],
            "ours": [*commands["ours"], "serve", "--port", str(port)],
        }
        elsewhere = environment | {"BATCHCALL_BACKEND": "zudu"}
        held = {name: idle_memory(command, elsewhere, port) for name, command in serving.items()}
        held["dialer"] = idle_memory(serving["ours"], environment, port)
        table(commands, environment, min(rounds, 7))
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    ratio = medians["ours"] / medians["bare"]
    versions = f"Python {platform.python_version()}, mcp {version('mcp')}, {os.cpu_count()} cores, {rounds} rounds"
    print(f"spawn to tools/list, median: bare {medians['bare'] * 1000:.0f} ms, ours {medians['ours'] * 1000:.0f} ms")
    print(f"ratio {ratio:.2f} (promise {PROMISE}); {versions}")
    print(
        f"resident over HTTP after {IDLE_S} idle s: bare {held['bare']:.0f} MiB, ours {held['ours']:.0f} MiB "
        f"(promise {PROMISED_MIB}), ours with the built-in dialer {held['dialer']:.0f} MiB"
    )


def idle_memory(command: Sequence[str], environment: Mapping[str, str], port: int) -> float:
    """MiB that a server over HTTP holds when it has listened for `IDLE_S` seconds (Linux)."""
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as process:
        try:
            while process.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    time.sleep(0.05)
            time.sleep(IDLE_S)
            lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
            return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
        finally:
            process.kill()


def table(commands: Mapping[str, Sequence[str]], environment: Mapping[str, str], rounds: int) -> None:
    """Print what a client waits for at a start, for docs/benchmarks.md. Each row is taken in turns."""
    vendor = {"BATCHCALL_BACKEND": "magpipe", "BATCHCALL_API_KEY": "mgp_k1234567"}
    off = {"BATCHCALL_FAST_START": "off"}
    bare, ours = commands["bare"], commands["ours"]
    rows: dict[str, tuple[bool, str | None, float, Mapping[str, str]]] = {
        "spawn → tools/list": (True, None, 0, {}),
        "the same without .pyc": (False, None, 0, {}),
        "first tool call asked at once, vendor": (True, "check_batch_call", 0, vendor),
        "first tool call asked at once, dialer": (True, "get_backend", 0, {}),
        "first tool call 1.2 s after the start, dialer": (True, "get_backend", 1.2, {}),
    }
    print("| | bare | ordinary way | fast start |\n|---|---|---|---|")
    for name, (compiled, tool, pause, settings) in rows.items():
        taken: dict[str, list[float]] = {}
        for _ in range(rounds):
            for column, command, more in (("bare", bare, {}), ("off", ours, settings | off), ("on", ours, settings)):
                with tempfile.TemporaryDirectory() as nothing:
                    cold = {} if compiled else {"PYTHONPYCACHEPREFIX": nothing}
                    asked = "tool_1" if tool and command is bare else tool
                    taken.setdefault(column, []).append(spawn_to_list(command, environment | more | cold, asked, pause))
        print(f"| {name} | " + " | ".join(f"{statistics.median(one) * 1000:.0f} ms" for one in taken.values()) + " |")


def spawn_to_list(
    command: Sequence[str], environment: Mapping[str, str], tool: str | None = None, pause: float = 0
) -> float:
    """Seconds from starting the process to its list of tools, or to the answer of a tool that is called then.

    After a pause since the start, only the call is timed.
    """
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
        if tool is not None:
            if pause:
                time.sleep(max(0, began + pause - time.perf_counter()))
                began = time.perf_counter()
            arguments = {"text": "x"} if tool == "tool_1" else {}
            send(id=3, method="tools/call", params={"name": tool, "arguments": arguments})
            process.stdout.readline()
        took = time.perf_counter() - began
        process.kill()
    if not answer["result"]["tools"]:
        raise RuntimeError("no tools were listed")
    return took


if __name__ == "__main__":
    main()
