"""The stream is handed over without a loss: every line is answered from the snapshot, or reaches the server once."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.fast_start import Handover, Written
from batchcall_mcp.fast_start.answers import Snapshot
from tests.fast_start.messages import INITIALIZED, call, initialize, modern, notification, request

KINDS: dict[str, Callable[[int], bytes]] = {
    "hello": initialize,
    "initialized": lambda _id: INITIALIZED,
    "tools": lambda number: request(number, "tools/list"),
    "prompts": lambda number: request(number, "prompts/list"),
    "ping": lambda number: request(number, "ping"),
    "probe": lambda number: modern(number, "server/discover"),
    "modern tools": lambda number: modern(number, "tools/list"),
    "call": call,
    "cancel": lambda number: notification("notifications/cancelled", {"requestId": number}),
    "no json": lambda number: b"no json %d\n" % number,
    "empty": lambda _id: b"\n",
    "long": lambda number: request(number, "tools/list", {"cursor": "x" * 70_000}),
}
ENDS = (b"", b'{"jsonrpc":"2.0","id":', b"\xff")
sessions = st.one_of(
    st.lists(st.sampled_from(sorted(KINDS)), max_size=8),
    st.lists(st.sampled_from(sorted(KINDS)), max_size=6).map(lambda rest: ["hello", "initialized", "tools", *rest]),
    st.lists(st.sampled_from(sorted(KINDS)), max_size=6).map(lambda rest: ["probe", "modern tools", *rest]),
)


class Pipes:
    """A client at one end of two pipes, and the fast start at the other."""

    def __init__(self) -> None:
        reading, self._asks = os.pipe()
        self.answers, writing = os.pipe()
        self.ends = reading, writing
        self.handover = Handover(Snapshot("zudu", "full"), reading, writing)

    def send(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._asks, data) :]

    def end(self) -> None:
        os.close(self._asks)

    def finish(self, data: bytes) -> None:
        self.send(data)
        self.end()


@contextmanager
def _drained(pipes: Pipes) -> Iterator[list[bytes]]:
    """What the client gets is read all the time, as clients do: a full pipe would stop everything."""
    got: list[bytes] = []

    def read() -> None:
        with os.fdopen(pipes.answers, "rb") as answers:
            got.extend(answers)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield got
    finally:
        os.close(pipes.ends[1])
        reader.join()
        os.close(pipes.ends[0])


def served(handover: Handover) -> tuple[bytes, list[bytes]]:
    """What a server reads, when it answers the deciding request as soon as it has read it; and each read until then."""
    written, taken, before = Written(handover), b"", []
    buffer = bytearray(8192)
    while count := handover.readinto(buffer):
        taken += buffer[:count]
        if handover.awaited is not None:
            before.append(bytes(buffer[:count]))
            if taken.endswith(b"\n"):
                written.write(b'{"jsonrpc":"2.0","id":%s,"result":{}}\n' % json.dumps(handover.awaited).encode())
    return taken, before


def check(stream: bytes, got: list[bytes], taken: bytes, before: list[bytes]) -> None:
    """Each line of the client is accounted for exactly once, and in order."""
    answered = [json.loads(one)["id"] for one in got]
    assert len(set(answered)) == len(answered)
    lines, expected, over, decided = stream.splitlines(keepends=True), b"", False, False
    for one in lines:
        try:
            message = json.loads(one)
        except ValueError:
            message = {}
        by_us = not over and message.get("id") in answered and "id" in message
        assert over is False or message.get("id") not in answered
        decides = by_us and not decided and message["method"] != "server/discover"
        if decides:
            decided = True
            assert b"".join(before) == one, "the deciding request is read alone"
        if not by_us or decides:
            expected += one
        if not by_us and message.get("method") != "notifications/initialized":
            over = True
    assert taken == expected


@given(sessions, st.sampled_from(ENDS), st.lists(st.integers(1, 4000), max_size=12), st.integers(0, 12))
def test_every_byte_is_answered_or_reaches_the_server_once_and_in_order(
    kinds: list[str], end: bytes, sizes: list[int], taken_over_after: int
) -> None:
    stream = b"".join(KINDS[kind](number) for number, kind in enumerate(kinds)) + end
    pipes = Pipes()
    with _drained(pipes) as got:
        at, goes_on = 0, True
        for step, size in enumerate([*sizes, 4000]):
            if step == taken_over_after or not goes_on or at >= len(stream):
                break
            pipes.send(stream[at : at + size])
            at += size
            goes_on = pipes.handover._goes_on(0)
        feeding = threading.Thread(target=pipes.finish, args=(stream[at:],))
        feeding.start()
        taken, before = served(pipes.handover)
        feeding.join()
    check(stream, got, taken, before)


@given(sessions, st.lists(st.integers(1, 4000), max_size=12))
def test_so_it_is_when_the_server_begins_to_read_at_any_moment(kinds: list[str], sizes: list[int]) -> None:
    """The thread answers, the client writes and the server takes over, all at once."""
    stream = b"".join(KINDS[kind](number) for number, kind in enumerate(kinds))
    pipes = Pipes()

    def write() -> None:
        at = 0
        for size in sizes:
            pipes.send(stream[at : at + size])
            at += size
        pipes.finish(stream[at:])

    with _drained(pipes) as got:
        feeding = threading.Thread(target=write)
        feeding.start()
        pipes.handover.answer_first()
        taken, before = served(pipes.handover)
        feeding.join()
    check(stream, got, taken, before)


def test_the_next_request_waits_until_the_duplicate_answer_is_dropped() -> None:
    """So an answer with the same id can only be the duplicate, and two requests of one id are answered twice."""
    pipes = Pipes()
    pipes.send(initialize(7) + INITIALIZED + call(7))
    with _drained(pipes) as got, closing(Written(pipes.handover)) as written:
        while pipes.handover._goes_on(0):
            pass
        buffer = bytearray(8192)
        first = pipes.handover.readinto(buffer)
        assert bytes(buffer[:first]) == initialize(7)
        read = threading.Event()
        rest = bytearray(8192)

        def server() -> None:
            read_of_rest.append(pipes.handover.readinto(rest))
            read.set()

        read_of_rest: list[int] = []
        reading = threading.Thread(target=server)
        reading.start()
        written.write(b'{"jsonrpc":"2.0","method":"notifications/message","params":{}}\n')
        assert not read.is_set()
        written.write(b'{"jsonrpc":"2.0","id":7,"result":{}}\n')
        reading.join()
        assert bytes(rest[: read_of_rest[0]]) == INITIALIZED + call(7)
        written.write(b'{"jsonrpc":"2.0","id":7,"result":{"of":"the call"}}\n')
        pipes.end()
    assert [json.loads(one).get("id") for one in got] == [7, None, 7]
    assert b"of" in got[-1]


def test_what_could_not_be_answered_reaches_the_server_too() -> None:
    """A client that closed stdout: the server has to notice that too, and only writing shows it."""
    pipes = Pipes()
    pipes.send(initialize(0))
    assert pipes.handover._goes_on(0)
    assert os.read(pipes.answers, 65_536)
    os.close(pipes.answers)
    pipes.send(INITIALIZED + request(1, "tools/list"))
    assert not pipes.handover._goes_on(0)
    pipes.end()
    assert served(pipes.handover)[0] == initialize(0) + INITIALIZED + request(1, "tools/list")


def test_a_first_answer_that_could_not_be_written_is_not_awaited() -> None:
    pipes = Pipes()
    os.close(pipes.answers)
    pipes.send(initialize(0))
    assert not pipes.handover._goes_on(0)
    pipes.end()
    assert pipes.handover.awaited is None
    assert served(pipes.handover)[0] == initialize(0)


def test_a_client_that_does_not_read_does_not_stop_the_start() -> None:
    """It may be gone for good, which only the real server finds out."""
    pipes = Pipes()
    pipes.send(initialize(0) + b"".join(request(number, "tools/list") for number in range(1, 9)))
    starting = threading.Thread(target=pipes.handover.answer_first, daemon=True)
    starting.start()
    starting.join(10)
    is_stopped = starting.is_alive()
    os.close(pipes.answers)  # which ends what waits
    pipes.end()
    starting.join()
    served(pipes.handover)
    assert not is_stopped
