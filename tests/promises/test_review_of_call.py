"""Attempts to make `batchcall-mcp call` ring twice, ring by a read, or lie with its exit code; and notices fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from batchcall_mcp.cli.call import DONE, WAITS_FOR_PERSON, WRONG_USAGE
from batchcall_mcp.dialer.server import worker_app
from batchcall_mcp.dialer.storage.store import Store, report
from batchcall_mcp.notifications import store as store_module
from batchcall_mcp.notifications.events import Notice
from batchcall_mcp.notifications.notifier import Notifier
from batchcall_mcp.notifications.store import NotificationStore
from batchcall_mcp.server.service import Service
from tests.dialer.receiver import Received, receiving
from tests.notifications.test_notifier import SECRET, settings_for
from tests.operator.processes import Ended, command, unmeasured, variables
from tests.promises.test_what_was_approved import draft
from tests.promises.test_what_was_approved import ledger as shared_ledger
from tests.server.transports import ROOT
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Person, dials, number, playing

PEOPLE = [number(NEW_YORK, line) for line in range(2)]
UNATTENDED: dict[str, Any] = {
    "backend": "magpipe",
    "api_key": magpipe.KEY,
    "calling_hours": "00:00-24:00",
    "confirm": "off",
    "max_calls_per_launch": "10",
    "undo_seconds": "0",
    "accept_no_stop": "true",
}
ledger = shared_ledger


# --- The same job twice at once ------------------------------------------------------------------------------------


class Overlap:
    """A vendor whose answer to the second of two jobs is under way while the first one's start begins and ends."""

    def __init__(self, vendor: Magpipe) -> None:
        self._vendor = vendor
        self._of_first: set[object] = set()
        self.started, self.looked, self.first_is_over = anyio.Event(), anyio.Event(), anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold the start until the other has been read, and that answer until the start is over."""
        if scope["type"] != "http":
            await self._vendor.recording(scope, receive, send)
            return
        message = await receive()
        action = json.loads(message.get("body") or b"{}").get("action")
        if not self.started.is_set():
            self._of_first.add(scope["client"])
            if action == "start":
                self.started.set()
                await self.looked.wait()
        of_second = scope["client"] not in self._of_first
        answer: list[Message] = []

        async def again() -> Message:
            return message

        async def keep(part: Message) -> None:
            answer.append(part)

        await self._vendor.recording(scope, again, keep)
        if of_second and action == "get" and not self.looked.is_set():
            self.looked.set()
            await self.first_is_over.wait()
        for part in answer:
            await send(part)


async def test_a_job_that_looks_while_another_one_starts_the_same_starts_nothing(ledger: dict[str, str]) -> None:
    """What it has read may be older than the start, although the start was recorded before it read."""
    vendor = Magpipe()
    overlap = Overlap(vendor)
    async with (
        listening(overlap) as url,
        playing("auto", None, url=url, **UNATTENDED | ledger) as first,
        playing("auto", None, url=url, **UNATTENDED | ledger) as second,
    ):
        start = await draft(first, PEOPLE)

        async def one_job() -> None:
            await first.call("start_batch_call", **start)
            overlap.first_is_over.set()

        with anyio.fail_after(30):
            async with anyio.create_task_group() as jobs:
                jobs.start_soon(one_job)
                await overlap.started.wait()
                replayed = await second.call("start_batch_call", **start)
    assert len(vendor.actions("start")) == 1
    assert replayed["replayed"] is True


# --- A command whose words nobody can read -------------------------------------------------------------------------

TASKS = [{"to_number": one} for one in PEOPLE]
AT_NIGHT = {"confirm": "off", "max_calls_per_launch": "10", "undo_seconds": "0", "calling_hours": "00:00-24:00"}
REAL = (sys.executable, "-m", "batchcall_mcp")
"""A process that is started as cron does it."""
FULL = Path("/dev/full")
needs_a_full_disk = pytest.mark.skipif(not FULL.exists(), reason="there is no device that is always full")


def night(folder: Path, speed: int = 2000, **others: str) -> dict[str, str]:
    return variables(folder, simulated_speed=str(speed), **AT_NIGHT | others)


async def drafted(there: dict[str, str], people: list[str] = PEOPLE) -> str:
    made = await command(
        there,
        "call",
        "create_batch_call",
        json.dumps({"from_number": FROM, "tasks": [{"to_number": one} for one in people], "window": ALWAYS}),
    )
    assert made.code == DONE, made.err
    name: str = json.loads(made.out)["batch_call"]["batch_call_id"]
    return name


def start_of(name: str) -> str:
    return json.dumps({"batch_call_id": name, "trigger_timestamp": "now"})


async def on_a_full_disk(there: dict[str, str], *arguments: str) -> int:
    """The exit code of a command whose stdout and stderr go to a log on a disk that is full."""
    with anyio.fail_after(60):
        ended = await anyio.run_process(
            ["sh", "-c", f'exec "$@" > {FULL} 2>&1', "sh", *REAL, *arguments],
            stdin=subprocess.DEVNULL,
            env=unmeasured() | there,
            cwd=ROOT,
            check=False,
        )
    return ended.returncode


@needs_a_full_disk
async def test_a_log_on_a_full_disk_hangs_up_on_nobody(tmp_path: Path) -> None:
    """Cron writes both into one file: what cannot be said must not end the calls that are in progress."""
    there = night(tmp_path)
    name = await drafted(there)
    assert await on_a_full_disk(there, "call", "--until-finished", "start_batch_call", start_of(name)) == DONE
    found = await command(there, "call", "get_batch_call", json.dumps({"batch_call_id": name, "limit": 0}))
    batch_call = json.loads(found.out)["batch_call"]
    assert batch_call["status"] == "completed"
    assert "interrupted" not in batch_call["results"].get("not_reached", {})
    assert await on_a_full_disk(there, "call", "start_batchcall") == WRONG_USAGE


async def test_half_a_character_is_wrong_usage_wherever_it_stands(tmp_path: Path) -> None:
    for arguments in (
        '{"tasks": [{"to_number": "+12125550140", "dynamic_variables": {"a": "\\ud800"}}]}',
        '{"\\udfff": 1}',
    ):
        for given in ((arguments,), ("-",)):
            typed = arguments.encode() if given == ("-",) else None
            ended = await command(night(tmp_path / "data"), "call", "create_batch_call", *given, typed=typed)
            assert (ended.code, ended.out) == (WRONG_USAGE, ""), ended.err
            assert "Nothing was sent." in ended.err
    assert not (tmp_path / "data").exists()


async def test_arguments_from_a_stdin_that_is_closed_are_wrong_usage(tmp_path: Path) -> None:
    with anyio.fail_after(60):
        ended = await anyio.run_process(
            ["sh", "-c", 'exec "$@" <&-', "sh", *REAL, "call", "list_batch_calls", "-"],
            env=dict(os.environ) | night(tmp_path),
            cwd=ROOT,
            check=False,
        )
    assert ended.returncode == WRONG_USAGE, ended.stderr
    assert b"Traceback" not in ended.stderr


# --- A read that dials ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [("list_batch_calls", {}), ("check_batch_call", {"from_number": FROM, "tasks": TASKS}), ("start_batch_call", None)],
)
async def test_what_has_nothing_to_wait_for_dials_nobody(
    tool: str, arguments: dict[str, Any] | None, tmp_path: Path
) -> None:
    """A live batch call's people would be rung, and hung up on when the command ends a moment later."""
    there = night(tmp_path, speed=20)
    live, other = await drafted(there), await drafted(there, [number(NEW_YORK, line) for line in (3, 4)])
    assert (await command(there, "call", "start_batch_call", start_of(live))).code == DONE
    refused = there | {"BATCHCALL_MAX_CALLS_PER_LAUNCH": "1"}
    given = start_of(other) if arguments is None else json.dumps(arguments)
    ended: Ended = await command(refused, "call", "--until-finished", tool, given)
    assert ended.code == (DONE if arguments is not None else 4), ended.err
    assert dials(tmp_path) == {}


@pytest.mark.parametrize("stop", ["cancel_batch_call", "pause_batch_call"])
async def test_a_job_that_is_repeated_when_its_calls_are_over_dials_nobody_else(stop: str, tmp_path: Path) -> None:
    """What another job has launched would be dialled for a moment, and cut off."""
    there = night(tmp_path, speed=20)
    other, mine = await drafted(there, [number(NEW_YORK, line) for line in (3, 4)]), await drafted(there)
    keyed = json.dumps({**json.loads(start_of(mine)), "idempotency_key": "tonight"})
    for name in (keyed, start_of(other)):
        assert (await command(there, "call", "start_batch_call", name)).code == DONE
    stopped = await command(there, "call", "--until-finished", stop, json.dumps({"batch_call_id": mine}))
    assert stopped.code == (DONE if stop == "cancel_batch_call" else WAITS_FOR_PERSON), stopped.err
    again = await command(there, "call", "--until-finished", "start_batch_call", keyed)
    assert again.code == stopped.code, again.err
    assert dials(tmp_path) == {}


# --- Notifications -------------------------------------------------------------------------------------------------


async def never(_received: Received, _writer: object) -> None:
    """A receiver that takes a request and does not answer."""
    await anyio.sleep_forever()


async def test_a_server_over_stdio_does_not_wait_long_for_a_receiver_that_hangs(tmp_path: Path) -> None:
    """It is to end within five seconds of its client."""
    async with receiving() as receiver:
        receiver.always = never
        service = Service(settings_for(receiver.url(), tmp_path), local=True, dials=False)
        with anyio.fail_after(60) as limit:
            async with service.opened():
                assert service.notifier is not None
                service.notifier.tell(Notice(event="launched"))
                await receiver.arrived.wait()
                limit.deadline = anyio.current_time() + 8


def test_a_notice_that_cannot_be_sent_fails_nothing_that_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim is on disk then: an error would look as if it were not."""

    def no_thread_left(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    notifier = Notifier(settings_for("https://hooks.example.com/x", tmp_path))
    store = Store.open(tmp_path / "dialer.db", tell=notifier.tell)
    try:
        monkeypatch.setattr(threading.Thread, "start", no_thread_left)
        with store.writing() as tx:
            report(tx, [Notice(event="late", batch_call_id="bc_1")])
    finally:
        store.close()
        notifier.close()


def test_after_a_defect_the_next_notice_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(*_arguments: object) -> None:
        raise KeyError

    notifier = Notifier(settings_for("https://hooks.example.com/x", tmp_path))
    with monkeypatch.context() as broken:
        broken.setattr(NotificationStore, "add", defect)
        notifier.tell(Notice(event="launched"))
        assert notifier._thread is not None
        notifier._thread.join(10)
    notifier.tell(Notice(event="stopped"))
    notifier.close()
    store = NotificationStore.open(settings_for("https://hooks.example.com/x", tmp_path))
    try:
        kept = [event for (event,) in store.engine.connect().execute(sa.text("SELECT event FROM notifications"))]
    finally:
        store.close()
    assert sorted(kept) == ["launched", "stopped"]


def test_launches_that_are_refused_take_no_room_from_what_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller can have as many refused as it likes, while the receiver is away."""
    monkeypatch.setattr(store_module, "MOST_WAITING", 10)
    store = NotificationStore.open(settings_for("https://hooks.example.com/x", tmp_path))
    try:
        assert store.add([Notice(event="refused")] * 20) == 15
        assert store.add([Notice(event="launched")] * 5) == 0
    finally:
        store.close()


class Deaf(Zudu):
    """Carries a start out, and answers nothing from then on until it hears again."""

    deaf = False

    async def _execute(self, request: Request) -> Response:
        await super()._execute(request)
        self.deaf = True
        return Response(status_code=500)

    async def _one(self, request: Request) -> Response:
        return Response(status_code=500) if self.deaf and request.method == "GET" else await super()._one(request)


async def test_a_launch_that_came_to_light_later_is_notified_of_then(tmp_path: Path) -> None:
    """Who was notified that nobody knows reads what came of it, once, although no later call launches anything."""
    vendor = Deaf()
    settings: dict[str, Any] = {
        "api_key": zudu.KEY,
        "api_secret": zudu.SECRET,
        "request_timeout_s": "1",
        "data_dir": tmp_path,
    }
    async with receiving() as receiver, vendor.served() as url:
        notify = {"notify_url": receiver.url(), "notify_secret": SECRET}
        async with playing("auto", Person(), backend="zudu", url=url, **settings, **notify) as model:
            start = await draft(model, PEOPLE)
            await model.refused("start_batch_call", "outcome_unknown", **start)
            vendor.deaf = False
            for _ in range(2):
                assert (await model.call("start_batch_call", **start))["replayed"] is True
    said = [json.loads(one.body) for one in receiver.received]
    assert [(one["type"], one["data"]["batch_call_id"]) for one in said] == [
        ("unknown", start["batch_call_id"]),
        ("launched", start["batch_call_id"]),
    ]


async def test_a_worker_keeps_what_it_has_to_say_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Notifier] = []
    monkeypatch.setattr(Notifier, "close", lambda self, *_: closed.append(self))
    app = worker_app(settings_for("https://hooks.example.com/x", tmp_path), 0, lambda _settings: None)
    async with app.router.lifespan_context(app):
        assert closed == []
    assert len(closed) == 1
