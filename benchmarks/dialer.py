"""The dialer on SQLite and on PostgreSQL: how fast, how soon, how much; beside DBOS alone, in turns.

Run: python benchmarks/dialer.py [starts two load finish pause idle crash]. Each figure stands beside its target. Linux
only; PostgreSQL comes from the dev extra. About ten minutes.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import NamedTuple

from dialling import (
    Dialer,
    Place,
    Plain,
    Process,
    Server,
    body,
    lines,
    numbers,
    plain_dials,
    postgresql,
    until,
)
from tree import cpu, status

ROUNDS = 3
FAST = 10_000
"""Speed at which a call lasts 2 ms."""
STARTS, PLAIN_STARTS = 5_000, 1_500
LONG = 100_000
TWO_SECONDS = 11
"""Speed at which the answered calls of the simulated carrier last 2 s."""
MB = 1_000_000 / (1 << 20)
"""In MiB."""


class Target(NamedTuple):
    """At least or at most so much."""

    sign: str
    value: float
    unit: str

    def told(self, value: float) -> str:
        """The value, its target, and whether it is met."""
        met = value >= self.value if self.sign == ">=" else value <= self.value
        wanted = f"{self.sign} {self.value:g} {self.unit}"
        return f"{value:10,.2f} {self.unit:12} target {wanted:22} {'OK' if met else 'NOT MET'}"


class Bench:
    """Places to dial from, and the table."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count(1)
        self.server = Server(postgresql())
        self.databases = ("SQLite", "PostgreSQL")

    def place(self, database: str) -> Place:
        """Empty."""
        folder = self._folder / str(next(self._numbers))
        folder.mkdir()
        return Place(folder, None if database == "SQLite" else postgresql())

    def told(self, what: str, values: Sequence[float], target: Target | None = None, more: str = "") -> None:
        """One line: the median of the rounds."""
        value = statistics.median(values)
        figure = f"{value:10,.2f}" if target is None else target.told(value)
        spread = f"{min(values):,.2f} to {max(values):,.2f}; " if len(values) > 1 else ""
        print(f"{what:58}{figure}   {spread}{more}", flush=True)

    def heading(self, text: str) -> None:
        """What follows."""
        print(f"\n{text} (load {os.getloadavg()[0]:.1f})", flush=True)


class Work(NamedTuple):
    """What one run took: starts a second in its steady part, and CPU seconds."""

    rate: float
    seconds: float
    processes: list[float]
    server: float

    def cpu(self) -> str:
        """CPU seconds, for people."""
        each = " + ".join(f"{one:.1f}" for one in self.processes)
        return f"{self.seconds:.1f} s, CPU s: dialling {each}, PostgreSQL {self.server:.1f}"


def steady(moments: Sequence[float]) -> float:
    """Starts a second without the first and the last tenth."""
    edge = len(moments) // 10
    return (len(moments) - 2 * edge - 1) / (sorted(moments)[-edge - 1] - sorted(moments)[edge])


def dial(bench: Bench, database: str, *, processes: int = 1, batch_calls: int = 1) -> Work:
    """Let so many processes dial STARTS tasks in so many batch calls."""
    place = bench.place(database)
    with ExitStack() as stack:
        dialers = [stack.enter_context(Dialer(place, speed=FAST)) for _ in range(processes)]
        each = STARTS // batch_calls
        made = [
            dialers[0].create(numbers(each, first=each * index), max_concurrency=200) for index in range(batch_calls)
        ]
        before, server = [cpu(one.pid) for one in dialers], bench.server.cpu()
        began = time.monotonic()
        for batch_call_id in made:
            dialers[0].execute(batch_call_id)
        until(lambda: lines(place.record) >= each * batch_calls)
        took = time.monotonic() - began
        used = [cpu(one.pid) - was for one, was in zip(dialers, before, strict=True)]
        return Work(steady([at for at, _ in place.dials()]), took, used, bench.server.cpu() - server)


def plain(bench: Bench, database: str) -> Work:
    """The same with DBOS alone."""
    place = bench.place(database)
    with Plain(place, 0.002, PLAIN_STARTS) as process:
        process.says("running")
        before, server, began = cpu(process.pid), bench.server.cpu(), time.monotonic()
        until(lambda: lines(place.record) >= PLAIN_STARTS)
        took = time.monotonic() - began
        rate = steady([at for at, _ in plain_dials(place)])
        return Work(rate, took, [cpu(process.pid) - before], bench.server.cpu() - server)


def starts(bench: Bench) -> None:
    """Starts per second of one process, beside DBOS alone."""
    bench.heading(f"Starts a second of one process, {STARTS:,} calls of 2 ms; DBOS alone: {PLAIN_STARTS:,}")
    for database in bench.databases:
        runs: dict[str, list[Work]] = {"ours": [], "plain": []}
        for _ in range(ROUNDS):
            runs["ours"].append(dial(bench, database))
            runs["plain"].append(plain(bench, database))
        for name, target in (("ours", Target(">=", 150, "starts/s")), ("plain", None)):
            words = f"{database}, " + ("one batch call" if name == "ours" else "DBOS alone")
            bench.told(words, [run.rate for run in runs[name]], target, runs[name][-1].cpu())


def two(bench: Bench) -> None:
    """Two processes beside one; no target: on one batch call they take turns at its row (see docs/benchmarks.md)."""
    bench.heading(f"Two processes beside one on PostgreSQL, {STARTS:,} calls of 2 ms")
    for batch_calls in (1, 8):
        runs: dict[int, list[Work]] = {1: [], 2: []}
        for _ in range(ROUNDS):
            for processes, done in runs.items():
                done.append(dial(bench, "PostgreSQL", processes=processes, batch_calls=batch_calls))
        words = "one batch call" if batch_calls == 1 else f"{batch_calls} batch calls"
        for processes, done in runs.items():
            bench.told(f"{words}, {processes} process(es), starts/s", [run.rate for run in done], more=done[-1].cpu())
        ratios = [both.rate / one.rate for one, both in zip(runs[1], runs[2], strict=True)]
        bench.told(f"{words}: two beside one, times", ratios)


def load(bench: Bench) -> None:
    """A long list: uploaded, and dialled by a process that has not seen the upload."""
    bench.heading(f"A batch call of {LONG:,} tasks")
    content = body(numbers(LONG), max_concurrency=50)
    for database in bench.databases:
        seconds: list[float] = []
        peaks: dict[str, list[float]] = {"upload": [], "dialling": []}
        for _ in range(ROUNDS):
            place = bench.place(database)
            with Dialer(place) as dialer:
                began = time.monotonic()
                made = dialer.create_of(content)
                seconds.append(time.monotonic() - began)
                peaks["upload"].append(status(dialer.pid, "VmHWM") / MB)
            with Dialer(place, speed=FAST) as dialer:
                idle = status(dialer.pid, "VmHWM") / MB
                dialer.execute(made)
                end = time.monotonic() + 10
                until(lambda end=end: time.monotonic() > end)  # type: ignore[misc]
                dialer.status(made)
                peaks["dialling"].append(status(dialer.pid, "VmHWM") / MB)
                dialled = lines(place.record)
        bench.told(f"{database}, uploaded through REST", seconds, Target("<=", 5, "s"))
        bench.told(f"{database}, peak memory of the process that took it", peaks["upload"], Target("<=", 150, "MB"))
        more = f"{idle:.0f} MB before; {dialled:,} dialled by then"
        bench.told(
            f"{database}, peak memory of the process that dials it", peaks["dialling"], Target("<=", 150, "MB"), more
        )


def finish(bench: Bench) -> None:
    """1,000 calls of 2 s, 50 at once."""
    ideal = 1_000 / 50 * 2
    bench.heading(f"1,000 calls of 2 s, 50 at once, default polling; ideal {ideal:.0f} s")
    for database in bench.databases:
        place = bench.place(database)
        with Dialer(place, speed=TWO_SECONDS) as dialer:
            made = dialer.create(numbers(1_000), max_concurrency=50)
            before, server, began = cpu(dialer.pid), bench.server.cpu(), time.time()
            dialer.execute(made)
            until(lambda place=place: lines(place.record) >= 1_000, every=0.2)  # type: ignore[misc]
            until(lambda dialer=dialer, made=made: dialer.status(made) == "completed")  # type: ignore[misc]
            took = time.time() - began
            used = f"CPU s: dialling {cpu(dialer.pid) - before:.1f}, PostgreSQL {bench.server.cpu() - server:.1f}"
        bench.told(
            f"{database}, from execute to completed: {took:.2f} s", [took / ideal], Target("<=", 1.05, "x ideal"), used
        )


def pause(bench: Bench) -> None:
    """From a pause, sent to another process than the one that dials, to the last dial; under full load."""
    bench.heading("From a pause to the last new dial, under full load, worst of 20")
    for database, words in (("SQLite", "another process dials"), ("PostgreSQL", "two processes dial")):
        place = bench.place(database)
        asked: list[float] = []
        answered: list[float] = []
        took: list[float] = []
        with Dialer(place, speed=FAST), Dialer(place, speed=FAST) as second:
            made = second.create(numbers(30_000), max_concurrency=200)
            second.execute(made)
            for number in range(20):
                seen = lines(place.record)
                until(lambda place=place, seen=seen: lines(place.record) > seen + 300, every=0.01)  # type: ignore[misc]
                before = time.time()
                second.ask("POST", f"/{made}/pause")
                after = time.time()
                time.sleep(0.5)
                last = place.dials()[-1][0]
                asked.append((last - before) * 1000)
                answered.append((last - after) * 1000)
                took.append((after - before) * 1000)
                if number < 19:
                    second.ask("POST", f"/{made}/resume")
        more = f"median {statistics.median(asked):.0f}; the answer took up to {max(took):.0f}"
        bench.told(f"{database}, {words}, after it was asked", [max(asked)], Target("<=", 100, "ms"), more)
        bench.told(f"{database}, {words}, after it was answered", [max(answered)], Target("<=", 0, "ms"))


def idle(bench: Bench) -> None:
    """CPU while nothing is to be done: no batch call at all, and 300 that wait."""
    bench.heading("CPU while 300 batch calls wait, default settings, over 25 s")
    opens = datetime.now(UTC) + timedelta(hours=6)
    closed = {
        "start": f"{opens:%H:00}",
        "end": f"{opens + timedelta(hours=1):%H:00}" if opens.hour < 23 else "24:00",
        "timezone": "UTC",
    }
    redial = {"retry_rules": [{"condition": "busy", "retry_timing": {"type": "AFTER", "duration_minutes": 600}}]}
    later = {"trigger_timestamp": (datetime.now(UTC) + timedelta(days=2)).isoformat()}
    for database in bench.databases:
        place = bench.place(database)
        with Dialer(place, speed=FAST) as first:
            for index in range(150):
                people = partial(numbers, 10, first=20 * index)
                first.create(people(), **later)
                waits = {"window": closed} if index % 2 else {**redial, "retry_config": {"max_attempts": 5}}
                first.execute(first.create(people(last_digit=0 if index % 2 else 7), **waits))
            until(lambda place=place: lines(place.record) >= 750)  # type: ignore[misc]
            time.sleep(1)
        before = lines(place.record)
        for words, where in (("no batch call", bench.place(database)), ("300 wait", place)):
            with Dialer(where) as dialer:
                time.sleep(4)
                used = watched(bench, dialer, 25)
            target = Target("<=", 2, "% of a core") if where is place else None
            told = f"PostgreSQL's processes {used[1]:.2f} %" if database == "PostgreSQL" else ""
            bench.told(f"{database}, {words}: the dialling process", [used[0]], target, told)
        if lines(place.record) != before:
            raise RuntimeError("somebody was dialled")


def watched(bench: Bench, process: Process, seconds: float) -> tuple[float, float]:
    """CPU of the process and of the PostgreSQL server, in per cent of a core."""
    own, server, began = cpu(process.pid), bench.server.cpu(), time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - began
    return (cpu(process.pid) - own) / took * 100, (bench.server.cpu() - server) / took * 100


def crash(bench: Bench) -> None:
    """One kill -9 at mid-run: who is dialled twice, and who never."""
    bench.heading("kill -9 at the middle of 1,000 calls of 0.1 s, 50 at once, then the same again")
    people = numbers(1_000)
    for database in bench.databases:
        place = bench.place(database)
        with Dialer(place, speed=220) as victim:
            made = victim.create(people, max_concurrency=50)
            victim.execute(made)
            until(lambda place=place: lines(place.record) >= 500, every=0.005)  # type: ignore[misc]
            victim.kill()
        with Dialer(place, speed=220) as dialer:
            until(lambda dialer=dialer, made=made: dialer.status(made) == "completed", every=0.5)  # type: ignore[misc]
            counts = dialer.ask("GET", f"/{made}")["counts"]
        calls = Counter(number for _, number in place.dials())
        twice, never = verdict(calls, 1_000)
        told = f"{counts['interrupted']} told as interrupted, {never} of them not dialled"
        lost = max(1_000 - counts["completed"] - counts["interrupted"], never - counts["interrupted"], 0)
        bench.told(f"{database}, dialled twice", [twice], Target("<=", 0, "of 1,000"), told)
        bench.told(f"{database}, lost", [lost], Target("<=", 0, "of 1,000"))
        place = bench.place(database)
        with Plain(place, 0.1, 1_000) as victim:
            until(lambda place=place: lines(place.record) >= 500, every=0.005)  # type: ignore[misc]
            victim.kill()
        with Plain(place, 0.1, 0) as process:
            until(partial(still, place))
            del process
        twice, never = verdict(Counter(number for _, number in plain_dials(place)), 1_000)
        bench.told(f"{database}, DBOS alone, dialled twice", [twice], more=f"{never} never dialled")


def still(place: Place) -> bool:
    """Whether nobody has been dialled for some time."""
    before = lines(place.record)
    time.sleep(5)
    return before > 500 and lines(place.record) == before


def verdict(calls: Counter[str], people: int) -> tuple[int, int]:
    """Dialled more than once, and not at all."""
    return sum(times > 1 for times in calls.values()), people - len(calls)


FIGURES: dict[str, Callable[[Bench], None]] = {
    "starts": starts,
    "two": two,
    "load": load,
    "finish": finish,
    "pause": pause,
    "idle": idle,
    "crash": crash,
}


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        print(
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {platform.python_version()}, "
            f"PostgreSQL {bench.server.version}, DBOS {version('dbos')}, SQLAlchemy {version('sqlalchemy')}, "
            f"{ROUNDS} rounds in turns where not said otherwise"
        )
        for name in sys.argv[1:] or FIGURES:
            FIGURES[name](bench)
        print(f"\nload {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
