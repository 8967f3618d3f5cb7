"""Dialling processes that are forked, so that they start at once, and that may kill themselves at a chosen line.

Run as `python -m tests.dialer_kills.zygote`, itself forked from a process that has imported everything
(`tests/forked.py`). A line of JSON on stdin is a process to start, or to end; a line on stdout, that one has started or
ended. DBOS is launched in the children alone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import wraps
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import dbos
import psycopg
import sqlalchemy.engine.base
from alembic import command

from batchcall_mcp import dialer
from batchcall_mcp.calling_hours import zones_of
from batchcall_mcp.clock import Clock, utc_now
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.carriers.simulated import SimulatedCarrier
from batchcall_mcp.dialer.engine import engine, left_calls, scheduler, supervisor
from batchcall_mcp.dialer.engine.calls import CallLine
from batchcall_mcp.dialer.engine.dispatch import Dispatch
from batchcall_mcp.dialer.engine.lanes import dbos_queue, opening
from batchcall_mcp.dialer.engine.lanes.dbos_queue import DbosQueue
from batchcall_mcp.dialer.engine.supervisor import Supervisor
from batchcall_mcp.dialer.storage.store import Store
from tests.dialer import wire
from tests.dialer.wire import Wire
from tests.dialer.wired import Desk

IMPORTED = (psycopg, command, DbosQueue)
"""What a process that dials needs, so that no child imports it again."""

DIALER = str(Path(dialer.__file__).parent)
SQLALCHEMY = str(Path(sqlalchemy.engine.base.__file__).parent)
DBOS = str(Path(dbos.__file__).parent)
PLACES: dict[str, tuple[str, ...]] = {
    "claim and record": (DIALER, SQLALCHEMY),
    "place": (DIALER, SQLALCHEMY),
    "dialled, not committed": (DIALER, SQLALCHEMY),
    "between transactions": (engine.__file__, supervisor.__file__, scheduler.__file__),
    "lanes": (DBOS, dbos_queue.__file__, opening.__file__),
    "take-over": (DIALER, SQLALCHEMY, DBOS),
}
"""Where a process may die, and the files whose lines are points there."""
BY_WIRE: dict[str, tuple[str, ...]] = {
    "claim and record": (DIALER, SQLALCHEMY),
    "place": (DIALER, SQLALCHEMY),
    "permit": (DIALER, SQLALCHEMY),
    "granted, not written": (wire.__file__,),
    "written, not committed": (wire.__file__,),
    "answered, not placed": (DIALER, SQLALCHEMY),
    "taken over": (DIALER, SQLALCHEMY),
    "looked up": (wire.__file__,),
    "between transactions": PLACES["between transactions"],
}
"""The same of a process whose carrier is asked over a wire."""
ANYWHERE_ELSE = frozenset({"between transactions", "lanes"})
"""Where a process is if it is in none of the other places: its files say so."""
LOOKING = "looking after the others"


class _Where(threading.local):
    """In which place a thread is."""

    place: str | None = None


class Killer:
    """Counts the lines that are passed in some of the PLACES; kills the process at number `at` of them.

    A line that is watched costs as much as a hundred others, so that only threads in these places are watched at all.
    """

    def __init__(self, places: Iterable[str], at: int | None) -> None:
        self.at = at
        self.passed = dict.fromkeys(places, 0)
        self._counted = {place: files for place, files in (PLACES | BY_WIRE).items() if place in self.passed}
        self._where = _Where()
        self._lines: dict[str, Callable[..., Any] | None] = {}

    def install(self) -> None:
        """Watch every thread of this process, and know by the functions it is in where it is."""
        self._inside(Dispatch, "record_and_claim", "claim and record")
        self._inside(Dispatch, "dial", "place", begins="dialled, not committed")
        self._inside(Supervisor, "_launch", "take-over", outer=True)
        self._inside(Dispatch, "interrupt_others", "take-over", outer=True)
        self._inside(Supervisor, "_look_after_the_others", LOOKING, begins="take-over", outer=True)
        self._from(Dispatch, "interrupt", "take-over", when=LOOKING)
        self._after(SimulatedCarrier, "dial", "dialled, not committed")
        self._inside(CallLine, "_hold", "permit")
        self._inside(Wire, "_request", "granted, not written")
        self._inside(Wire, "_answer", "written, not committed")
        self._inside(Dispatch, "placed", "answered, not placed")
        self._inside(left_calls, "take_over", "taken over", outer=True)
        self._inside(Wire, "_found", "looked up")
        if ANYWHERE_ELSE & self.passed.keys():
            threading.settrace(self._enter)
            sys.settrace(self._enter)

    def _inside(
        self, owner: type | ModuleType, name: str, place: str, *, begins: str | None = None, outer: bool = False
    ) -> None:
        """`begins`: another place that begins in the middle of this one."""
        real = getattr(owner, name)
        watch = self._enter if {place, begins} & self.passed.keys() else None

        @wraps(real)
        def entered(*args: Any, **options: Any) -> Any:
            before, watched = self._where.place, sys.gettrace()
            # A take-over stays one, whatever transactions it consists of.
            if outer or before != "take-over":
                self._where.place = place
                sys.settrace(watch)
            try:
                return real(*args, **options)
            finally:
                sys.settrace(watched)
                self._where.place = before

        setattr(owner, name, entered)

    def _from(self, owner: type, name: str, place: str, *, when: str) -> None:
        real = getattr(owner, name)

        @wraps(real)
        def began(*args: Any, **options: Any) -> Any:
            if self._where.place == when:
                self._where.place = place
            return real(*args, **options)

        setattr(owner, name, began)

    def _after(self, owner: type, name: str, place: str) -> None:
        real = getattr(owner, name)

        @wraps(real)
        def done(*args: Any, **options: Any) -> Any:
            result = real(*args, **options)
            self._where.place = place
            return result

        setattr(owner, name, done)

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        filename = frame.f_code.co_filename
        try:
            return self._lines[filename]
        except KeyError:
            return self._lines.setdefault(filename, self._line_of(filename))

    def _line_of(self, filename: str) -> Callable[..., Any] | None:
        """What counts the lines of a file, if any of them counts."""
        here = {place for place, files in self._counted.items() if filename.startswith(files)}
        if not here:
            return None
        elsewhere = next((place for place in sorted(ANYWHERE_ELSE) if filename.startswith(PLACES[place])), None)

        def line(_frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
            if event == "line":
                place = self._where.place or elsewhere
                if place in here:
                    self.passed[place] += 1
                    if self.at is not None and self.passed[place] >= self.at:
                        os.kill(os.getpid(), signal.SIGKILL)
            return line

        return line


def clock_of(setting: Path) -> Clock:
    """A clock that is as many seconds fast as the file says; a test sets it."""
    return lambda: utc_now() + timedelta(seconds=float(setting.read_text()))


async def dial(job: dict[str, Any], closed: int) -> None:
    """Dial until `closed` is at its end."""
    options = dict(job["options"])
    if "clock" in options:
        options["clock"] = clock_of(Path(options["clock"]))
        # A clock that jumps by more than an hour looks like a dialer that was away: `tests/dialer/test_lateness.py`.
        options["late_after"] = None
    if "wire" in options:
        await dial_by_wire(Path(job["data_dir"]), options, closed)
        return
    made = EmbeddedDialer(Path(job["data_dir"]), **options)
    await made.start()
    await asyncio.to_thread(os.read, closed, 1)
    await made.aclose()


async def dial_by_wire(data_dir: Path, options: dict[str, Any], closed: int) -> None:
    """The same over a wire, whose vendor is a file of the folder."""
    store = Store.open(options.get("database", data_dir / "dialer.db"))
    given = {name: options[name] for name in ("poll_seconds", "beat_seconds")}
    async with Desk(store).engine(Wire(data_dir, **options["wire"]), **given):
        await asyncio.to_thread(os.read, closed, 1)
    store.close()


def child(job: dict[str, Any], closed: int) -> None:
    """Never returns."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    logging.basicConfig(filename=job["log"], format="%(process)d %(levelname)s %(message)s", force=True)
    killer = Killer(job.get("places", ()), job.get("at"))
    status = 0
    try:
        if "places" in job:
            killer.install()
        asyncio.run(dial(job, closed))
    except BaseException:
        logging.getLogger().exception("a dialling process failed")
        status = 1
    sys.settrace(None)
    Path(job["log"]).with_suffix(".passed").write_text(json.dumps(killer.passed))
    os._exit(status)


class Children:
    """Those that live, and for each the end of a pipe that it dials as long as it is open."""

    def __init__(self) -> None:
        self._living: dict[int, int] = {}

    def start(self, job: dict[str, Any]) -> int:
        closed, open_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(open_end)
            for others in self._living.values():
                os.close(others)
            child(job, closed)
        os.close(closed)
        self._living[pid] = open_end
        return pid

    def close(self, pid: int) -> None:
        os.close(self._living[pid])
        self._living[pid] = os.open(os.devnull, os.O_RDONLY)

    def ended(self) -> Iterator[dict[str, int]]:
        while self._living:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            os.close(self._living.pop(pid))
            yield {"ended": pid, "status": os.waitstatus_to_exitcode(status)}


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


@contextmanager
def woken_by_children() -> Iterator[int]:
    """What can be waited for beside stdin."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    yield reading


def main() -> None:
    """Until stdin ends."""
    zones_of("+12125550100")
    children = Children()
    rest = b""
    with woken_by_children() as woken:
        say({"ready": True})
        while True:
            ready, _, _ = select.select([0, woken], [], [])
            if woken in ready:
                os.read(woken, 4096)
                for ended in children.ended():
                    say(ended)
            if 0 in ready:
                read = os.read(0, 65536)
                if not read:
                    return
                *lines, rest = (rest + read).split(b"\n")
                for line in lines:
                    asked = json.loads(line)
                    if "close" in asked:
                        children.close(asked["close"])
                    else:
                        say({"started": children.start(asked)})


if __name__ == "__main__":
    main()
