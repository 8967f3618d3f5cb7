"""A relayed read beside a bare server: latency, 40 calls at once, peak memory, and growth over 10,000 calls.

Run: python benchmarks/relay.py [calls]. Measured on the wire. Promises: at most 1 ms more in the median, over stdio and
over HTTP; 40 calls at once on a backend that takes 100 ms in under 0.25 s; at most 1.2 times the bare server's peak
memory; no growth of memory or handles.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from importlib.metadata import version
from pathlib import Path

import parts
from wire import Backend, Http, Pipe

HERE = Path(__file__).parent
READ = {"name": "get_batch_call", "arguments": {"batch_call_id": "f1e2d3c4-5678-9012-3456-789012345678"}}
KEY = "mgp_benchmark"
AT_ONCE = 40
NAMES = ("bare", "ours")


def main() -> None:
    """Measure and print."""
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    with tempfile.TemporaryDirectory() as folder:
        for transport in ("stdio", "http"):
            latency(transport, folder, calls)
        at_once(folder)
        growth(folder)
    print(f"Python {platform.python_version()}, mcp {version('mcp')}, {os.cpu_count()} cores, {calls} calls each")


def latency(transport: str, folder: str, calls: int) -> None:
    """Call both in turns, so that a busy machine slows both."""
    with ExitStack() as stack:
        url = stack.enter_context(Backend())
        both = {name: stack.enter_context(closing(started(name, transport, url, folder))) for name in NAMES}
        taken: dict[str, list[float]] = {name: [] for name in NAMES}
        for number in range(calls + 50):
            for name, connection in both.items():
                began = time.perf_counter()
                connection.ask("tools/call", READ)
                if number >= 50:  # before, caches fill
                    taken[name].append(time.perf_counter() - began)
        bare, ours = (statistics.median(taken[name]) * 1000 for name in NAMES)
        print(
            f"{transport}: median bare {bare:.2f} ms, ours {ours:.2f} ms: {ours - bare:+.2f} ms (promise: at most +1)"
        )
        peaks = [status(connection.pid, "VmHWM") for connection in both.values()]
        ratio = peaks[1] / peaks[0]
        print(f"{transport}: peak memory bare {peaks[0]:.0f} MiB, ours {peaks[1]:.0f} MiB: x{ratio:.2f} (at most 1.2)")


def at_once(folder: str) -> None:
    """Seconds until the last of AT_ONCE calls is answered, on a backend that takes 100 ms; the second time counts."""
    with Backend(0.1) as url:
        for name in NAMES:
            with closing(started(name, "stdio", url, folder)) as connection:
                for _ in range(2):
                    began = time.perf_counter()
                    connection.ask_many([("tools/call", READ)] * AT_ONCE)
                    seconds = time.perf_counter() - began
                print(f"{AT_ONCE} calls at once on a backend of 100 ms, {name}: {seconds:.3f} s (under 0.25)")


def growth(folder: str) -> None:
    """Memory and handles before and after 10,000 calls."""
    with Backend() as url, closing(started("ours", "stdio", url, folder)) as connection:
        seen = []
        for calls in (1000, 10_000):
            for _ in range(calls):
                connection.ask("tools/call", READ)
            handles = len(list(Path(f"/proc/{connection.pid}/fd").iterdir()))
            seen.append(f"{status(connection.pid, 'VmRSS'):.1f} MiB and {handles} handles")
        print(f"10,000 calls: {seen[0]} before, {seen[1]} after")


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
    bare = [sys.executable, str(HERE / "parts.py"), "bare", transport, url + "/batch-calls"]
    ours = [sys.executable, "-m", "batchcall_mcp"]
    if transport == "stdio":
        return Pipe(bare if name == "bare" else ours, environment | {"BATCHCALL_API_KEY": KEY})
    port = parts.free_port()
    command = [*bare, str(port)] if name == "bare" else [*ours, "serve", "--port", str(port)]
    return Http(command, environment, port, KEY)


def status(pid: int, field: str) -> float:
    """A line of /proc/<pid>/status in MiB: VmHWM is the highest resident memory so far, VmRSS the one now (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


if __name__ == "__main__":
    main()
