"""The pace of reads over many calls at once, in a time that passes only when everybody waits."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterable
from itertools import count, pairwise
from typing import Any

import pytest

from batchcall_mcp.dialer.carriers import vendor_api
from batchcall_mcp.dialer.carriers.base import Outcome
from batchcall_mcp.dialer.carriers.reading import Pace, pause_before
from batchcall_mcp.model import TaskStatus
from batchcall_mcp.vendor_http.http_errors import Answer
from tests.carriers.scripted import BEGIN, ScriptedCarrier, ScriptedLine, Time, attempt_to, config_for


class Calendar(Time):
    """Wakes whoever sleeps, in the order of time, when nobody else has anything to do."""

    def __init__(self) -> None:
        super().__init__()
        self._order = count()
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (self.elapsed + seconds, next(self._order), woken))
        await woken.wait()

    async def until_done(self, work: Iterable[asyncio.Future[Any]]) -> list[Any]:
        done = asyncio.gather(*work, return_exceptions=True)
        while not done.done():
            for _ in range(50):  # more steps than anything here takes without a pause
                await asyncio.sleep(0)
            if self._sleepers:
                at, _, woken = heapq.heappop(self._sleepers)
                self.elapsed = max(self.elapsed, at)
                woken.set()
        return await done


def busiest_second(moments: list[float]) -> int:
    return max(sum(begin <= moment < begin + 1 - 1e-6 for moment in moments) for begin in moments)


def test_the_rhythm_of_one_call() -> None:
    assert [pause_before(read, 10.0) for read in range(4)] == [1, 2, 3, 3]
    assert pause_before(30, 59.9) == 3
    assert pause_before(30, 60.0) == 5
    assert pause_before(0, 1000.0) == 1


async def test_reads_of_many_calls_are_at_most_five_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    calendar = Calendar()
    moments: list[float] = []

    async def answered(_request: Callable[[], Any], _limit_s: float) -> Answer:
        moments.append(calendar.elapsed)
        word = b"completed" if calendar.elapsed > 60 else b"going"
        return Answer(200, {}, b'{"status": "%s", "words": ""}' % word)

    monkeypatch.setattr(vendor_api, "one_try", answered)
    carrier = ScriptedCarrier(
        config_for("http://127.0.0.1:9"), clock=calendar.clock, sleep=calendar.sleep, now=calendar.now
    )
    calls = [
        asyncio.ensure_future(carrier.outcome(attempt_to(n=n), ScriptedLine(call_id=f"call_{n}", asked_since=BEGIN)))
        for n in range(40)
    ]
    outcomes = await calendar.until_done(calls)
    await carrier.aclose()
    assert outcomes == [Outcome(TaskStatus.COMPLETED, "", backend_status="completed")] * 40
    assert busiest_second(moments) == 5
    assert len(moments) > 200
    assert calendar.elapsed < 80  # nobody starves


async def test_too_many_reads_halve_the_pace_for_all_and_it_comes_back() -> None:
    calendar = Calendar()
    pace = Pace(calendar.clock, calendar.sleep)
    moments: list[float] = []

    async def reads(times: int) -> None:
        for _ in range(times):
            await pace.turn()
            moments.append(calendar.elapsed)
            if len(moments) == 10:
                pace.slower(None)
                pace.slower(3.0)
            else:
                pace.taken()

    await calendar.until_done([asyncio.ensure_future(reads(20)) for _ in range(3)])
    gaps = [round(later - earlier, 3) for earlier, later in pairwise(moments)]
    assert gaps[:9] == [0.2] * 9
    assert gaps[9] == 3.0
    assert gaps[10] > 0.7
    assert gaps[10:] == sorted(gaps[10:], reverse=True)
    assert gaps[-1] == 0.2


async def test_nobody_waits_for_longer_than_a_minute_whatever_a_vendor_asks_for() -> None:
    calendar = Calendar()
    pace = Pace(calendar.clock, calendar.sleep)
    pace.slower(86400.0)
    await calendar.until_done([asyncio.ensure_future(pace.turn())])
    assert calendar.elapsed == 60
