"""`batchcall-mcp dialer` and its keys."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
import uvicorn
from pydantic import SecretStr
from uvicorn.supervisors.multiprocess import SIGNALS

from batchcall_mcp.dialer import server
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.storage import api_keys
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.settings import Settings
from batchcall_mcp.sockets import bound_socket
from tests import forked


class Serving:
    """The command, which serves at `url`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        self._process = process
        self._said = ""
        while "http://" not in self._said:
            line = process.stderr.readline()
            assert line, self._said
            self._said += line
        self.url = self._said.split()[-1]

    def ends(self, how: signal.Signals) -> str:
        """What it has said."""
        self._process.send_signal(how)
        _, rest = self._process.communicate(timeout=60)
        assert self._process.returncode == 0
        return self._said + rest

    def status(self, key: str, secret: str) -> int:
        """Of a request with this pair."""
        headers = {"X-API-KEY": key, "X-API-SECRET": secret}
        return httpx2.get(f"{self.url}/batch-call/list", headers=headers).status_code


@contextmanager
def serving() -> Iterator[Serving]:
    process = subprocess.Popen([*forked.program(), "dialer", "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        yield Serving(process)
    finally:
        process.kill()
        process.communicate()


def test_the_first_start_shows_a_pair_once() -> None:
    """The pair works, also at the second start, which shows none. SIGINT and SIGTERM end both with 0."""
    with serving() as dialer:
        health = httpx2.get(f"{dialer.url}/healthz").json()
        said = dialer.ends(signal.SIGINT)
    assert health == {"status": "ok", "engine": "running", "engine_failures": 0}
    assert "no phone rings" in said
    assert "Traceback" not in said
    pair = re.search(r"BATCHCALL_API_KEY=(sk_\w+)\s+BATCHCALL_API_SECRET=(s3cr3t_\w+)", said)
    assert pair is not None
    with serving() as dialer:
        assert dialer.status(*pair.groups()) == 200
        assert dialer.status(pair[1], pair[1]) == 401
        said = dialer.ends(signal.SIGTERM)
    assert "sk_" not in said


def test_a_pair_from_the_settings_becomes_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not repeated on the terminal."""
    monkeypatch.setenv("BATCHCALL_API_KEY", "my-own-key")
    monkeypatch.setenv("BATCHCALL_API_SECRET", "my-own-secret")
    with serving() as dialer:
        assert dialer.status("my-own-key", "my-own-secret") == 200
        assert "my-own" not in dialer.ends(signal.SIGTERM)


def test_half_a_pair_is_refused_before_anything_starts(tmp_path: Path) -> None:
    """Naming both variables."""
    settings = Settings(data_dir=tmp_path, api_key=SecretStr("x"))
    with pytest.raises(ConfigurationError, match="BATCHCALL_API_SECRET"):
        server.serve(settings, lambda _settings: None, host="127.0.0.1", port=0)


def refused(*arguments: str) -> str:
    """What the dialer says that does not start: one line, and exit code 2."""
    command = [*forked.program(), "dialer", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    *before, last = done.stderr.splitlines()
    assert (done.returncode, [line for line in before if not line.startswith(("The first", "BATCHCALL_"))]) == (2, [])
    return last


def test_a_port_that_is_taken_is_one_line() -> None:
    """And no key pair is made and shown for a server that does not start."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refused("--port", str(port)).startswith(
            f"batchcall-mcp: Cannot listen on 127.0.0.1:{port}: Address already in use."
        )
    assert not list(Path(os.environ["BATCHCALL_DATA_DIR"]).iterdir())


def test_a_do_not_call_list_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BATCHCALL_DO_NOT_CALL", str(tmp_path / "gone.txt"))
    assert 'BATCHCALL_DO_NOT_CALL: "gone.txt" does not exist.' in refused("--port", "0")


def test_a_pair_in_the_settings_that_comes_too_late_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first start the settings' pair is not taken, and would be refused in every request."""
    added(Settings.load().data_dir, api_keys.LOCAL)
    monkeypatch.setenv("BATCHCALL_API_KEY", "my-own-key")
    monkeypatch.setenv("BATCHCALL_API_SECRET", "my-own-secret")
    with serving() as dialer:
        assert dialer.status("my-own-key", "my-own-secret") == 401
        said = dialer.ends(signal.SIGTERM)
    assert "not a pair that this dialer knows" in said
    assert "my-own" not in said


def added(data_dir: Path, organization_id: str) -> api_keys.KeyPair:
    store = Store.open(data_dir / "dialer.db")
    api_keys.add(store, pair := api_keys.new_pair(), organization_id)
    store.close()
    return pair


def test_a_pair_works_for_its_organisation_whole(tmp_path: Path) -> None:
    pair = added(tmp_path, "sales")
    dialer = EmbeddedDialer(tmp_path)
    assert dialer.verify(*pair) == "sales"
    assert dialer.verify(pair.api_key, "s3cr3t_wrong") is None
    assert dialer.verify("sk_wrong", pair.api_secret) is None
    assert dialer.verify(*dialer.credentials) == "local"
    dialer.store().close()


def test_only_hashes_are_kept(tmp_path: Path) -> None:
    """Whoever reads the file cannot call."""
    pair = api_keys.new_pair()
    store = Store.open(tmp_path / "dialer.db")
    api_keys.add(store, pair, "local")
    store.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert pair.api_key.encode() not in content
    assert pair.api_secret.encode() not in content


def test_there_is_one_first_pair(tmp_path: Path) -> None:
    """However often the dialer starts."""
    store = Store.open(tmp_path / "dialer.db")
    first = api_keys.first_pair(store, None)
    assert first is not None
    assert api_keys.first_pair(store, api_keys.new_pair()) is None
    assert api_keys.organization_of(store, *first) == "local"
    store.close()


@pytest.fixture
def worker() -> Iterator[server.Workers]:
    """One of `--workers`, stopped while Python is still starting in it: as on a machine with no time for it."""
    heard = {number: signal.getsignal(number) for number in SIGNALS}
    with bound_socket("127.0.0.1", 0) as listening:
        config = uvicorn.Config("starlette.applications:Starlette", factory=True, log_config=None)
        workers = server.Workers(config, [listening])
        try:
            workers.init_processes()
            os.kill(pid_of(workers), signal.SIGSTOP)
            yield workers
        finally:
            for one in workers.processes:
                one.kill()
            workers.join_all()
            for number, handler in heard.items():
                signal.signal(number, handler)


def pid_of(workers: server.Workers) -> int:
    (one,) = workers.processes
    assert one.pid is not None
    return one.pid


def test_a_worker_that_starts_slowly_is_not_killed_and_started_again(worker: server.Workers) -> None:
    """By itself, uvicorn waits 5 s for it here, and kills it, each time."""
    pid = pid_of(worker)
    for _ in range(20):
        worker.keep_subprocess_alive()
    os.kill(pid, signal.SIGCONT)
    until(lambda: worker.processes[0].is_ready(60))
    for _ in range(200):  # longer than anything may be silent
        until(worker.processes[0].parent_conn.poll)
        worker.keep_subprocess_alive()
    assert pid_of(worker) == pid


def test_a_worker_that_is_silent_for_too_long_is_replaced(
    worker: server.Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_LONGEST_SILENCE", 3)
    pid = pid_of(worker)
    worker.keep_subprocess_alive()
    worker.keep_subprocess_alive()
    assert pid_of(worker) == pid
    worker.keep_subprocess_alive()
    assert pid_of(worker) != pid
    until(lambda: worker.processes[0].is_ready(60))


def test_a_worker_that_has_died_is_replaced(worker: server.Workers) -> None:
    pid = pid_of(worker)
    os.kill(pid, signal.SIGKILL)
    worker.processes[0].join()
    worker.keep_subprocess_alive()
    assert pid_of(worker) != pid
    until(lambda: worker.processes[0].is_ready(60))


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)
