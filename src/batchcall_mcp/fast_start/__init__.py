"""Fast start: a client has its handshake and lists from a snapshot while the real server is still being imported.

1. `begin` decides by settings and installed packages which snapshot is the one (`surface`), takes stdin and stdout for
   itself, and points descriptor 1 to stderr: nothing that an import prints reaches the client.
2. A thread answers plain requests for what the snapshot holds (`Snapshot.answer`): at first the main thread waits, then
   it imports. The first line that is anything else ends this.
3. The real server's first read ends it too. From there on the server reads what was not answered, then the pipe. It
   first gets the one answered request that decides about the connection (`initialize`, or the first modern list) again,
   alone; its answer, which the client has, is dropped (`Handover`, `Written`).

Whatever cannot be judged here takes the ordinary way: other settings, other backends, other versions of the packages
that rendered the snapshot, Windows. Without this package everything does. `python -m release.snapshot` renders the
snapshot from the real server.
"""

from __future__ import annotations

import _thread
import fcntl  # not on Windows: there `__main__` takes the ordinary way
import json
import os
import select
import signal
import sys
import zlib
from io import BufferedReader, BytesIO, FileIO

from batchcall_mcp.fast_start.answers import LONGEST, Snapshot
from batchcall_mcp.fast_start.surface import are_installed, surface_of

TYPE_CHECKING = False  # importing `typing` takes as long as the answer
if TYPE_CHECKING:
    from typing import Any

_FIRST_MS, _NEXT_MS = 50, 6
"""How long the next line is waited for before the imports begin, with which the answers then share the time."""
_SWITCH_S, _USUAL_SWITCH_S = 0.001, sys.getswitchinterval()
_LONGEST_S = 1.0
"""How long the imports wait at most, for a client that does not read its answers."""


def begin() -> tuple[BufferedReader, FileIO] | None:
    """Answer what can be answered; what the real server then reads from and writes to. None: the ordinary way."""
    try:
        surface = surface_of(os.environ)
        if surface is None or not (os.get_blocking(0) and os.get_blocking(1) and os.fstat(2)):
            return None
        snapshot = Snapshot(*surface)
        if not are_installed(snapshot.rendered_by, sys.path):
            return None
    except (OSError, KeyError, ValueError, zlib.error):
        return None
    client = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3) for number in (0, 1)]
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    handover = Handover(snapshot, *client)
    handover.answer_first()
    return BufferedReader(handover), Written(handover)


class Handover(FileIO):
    """The client's pipes: first ours; from its first read on the real server's, which reads here.

    `_rest` is all that came and was not answered, in its order. `_first` is the answered request that decides the era,
    `_kept` what came after it and needs no answer, `awaited` its id until the server's own answer was dropped.
    """

    def __init__(self, snapshot: Snapshot, reading: int, writing: int) -> None:
        super().__init__(reading, "rb", closefd=False)
        self._snapshot, self.client = snapshot, writing
        self._rest = self._kept = self._first = b""
        self.awaited: int | str | None = None
        self._ended = self._handed_over = False
        self._woken, self._wakes = os.pipe()
        self._poll, self._left = select.poll(), select.poll()
        self._poll.register(reading, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        self._left.register(reading, 0)
        self._answering, self.dropping = _thread.allocate_lock(), _thread.allocate_lock()

    def answer_first(self) -> None:
        """Answer in a thread, and wait for what comes at once; but not for a client that does not read."""
        quiet = _thread.allocate_lock()
        quiet.acquire()
        self._answering.acquire()
        _thread.start_new_thread(self._answer_all, (quiet,))
        quiet.acquire(timeout=_LONGEST_S)
        sys.setswitchinterval(_SWITCH_S)

    def _answer_all(self, quiet: _thread.LockType) -> None:
        try:
            wait = _FIRST_MS
            while self._goes_on(wait):
                wait = _NEXT_MS
            quiet.release()
            while not self._ended and self._goes_on(None):
                pass
        finally:
            self._answering.release()

    def _goes_on(self, wait: int | None) -> bool:
        """Answer what comes; False: nothing came, or it is the server's turn."""
        ready = dict(self._poll.poll(wait))
        if not ready or self._woken in ready:
            return False
        try:
            came = os.read(self.fileno(), LONGEST)
            self._rest += came
            self._ended = not came or not self._answers_lines()
        except OSError:  # nobody reads or writes there: the server sees to that
            self._ended = True
        return not self._ended

    def _answers_lines(self) -> bool:
        while end := self._rest.find(b"\n") + 1:
            line = self._rest[:end]
            answered = self._snapshot.answer(line)
            if answered is None:
                return False
            answer, decides = answered
            self.send(answer)  # if that fails, the line is the server's, which then learns that the client is gone
            if decides:
                self._first, self.awaited = line, json.loads(line)["id"]
                self.dropping.acquire()
            self._kept += b"" if answer else line
            self._rest = self._rest[end:]
        return len(self._rest) <= LONGEST

    def send(self, data: bytes) -> None:
        """Write all of it to the client."""
        while data:
            data = data[os.write(self.client, data) :]

    def readinto(self, buffer: Any) -> int:
        """The server's turn to read: the deciding request, then the rest, then the pipe."""
        if not self._handed_over:
            self._handed_over = True
            os.write(self._wakes, b"!")
            with self._answering:
                self._decides, self._follows = BytesIO(self._first), BytesIO(self._kept + self._rest)
            sys.setswitchinterval(_USUAL_SWITCH_S)
            os.close(self._woken)
            os.close(self._wakes)
        count = self._decides.readinto(buffer)
        while not count and self.awaited is not None and not self.dropping.acquire(timeout=0.5):
            if self._left.poll(0):
                break  # the client is gone, and with it who would see another order
        return count or self._follows.readinto(buffer) or super().readinto(buffer)


class Written(FileIO):
    """What the real server writes, whole lines, goes to the client, but for the answer that the client has already."""

    def __init__(self, handover: Handover) -> None:
        super().__init__(handover.client, "wb", closefd=False)
        self._handover = handover

    def write(self, data: Any) -> int:
        """Write all of it."""
        lines = bytes(data)
        for line in lines.splitlines(keepends=True) if self._handover.awaited is not None else ():
            message = json.loads(line)
            if "method" not in message and message.get("id") == self._handover.awaited:
                lines = lines.replace(line, b"", 1)
                self._handover.awaited = None
                self._handover.dropping.release()  # the server may read on
                break
        self._handover.send(lines)
        return len(data)
