"""Fast start: a client has its handshake and lists from a snapshot while the real server is still being imported.

1. `begin` decides by the environment alone which snapshot is the one (`surface_of`), takes stdin and stdout for itself,
   and points descriptor 1 to stderr: nothing that an import prints reaches the client.
2. Plain requests for what the snapshot holds are answered (`Snapshot.answer`), first here, then in a thread while the
   main thread imports. The first line that is anything else ends this.
3. The real server's first read ends it too. From there on the server reads what was not answered, then the pipe. It
   first gets the one answered request that decides about the connection (`initialize`, or the first modern list) again,
   alone; its answer, which the client has, is dropped (`Handover`).

Whatever cannot be judged here takes the ordinary way: other settings, other backends, Windows. Without this module
everything does. `python -m release.snapshot` renders the snapshot from the real server.
"""

from __future__ import annotations

import _thread
import json
import os
import re
import select
import signal
import sys
import zlib
from io import BufferedReader, RawIOBase

TYPE_CHECKING = False  # importing `typing` takes as long as the answer
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, BinaryIO, NoReturn

FILE = f"{__file__.removesuffix('.py')}.snapshot"
_FIRST_MS, _NEXT_MS = 50, 6
"""How long the next line is waited for before the imports begin, with which the answers then share the time."""
_SWITCH_S = 0.001
"""How long the imports keep an answer waiting; Python's own is 5 ms."""
_LOOKS_EVERY_S = 0.5
_LONGEST, _DEEPEST = 65_536, 100
"""Bytes and brackets of a line that is judged here; the server's JSON is less patient than Python's."""
_INTERRUPTED = 130

_KEY = r"(?!.*\$\{)[!-~]+"
_PATHS = "/[ -}]*"
_COUNT = "[1-9][0-9]{0,8}"
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3})"
_TIME = "([01][0-9]|2[0-3]):[0-5][0-9]"
_LABEL = "[a-z0-9]+(-[a-z0-9]+)*"
_SETTINGS = {
    "BACKEND": "[a-z]+",
    "URL": rf"https?://(localhost|127\.0\.0\.1|({_LABEL}\.)+[a-z]+)(:{_PORT})?(/[A-Za-z0-9_-]+)*/?",
    "API_KEY": _KEY,
    "API_SECRET": _KEY,
    "MODE": "full|draft|read-only",
    "CONFIRM": "auto|person|code",
    "APPROVAL_PAGE": "auto|off",
    "MAX_CALLS_PER_LAUNCH": _COUNT,
    "MAX_CALLS_PER_DAY": _COUNT,
    "DEFAULT_REGION": "[A-Z][A-Z]",
    "FILES": _PATHS,
    "DO_NOT_CALL": _PATHS,
    "DATA_DIR": _PATHS,
    "CALLING_HOURS": f"{_TIME}-({_TIME}|24:00)",
    "REQUEST_TIMEOUT_S": "[1-9][0-9]?",
    "SIMULATED_SPEED": "[1-9][0-9]{0,3}",
    "LOG_LEVEL": "DEBUG|INFO|WARNING|ERROR",
    "LOG_FORMAT": "text|json",
    "FAST_START": "on",
}
"""Values that the real settings certainly accept; but for the mode and the backend none changes a list."""

_META = "io.modelcontextprotocol/"
_OF_INITIALIZE = {"protocolVersion", "capabilities", "clientInfo"}
_OF_MODERN = {_META + "protocolVersion", _META + "clientCapabilities", _META + "clientInfo", "progressToken"}
_OF_CLIENT = {"name", "version", "title", "description", "websiteUrl"}
_NOTHING: dict[str, Any] = {}


def begin() -> tuple[BinaryIO, BinaryIO] | None:
    """Answer what can be answered; what the real server then reads from and writes to. None: the ordinary way."""
    surface = surface_of(os.environ) if os.name == "posix" else None
    try:
        if surface is None or not (os.get_blocking(0) and os.get_blocking(1) and os.fstat(2)):
            return None
        snapshot = Snapshot(*surface)
    except (OSError, KeyError, ValueError, zlib.error):
        return None
    import fcntl

    client = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3) for number in (0, 1)]
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    handover = Handover(snapshot, *client)
    handover.answer_first()
    return BufferedReader(handover), Written(handover)


def surface_of(environment: Mapping[str, str]) -> tuple[str, str] | None:
    """Backend and mode that a server with this environment serves; None where only the real settings can say."""
    given = {name: value for name, value in environment.items() if name.upper().startswith("BATCHCALL_")}
    for name, value in given.items():
        form = _SETTINGS.get(name.removeprefix("BATCHCALL_"))
        if form is None or re.fullmatch(form, value) is None:
            return None
    url = given.get("BATCHCALL_URL")
    backend = given.get("BATCHCALL_BACKEND") or ("batchcall" if url or "BATCHCALL_API_KEY" in given else "dialer")
    return None if backend == "dialer" and url else (backend, given.get("BATCHCALL_MODE", "full"))


class Snapshot:
    """What one server answers; and the era that the client has chosen, if it was answered already."""

    def __init__(self, backend: str, mode: str) -> None:
        with open(FILE, "rb") as file:  # noqa: PTH123 - importing pathlib takes half as long as the answer
            index = json.loads(file.readline())
            begins, size = index["backends"][backend]
            file.seek(begins, os.SEEK_CUR)
            kept = json.loads(zlib.decompress(file.read(size)))
        self._versions = index["versions"]
        self._texts, self._results = kept["texts"], kept["modes"][mode]
        self._era: str | None = None

    def answer(self, line: bytes) -> tuple[bytes, bool] | None:
        """The answer to a line (to a notification b""), and whether it decides the era. None: the server's turn."""
        if len(line) > _LONGEST or b"\r" in line[:-2] or b"\\ud" in line.lower():
            return None
        if line.count(b"{") + line.count(b"[") > _DEEPEST:
            return None
        try:
            message = json.loads(line.decode(), parse_int=_short, parse_float=_unsure, parse_constant=_unsure)
            return self._answer(**message) if message.pop("jsonrpc") == "2.0" else None
        except (AttributeError, KeyError, TypeError, ValueError):
            return None

    def _answer(self, *, method: str, id: Any = None, params: Any = _NOTHING) -> tuple[bytes, bool] | None:  # noqa: A002
        if method == "notifications/initialized" and id is None and not params and self._era == "legacy":
            return b"", False
        meta = params.get("_meta", _NOTHING)
        if type(id) is not int and re.fullmatch(r"[ !#-\[\]-~]{1,200}", id) is None:
            return None
        if type(meta.get("progressToken", 0)) not in {int, str}:
            return None
        if method == "initialize":
            version, client = params["protocolVersion"], params["clientInfo"]
            known = self._era is None and version in self._versions["legacy"] and params.keys() == _OF_INITIALIZE
            if not known or not _is_plain(client, params["capabilities"]):
                return None
            self._era = "legacy"
            return self._result(id, method, version), True
        if params.keys() - {"_meta"}:
            return None
        if self._era == "legacy":
            return None if meta.keys() - {"progressToken"} else (self._result(id, method), False)
        client = meta.get(_META + "clientInfo", {"name": "", "version": ""})
        if meta[_META + "protocolVersion"] not in self._versions["modern"] or meta.keys() - _OF_MODERN:
            return None
        if not _is_plain(client, meta[_META + "clientCapabilities"]) or method not in self._results["modern"]:
            return None
        if method == "server/discover" and self._era is not None:
            return None  # then it is answered by the SDK, in another order of the same words
        decides = self._era is None and method != "server/discover"
        self._era = "modern" if decides else self._era
        return self._result(id, method), decides

    def _result(self, id: int | str, method: str, version: str = "") -> bytes:  # noqa: A002
        text = "".join(self._texts[number] for number in self._results[self._era or "modern"][method])
        text = text.replace('"@VERSION@"', json.dumps(version), 1) if version else text
        return f'{{"jsonrpc":"2.0","id":{json.dumps(id)},"result":{text}}}\n'.encode()


def _is_plain(client: dict[str, Any], capabilities: dict[str, Any]) -> bool:
    """Whether the SDK certainly accepts what a client says of itself; what real ones say is plain."""
    if not {"name", "version"} <= client.keys() <= _OF_CLIENT or {type(value) for value in client.values()} != {str}:
        return False
    for name, value in capabilities.items():
        if name == "roots":
            plain = value in ({}, {"listChanged": True}, {"listChanged": False})
        elif name in {"sampling", "elicitation", "tasks"}:
            plain = _only_objects(value)
        elif name in {"experimental", "extensions"}:
            plain = all(type(inner) is dict for inner in value.values())
        else:
            plain = type(value) in {bool, dict}
        if not plain:
            return False
    return True


def _only_objects(value: object) -> bool:
    return isinstance(value, dict) and all(map(_only_objects, value.values()))


def _unsure(_text: str) -> NoReturn:
    raise ValueError


def _short(text: str) -> int:
    return int(text) if len(text) < 16 and text != "-0" else _unsure(text)  # noqa: PLR2004


class Handover(RawIOBase):
    """The client's pipes: first ours; from its first read on the real server's, which reads here.

    `_rest` is all that came and was not answered, in its order. It loses a line after that was answered, never before.
    """

    def __init__(self, snapshot: Snapshot, reading: int, writing: int) -> None:
        self._snapshot, self._in, self.out = snapshot, reading, writing
        self._rest = b""
        self._ended = self._handed_over = False
        self._usual_switch_s = sys.getswitchinterval()
        self._first = b""
        """The request that decides the era, for the server to read."""
        self._kept = b""
        """Notifications that came after it."""
        self.awaited: int | str | None = None
        """The id of that request, until the server's answer to it was dropped."""
        self._woken, self._wakes = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._in, select.POLLIN)
        self._poll.register(self._woken, select.POLLIN)
        self._left = select.poll()
        self._left.register(self._in, 0)
        self._answering, self._dropping = _thread.allocate_lock(), _thread.allocate_lock()

    def answer_first(self) -> None:
        """Answer what comes at once here, then go on in a thread."""
        wait = _FIRST_MS
        while self._goes_on(wait):
            wait = _NEXT_MS
        if not self._ended:
            sys.setswitchinterval(_SWITCH_S)
            self._answering.acquire()
            _thread.start_new_thread(self._answer_meanwhile, ())

    def _answer_meanwhile(self) -> None:
        try:
            while self._goes_on(None):
                pass
        finally:
            self._answering.release()

    def _goes_on(self, wait: int | None) -> bool:
        """Answer what comes; False: nothing came, or it is the server's turn."""
        ready = dict(self._poll.poll(wait))
        if not ready or self._woken in ready:
            return False
        try:
            came = os.read(self._in, _LONGEST)
        except OSError:
            came = b""
        self._rest += came
        self._ended = not (came and self._answers_lines())
        return not self._ended

    def _answers_lines(self) -> bool:
        while end := self._rest.find(b"\n") + 1:
            line = self._rest[:end]
            answered = self._snapshot.answer(line)
            if answered is None:
                return False
            answer, decides = answered
            if decides:
                self._first, self.awaited = line, json.loads(line)["id"]
                self._dropping.acquire()
            elif not answer:
                self._kept += line
            try:
                self.send(answer)
            except OSError:  # nobody reads: the server sees to that
                return False
            self._rest = self._rest[end:]
        return len(self._rest) <= _LONGEST

    def send(self, data: bytes | memoryview) -> None:
        """Write all of it to the client."""
        while data:
            data = data[os.write(self.out, data) :]

    def dropped(self) -> None:
        """The server has answered the deciding request: it may read on."""
        self.awaited = None
        self._dropping.release()

    def readinto(self, buffer: Any) -> int:
        """The server's turn to read: the deciding request, then the rest, then the pipe."""
        if not self._handed_over:
            self._handed_over = True
            os.write(self._wakes, b"!")
            with self._answering:
                self._rest = self._kept + self._rest
            os.close(self._woken)
            os.close(self._wakes)
            sys.setswitchinterval(self._usual_switch_s)
        if self._first:
            count = min(len(buffer), len(self._first))
            buffer[:count], self._first = self._first[:count], self._first[count:]
            return count
        while not self._dropping.acquire(timeout=_LOOKS_EVERY_S):
            if self._left.poll(0):
                break  # the client is gone, and with it who would see another order
        else:
            self._dropping.release()
        if self._rest:
            count = min(len(buffer), len(self._rest))
            buffer[:count], self._rest = self._rest[:count], self._rest[count:]
            return count
        return os.readv(self._in, [buffer])

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._in


class Written(RawIOBase):
    """What the real server writes goes to the client, but for the answer that the client has already."""

    def __init__(self, handover: Handover) -> None:
        self._handover = handover

    def write(self, data: Any) -> int:
        """Write whole lines, all of them."""
        whole = bytes(data)
        left = whole if self._handover.awaited is None else self._without_duplicate(whole)
        self._handover.send(left)
        return len(whole)

    def _without_duplicate(self, lines: bytes) -> bytes:
        for line in lines.splitlines(keepends=True):
            message = json.loads(line)
            if "method" not in message and message.get("id") == self._handover.awaited:
                self._handover.dropped()
                return lines.replace(line, b"", 1)
        return lines

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._handover.out
