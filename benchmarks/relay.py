"""A relayed read beside a bare server: latency, 40 calls at once, peak memory, and growth over 10,000 calls.

Run: python benchmarks/relay.py [--calls 1000] [--write]. Measured on the wire. Promises: at most 1 ms more in the
median, over stdio and over HTTP; 40 calls at once on a backend that takes 100 ms in under 0.25 s; at most 1.2 times the
bare server's peak memory; no growth of memory or handles.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path

import parts
import programs
from report import conditions, publish, table
from tree import cpu, status
from wire import Backend, Http, Pipe

READ = {"name": "get_batch_call", "arguments": {"batch_call_id": "f1e2d3c4-5678-9012-3456-789012345678"}}
KEY = "mgp_benchmark"
AT_ONCE = 40
MORE_MS, MEMORY, AT_ONCE_S = 1, 1.2, 0.25
"""What is promised."""
NAMES = ("bare", "ours")


def main() -> None:
    """Measure and print."""
    wanted = argparse.ArgumentParser()
    wanted.add_argument("--calls", type=int, default=1000)
    wanted.add_argument("--many", type=int, default=10_000, help="calls after which nothing may have grown; 0: none")
    wanted.add_argument("--write", action="store_true")
    given = wanted.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for transport in ("stdio", "HTTP") for row in latency(transport, folder, given.calls)]
        rows.append(at_once(folder))
        if given.many:
            rows.append(growth(folder, given.many))
    head = ["", "bare", "batchcall-mcp", "promise"]
    publish(
        "relay", f"{conditions(f'{given.calls} calls of each, in turns')}\n\n{table(head, rows)}", write=given.write
    )


def latency(transport: str, folder: str, calls: int) -> list[list[str]]:
    """Call both in turns, so that a busy machine slows both."""
    with ExitStack() as stack:
        url = stack.enter_context(Backend())
        both = {name: stack.enter_context(closing(started(name, transport, url, folder))) for name in NAMES}
        taken: dict[str, list[float]] = {name: [] for name in NAMES}
        warm = min(50, calls)  # before, caches fill
        used = dict.fromkeys(NAMES, 0.0)
        for number in range(calls + warm):
            for name, connection in both.items():
                if number == warm:
                    used[name] = cpu(connection.pid)
                began = time.perf_counter()
                connection.ask("tools/call", READ)
                if number >= warm:
                    taken[name].append(time.perf_counter() - began)
        bare, ours = (statistics.median(taken[name]) * 1000 for name in NAMES)
        each = [(cpu(connection.pid) - used[name]) / calls * 1000 for name, connection in both.items()]
        peaks = [status(connection.pid, "VmHWM") for connection in both.values()]
    more, ratio = ours - bare, peaks[1] / peaks[0]
    return [
        [
            f"a read over {transport}, median",
            f"{bare:.2f} ms",
            f"{ours:.2f} ms: {more:+.2f} ms",
            f"at most +{MORE_MS} ms: {kept(more, MORE_MS)}",
        ],
        [f"CPU of the server for it, {transport}", f"{each[0]:.2f} ms", f"{each[1]:.2f} ms", "none"],
        [
            f"peak memory, {transport}",
            f"{peaks[0]:.0f} MiB",
            f"{peaks[1]:.0f} MiB: {ratio:.2f} times",
            f"at most {MEMORY} times: {kept(ratio, MEMORY)}",
        ],
    ]


def at_once(folder: str) -> list[str]:
    """Seconds until the last of AT_ONCE calls is answered, on a backend that takes 100 ms; the second time counts."""
    found: list[float] = []
    with Backend(0.1) as url:
        for name in NAMES:
            with closing(started(name, "stdio", url, folder)) as connection:
                for _ in range(2):
                    began = time.perf_counter()
                    connection.ask_many([("tools/call", READ)] * AT_ONCE)
                    seconds = time.perf_counter() - began
                found.append(seconds)
    words = f"{AT_ONCE} calls at once, backend of 100 ms"
    verdict = f"under {AT_ONCE_S} s: {kept(found[1], AT_ONCE_S)}"
    return [words, f"{found[0]:.3f} s", f"{found[1]:.3f} s", verdict]


def growth(folder: str, many: int) -> list[str]:
    """Memory and handles before and after many calls."""
    with Backend() as url, closing(started("ours", "stdio", url, folder)) as connection:
        seen: list[tuple[float, int]] = []
        for calls in (many // 10, many):
            for _ in range(calls):
                connection.ask("tools/call", READ)
            handles = len(list(Path(f"/proc/{connection.pid}/fd").iterdir()))
            seen.append((status(connection.pid, "VmRSS"), handles))
    (mib, handles), (mib_after, handles_after) = seen
    grown = f"{mib:.1f} → {mib_after:.1f} MiB, {handles} → {handles_after} handles"
    return [f"after {many:,} calls", "not measured", grown, "no growth"]


def kept(value: float, most: float) -> str:
    """Whether a promise is."""
    return "kept" if value <= most else "NOT MET"


def started(name: str, transport: str, url: str, folder: str) -> Pipe | Http:
    """A connection to the bare server or to ours, relaying to `url`."""
    environment = {
        **os.environ,
        "BATCHCALL_BACKEND": "magpipe",
        "BATCHCALL_URL": url,
        "BATCHCALL_DATA_DIR": folder,
        "BATCHCALL_LOG_LEVEL": "WARNING",
        "BATCHCALL_RATE_LIMIT": "10000",
    }
    bare = programs.script("parts", "bare", transport.lower(), url + "/batch-calls")
    if transport == "stdio":
        return Pipe(bare if name == "bare" else programs.ours(), environment | {"BATCHCALL_API_KEY": KEY})
    port = parts.free_port()
    command = [*bare, str(port)] if name == "bare" else programs.ours("serve", "--port", str(port))
    return Http(command, environment, port, KEY)


if __name__ == "__main__":
    main()
