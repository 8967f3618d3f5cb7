"""Speaking MCP on the wire, so that a benchmark measures the server and not a client's own work.

The SDK's client validates every result against its schema, which costs more than some servers do.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2
import parts
import programs

CLIENT = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}


class Pipe:
    """JSON-RPC over a process's stdin and stdout."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self.pid = self._process.pid
        self._id = 0
        self.answer_bytes = 0
        """Of the last answer, its line break included."""
        self.ask("initialize", CLIENT)
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Send, and wait for the answer."""
        return self.ask_many([(method, params)])[0]

    def ask_many(self, requests: Sequence[tuple[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
        """Send all, then wait for all answers, in whatever order they come."""
        for method, params in requests:
            self._id += 1
            self._write({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params})
        return [_result(self._read()) for _ in requests]

    def tools(self) -> tuple[int, int]:
        """The complete list: how many tools, and how many bytes its answers have on the wire."""
        count = size = 0
        cursor: dict[str, str] = {}
        while not count or cursor:
            page = self.ask("tools/list", cursor)
            count += len(page["tools"])
            size += self.answer_bytes
            cursor = {"cursor": page["nextCursor"]} if page.get("nextCursor") else {}
        return count, size

    def close(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _write(self, message: Mapping[str, Any]) -> None:
        if self._process.stdin is None:
            raise RuntimeError("no pipe")
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def _read(self) -> bytes:
        """The next answer. Notifications, and lines that are no JSON (one peer greets on stdout), are passed over."""
        if self._process.stdout is None:
            raise RuntimeError("no pipe")
        while line := self._process.stdout.readline():
            if line.startswith(b"{") and "id" in (message := json.loads(line)) and "method" not in message:
                self.answer_bytes = len(line)
                return line
        raise RuntimeError(f"the server ended: {self._process.wait()}")


class Http:
    """JSON-RPC over streamable HTTP, with a session."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], port: int, key: str) -> None:
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        self.pid = self._process.pid
        self._url = f"http://127.0.0.1:{port}/mcp"
        accept = {"Accept": "application/json, text/event-stream", "X-API-KEY": key}
        self._http = httpx2.Client(headers=accept, timeout=30)
        self._id = 0
        self._begin()

    def ask(self, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Send, and wait for the whole answer."""
        self._id += 1
        message = {"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}
        answer = self._http.post(self._url, json=message).content
        # A stream of one event, or plain JSON.
        data = next((line[5:] for line in answer.splitlines() if line.startswith(b"data:")), answer)
        return _result(data)

    def close(self) -> None:
        """Kill the process."""
        self._http.close()
        self._process.kill()
        self._process.wait()

    def _begin(self) -> None:
        message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": CLIENT}
        for _ in range(300):
            try:
                answer = self._http.post(self._url, json=message)
                break
            except httpx2.ConnectError:
                time.sleep(0.1)
        else:
            raise RuntimeError("the server does not listen")
        session = answer.headers.get("mcp-session-id")
        self._http.headers |= {"MCP-Protocol-Version": CLIENT["protocolVersion"]}
        if session:
            self._http.headers["Mcp-Session-Id"] = session
        self._http.post(self._url, json={"jsonrpc": "2.0", "method": "notifications/initialized"})


class Backend:
    """The loopback backend of `parts.py`, as a process."""

    def __init__(self, delay_s: float = 0, recipients: int = parts.RECIPIENTS) -> None:
        command = programs.script("parts", "backend", str(delay_s), str(recipients))
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> str:
        if self._process.stdout is None:
            raise RuntimeError("no pipe")
        return f"http://127.0.0.1:{self._process.stdout.readline().strip()}"

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _result(line: bytes) -> dict[str, Any]:
    message = json.loads(line)
    if "result" not in message or message["result"].get("isError"):
        raise RuntimeError(str(message)[:500])
    result: dict[str, Any] = message["result"]
    return result
