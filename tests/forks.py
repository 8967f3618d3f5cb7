"""Forks this process for anyone who asks at a socket; `tests/forking.py` does it with everything imported.

Any of those who ask may be killed at any moment. The others never notice.
"""

from __future__ import annotations

import importlib
import io
import marshal
import os
import resource
import select
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any


class Forks:
    """The children that live, and for each the connection of the process that a test sees."""

    def __init__(self, listens: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(f"{listens}.new")
        self._socket.listen(128)
        Path(f"{listens}.new").rename(listens)  # whoever sees it can connect
        self._children: dict[int, socket.socket] = {}
        self._woken, writing = os.pipe()
        os.set_blocking(writing, False)
        os.set_blocking(self._woken, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)

    def serve(self) -> list[str] | None:
        """Returns in each child its arguments, and here None, when stdin has ended."""
        while True:
            pids = {connection: pid for pid, connection in self._children.items()}
            watched: list[Any] = [0, self._woken, self._socket, *pids]
            ready, _, _ = select.select(watched, [], [])
            if self._woken in ready:
                os.read(self._woken, 4096)
                self._reap()
            for connection in ready:
                if connection in pids and pids[connection] in self._children:  # who waited for it has died
                    os.kill(pids[connection], signal.SIGKILL)
                    self._children.pop(pids[connection]).close()
            if self._socket in ready:
                arguments = self._fork(self._socket.accept()[0])
                if arguments is not None:
                    return arguments
            if 0 in ready:
                for pid in self._children:
                    os.kill(pid, signal.SIGKILL)
                return None

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            connection = self._children.pop(pid, None)
            if connection is not None:
                with connection:
                    _say(connection, os.waitstatus_to_exitcode(status))

    def _fork(self, connection: socket.socket) -> list[str] | None:
        try:
            job, streams = _asked(connection)
        except (OSError, EOFError, ValueError, TypeError):  # killed before it had asked
            connection.close()
            return None
        try:
            pid = os.fork()
        except OSError:  # no more processes or memory
            traceback.print_exc()
            connection.close()
            pid = -1
        if pid:
            for stream in streams:
                os.close(stream)
        if pid < 0:
            return None
        if pid:
            self._children[pid] = connection
            _say(connection, pid)
            return None
        for one in (connection, self._socket, *self._children.values()):
            one.close()
        return _become(job, streams)


def _asked(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """What is to be started, and its standard streams."""
    head, streams, _, _ = socket.recv_fds(connection, 4, 3)
    try:
        job, length = b"", int.from_bytes(head, "big")
        while len(job) < length and (more := connection.recv(65536)):
            job += more
        return marshal.loads(job), streams
    except BaseException:
        for stream in streams:
            os.close(stream)
        raise


def _say(connection: socket.socket, number: int) -> None:
    """One that was killed cannot be answered; `serve` sees the end of its connection, and ends its child."""
    with suppress(OSError):
        connection.sendall(b"%d\n" % number)


def _become(job: dict[str, Any], streams: list[int]) -> list[str]:
    """The process that was asked for."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["folder"])
    for limit, soft, hard in job["limits"]:
        resource.setrlimit(limit, (soft, hard))
    time.tzset()
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        import coverage

        coverage.process_startup()
    if pid_file := os.environ.pop("FORKED_PID_FILE", None):  # by the child, so that it is there before anything is said
        Path(pid_file).write_text(str(os.getpid()), encoding="ascii")
    if first := os.environ.pop("FORKED_FIRST", None):
        module, _, name = first.partition(":")
        getattr(importlib.import_module(module), name)()
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, "r")), "utf-8")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _written(1, "strict")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _written(2, "backslashreplace")  # type: ignore[misc]
    arguments: list[str] = job["arguments"]
    return arguments


def _written(stream: int, errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BufferedWriter(io.FileIO(stream, "w")), "utf-8", errors, line_buffering=True)
