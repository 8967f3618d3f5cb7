"""From spawn to tools/list and to a first tool call over stdio, and memory over HTTP after 5 s, beside a bare server.

Run: python benchmarks/startup.py [--rounds 9] [--write]. All in turns, so that a busy machine slows all. Linux.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from functools import partial
from pathlib import Path

import parts
import programs
from report import conditions, publish, table
from tree import cpu_of_all, resident
from wire import Backend, Pipe

PROMISE = 1.2
PROMISED_MIB = 88
IDLE_S = 5
LATER_S = (1.2, 3.0)
"""At the first a machine on which a bare server starts in a second is still importing; at the second it is ready."""
TOOLS = "10"
"""Of the bare server."""
SERVERS = ("bare", "vendor", "dialer")
CALLS: Mapping[str, tuple[str, dict[str, str]]] = {
    "bare": ("tool_1", {"text": "a"}),
    "vendor": ("get_batch_call", {"batch_call_id": "f1e2d3c4-5678-9012-3456-789012345678"}),
    "dialer": ("list_batch_calls", {}),
}


class Starts:
    """Starts a server, for one figure at a time."""

    def __init__(self, folder: Path, url: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("BATCHCALL_", "PYTHON"))}
        clean |= {"BATCHCALL_DATA_DIR": str(folder), "BATCHCALL_FILES": str(folder), "BATCHCALL_LOG_LEVEL": "WARNING"}
        magpipe = {"BATCHCALL_BACKEND": "magpipe", "BATCHCALL_URL": url, "BATCHCALL_API_KEY": "mgp_benchmark"}
        self._environments = {"bare": clean, "vendor": clean | magpipe, "dialer": clean}
        self._empty = folder / "no-byte-code"
        self.cpu: dict[str, list[float]] = {name: [] for name in SERVERS}
        """Seconds until tools/list was answered."""

    def listed(self, name: str, **more: str) -> float:
        """Seconds from spawn to the complete tools/list."""
        began = time.perf_counter()
        with closing(self._started(name, more)) as pipe:
            pipe.tools()
            seconds = time.perf_counter() - began
            if not more:
                self.cpu[name].append(cpu_of_all(pipe.pid))
            return seconds

    def listed_without_byte_code(self, name: str) -> float:
        """The same where every module has to be compiled, those of Python among them."""
        return self.listed(name, PYTHONPYCACHEPREFIX=str(self._empty), PYTHONDONTWRITEBYTECODE="1")

    def called(self, name: str) -> float:
        """Seconds from spawn to the answer to a tool call that is made at once."""
        began = time.perf_counter()
        with closing(self._started(name, {})) as pipe:
            self._call(name, pipe)
            return time.perf_counter() - began

    def called_later(self, name: str, *, after_s: float) -> float:
        """Seconds of a first tool call that is made so long after the start."""
        began = time.perf_counter()
        with closing(self._started(name, {})) as pipe:
            time.sleep(max(0, began + after_s - time.perf_counter()))
            asked = time.perf_counter()
            self._call(name, pipe)
            return time.perf_counter() - asked

    def idle(self, name: str, seconds: float) -> float:
        """MiB that a server over HTTP holds that nobody has asked anything."""
        port = parts.free_port()
        command = _command(name, "serve", "--port", str(port)) if name != "bare" else [*_command(name), str(port)]
        environment = self._environments[name]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment) as process:
            try:
                parts.wait_for(port, process)
                time.sleep(seconds)
                return resident(process.pid)
            finally:
                process.kill()

    def _started(self, name: str, more: Mapping[str, str]) -> Pipe:
        return Pipe(_command(name), self._environments[name] | more)

    def _call(self, name: str, pipe: Pipe) -> None:
        tool, arguments = CALLS[name]
        pipe.ask("tools/call", {"name": tool, "arguments": arguments})


def _command(name: str, *arguments: str) -> list[str]:
    return programs.script("bare", TOOLS) if name == "bare" else programs.ours(*arguments)


def main() -> None:
    """Measure and print."""
    wanted = argparse.ArgumentParser()
    wanted.add_argument("--rounds", type=int, default=9)
    wanted.add_argument("--idle", type=float, default=IDLE_S, help="seconds before memory is read")
    wanted.add_argument("--write", action="store_true")
    given = wanted.parse_args()
    with tempfile.TemporaryDirectory() as folder, Backend() as url:
        starts = Starts(Path(folder), url)
        for name in SERVERS:
            starts.listed(name)  # byte code is written
            starts.cpu[name].clear()
        figures: dict[str, Callable[[str], float]] = {
            "spawn → tools/list": starts.listed,
            "the same, no byte code": starts.listed_without_byte_code,
            "spawn → answer to a tool call made at once": starts.called,
        }
        for after_s in LATER_S:
            figures[f"a first tool call {after_s:g} s after the start"] = partial(starts.called_later, after_s=after_s)
        rows = [row(words, figure, given.rounds) for words, figure in figures.items()]
        held = {name: starts.idle(name, given.idle) for name in SERVERS}
    publish("startup", section(rows, starts.cpu, held, given), write=given.write)


def row(words: str, figure: Callable[[str], float], rounds: int) -> list[str]:
    """Of one figure, in turns: milliseconds, and how many times the bare server's."""
    taken: dict[str, list[float]] = {name: [] for name in SERVERS}
    for _ in range(rounds):
        for name in SERVERS:
            taken[name].append(figure(name) * 1000)
    bare = statistics.median(taken["bare"])
    times = {name: statistics.median(taken[name]) / bare for name in SERVERS}
    cells = [
        f"{statistics.median(taken[name]):.0f} ({min(taken[name]):.0f} to {max(taken[name]):.0f})" for name in SERVERS
    ]
    promised = f"at most {PROMISE} times: " + ("kept" if max(times.values()) <= PROMISE else "NOT MET")
    cells[1:] = [f"{cell}: {times[name]:.2f} times" for name, cell in zip(SERVERS[1:], cells[1:], strict=True)]
    return [f"{words}, ms", *cells, promised if words == "spawn → tools/list" else "none"]


def section(
    rows: list[list[str]], cpu: Mapping[str, list[float]], held: Mapping[str, float], given: argparse.Namespace
) -> str:
    """As it stands in docs/benchmarks.md."""
    used = [f"{statistics.median(cpu[name]) * 1000:.0f}" for name in SERVERS]
    memory = [f"{held[name]:.0f}" for name in SERVERS]
    verdict = "kept" if held["vendor"] <= PROMISED_MIB else "NOT MET"
    rows = [
        rows[0],
        ["CPU until then, ms", *used, "none"],
        *rows[1:],
        [
            f"resident over HTTP after {given.idle:g} idle s, MiB",
            *memory,
            f"at most {PROMISED_MIB} in front of a vendor: {verdict}",
        ],
    ]
    head = ["", "bare `MCPServer`, ten tools", "batchcall-mcp, Magpipe", "batchcall-mcp, built-in dialer", "promise"]
    return "\n\n".join([conditions(f"{given.rounds} rounds in turns, medians, least to most"), table(head, rows)])


if __name__ == "__main__":
    main()
