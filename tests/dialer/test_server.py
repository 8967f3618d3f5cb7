"""`batchcall-mcp dialer` and its keys."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from pydantic import SecretStr

from batchcall_mcp.dialer import server
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.storage import api_keys
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.settings import Settings
from tests import forked


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def serving(port: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([*forked.program(), "dialer", "--port", str(port)], stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 20
        while process.poll() is None:
            try:
                httpx2.get(f"http://127.0.0.1:{port}/healthz")
                break
            except httpx2.ConnectError:
                assert time.monotonic() < deadline
        yield process
    finally:
        process.kill()
        process.communicate()


def told(port: int, key: str, secret: str) -> int:
    headers = {"X-API-KEY": key, "X-API-SECRET": secret}
    return httpx2.get(f"http://127.0.0.1:{port}/batch-call/list", headers=headers).status_code


def test_the_first_start_shows_a_pair_once(free_port: int) -> None:
    """The pair works, also at the second start, which shows none. SIGINT and SIGTERM end both with 0."""
    with serving(free_port) as process:
        health = httpx2.get(f"http://127.0.0.1:{free_port}/healthz").json()
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert (health, process.returncode) == ({"status": "ok", "engine": "running", "engine_failures": 0}, 0)
    assert "no phone rings" in said
    assert "Traceback" not in said
    pair = re.search(r"BATCHCALL_API_KEY=(sk_\w+)\s+BATCHCALL_API_SECRET=(s3cr3t_\w+)", said)
    assert pair is not None
    with serving(free_port) as process:
        assert told(free_port, *pair.groups()) == 200
        assert told(free_port, pair[1], pair[1]) == 401
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "sk_" not in said


def test_a_pair_from_the_settings_becomes_the_first_one(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not repeated on the terminal."""
    monkeypatch.setenv("BATCHCALL_API_KEY", "my-own-key")
    monkeypatch.setenv("BATCHCALL_API_SECRET", "my-own-secret")
    with serving(free_port) as process:
        assert told(free_port, "my-own-key", "my-own-secret") == 200
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert "my-own" not in said


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


def test_a_pair_in_the_settings_that_comes_too_late_is_said(free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first start the settings' pair is not taken, and would be refused in every request."""
    added(Settings.load().data_dir, api_keys.LOCAL)
    monkeypatch.setenv("BATCHCALL_API_KEY", "my-own-key")
    monkeypatch.setenv("BATCHCALL_API_SECRET", "my-own-secret")
    with serving(free_port) as process:
        assert told(free_port, "my-own-key", "my-own-secret") == 401
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
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
