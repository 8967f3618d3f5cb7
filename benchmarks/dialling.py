"""What benchmarks/dialer.py measures: dialling processes, their databases, their CPU seconds, and what they dialled.

Linux only: CPU seconds and memory are read from /proc.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Self

import httpx2
import programs
import sqlalchemy as sa
from tree import TICKS, cpu, stat

ROOT = Path(__file__).parent.parent
FROM = "+14157774444"
ALWAYS = {"start": "00:00", "end": "24:00"}
KEY, SECRET = "benchmark-key", "benchmark-secret"


@dataclass(frozen=True)
class Place:
    """An empty database and an empty data folder; `url` is None on SQLite."""

    folder: Path
    url: str | None

    @property
    def record(self) -> Path:
        """What the carrier was asked to dial."""
        return self.folder / "carrier.jsonl"

    def dials(self) -> list[tuple[float, str]]:
        """When, and which number; in order."""
        lines = (json.loads(line) for line in self.record.read_text(encoding="utf-8").splitlines())
        return [(datetime.fromisoformat(line["at"]).timestamp(), line["to_number"]) for line in lines]


def postgresql() -> str:
    """The URL of an empty database on a PostgreSQL that this process starts once, as the tests do."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    from tests.postgresql import postgresql_url

    return postgresql_url().replace("postgresql+psycopg:", "postgresql:")


class Server:
    """The PostgreSQL server, with all its processes."""

    def __init__(self, url: str) -> None:
        engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
        with engine.connect() as connection:
            backend = connection.exec_driver_sql("select pg_backend_pid()").scalar_one()
            self.version = str(connection.exec_driver_sql("show server_version").scalar_one())
            self._pid = int(stat(backend)[1])
        engine.dispose()

    def cpu(self) -> float:
        """CPU seconds so far, of processes that have ended too."""
        own = sum(map(int, stat(self._pid)[11:15])) / TICKS
        children = Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text(encoding="ascii").split()
        return own + sum(cpu(int(child)) for child in children)


class Process:
    """A process that dials; it ends with the `with`."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self._log = log
        with log.open("w") as said:
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=said,
                stderr=subprocess.STDOUT,
            )
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        if self._process.stdin is not None:
            self._process.stdin.close()

    def kill(self) -> None:
        """As a crash does."""
        self._process.kill()
        self._process.wait()

    def says(self, word: str) -> str:
        """The line with this word, as soon as it is there."""

        def found() -> str | None:
            if self._process.poll() is not None:
                raise RuntimeError(self._log.read_text())
            return next((line for line in self._log.read_text().splitlines() if word in line), None)

        return until(found)


class Dialer(Process):
    """`batchcall-mcp dialer` on a free port, with the settings that it has when nobody sets any."""

    def __init__(self, place: Place, *, speed: float = 20) -> None:
        environment = {
            "BATCHCALL_DATA_DIR": str(place.folder),
            "BATCHCALL_API_KEY": KEY,
            "BATCHCALL_API_SECRET": SECRET,
            "BATCHCALL_SIMULATED_SPEED": str(speed),
            **({} if place.url is None else {"BATCHCALL_DATABASE_URL": place.url}),
        }
        log = place.folder / f"{time.monotonic_ns()}.log"
        super().__init__(programs.ours("dialer", "--port", "0"), environment, log)
        url = self.says("no phone rings. http").split()[-1]
        self._http = httpx2.Client(base_url=url, headers={"X-API-KEY": KEY, "X-API-SECRET": SECRET}, timeout=120)

    def __exit__(self, *_: object) -> None:
        self._http.close()
        super().__exit__()

    def ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """The `data` of an answer."""
        answer = self._http.request(method, f"/batch-call{path}", **options)
        if answer.status_code != 200:
            raise RuntimeError(answer.text[:500])
        data: dict[str, Any] = answer.json()["data"]
        return data

    def create(self, numbers: list[str], **fields: Any) -> str:
        """A draft that may be dialled at any hour, unless the fields say otherwise."""
        return self.create_of(body(numbers, **fields))

    def create_of(self, content: bytes) -> str:
        """The same of a body that is made already."""
        made = self.ask("POST", "", content=content, headers={"Content-Type": "application/json"})
        return str(made["batch_call_id"])

    def execute(self, batch_call_id: str) -> None:
        """Let it begin."""
        self.ask("POST", f"/{batch_call_id}/execute")

    def status(self, batch_call_id: str) -> str:
        """Its state."""
        return str(self.ask("GET", f"/{batch_call_id}")["status"])


class Plain(Process):
    """The reference: DBOS alone."""

    def __init__(self, place: Place, seconds: float, count: int) -> None:
        url = place.url or f"sqlite:///{place.folder / 'plain.db'}"
        log = place.folder / f"{time.monotonic_ns()}.log"
        command = programs.script("plain_dbos", url, str(place.record), str(seconds), str(count))
        super().__init__(command, {}, log)


def plain_dials(place: Place) -> list[tuple[float, str]]:
    """When, and which number."""
    lines = (line.split() for line in place.record.read_text(encoding="ascii").splitlines())
    return [(float(at), number) for at, number in lines]


def body(numbers: list[str], **fields: Any) -> bytes:
    """Of a POST."""
    tasks = [{"to_number": number} for number in numbers]
    return json.dumps({"from_number": FROM, "tasks": tasks, "window": ALWAYS, **fields}).encode()


def numbers(count: int, last_digit: int = 0, first: int = 0) -> list[str]:
    """Different numbers in Los Angeles; the simulated carrier goes by the last digit."""
    return [f"+1213{200_000 + index}{last_digit}" for index in range(first, first + count)]


def lines(path: Path) -> int:
    """How many there are so far."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def until(found: Callable[[], Any], seconds: float = 180, every: float = 0.05) -> Any:
    """What is found, as soon as it is."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(every)
    raise TimeoutError
