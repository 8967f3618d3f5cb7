"""The one process that forks for all tests of a run: whatever becomes of one test's process, the others go on."""

from __future__ import annotations

import fcntl
import marshal
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import forked

FORKS = """
import sys
from tests.forks import Forks
forks = Forks(sys.argv[1])
print("ready", flush=True)
asked = forks.serve()
if asked is not None:
    exec(asked[0])
"""
HERE = Path(__file__).parent


@pytest.fixture
def listens(tmp_path: Path) -> Iterator[Path]:
    """Where one listens that has imported nothing; a child runs its first argument."""
    listens = tmp_path / "socket"
    command = [sys.executable, "-c", FORKS, str(listens)]
    with subprocess.Popen(command, cwd=HERE.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as forks:
        assert forks.stdout is not None
        assert forks.stdout.readline() == b"ready\n"
        yield listens
        assert forks.poll() is None
        forks.communicate()
    assert forks.returncode == 0


def connected(listens: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(60)
    connection.connect(str(listens))
    return connection


def asks(connection: socket.socket, code: str) -> None:
    """As the launcher does."""
    job = {"arguments": [code], "environment": dict(os.environ), "folder": str(HERE), "limits": []}
    written = marshal.dumps(job)
    socket.send_fds(connection, [len(written).to_bytes(4, "big")], [0, 1, 2])
    connection.sendall(written)


def launched(listens: Path, code: str) -> int:
    """Its exit code."""
    command = [*forked.launcher(listens), code]
    return subprocess.run(command, timeout=60, check=False, stdin=subprocess.DEVNULL).returncode


def test_it_ends_as_the_child_ends(listens: Path) -> None:
    assert launched(listens, "sys.exit(3)") == 3
    assert launched(listens, "import os; os.kill(os.getpid(), 15)") == -signal.SIGTERM


def test_one_that_is_killed_before_it_has_asked_harms_nobody(listens: Path) -> None:
    connected(listens).close()
    assert launched(listens, "sys.exit(3)") == 3


def test_one_that_is_killed_while_it_asks_harms_nobody(listens: Path) -> None:
    with connected(listens) as connection:
        socket.send_fds(connection, [(1000).to_bytes(4, "big")], [0, 1, 2])
        connection.sendall(marshal.dumps(["half of it"])[:5])
    assert launched(listens, "sys.exit(3)") == 3


def test_one_that_is_killed_before_it_hears_of_its_child_harms_nobody(listens: Path) -> None:
    with kept_waiting(listens), connected(listens) as connection:
        asks(connection, "import time; time.sleep(60)")
        connection.close()
    assert launched(listens, "sys.exit(3)") == 3


def test_one_that_is_killed_together_with_its_child_harms_nobody(listens: Path) -> None:
    """Both are seen at once."""
    with connected(listens) as connection, connection.makefile("rb") as said:
        asks(connection, "import time; time.sleep(60)")
        child = int(said.readline())
        with kept_waiting(listens):
            os.kill(child, signal.SIGKILL)
            until(lambda: state(child) == "Z")
            said.close()
            connection.close()
    assert launched(listens, "sys.exit(3)") == 3


@contextmanager
def kept_waiting(listens: Path) -> Iterator[None]:
    """It listens to one that has not said everything."""
    with connected(listens) as slow:
        socket.send_fds(slow, [(1000).to_bytes(4, "big")], [0, 1, 2])
        until(lambda: unread(slow) == 0)
        yield


def unread(connection: socket.socket) -> int:
    """Bytes that the other end has not read."""
    return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_childs_process_id_is_written_before_the_child_does_anything(
    listens: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORKED_PID_FILE", str(tmp_path / "pid"))
    assert launched(listens, f"import os; sys.exit(open({str(tmp_path / 'pid')!r}).read() != str(os.getpid()))") == 0


def test_when_it_has_ended_that_is_said(tmp_path: Path) -> None:
    listens = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(listens))
    command = [*forked.launcher(listens), ""]
    done = subprocess.run(command, timeout=60, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 70
    assert "tests/forking.py has ended; its traceback is in what this test run has written" in done.stderr
