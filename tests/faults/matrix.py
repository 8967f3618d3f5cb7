"""What a backend can do wrong, and what is promised for it: data.

The waits between tries are left out here (`Expected.requests` says how often was asked); tests/backends/test_http.py
holds them with a clock that is moved by hand.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from tests.faults import server
from tests.faults.server import Answerer, Good, answer

READS = ("get_batch_call", "list_batch_calls")
WRITES = ("create_batch_call", "start_batch_call", "cancel_batch_call")
MIB = 1024 * 1024
ANSWER = "an answer"
FOUND = "an answer, found by a look"
UNKNOWN = "outcome_unknown"
AWAY = "backend_unavailable"
ODD = "unexpected_response"


@dataclass(frozen=True)
class Expected:
    """What the model gets: an error's code or an answer; and how many requests of its own the backend sees for it."""

    code: str
    requests: int


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. `done`: a write has taken effect all the same. `waits`: only the time limit ends it
    (the clock of the event loop, which its servers share, is moved on for it).

    `stays`: all that is asked after it goes wrong too. `reachable` False: nobody listens there. `read` and `write` are
    what an adapter is promised to say; `but` names a tool, or a backend and a tool, for which it is otherwise.
    """

    name: str
    make: Callable[[Good], Answerer]
    read: Expected
    write: Expected
    done: bool = True
    waits: bool = False
    stays: bool = False
    reachable: bool = True
    but: Mapping[str, Expected] = field(default_factory=dict)

    def said(self, backend: str, tool: str, usual: int = 1) -> Expected:
        """What is promised of the adapter for one cell. `usual`: how often it asks where nothing goes wrong."""
        promised = self.read if tool in READS else self.write
        promised = self.but.get(f"{backend} {tool}") or self.but.get(tool) or promised
        return replace(promised, requests=usual) if promised.code == ANSWER and tool in READS else promised

    def expected(self, backend: str, tool: str, usual: int = 1, *, lists: bool = True) -> Expected:
        """What is promised of the tool: a write of unknown outcome is looked up, and an effect that shows is reported.

        What a create has made is looked up in the list, where there is one.
        """
        said = self.said(backend, tool, usual)
        shows = self.done and not self.stays and (lists or tool != "create_batch_call")
        shows = shows and f"{backend} {tool}" not in NOT_SHOWN
        return replace(said, code=FOUND) if said.code == UNKNOWN and shows else said


NOT_SHOWN = {
    "bland cancel_batch_call": "a stop is in no log, and there is nothing else that says how a batch stands",
    "bolna cancel_batch_call": "one that waits is deleted, and what is gone shows nothing",
}
"""Writes whose effect a look cannot tell from another one: their outcome stays unknown."""

LOST = (Expected(AWAY, 3), Expected(UNKNOWN, 1))
UNREADABLE = (Expected(ODD, 1), Expected(UNKNOWN, 1))
FINE = (Expected(ANSWER, 1), Expected(ANSWER, 1))

TRACE = 'Traceback (most recent call last):\n  File "/srv/app.py", line 1, in make\nValueError: no\n'


def page(good: Good) -> str:
    """What a proxy puts in place of an answer."""
    return f"<html><body><h1>Bad gateway</h1><script>alert('{good.credentials}')</script></body></html>"


def words(good: Good) -> str:
    """An error in JSON with everything in it that no model should see."""
    return json.dumps({"error": f"<b>no</b> {good.credentials} \x1b[31m\u202e{'x' * 50}\n{TRACE}{'x' * 5000}"})


@cache
def bomb(layers: int) -> bytes:
    """More than 32 MiB of JSON in a few bytes."""
    packed = b'{"a": "' + b" " * (40 * MIB) + b'"}'
    for _ in range(layers):
        packed = gzip.compress(packed)
    return packed


def with_padding(good: bytes) -> bytes:
    """The right answer, with 10 MB more in it that nobody asked for."""
    return b'{"padding": ' + _padding() + b", " + good.lstrip()[1:]


@cache
def _padding() -> bytes:
    return json.dumps(["0123456789abcdef"] * 500_000).encode()


def with_duplicates(good: bytes) -> bytes:
    """Every member of the right answer twice; the first time with another value. A list has none."""
    said = json.loads(good or b"[]")
    if not isinstance(said, dict) or not said:
        return good
    return b"{" + "".join(f"{json.dumps(name)}: 7, " for name in said).encode() + good.lstrip()[1:]


def with_nesting(good: bytes) -> bytes:
    """The right answer, with a value in it that is 100,000 lists deep."""
    return b'{"deep": ' + b"[" * 100_000 + b"]" * 100_000 + b", " + good.lstrip()[1:]


def with_broken_text(good: bytes) -> bytes:
    """The right answer, with bytes in it that are no UTF-8."""
    return b'{"broken": "\xff\xfe\xc0", ' + good.lstrip()[1:]


def _half(good: Good) -> Answerer:
    return answer(200, good.body[: len(good.body) // 2], content_length=str(len(good.body)))


def _half_a_chunk(good: Good) -> Answerer:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    return server.exactly(head + f"{len(good.body):x}\r\n".encode() + good.body[:-3])


def _redirect(status: int) -> Callable[[Good], Answerer]:
    return lambda good: answer(status, "", location=f"{good.elsewhere}/batch-call")


def _as(body: bytes | str, **headers: str) -> Callable[[Good], Answerer]:
    return lambda _good: answer(200, body, **headers)


def status_fault(status: int) -> Fault:
    """An answer with this status, in words that no model should see as they are. What is promised is in `STATUSES`."""
    read, write = STATUSES.get(status) or STATUSES[status // 100 * 100]
    # A server without one of our extensions knows the batch call, but not the path; it can take a scheduled one back.
    but = {"batchcall cancel_batch_call": Expected(ANSWER, 1)} if status in {404, 405, 410} else {}
    return Fault(str(status), lambda good: answer(status, words(good)), read, write, done=status >= 500, but=but)


_ONCE = {
    401: "authentication_failed",
    402: "quota_exceeded",
    403: "permission_denied",
    404: "not_found",
    405: "not_supported",
    409: "illegal_transition",
    410: "not_found",
    412: "illegal_transition",
    413: "quota_exceeded",
}
STATUSES: dict[int, tuple[Expected, Expected]] = {
    300: UNREADABLE,
    400: (Expected("invalid_input", 1), Expected("invalid_input", 1)),
    500: LOST,
    408: LOST,
    425: LOST,
    429: (Expected("rate_limited", 3), Expected("rate_limited", 3)),
    **{status: (Expected(code, 1), Expected(code, 1)) for status, code in _ONCE.items()},
}
"""By status; a round hundred stands for all of it that are not named."""

# Both may answer just "yes": that is no lost answer, and what came of it is read from the batch call itself.
_READ_BACK = {"start_batch_call": Expected(ANSWER, 1), "cancel_batch_call": Expected(ANSWER, 1)}

FAULTS: tuple[Fault, ...] = (
    Fault("nobody listens there", lambda _good: server.hang_up, Expected(AWAY, 0), Expected(AWAY, 0), reachable=False),
    Fault("no answer in time", lambda _good: server.never, *LOST, waits=True),
    Fault("the answer drips, a byte at a time, without an end", lambda _good: server.drip, *LOST, waits=True),
    Fault(
        "the answer is late, but in time",
        lambda good: server.late(0.05, answer(200, good.body)),
        *FINE,
    ),
    Fault("reset before it is carried out", lambda _good: server.reset_after(b""), *LOST, done=False),
    Fault("reset after it was carried out", lambda _good: server.reset_after(b""), *LOST),
    Fault("carried out, and no answer to anything from then on", lambda _good: server.hang_up, *LOST, stays=True),
    Fault("reset in the middle of the answer", lambda _good: server.reset, *LOST),
    Fault("hung up without an answer", lambda _good: server.hang_up, *LOST),
    Fault("half a header", lambda _good: server.exactly(b"HTTP/1.1 200 OK\r\ncontent-le"), *LOST),
    Fault("half an answer: less than Content-Length says", _half, *LOST),
    Fault("half a chunk", _half_a_chunk, *LOST),
    Fault("more than Content-Length says", lambda good: answer(200, good.body, content_length="9"), *UNREADABLE),
    Fault("a Content-Length that is not a number", lambda good: answer(200, good.body, content_length="ten"), *LOST),
    Fault("not HTTP", lambda _good: server.garbage, *LOST),
    Fault("headers without an end", lambda _good: server.endless_headers, *LOST),
    Fault("a body without an end", lambda _good: server.endless, *UNREADABLE),
    Fault("a gzip bomb", lambda _good: answer(200, bomb(1), content_encoding="gzip"), *UNREADABLE),
    Fault("a gzip bomb in gzip", lambda _good: answer(200, bomb(2), content_encoding="gzip, gzip"), *UNREADABLE),
    Fault("gzip that is not gzip", _as("nothing packed", content_encoding="gzip"), *UNREADABLE),
    *(Fault(f"redirect {status} to another origin", _redirect(status), *UNREADABLE) for status in (301, 302, 303)),
    *(Fault(f"redirect {status} to another origin", _redirect(status), *UNREADABLE) for status in (307, 308)),
    Fault("a page instead of JSON", lambda good: answer(200, page(good), content_type="text/html"), *UNREADABLE),
    Fault(
        "the right JSON called text",
        lambda good: answer(200, good.body, content_type="text/plain"),
        *FINE,
    ),
    Fault("nothing at all, with 200", _as(""), *UNREADABLE),
    Fault("an object with nothing in it", _as("{}"), *UNREADABLE, but=_READ_BACK),
    Fault("204: success without a content", lambda _good: answer(204), *UNREADABLE, but=_READ_BACK),
    Fault("half of the JSON", lambda good: answer(200, good.body[: len(good.body) // 2]), *UNREADABLE),
    Fault("a list instead of an object", _as('[{"id": "x"}]'), *UNREADABLE),
    Fault("a text instead of an object", _as('"success"'), *UNREADABLE),
    Fault("null instead of an object", _as("null"), *UNREADABLE),
    Fault("an error inside a success", lambda good: answer(200, words(good)), *UNREADABLE),
    Fault("broken UTF-8", lambda good: answer(200, with_broken_text(good.body)), *UNREADABLE),
    Fault("nested 100,000 deep", lambda good: answer(200, with_nesting(good.body)), *UNREADABLE),
    Fault("10 MB of JSON", lambda good: answer(200, with_padding(good.body)), *FINE),
    Fault(
        "every key twice (the last one counts)",
        lambda good: answer(200, with_duplicates(good.body)),
        *FINE,
    ),
)

ONE_OF_EACH_KIND = (
    "nobody listens there",
    "reset before it is carried out",
    "reset after it was carried out",
    "a page instead of JSON",
    "an object with nothing in it",
    "every key twice (the last one counts)",
)
"""What an adapter can meet: a request that was not sent, or not carried out, a lost answer, an unreadable one, an empty
one, and the right one in another form. All other faults are the client's, which is the same for all adapters.
"""
