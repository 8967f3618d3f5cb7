"""No request for a call leaves after a stop has answered, at whatever point of its way the call is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from batchcall_mcp.clock import to_ms
from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.domain.rules import Action, State
from batchcall_mcp.dialer.engine.dispatch import Dispatch
from batchcall_mcp.dialer.storage import do_not_call, stops
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import batch_calls
from tests.dialer.conftest import ALWAYS, emptied_postgresql, eventually
from tests.dialer.wire import Wire
from tests.dialer.wired import Desk, Moving
from tests.sampling import EVERYTHING, spread

LOCAL = "America/Los_Angeles"
_NUMBERS = count()


class Turnstile:
    """Holds one call up at one point of its way."""

    def __init__(self) -> None:
        self.point: str | None = None
        self._passed = 0
        self._nth = 0
        self.there = threading.Event()
        self._goes = threading.Event()

    def arm(self, point: str, nth: int) -> None:
        """The call that comes there as the `nth`, from now on."""
        self.point, self._passed, self._nth = point, 0, nth
        self.there.clear()
        self._goes.clear()

    def release(self) -> None:
        self.point = None
        self._goes.set()

    def passes(self, point: str) -> None:
        """Somebody does. Blocks, if it is held up."""
        if point == self.point:
            self._passed += 1
            if self._passed == self._nth:
                self.there.set()
                assert self._goes.wait(60)

    async def passes_in_loop(self, point: str) -> None:
        if point == self.point:
            await asyncio.to_thread(self.passes, point)

    def dispatch(self) -> type[Dispatch]:
        """An engine's transactions that pass here."""
        passes = self.passes

        class Held(Dispatch):
            def dial(self, *given: object) -> None:
                passes("claimed")
                super().dial(*given)  # type: ignore[arg-type]

            def _turn(self, attempt: Attempt) -> timedelta | datetime | None:
                turn = super()._turn(attempt)
                passes("its turn")
                return turn

            @contextmanager
            def sending(self, attempt: Attempt) -> Iterator[float]:
                with super().sending(attempt) as wait:
                    if not wait:
                        passes("may leave")
                    yield wait

        return Held

    def wire(self, folder: Path, clock: Moving) -> Wire:
        """A carrier that passes here."""

        async def connecting(_attempt: Attempt) -> None:
            await self.passes_in_loop("connecting")

        async def granted(_attempt: Attempt) -> None:
            await self.passes_in_loop("granted")

        async def answered(_attempt: Attempt) -> None:
            await self.passes_in_loop("answered")

        return Wire(folder, clock=clock, trouble=connecting, granted=granted, answered=answered)


BEFORE = ("claimed", "connecting", "its turn")
"""Points at which whatever makes a call unwanted still stops it."""
HELD = ("may leave", "granted")
"""Points at which its batch call is held: a stop answers when the request has left."""
EVERYWHERE = (*BEFORE, *HELD, "answered")
Act: TypeAlias = Callable[[Desk, Moving, str, list[str]], None]


def _move(action: Action) -> Act:
    return lambda desk, _clock, key, _people: desk.move(key, action)


def _stop(desk: Desk, _clock: Moving, _key: str, _people: list[str]) -> None:
    stops.stop(desk.store)


def _stop_file(desk: Desk, _clock: Moving, _key: str, _people: list[str]) -> None:
    assert desk.store.stop_file is not None
    desk.store.stop_file.touch()


def _listed(desk: Desk, _clock: Moving, _key: str, people: list[str]) -> None:
    with desk.store.writing() as tx:
        do_not_call.hold(tx)
        do_not_call.add(tx, "local", "api", dict.fromkeys(people, "they said so"), desk.store.now())


def _expires(desk: Desk, _clock: Moving, key: str, _people: list[str]) -> None:
    with desk.store.writing() as tx:
        mine = batch_calls.c.batch_call_id == key
        tx.execute(batch_calls.update().where(mine).values(expires_at=desk.store.now()))


def _evening(_desk: Desk, clock: Moving, _key: str, _people: list[str]) -> None:
    clock.set(clock().replace(hour=20, minute=0, second=0) + timedelta(hours=5))


def _next_day(_desk: Desk, clock: Moving, _key: str, _people: list[str]) -> None:
    clock.set(clock().replace(hour=20, minute=0, second=0) + timedelta(days=1))


STOPS: dict[str, tuple[Act, tuple[str, ...]]] = {
    "pause": (_move(Action.PAUSE), EVERYWHERE),
    "cancel": (_move(Action.CANCEL), EVERYWHERE),
    "stop": (_stop, EVERYWHERE),
    "the file STOP": (_stop_file, (*BEFORE, "answered")),
    "do not call": (_listed, EVERYWHERE),
    "it expires": (_expires, EVERYWHERE),
    "the hours are over": (_evening, (*BEFORE, "may leave", "answered")),
    "the date is over": (_next_day, (*BEFORE, "may leave", "answered")),
}
"""What makes calls unwanted, and where a call is held up meanwhile."""
LOCKS = frozenset({"pause", "cancel", "stop", "do not call", "it expires"})
"""Those that answer when no request of before leaves any more."""


CASES = [
    (stop, point, nth)
    for stop, (_, points) in STOPS.items()
    for at, point in enumerate(points)
    for nth in ((1, 2) if EVERYTHING else (1 + at % 2,))
]
SPREAD = {
    (database, stop): [(point, nth) for of, point, nth in cases if of == stop]
    for (database, cases) in spread(CASES, ("sqlite", "postgresql"), lambda case: case[0])
    for stop in STOPS
}
"""Each case on one of the databases; `make torture` tries all of them on both, with the first call and the second."""


@pytest.mark.sweep
@pytest.mark.parametrize(("database", "stop"), SPREAD)
async def test_no_request_leaves_after_the_answer(database: str, stop: str, tmp_path: Path) -> None:
    clock, turnstile = Moving(), Turnstile()
    where = emptied_postgresql() if database == "postgresql" else tmp_path / "dialer.db"
    desk = Desk(Store.open(where, clock, tmp_path / "STOP"))
    wire = turnstile.wire(tmp_path, clock)
    act, _ = STOPS[stop]
    async with desk.engine(wire, dispatch=turnstile.dispatch()):
        for point, nth in SPREAD[database, stop]:
            people = [f"+12132{next(_NUMBERS):05d}0" for _ in range(3)]
            turnstile.arm(point, nth)
            before = len(wire.calls())
            key = desk.running(people, **_until(clock))
            assert await asyncio.to_thread(turnstile.there.wait, 60)
            stopping = asyncio.create_task(asyncio.to_thread(_answered, act, desk, clock, key, people, wire))
            if stop in LOCKS and point in HELD:
                await asyncio.wait({stopping}, timeout=0.05)
                assert not stopping.done(), f"{stop} answered while the call was {point}"
            else:  # the call goes on when it has answered, however long that takes
                await asyncio.wait({stopping})
            turnstile.release()
            answered = await stopping
            await eventually(lambda key=key: "calling" not in desk.statuses(key))  # type: ignore[misc]
            await _engine_has_looked(desk, clock)
            assert len(wire.calls()) == answered + 1, f"a request left after the answer, while the call was {point}"
            leaves = point not in BEFORE and (point != "may leave" or stop in LOCKS)
            assert answered - before == nth - 1 + leaves, f"what had left when the call was {point}"
    desk.store.close()


def _until(clock: Moving) -> dict[str, Any]:
    """One line, in Monday's hours, and on Monday alone."""
    today = clock().date().isoformat()
    over = clock().replace(hour=8, minute=0, second=0) + timedelta(days=1)
    window = {**ALWAYS, "start": "09:00", "end": "17:00", "days": list(range(7)), "timezone": LOCAL}
    dates = {"trigger_date": today, "expires_date": today, "expires_at": to_ms(over)}
    return {"max_concurrency": 1, "window": window, **dates}


def _answered(act: Act, desk: Desk, clock: Moving, key: str, people: list[str], wire: Wire) -> int:
    """How many requests had left when it had answered."""
    act(desk, clock, key, people)
    return len(wire.calls())


async def _engine_has_looked(desk: Desk, clock: Moving) -> None:
    """Everything is as before it, and somebody else is called: whoever was not stopped would have been, too."""
    assert desk.store.stop_file is not None
    if desk.store.stop_file.exists():
        # The engine writes down what it has seen of it: not after that has been cleared.
        await eventually(lambda: stops.is_on(desk.store))
        desk.store.stop_file.unlink()
    stops.clear(desk.store)
    clock.set(clock().replace(hour=20, minute=0, second=0) + timedelta(days=1))
    somebody = desk.running([f"+12132{next(_NUMBERS):05d}0"])
    await eventually(lambda: desk.record(somebody).status is State.COMPLETED)
