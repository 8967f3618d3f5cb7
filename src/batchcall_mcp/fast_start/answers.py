"""What a snapshot answers: plain requests for what it holds, which the SDK certainly accepts."""

from __future__ import annotations

import json
import os
import re
import zlib

TYPE_CHECKING = False  # importing `typing` takes as long as the answer
if TYPE_CHECKING:
    from typing import Any

FILE = f"{__file__.removesuffix('.py')}.snapshot"
LONGEST, _DEEPEST = 65_536, 100
"""Bytes and brackets of a line that is judged here; the server's JSON is less patient than Python's."""

_META = "io.modelcontextprotocol/"
_OF_MODERN = {_META + "protocolVersion", _META + "clientCapabilities", _META + "clientInfo", "progressToken"}
_OF_INITIALIZE = {"protocolVersion", "capabilities", "clientInfo"}
_OF_CLIENT = {"name", "version", "title", "description", "websiteUrl"}
_NOTHING: dict[str, Any] = {}


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
        if deep or len(line) > LONGEST or b"\r" in line[:-2] or b"\\ud" in line.lower():
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
