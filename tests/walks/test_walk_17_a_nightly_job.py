"""Walk 17: cron calls tonight's list with `batchcall-mcp call`. Nobody is there; the operator is notified."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.dialer.receiver import Receiver, receiving
from tests.operator.processes import Ended, command, of_zudu, terminal, variables
from tests.vendors.serving import listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, dials, number, write_csv

PEOPLE = [number(NEW_YORK, line) for line in (0, 1, 7)]
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
AT_ONCE = {"calling_hours": "00:00-24:00", "undo_seconds": "0"}


class Night:
    """What a crontab line runs: each step a process of its own, with the night's key."""

    def __init__(self, there: dict[str, str], key: str = "tonight") -> None:
        self.there, self.key = there, key

    async def call(self, tool: str, *options: str, **arguments: Any) -> Ended:
        return await command(self.there, "call", *options, tool, json.dumps(arguments))

    async def draft(self, **list_of: Any) -> str:
        made = await self.call("create_batch_call", from_number=FROM, idempotency_key=self.key, **list_of)
        assert made.code == 0, made.err
        name: str = json.loads(made.out)["batch_call"]["batch_call_id"]
        return name

    async def launch(self, name: str, *options: str, **others: str) -> Ended:
        launch = {"batch_call_id": name, "trigger_timestamp": "now", "idempotency_key": self.key}
        return await self.call("start_batch_call", *options, **launch, **others)


def notified(receiver: Receiver) -> list[tuple[str, dict[str, Any]]]:
    """What arrived, each checked as any receiver would, and once."""
    bodies = {one.message_id: Webhook(SECRET).verify(one.body, one.headers) for one in receiver.received}
    assert len(bodies) == len(receiver.received)
    return [(one["type"], one["data"]) for one in bodies.values()]


async def test_tonights_list_is_called_once_however_often_the_job_runs(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    write_csv(files / "customers.csv", ["phone", "name"], [(one, "Ada") for one in PEOPLE])
    async with receiving() as receiver:
        notify = {"notify_url": receiver.url(), "notify_secret": SECRET}
        off = {"confirm": "off", "max_calls_per_launch": "10", "calling_hours": "00:00-24:00"}
        night = Night(variables(tmp_path / "data", files=str(files), simulated_speed="2000", **off, **notify))
        tonight = {"tasks_file": "customers.csv", "window": ALWAYS}
        for _ in range(2):  # the machine was restarted in between, say, and the job runs again
            name = await night.draft(**tonight)
            ended = await night.launch(name, "--until-finished")
            assert ended.code == 0, ended.err
            over = json.loads(ended.out.splitlines()[-1])["batch_call"]
            assert (over["batch_call_id"], over["status"]) == (name, "completed")
        exported = await night.call("export_batch_call", batch_call_id=name)
        assert (files / json.loads(exported.out)["file"]).exists()
        # Tomorrow is another night: the limit refuses, and its text and the notification say why.
        low = Night(night.there | {"BATCHCALL_MAX_CALLS_PER_LAUNCH": "2"}, "tomorrow")
        many = await low.launch(await low.draft(tasks=[{"to_number": number(NEW_YORK, at)} for at in (50, 51, 52)]))
        assert (many.code, many.out) == (4, "")
        assert "3 calls are more than BATCHCALL_MAX_CALLS_PER_LAUNCH=2" in many.err
    assert dials(tmp_path / "data") == Counter(PEOPLE)
    said = notified(receiver)
    assert [event for event, _ in said] == ["launched", "finished", "refused"]
    assert [data.get("calls") for _, data in said] == [3, 3, None]
    assert said[0][1]["batch_call_id"] == said[1][1]["batch_call_id"] == name
    assert said[2][1]["reason"] == "invalid_input"
    raw = b"".join(one.body for one in receiver.received)
    assert not any(one[2:].encode() in raw for one in [*PEOPLE, FROM])
    assert b"Ada" not in raw


async def test_a_question_at_night_waits_for_a_person_at_a_terminal(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        night = Night(of_zudu(url, tmp_path, **AT_ONCE))
        name = await night.draft(tasks=[{"to_number": one} for one in PEOPLE])
        for _ in range(2):
            waits = await night.launch(name)
            assert (waits.code, json.loads(waits.out)["result"]) == (3, "waiting_for_person")
            assert "Call 3 people" in waits.err
        assert vendor.dialled == []
        async with terminal(night.there, "approve") as screen:
            await screen.shows("To approve exactly this, once")
            assert await screen.types("3") == 0
        assert (await night.launch(name)).code == 0
        assert (await night.launch(name)).code == 0
    assert vendor.dialled == PEOPLE


class Outage:
    """A vendor that takes one write, loses its answer, and cannot be asked until it is over."""

    def __init__(self, vendor: Zudu) -> None:
        self.vendor, self.armed = vendor, False

    @property
    def is_on(self) -> bool:
        return self.armed and not self.vendor.recording.swallow_next_write

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self.vendor.recording
        if self.is_on and scope["type"] == "http":
            app = JSONResponse({"message": "down"}, 503)
        await app(scope, receive, send)


async def test_an_unknown_outcome_is_looked_up_by_the_same_call_and_nobody_is_called_twice(tmp_path: Path) -> None:
    vendor = Zudu()
    outage = Outage(vendor)
    async with listening(outage) as url, receiving() as receiver:
        notify = {"notify_url": receiver.url(), "notify_secret": SECRET}
        night = Night(of_zudu(url, tmp_path, confirm="code", **AT_ONCE, **notify))
        name = await night.draft(tasks=[{"to_number": one} for one in PEOPLE])
        asked = await night.launch(name)
        assert asked.code == 3
        code = json.loads(asked.out)["confirmation_code"]
        outage.armed = vendor.recording.swallow_next_write = True
        lost = await night.launch(name, confirmation_code=code)
        assert (lost.code, lost.out) == (5, ""), lost.err
        assert lost.err.count("[outcome_unknown]") == 1
        # It is still down: nothing is sent a second time.
        assert (await night.launch(name, confirmation_code=code)).code in {4, 5}
        outage.armed = False
        again = await night.launch(name, confirmation_code=code)
        assert again.code == 0, again.err
        vendor.finish(name, {})
        for _ in range(2):
            assert (await night.call("get_batch_call", batch_call_id=name)).code == 0
    assert vendor.dialled == PEOPLE
    events = [event for event, _ in notified(receiver)]
    assert events[0] == "unknown"
    assert events.count("finished") <= 1
