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
import re
import select
import signal
import sys
import zlib
from io import BufferedReader, BytesIO, FileIO

from batchcall_mcp.fast_start.surface import are_installed, surface_of

TYPE_CHECKING = False  # importing `typing` takes as long as the answer
if TYPE_CHECKING:
    from typing import Any

FILE = f"{__file__.removesuffix('__init__.py')}answers.snapshot"
_FIRST_MS, _NEXT_MS = 50, 6
"""How long the next line is waited for before the imports begin, with which the answers then share the time."""
_SWITCH_S, _USUAL_SWITCH_S = 0.001, sys.getswitchinterval()
_LONGEST_S = 1.0
_LONGEST, _DEEPEST = 65_536, 100
"""Bytes and brackets of a line that is judged here; the server's JSON is less patient than Python's."""

_META = "io.modelcontextprotocol/"
_OF_MODERN = {_META + "protocolVersion", _META + "clientCapabilities", _META + "clientInfo", "progressToken"}
_OF_INITIALIZE = {"protocolVersion", "capabilities", "clientInfo"}
_OF_CLIENT = {"name", "version", "title", "description", "websiteUrl"}
_NOTHING: dict[str, Any] = {}


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


class Snapshot:
    """What one server answers; and the era that the client has chosen, if it was answered already."""

    def __init__(self, backend: str, mode: str) -> None:
        with open(FILE, "rb") as file:  # noqa: PTH123 - importing pathlib takes half as long as the answer
            index = json.loads(file.readline())
            begins, size = index["backends"][backend]
            file.seek(begins, os.SEEK_CUR)
            kept = json.loads(zlib.decompress(file.read(size)))
        self.rendered_by: dict[str, str] = index["rendered_by"]
        self._versions: dict[str, list[str]] = index["versions"]
        self._texts, self._results = kept["texts"], kept["modes"][mode]
        self._era: str | None = None

    def answer(self, line: bytes) -> tuple[bytes, bool] | None:
        """The answer to a line (to a notification b""), and whether it decides the era. None: the server's turn."""
        deep = line.count(b"{") + line.count(b"[") > _DEEPEST
        if deep or len(line) > _LONGEST or b"\r" in line[:-2] or b"\\ud" in line.lower():
            return None
        try:
            message = json.loads(line.decode(), parse_int=_short, parse_float=_short, parse_constant=_short)
            return self._answer(**message) if message.pop("jsonrpc") == "2.0" else None
        except (AttributeError, KeyError, TypeError, ValueError):
            return None

    def _answer(self, *, method: str, id: Any = None, params: Any = _NOTHING) -> tuple[bytes, bool] | None:  # noqa: A002
        if method == "notifications/initialized" and id is None and not params and self._era == "legacy":
            return b"", False
        meta = params.get("_meta", _NOTHING)
        named = type(id) is int or re.fullmatch(r"[ !#-\[\]-~]{1,200}", id)
        if not named or type(meta.get("progressToken", 0)) not in {int, str}:
            return None
        if method == "initialize":
            version = params["protocolVersion"]
            known = self._era is None and params.keys() == _OF_INITIALIZE and version in self._versions["legacy"]
            if not known or not _is_plain(params["clientInfo"], params["capabilities"]):
                return None
            self._era = "legacy"
            return self._result(id, method, version), True
        if self._era == "legacy":
            plain = params.keys() <= {"_meta"} and meta.keys() <= {"progressToken"}
            return (self._result(id, method), False) if plain else None
        return self._modern(id, method, meta) if params.keys() == {"_meta"} and meta.keys() <= _OF_MODERN else None

    def _modern(self, id: Any, method: str, meta: dict[str, Any]) -> tuple[bytes, bool] | None:  # noqa: A002
        client = meta.get(_META + "clientInfo", {"name": "", "version": ""})
        known = meta[_META + "protocolVersion"] in self._versions["modern"] and method in self._results["modern"]
        probes = method == "server/discover"  # `initialize` may follow the first ones; a later one is the SDK's
        if not known or (probes and self._era) or not _is_plain(client, meta[_META + "clientCapabilities"]):
            return None
        decides = not probes and self._era is None
        self._era = "modern" if decides else self._era
        return self._result(id, method), decides

    def _result(self, id: Any, method: str, version: str = "@VERSION@") -> bytes:  # noqa: A002
        text = "".join(self._texts[number] for number in self._results[self._era or "modern"][method])
        text = text.replace("@VERSION@", version, 1)
        return f'{{"jsonrpc":"2.0","id":{json.dumps(id)},"result":{text}}}\n'.encode()


def _is_plain(client: dict[str, Any], capabilities: dict[str, Any]) -> bool:
    """Whether the SDK certainly accepts what a client says of itself; what real ones say is plain."""
    return (
        {"name", "version"} <= client.keys() <= _OF_CLIENT
        and all(type(value) is str for value in client.values())
        and all(type(value) is dict for value in capabilities.get("experimental", _NOTHING).values())
        and all(type(value) is dict for value in capabilities.get("extensions", _NOTHING).values())
        and capabilities.get("roots", {}) in ({}, {"listChanged": True}, {"listChanged": False})
        and all(_only_objects(capabilities.get(name, {})) for name in ("sampling", "elicitation", "tasks"))
    )


def _only_objects(value: object) -> bool:
    return isinstance(value, dict) and all(map(_only_objects, value.values()))


def _short(number: str) -> int:
    if len(number) > 15 or number == "-0":  # noqa: PLR2004
        raise ValueError
    return int(number)  # which fails for what is not a whole number


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
            came = os.read(self.fileno(), _LONGEST)
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
        return len(self._rest) <= _LONGEST

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
