"""No phone rings by accident: every write tool, with every argument that can dial, without anybody's yes.

Clients that give no yes: one that cannot ask questions (a person would have to answer elsewhere, or it gets a code that
nobody was shown yet), one whose person says no, one whose person dismisses the question. After each call the vendor has
received no write, and has dialled nobody. What a call would launch is judged before anybody is asked: so each call is
made by one of these clients at most (three in four by none), one of each tool on each batch call by two of them, and by
`make torture` each by all.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mcp import MCPError
from mcp.client import ClientRequestContext
from mcp.types import CallToolResult, ElicitRequestParams, ElicitResult, InputRequiredResult, TextContent

from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.model import WEEKDAYS
from batchcall_mcp.server.approvals import elicitation
from batchcall_mcp.settings import Confirm
from tests import forked
from tests.sampling import EVERYTHING, spread
from tests.server.transports import ROOT, Way, connected
from tests.vendors import bland, bolna, cartesia, dograh, elevenlabs, magpipe, retell, speechify, vapi, zudu
from tests.vendors.bland import Bland
from tests.vendors.bolna import Bolna
from tests.vendors.cartesia import Cartesia
from tests.vendors.dograh import Dograh
from tests.vendors.elevenlabs import ElevenLabs
from tests.vendors.magpipe import Magpipe
from tests.vendors.retell import Retell
from tests.vendors.serving import Recorded, Recording, listening
from tests.vendors.speechify import Speechify
from tests.vendors.talking import NO_ANSWER
from tests.vendors.vapi import Vapi
from tests.vendors.varied import Varied, able
from tests.vendors.varied import account as varied_account
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Era, Model, Person, dials, number, playing, tomorrow_at

Call: TypeAlias = tuple[str, dict[str, Any]]
PEOPLE = [number(NEW_YORK, line) for line in (0, 1, 7)]  # the last one is busy at the dialer
STRANGERS = [number(NEW_YORK, line) for line in (50, 51)]
TASKS = [{"to_number": one} for one in PEOPLE]
OTHERS = [{"to_number": one} for one in STRANGERS]
FUTURE = "2100-01-01T00:00Z"
LATER = int(datetime(2100, 1, 1, tzinfo=UTC).timestamp())
END_OF_DAYS = datetime(2300, 1, 1, 12, tzinfo=UTC)
PAST = "2020-01-01T00:00-05:00"
WHENEVER: tuple[str | int, ...] = ("now", FUTURE, PAST, LATER, LATER * 1000, 0)
NEW_YORK_DAY = {"start": "09:00", "end": "17:00", "timezone": "America/New_York"}


@dataclass(frozen=True)
class Scene:
    """A backend with batch calls in every state. `dialled` is the judge: what its carrier was asked for, in order.

    `writes` are the requests that change something; None where no request can be seen. `later` moves the backend's time
    beyond every schedule, where it can be moved.
    """

    variables: dict[str, str | Path]
    ids: dict[str, str]
    dialled: Callable[[], Sequence[str]]
    writes: Callable[[], Sequence[Recorded]] | None
    later: Callable[[], None] = lambda: None


@asynccontextmanager
async def zudu_scene(tmp_path: Path) -> AsyncIterator[Scene]:
    vendor = Zudu()
    async with vendor.served() as url:
        variables: dict[str, str | Path] = {
            "backend": "zudu",
            "url": url,
            "api_key": zudu.KEY,
            "api_secret": zudu.SECRET,
            "data_dir": tmp_path,
        }
        async with playing("auto", Person("yes"), **variables) as model:
            ids = {state: await made(model, name=state) for state in ("draft", "scheduled", "running", "completed")}
            await start(model, ids["scheduled"], tomorrow_at(9).isoformat())
            await start(model, ids["running"], "now")
            await start(model, ids["completed"], "now")
        vendor.finish(ids["completed"], {PEOPLE[-1]: "failed"})
        vendor.requests.clear()
        yield Scene(variables, ids, lambda: vendor.dialled, lambda: vendor.writes, lambda: vendor.tick(END_OF_DAYS))


@asynccontextmanager
async def magpipe_scene(tmp_path: Path) -> AsyncIterator[Scene]:
    vendor = Magpipe()
    async with vendor.served() as url:
        variables: dict[str, str | Path] = {
            "backend": "magpipe",
            "url": url,
            "api_key": magpipe.KEY,
            "data_dir": tmp_path,
        }
        async with playing("auto", Person("yes"), **variables) as model:
            ids = {state: await made(model, name=state) for state in ("draft", "running", "completed")}
            await start(model, ids["running"], "now")
            await start(model, ids["completed"], "now")
            scheduled = await model.call(
                "create_batch_call", from_number=FROM, tasks=TASKS, trigger_timestamp=tomorrow_at(9).isoformat()
            )
        ids |= {
            "scheduled": scheduled["batch_call"]["batch_call_id"],
            "recurring": vendor.series(PEOPLE),
            "paused": vendor.series(PEOPLE, "paused"),
        }
        vendor.finish(ids["completed"], {PEOPLE[-1]: "no_answer"})
        vendor.requests.clear()
        yield Scene(variables, ids, lambda: vendor.dialled, lambda: vendor.writes, lambda: vendor.tick(END_OF_DAYS))


@asynccontextmanager
async def varied_scene(
    tmp_path: Path, vendor: Varied, states: Sequence[str], *, without: str = "", **changes: Any
) -> AsyncIterator[Scene]:
    """A backend that works in a way of its own; see `tests.vendors.varied`."""
    with pytest.MonkeyPatch.context() as patch:
        able(patch, without=without, **changes)
        async with vendor.served() as url:
            variables: dict[str, str | Path] = {**varied_account(url), "data_dir": tmp_path}
            ids: dict[str, str] = {}
            async with playing("auto", Person("yes"), **variables) as model:
                when = {"trigger_timestamp": "now"} if vendor.creates_dial else {}
                for state in states:
                    ids[state] = await made(model, name=state, window=ALWAYS, **when)
                    if state != "draft" and not vendor.creates_dial:
                        await start(model, ids[state], "now")
                if "paused" in ids:
                    await model.call("pause_batch_call", batch_call_id=ids["paused"])
                    for task in vendor.tasks[ids["paused"]][1:]:  # as if it had been paused after the first dial
                        task |= {"status": "pending", "attempts": 0}
                vendor.finish(ids["completed"], {PEOPLE[-1]: NO_ANSWER})
                if vendor.retries == "child_draft":
                    child = await model.call("retry_batch_call", batch_call_id=ids["completed"])
                    ids["child"] = child["batch_call"]["batch_call_id"]
            vendor.recording.requests.clear()
            yield Scene(variables, ids, lambda: vendor.dialled, lambda: vendor.writes, lambda: vendor.tick(END_OF_DAYS))


def creates_scene(tmp_path: Path) -> AbstractAsyncContextManager[Scene]:
    """Creating dials, and a retry is a create."""
    vendor = Varied(creates_dial=True)
    states = ("running", "completed")
    return varied_scene(tmp_path, vendor, states, without="start update retry append", drafts="none")


def everybody_scene(tmp_path: Path) -> AbstractAsyncContextManager[Scene]:
    """A retry calls everybody again, and people are shown only once they are dialled."""
    vendor = Varied(shows="dialled_only")
    return varied_scene(
        tmp_path, vendor, ("draft", "running", "paused", "completed"), without="update", tasks_reported="dialled_only"
    )


def child_scene(tmp_path: Path) -> AbstractAsyncContextManager[Scene]:
    """A retry makes a draft of everybody, whose people are not shown."""
    vendor = Varied(shows="dialled_only", counts=False, retries="child_draft")
    can = {"retry": "child_draft", "tasks_reported": "dialled_only"}
    return varied_scene(tmp_path, vendor, ("draft", "completed"), without="update", **can)


def creates_calls(ids: dict[str, str]) -> list[Call]:
    whole = {"from_number": FROM, "tasks": TASKS, "name": "another"}
    found: list[Call] = [("create_batch_call", {**whole, "trigger_timestamp": when}) for when in WHENEVER]
    came = {"batch_call_id": ids["completed"], "task_status": ["completed"]}
    found += [
        ("create_batch_call", {"from_number": FROM, "tasks_from": came, "trigger_timestamp": when}) for when in WHENEVER
    ]
    found += [("create_batch_call", {**whole, **one}) for one in ({"send_now": True}, {"status": "sent"})]
    for state in ("completed", "running"):
        one = {"batch_call_id": ids[state]}
        found += [("retry_batch_call", {**one, "trigger_timestamp": when}) for when in WHENEVER]
        found += [("retry_batch_call", one)]
    states = (["busy"], ["not_reached"], ["completed"], ["pending"])
    again = {"batch_call_id": ids["completed"], "trigger_timestamp": "now"}
    return found + [("retry_batch_call", {**again, "task_status": one}) for one in states]


def everybody_calls(ids: dict[str, str]) -> list[Call]:
    found: list[Call] = [
        ("start_batch_call", {"batch_call_id": ids["draft"], "trigger_timestamp": when}) for when in WHENEVER
    ]
    found += [("resume_batch_call", {"batch_call_id": one}) for one in ids.values()]
    found += [("retry_batch_call", {"batch_call_id": one}) for one in ids.values()]
    states = (["busy"], ["not_reached"], ["completed"], ["pending"], ["no_answer", "busy", "failed"])
    return found + [("retry_batch_call", {"batch_call_id": ids["completed"], "task_status": one}) for one in states]


def child_calls(ids: dict[str, str]) -> list[Call]:
    return [
        ("start_batch_call", {"batch_call_id": ids[state], "trigger_timestamp": when})
        for state in ("child", "draft")
        for when in WHENEVER
    ]


@asynccontextmanager
async def creating_scene(
    tmp_path: Path, backend: str, vendor: ElevenLabs | Bland | Vapi | Retell | Cartesia | Speechify
) -> AsyncIterator[Scene]:
    """A vendor whose creates dial, and which says a word that nobody knows of one batch call."""
    async with vendor.served() as url:
        variables: dict[str, str | Path] = {
            "backend": backend,
            "url": url,
            "api_key": vendor.key,
            "data_dir": tmp_path,
            "files": tmp_path,
        }
        (tmp_path / "first.csv").write_text("phone\n" + "".join(f"{one}\n" for one in PEOPLE))
        async with playing("auto", Person("yes"), **variables) as model:
            ids = await launched_by_creates(model, vendor.agent_id)
        vendor.finish(ids["completed"], {PEOPLE[-1]: "no_answer"})
        vendor.say_status(ids["odd"], "levitating")
        vendor.requests.clear()
        yield Scene(variables, ids, lambda: vendor.dialled, lambda: vendor.writes, lambda: vendor.tick(END_OF_DAYS))


def elevenlabs_scene(tmp_path: Path) -> AbstractAsyncContextManager[Scene]:
    return creating_scene(tmp_path, "elevenlabs", ElevenLabs())


def bland_scene(tmp_path: Path) -> AbstractAsyncContextManager[Scene]:
    return creating_scene(tmp_path, "bland", Bland())


def vapi_scene(tmp_path: Path) -> AbstractAsyncContextManager[Scene]:
    return creating_scene(tmp_path, "vapi", Vapi())


def cartesia_scene(tmp_path: Path) -> AbstractAsyncContextManager[Scene]:
    return creating_scene(tmp_path, "cartesia", Cartesia())


def retell_scene(tmp_path: Path) -> AbstractAsyncContextManager[Scene]:
    return creating_scene(tmp_path, "retell", Retell())


def speechify_scene(tmp_path: Path) -> AbstractAsyncContextManager[Scene]:
    return creating_scene(tmp_path, "speechify", Speechify())


async def launched_by_creates(model: Model, agent_id: str) -> dict[str, str]:
    """Batch calls of a backend whose creates dial, each named after the state that it is for."""
    times = {"scheduled": tomorrow_at(9).isoformat(), "running": "now", "odd": "now", "completed": "now"}
    return {
        name: await made(model, name=name, agent_id=agent_id, trigger_timestamp=when) for name, when in times.items()
    }


@asynccontextmanager
async def dialect_scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """The dialer as a server of its own, spoken to over HTTP."""
    await seed_dialer({"data_dir": tmp_path, "simulated_speed": "2000"})
    dialer = EmbeddedDialer(tmp_path, simulated_speed=2000)
    recording = Recording(dialer.app, lambda one: one.method != "GET")
    key, secret = dialer.credentials
    async with listening(recording) as url:
        variables: dict[str, str | Path] = {"backend": "batchcall", "url": url, "api_key": key, "api_secret": secret}
        yield Scene(
            variables, await ids_by_state(variables), lambda: list(dials(tmp_path).elements()), lambda: recording.writes
        )


@asynccontextmanager
async def dialer_scene(tmp_path: Path) -> AsyncIterator[Scene]:
    variables: dict[str, str | Path] = {"data_dir": tmp_path, "simulated_speed": "2000"}
    await seed_dialer(variables)
    yield Scene(variables, await ids_by_state(variables), lambda: list(dials(tmp_path).elements()), None)


@asynccontextmanager
async def bolna_scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A start is due some minutes later, when the vendor's time has moved on."""
    vendor = Bolna()
    async with vendor.served() as url:
        variables: dict[str, str | Path] = {
            "backend": "bolna",
            "url": url,
            "api_key": vendor.key,
            "data_dir": tmp_path,
        }
        async with playing("auto", Person("yes"), **variables) as model:
            states = ("draft", "scheduled", "running", "completed")
            ids = {state: await made(model, name=state, agent_id=bolna.AGENT) for state in states}
            await start(model, ids["running"], "now")
            await start(model, ids["completed"], "now")
            vendor.tick(vendor.now + timedelta(minutes=15))
            await start(model, ids["scheduled"], tomorrow_at(9).isoformat())
        vendor.finish(ids["completed"], {PEOPLE[-1]: "no_answer"})
        vendor.requests.clear()
        yield Scene(variables, ids, lambda: vendor.dialled, lambda: vendor.writes, lambda: vendor.tick(END_OF_DAYS))


@asynccontextmanager
async def dograh_scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A start is now, and a pause the only stop. One line, so somebody waits in what runs and what is paused."""
    vendor = Dograh(lines=1)
    async with vendor.served() as url:
        variables: dict[str, str | Path] = {
            "backend": "dograh",
            "url": url,
            "api_key": vendor.key,
            "data_dir": tmp_path,
        }
        async with playing("auto", Person("yes"), **variables) as model:
            states = ("draft", "running", "paused", "completed")
            ids = {state: await made(model, name=state, agent_id=dograh.AGENT) for state in states}
            for state in states[1:]:
                await start(model, ids[state], "now")
            vendor.tick(vendor.now)
            await model.call("pause_batch_call", batch_call_id=ids["paused"])
        vendor.finish(ids["completed"], {PEOPLE[-1]: "no_answer"})
        vendor.requests.clear()
        yield Scene(variables, ids, lambda: vendor.dialled, lambda: vendor.writes)


async def seed_dialer(variables: dict[str, str | Path]) -> None:
    async with playing("auto", Person("yes"), **variables) as model:
        await made(model, name="draft", window=ALWAYS)
        scheduled = await made(model, name="scheduled", window=ALWAYS)
        await start(model, scheduled, tomorrow_at(9).isoformat())
        completed = await made(model, name="completed", window=ALWAYS)
        await start(model, completed, "now")
        with anyio.fail_after(60):
            await model.call("watch_batch_call", batch_call_id=completed, timeout_seconds=15)
        # Outside its window nothing is dialled, so that it can be paused before its first call.
        other_day = WEEKDAYS[(datetime.now(UTC) + timedelta(days=3)).weekday()]
        paused = await made(model, name="paused", window={**ALWAYS, "days": [other_day], "timezone": "UTC"})
        await start(model, paused, "now")
        await model.call("pause_batch_call", batch_call_id=paused)


async def ids_by_state(variables: dict[str, str | Path]) -> dict[str, str]:
    """Each batch call was named after the state that it is in; checked, so that the table says what it seems to."""
    async with playing("auto", None, **variables) as model:
        listed = (await model.call("list_batch_calls"))["batch_calls"]
    assert {one["name"]: one["status"] for one in listed} == {one["name"]: one["name"] for one in listed}
    return {one["name"]: one["batch_call_id"] for one in listed}


async def made(model: Model, **others: Any) -> str:
    answer = await model.call("create_batch_call", from_number=FROM, tasks=TASKS, **others)
    batch_call_id: str = answer["batch_call"]["batch_call_id"]
    return batch_call_id


async def start(model: Model, batch_call_id: str, when: str) -> None:
    await model.call("start_batch_call", batch_call_id=batch_call_id, trigger_timestamp=when)


def calls_of_drafts(ids: dict[str, str]) -> list[Call]:
    """What dials where a stored draft can be started and scheduled."""
    found: list[Call] = []
    for state in ("draft", "scheduled"):
        found += [("start_batch_call", {"batch_call_id": ids[state], "trigger_timestamp": when}) for when in WHENEVER]
        timed: list[dict[str, Any]] = [{"trigger_timestamp": when} for when in WHENEVER if when != "now"]
        timed += [{"status": "scheduled", **one} for one in timed]
        timed += [{"trigger_timestamp": "2100-01-01T00:00", "timezone": "America/New_York"}]
        timed += [{"send_now": True}, {"send_now": True, "tasks": OTHERS}, {"status": "scheduled", "send_now": True}]
        timed += [{"trigger_timestamp": FUTURE, "tasks": OTHERS, "name": "x", "from_number": STRANGERS[0]}]
        found += [("update_batch_call", {"batch_call_id": ids[state], **one}) for one in timed]
    moved: list[dict[str, Any]] = [{"tasks": OTHERS}, {"timezone": "America/Chicago"}, {"agent_id": "agent_x"}]
    moved += [{"tasks": OTHERS, "window": NEW_YORK_DAY}, {"tasks": OTHERS, "from_number": "+14155550111"}]
    moved += [{"tasks": TASKS, "retry": {"max_retries": 3, "after_minutes": 5}}]
    found += [("update_batch_call", {"batch_call_id": ids["scheduled"], **one}) for one in moved]
    found += [("start_batch_call", {"batch_call_id": ids["completed"], "trigger_timestamp": when}) for when in WHENEVER]
    # Arguments of vendors that a model may remember are no arguments here.
    remembered: tuple[dict[str, Any], ...] = ({"send_now": True}, {"status": "sent"}, {"trigger_timestamp": FUTURE})
    found += [("create_batch_call", {"from_number": FROM, "tasks": TASKS, **one}) for one in remembered]
    return found


def zudu_calls(ids: dict[str, str]) -> list[Call]:
    running: list[dict[str, Any]] = [{"send_now": True}, {"trigger_timestamp": FUTURE}, {"tasks": OTHERS}]
    return calls_of_drafts(ids) + [
        ("update_batch_call", {"batch_call_id": ids[state], **one})
        for state in ("running", "completed")
        for one in running
    ]


def dialer_calls(ids: dict[str, str]) -> list[Call]:
    found = calls_of_drafts(ids)
    alone: list[dict[str, Any]] = [{"window": NEW_YORK_DAY}, {"max_concurrency": 50}, {"from_number": "+14155550111"}]
    alone += [{"retry": {"max_retries": 3}}]
    found += [("update_batch_call", {"batch_call_id": ids["scheduled"], "add_tasks": OTHERS})]
    found += [("update_batch_call", {"batch_call_id": ids["scheduled"], **one}) for one in alone]
    found += [("update_batch_call", {"batch_call_id": ids["paused"], **one}) for one in (*alone, {"send_now": True})]
    found += [("start_batch_call", {"batch_call_id": ids["paused"], "trigger_timestamp": when}) for when in WHENEVER]
    found += [("resume_batch_call", {"batch_call_id": ids["paused"]})]
    statuses = (["busy"], ["not_reached"], ["completed"], ["pending", "completed"])
    found += [("retry_batch_call", {"batch_call_id": ids["completed"], "task_status": one}) for one in statuses]
    found += [("retry_batch_call", {"batch_call_id": ids["completed"]})]
    found += [("retry_batch_call", {"batch_call_id": ids["paused"], "task_status": ["pending"]})]
    return found


def magpipe_calls(ids: dict[str, str]) -> list[Call]:
    whole = {"from_number": FROM, "tasks": TASKS}
    found: list[Call] = [("create_batch_call", {**whole, "trigger_timestamp": when}) for when in WHENEVER]
    remembered = ({"send_now": True}, {"status": "running"}, {"recurrence_type": "daily"})
    found += [("create_batch_call", {**whole, **one}) for one in remembered]
    for one in ids.values():
        found += [("start_batch_call", {"batch_call_id": one, "trigger_timestamp": when}) for when in ("now", FUTURE)]
    found += [("resume_batch_call", {"batch_call_id": one}) for one in ids.values()]
    window = {"start": "00:00", "end": "24:00", "timezone": "UTC"}
    series: tuple[dict[str, Any], ...] = ({"window": window}, {"from_number": FROM}, {"agent_id": magpipe.AGENT})
    found += [("update_batch_call", {"batch_call_id": ids["recurring"], **one}) for one in series]
    return found


def creating_calls(agent_id: str, ids: dict[str, str]) -> list[Call]:
    """What dials where a create does."""
    whole = {"from_number": FROM, "tasks": TASKS, "agent_id": agent_id}
    found: list[Call] = [("create_batch_call", {**whole, "trigger_timestamp": when}) for when in WHENEVER]
    source = {"batch_call_id": ids["completed"], "task_status": ["not_reached"]}
    from_another = {"from_number": FROM, "agent_id": agent_id, "tasks_from": source}
    found += [("create_batch_call", {**from_another, "trigger_timestamp": when}) for when in ("now", FUTURE)]
    remembered: list[dict[str, Any]] = [{}, {"send_now": True}, {"status": "draft"}]
    remembered += [{"status": "scheduled", "trigger_timestamp": FUTURE}]
    return found + [("create_batch_call", {**whole, **one}) for one in remembered]


def calls_of_creates_and_retries(agent_id: str, ids: dict[str, str]) -> list[Call]:
    """Where a retry calls everybody who was not reached, in the same batch call."""
    statuses: tuple[dict[str, Any], ...] = ({}, {"task_status": ["failed"]}, {"task_status": ["not_reached"]})
    retries = [("retry_batch_call", {"batch_call_id": one, **states}) for one in ids.values() for states in statuses]
    return creating_calls(agent_id, ids) + retries


def elevenlabs_calls(ids: dict[str, str]) -> list[Call]:
    return calls_of_creates_and_retries(elevenlabs.AGENT, ids)


def cartesia_calls(ids: dict[str, str]) -> list[Call]:
    return calls_of_creates_and_retries(cartesia.AGENT, ids)


def calls_of_missed(ids: dict[str, str], **more: str) -> list[Call]:
    """New batch calls of those who were missed."""
    return [
        ("retry_batch_call", {"batch_call_id": one, "trigger_timestamp": when, **more})
        for when in ("now", FUTURE)
        for one in ids.values()
    ]


def bland_calls(ids: dict[str, str]) -> list[Call]:
    return creating_calls(bland.PATHWAY, ids) + calls_of_missed(ids, tasks_file="first.csv")


def vapi_calls(ids: dict[str, str]) -> list[Call]:
    return creating_calls(vapi.ASSISTANT, ids) + calls_of_missed(ids, tasks_file="first.csv")


def retell_calls(ids: dict[str, str]) -> list[Call]:
    return creating_calls(retell.AGENT, ids) + calls_of_missed(ids)


def speechify_calls(ids: dict[str, str]) -> list[Call]:
    return creating_calls(speechify.AGENT, ids) + calls_of_missed(ids)


def bolna_calls(ids: dict[str, str]) -> list[Call]:
    starts: list[Call] = [
        ("start_batch_call", {"batch_call_id": one, "trigger_timestamp": when})
        for one in ids.values()
        for when in WHENEVER
    ]
    whole = {"from_number": FROM, "tasks": TASKS, "agent_id": bolna.AGENT}
    remembered: tuple[dict[str, Any], ...] = (
        {"send_now": True},
        {"scheduled_at": FUTURE},
        {"trigger_timestamp": FUTURE},
    )
    return starts + [("create_batch_call", {**whole, **one}) for one in remembered]


def dograh_calls(ids: dict[str, str]) -> list[Call]:
    found: list[Call] = []
    for one in ids.values():
        found += [("start_batch_call", {"batch_call_id": one, "trigger_timestamp": when}) for when in ("now", FUTURE)]
        found += [("resume_batch_call", {"batch_call_id": one})]
    changes: tuple[dict[str, Any], ...] = (
        {"window": NEW_YORK_DAY},
        {"max_concurrency": 1},
        {"retry": {"max_retries": 1}},
    )
    found += [
        ("update_batch_call", {"batch_call_id": ids[state], **one})
        for state in ("running", "paused")
        for one in changes
    ]
    whole = {"from_number": FROM, "tasks": TASKS, "agent_id": dograh.AGENT}
    remembered = ({"send_now": True}, {"trigger_timestamp": FUTURE}, {"trigger_timestamp": "now"})
    return found + [("create_batch_call", {**whole, **one}) for one in remembered]


DIALER_ASKS = {"start_batch_call", "update_batch_call", "resume_batch_call", "retry_batch_call"}
SCENES = {
    "zudu": (zudu_scene, zudu_calls, {"start_batch_call", "update_batch_call"}),
    "magpipe": (
        magpipe_scene,
        magpipe_calls,
        {"create_batch_call", "start_batch_call", "resume_batch_call", "update_batch_call"},
    ),
    "elevenlabs": (elevenlabs_scene, elevenlabs_calls, {"create_batch_call", "retry_batch_call"}),
    "bland": (bland_scene, bland_calls, {"create_batch_call", "retry_batch_call"}),
    "vapi": (vapi_scene, vapi_calls, {"create_batch_call", "retry_batch_call"}),
    "retell": (retell_scene, retell_calls, {"create_batch_call", "retry_batch_call"}),
    "speechify": (speechify_scene, speechify_calls, {"create_batch_call", "retry_batch_call"}),
    "bolna": (bolna_scene, bolna_calls, {"start_batch_call"}),
    "dograh": (dograh_scene, dograh_calls, {"start_batch_call", "update_batch_call", "resume_batch_call"}),
    "cartesia": (cartesia_scene, cartesia_calls, {"create_batch_call", "retry_batch_call"}),
    "batchcall": (dialect_scene, dialer_calls, DIALER_ASKS),
    "dialer": (dialer_scene, dialer_calls, DIALER_ASKS),
    "creates that dial": (creates_scene, creates_calls, {"create_batch_call", "retry_batch_call"}),
    "retries of everybody": (
        everybody_scene,
        everybody_calls,
        {"start_batch_call", "resume_batch_call", "retry_batch_call"},
    ),
    "retries that make a draft": (child_scene, child_calls, {"start_batch_call"}),
}
"""Where, what is tried there, and which tools must have asked: a table of mere refusals would prove nothing."""
ROUNDS: tuple[tuple[Era, Person | None, Confirm], ...] = (
    ("auto", None, "auto"),
    ("auto", None, "code"),
    ("auto", Person("no"), "auto"),
    ("legacy", Person("dismiss"), "auto"),
)
"""Two clients that cannot ask, and two whose person does not say yes: one of both for each backend in `make test`."""


ALIKE = ("batchcall", "dialer")
"""One adapter: what is one case of many is tried at one of the two."""
WAITING = frozenset({"confirmation_required", "waiting_for_person"})


@pytest.mark.parametrize("backend", SCENES)
async def test_without_a_yes_nothing_that_dials_is_sent(backend: str, tmp_path: Path) -> None:
    scene_of, calls_of, asks = SCENES[backend]
    async with scene_of(tmp_path) as scene, AsyncExitStack() as stack:
        before = list(scene.dialled())
        states = await states_of(scene)
        sent = len(scene.writes()) if scene.writes else 0
        rounds = ROUNDS if EVERYTHING else ROUNDS[list(SCENES).index(backend) % 2 :: 2]
        ways = [(one, each) for one in (ALIKE if backend in ALIKE else (backend,)) for each in rounds]
        everything = calls_of(scene.ids)
        for (where, (era, person, confirm)), chosen in spread(everything, ways, kind=tool_and_target, one_in=4):
            if where != backend:
                continue
            model = await stack.enter_async_context(playing(era, person, **scene.variables | {"confirm": confirm}))
            asked: set[str] = set()
            # At its end come the others, for tools of which none that was chosen needed a yes.
            others = [call for call in everything if call not in chosen]
            for at, (tool, arguments) in enumerate([*chosen, *others]):
                if at >= len(chosen) and (tool in asked or tool not in asks):
                    continue
                told = f"{tool} {arguments} of {era}, {person and person.answer}"
                asked |= {tool} if await refused_or_waiting(model, tool, arguments, told) else set()
                if person is None:
                    await refused_or_waiting(model, tool, arguments | {"confirmation_code": "AAAAAAAA"}, told)
                if scene.writes:
                    assert scene.writes()[sent:] == [], told
                assert list(scene.dialled()) == before, told
            assert asked == asks
            await stack.aclose()
        assert await states_of(scene) == states
    assert list(scene.dialled()) == before


def tool_and_target(call: Call) -> tuple[str, str | None]:
    tool, arguments = call
    return tool, arguments.get("batch_call_id")


async def refused_or_waiting(model: Model, tool: str, arguments: dict[str, Any], told: str) -> bool:
    """Whether a yes was all that was missing."""
    result = await model.client.call_tool(tool, arguments)
    if result.is_error:
        text = "".join(block.text for block in result.content if isinstance(block, TextContent))
        codes = ("not_confirmed", "invalid_input", "illegal_transition", "not_supported")
        assert text.startswith(tuple(f"[{code}]" for code in codes)), f"{told}: {text}"
        assert "Nothing was" in text or "Nothing changed" in text, f"{told}: {text}"
        return text.startswith("[not_confirmed]")
    assert result.structured_content is not None
    word = result.structured_content["result"]
    assert word in {*WAITING, "nothing_to_do"} or result.structured_content["replayed"], told
    return word in WAITING


async def states_of(scene: Scene) -> dict[str, Any]:
    async with playing("auto", None, **scene.variables) as model:
        return {
            one: (await model.call("get_batch_call", batch_call_id=one))["batch_call"] for one in scene.ids.values()
        }


MOMENTS = st.one_of(
    st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(datetime.isoformat),
    st.integers(0, 4_000_000_000),
    st.integers(1_000_000_000_000, 4_000_000_000_000),
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "add_tasks": st.lists(st.sampled_from(OTHERS), min_size=1, max_size=2),
    "add_tasks_file": st.just("others.csv"),
    "agent_id": st.sampled_from(
        [zudu.AGENT, magpipe.AGENT, vapi.ASSISTANT, elevenlabs.AGENT, bland.PATHWAY, "agent_x"]
    ),
    "columns": st.sampled_from([{"to_number": "phone"}, {"who": "phone"}]),
    "default_region": st.sampled_from(["us", "DE"]),
    "ends_at": st.sampled_from(["2100-01-02", "2100-01-02T09:00-05:00"]),
    "first": st.integers(1, 3),
    "from_number": st.sampled_from([FROM, "+14155550111"]),
    "header_row": st.sampled_from([1, 2]),
    "idempotency_key": st.sampled_from(["one", "two"]),
    "max_concurrency": st.integers(1, 50),
    "name": st.text(min_size=1, max_size=10),
    "number_column": st.just("phone"),
    "retry": st.sampled_from([{"max_retries": 2, "after_minutes": 10}, {"max_retries": 0}]),
    "rows": st.sampled_from(["1", "2", "1-2"]),
    "send_now": st.booleans(),
    "sheet": st.just("S"),
    "status": st.sampled_from(["draft", "scheduled"]),
    "task_status": st.lists(st.sampled_from(["busy", "failed", "not_reached", "pending", "completed"]), min_size=1),
    "tasks": st.lists(st.sampled_from(OTHERS), min_size=1, max_size=2),
    "tasks_file": st.just("others.csv"),
    "tasks_from": st.sampled_from([{}, {"task_status": ["not_reached"]}, {"task_status": ["completed", "pending"]}]),
    "timezone": st.sampled_from(["America/New_York", "UTC"]),
    "timezones": st.sampled_from([["America/New_York"], ["Europe/Berlin", "America/New_York"]]),
    "trigger_timestamp": st.one_of(st.just("now"), st.just("2100-01-01"), MOMENTS),
    "window": st.sampled_from([NEW_YORK_DAY, {**NEW_YORK_DAY, "timezone": "UTC"}, {"start": "00:00", "end": "24:00"}]),
}
LAUNCHING = {
    "create_batch_call": {"from_number", "tasks"},
    "start_batch_call": {"trigger_timestamp"},
    "update_batch_call": set[str](),
    "resume_batch_call": set[str](),
    "retry_batch_call": set[str](),
}
"""Every tool that can launch, and which arguments its calls always have here."""
CLIENTS: dict[str, tuple[Era, Person | None, Confirm]] = {
    "cannot ask": ("auto", None, "auto"),
    "gets codes": ("auto", None, "code"),
    "declines": ("auto", Person("no"), "auto"),
    "dismisses": ("legacy", Person("dismiss"), "auto"),
    "has a wrong code": ("auto", None, "code"),
}


@dataclass(frozen=True)
class Try:
    """One call without a yes. `which` picks one of the scene's batch calls."""

    client: str
    tool: str
    which: int
    arguments: dict[str, Any]


@st.composite
def tries(draw: st.DrawFn, offered: dict[str, set[str]]) -> Try:
    """A tool that the backend has, with some of the arguments that it takes there; few of them are creates, which make
    drafts, and many are updates, which can do most. Where there are none, a create says when it dials.
    """
    updates = ["update_batch_call"] if "update_batch_call" in offered else []
    often = [tool for tool in sorted(offered) if tool != "create_batch_call"] if updates else []
    tool = draw(st.sampled_from([*sorted(offered), *often, *updates, *updates]))
    always = set(LAUNCHING[tool]) | (set() if updates else {"agent_id", "trigger_timestamp"} & offered[tool])
    others = sorted(offered[tool] - always)
    more = draw(st.sets(st.sampled_from(others), min_size=not always, max_size=3)) if others else set()
    if "tasks_from" in more:
        always -= {"tasks"}
    arguments = {name: draw(VALUES[name]) for name in sorted(always | more)}
    return Try(draw(st.sampled_from(sorted(CLIENTS))), tool, draw(st.integers(0, 5)), arguments)


async def offered_by(backend: str) -> dict[str, set[str]]:
    """The launching tools of a backend, and what of them is combined."""
    account = {"url": "http://127.0.0.1:9", "api_key": zudu.KEY, "api_secret": zudu.SECRET}
    async with playing("auto", None, backend=backend, **account) as model:
        tools = (await model.client.list_tools()).tools
    return {
        one.name: one.input_schema["properties"].keys() - {"batch_call_id", "confirmation_code"}
        for one in tools
        if one.name in LAUNCHING
    }


def asks_to_dial(one: Recorded) -> bool:
    """Whether a request has words in it that a backend's documents call a launch, now or later."""
    said = one.json or {}
    if one.path == "/batch-calls":
        draft = said["action"] == "create" and (said["status"], said["send_now"]) == ("draft", False)
        changed = said["action"] == "update" and not {"status", "send_now", "scheduled_at"} & said.keys()
        return not draft and not changed
    if one.path.endswith(("/execute", "/resume", "/retry")) or said.get("send_now"):
        return True
    if said.get("status") == "draft" or one.path.endswith("/tasks"):  # whether who is added is called, `launched` says
        return False
    return one.method in {"POST", "PUT"} or bool({"status", "trigger_timestamp", "trigger_date"} & said.keys())


async def launched(scene: Scene, model: Model) -> dict[str, Any]:
    """All that is not a draft, as far as it says whom it calls and when."""
    listed = (await model.call("list_batch_calls", limit=100))["batch_calls"]
    others = [one["batch_call_id"] for one in listed if one["status"] != "draft"]
    shown = [await model.call("get_batch_call", batch_call_id=one) for one in {*others, *scene.ids.values()}]
    found = {}
    for one in shown:
        said = one["batch_call"]
        told = {
            name: said.get(name) for name in ("status", "scheduled_at", "from_number", "window", "retry", "agent_id")
        }
        if said["status"] != "paused":  # who is added there waits for the yes to its resume
            told["tasks"] = [(task["to_number"], task.get("status")) for task in one.get("tasks", [])]
        if said["status"] != "draft":
            found[said["batch_call_id"]] = told
    return found


SCENES_TRIED = 12 if EVERYTHING else 1
TRIES = 50
"""In each scene."""


@pytest.mark.sweep
@pytest.mark.parametrize("backend", ["zudu", "magpipe", "vapi", "elevenlabs", "bland", "batchcall"])
def test_no_combination_of_arguments_dials_without_a_yes(backend: str, tmp_path: Path) -> None:
    """Drafts may be made and changed, and anything may be made a draft; what is launched stays as it was."""
    (tmp_path / "others.csv").write_text("phone\n" + "".join(f"{one}\n" for one in STRANGERS))
    needed_a_yes: set[str] = set()
    offered = anyio.run(offered_by, backend)

    # Not shrunk: each example takes seconds, and says itself which call it was.
    @settings(
        max_examples=1 + SCENES_TRIED,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
    )
    @given(st.lists(tries(offered), min_size=TRIES, max_size=TRIES))
    def combinations(chosen: list[Try]) -> None:
        if len({repr(one) for one in chosen}) > 1:  # the first example is the simplest one: the same call each time
            anyio.run(tried, chosen)

    async def tried(chosen: list[Try]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            needed_a_yes.update(await _tried(backend, chosen, Path(folder), tmp_path))

    combinations()
    assert needed_a_yes, "mere refusals would prove nothing"


async def _tried(backend: str, chosen: list[Try], folder: Path, files: Path) -> set[str]:
    """Which tools would have launched something, had anybody said yes."""
    needed_a_yes: set[str] = set()
    async with SCENES[backend][0](folder) as scene, AsyncExitStack() as stack:
        assert scene.writes is not None
        account = scene.variables | {"data_dir": folder, "files": files}
        models = {
            name: await stack.enter_async_context(playing(era, person, **account | {"confirm": confirm}))
            for name, (era, person, confirm) in CLIENTS.items()
        }
        mute = models["cannot ask"]
        ids = [scene.ids[state] for state in sorted(scene.ids)]
        before, dialled, sent = await launched(scene, mute), list(scene.dialled()), len(scene.writes())
        codes: list[tuple[str, str | None, str]] = []
        for one in chosen:
            target = None if one.tool == "create_batch_call" else ids[one.which % len(ids)]
            arguments = one.arguments | ({"batch_call_id": target} if target else {})
            if "tasks_from" in arguments:
                arguments["tasks_from"] = arguments["tasks_from"] | {"batch_call_id": ids[one.which % len(ids)]}
            if one.client == "has a wrong code":
                others = [code for tool, batch_call_id, code in codes if (tool, batch_call_id) != (one.tool, target)]
                arguments["confirmation_code"] = others[-1] if others else "AAAAAAAA"
            told = f"{one.client}: {one.tool} {arguments}"
            result = await models[one.client].client.call_tool(one.tool, arguments)
            answer = result.structured_content or {}
            if "confirmation_code" in answer:
                codes.append((one.tool, target, answer["confirmation_code"]))
            if answer.get("result") in WAITING or "[not_confirmed]" in str(result.content):
                needed_a_yes.add(one.tool)
            assert [write for write in scene.writes()[sent:] if asks_to_dial(write)] == [], told
            assert list(scene.dialled()) == dialled, told
        after = await launched(scene, mute)
        scene.later()
        # Only the one that was confirmed, to the people that were confirmed; or nobody, where it was taken back.
        assert scene.dialled()[len(dialled) :] in ([], PEOPLE)
    assert after.items() <= before.items(), "what is gone became a draft"
    return needed_a_yes


class Silent(Person):
    """Sees the question, and never answers."""

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        self.questions.append(params.message)
        await anyio.Event().wait()
        raise AssertionError("nobody sets it")


@asynccontextmanager
async def a_stored_draft(tmp_path: Path) -> AsyncIterator[tuple[Zudu, dict[str, Any], dict[str, str | Path]]]:
    """A vendor with a draft, the arguments that start it, and the variables of a server on it."""
    vendor = Zudu()
    tasks = [zudu.Task(f"task_{at}", one, {}) for at, one in enumerate(PEOPLE)]
    vendor.batches["bc_1"] = zudu.Batch("bc_1", "org_first", vendor.now, {"from_number": FROM}, "DRAFT", None, tasks)
    async with vendor.served() as url:
        account: dict[str, str | Path] = {"backend": "zudu", "url": url, "data_dir": tmp_path}
        account |= {"api_key": zudu.KEY, "api_secret": zudu.SECRET}
        yield vendor, {"batch_call_id": "bc_1", "trigger_timestamp": "now"}, account
    assert vendor.writes == []
    assert vendor.dialled == []


async def test_a_client_that_waits_and_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elicitation, "LONGEST_WAIT_S", 0.01)
    async with (
        a_stored_draft(tmp_path) as (_, launch, account),
        playing("legacy", person := Silent(), **account) as model,
    ):
        with anyio.fail_after(60):
            text = await model.refused("start_batch_call", "not_confirmed", **launch)
    assert len(person.questions) == 1
    assert "Nobody answered the question after 0.0 s. Nothing was sent." in text
    assert "If no person saw a question, this client answers by itself" in text
    assert "confirmation_code" not in text


async def test_a_client_that_gets_a_question_as_its_result_and_never_comes_back(tmp_path: Path) -> None:
    """Nothing waits for it: whoever calls next is asked like the first one."""
    async with a_stored_draft(tmp_path) as (_, launch, account), playing("auto", Silent(), **account) as model:
        asked = [await sent(model, launch) for _ in range(2)]
    for one in asked:
        assert isinstance(one, InputRequiredResult)
        assert "Call 3 people (United States) now" in str(one.input_requests)


async def test_a_client_that_answers_no_and_then_yes_to_the_same_question(tmp_path: Path) -> None:
    async with a_stored_draft(tmp_path) as (_, launch, account), playing("auto", Silent(), **account) as model:
        asked = await sent(model, launch)
        for action in ("decline", "accept"):
            answered = await sent(model, launch, asked, action)
            assert isinstance(answered, CallToolResult)
            assert answered.is_error, answered
            assert "[not_confirmed]" in str(answered.content)


async def test_a_client_that_brings_an_answer_to_a_question_of_another_server(tmp_path: Path) -> None:
    """Of one whose ledger is another: what seals its questions is another key."""
    async with a_stored_draft(tmp_path) as (_, launch, account), AsyncExitStack() as stack:
        models = [
            await stack.enter_async_context(playing("auto", Silent(), **account | {"data_dir": tmp_path / folder}))
            for folder in ("one", "two")
        ]
        asked = await sent(models[0], launch)
        with pytest.raises(MCPError, match="requestState"):
            await sent(models[1], launch, asked, "accept")


async def sent(
    model: Model, launch: dict[str, Any], asked: CallToolResult | InputRequiredResult | None = None, action: Any = None
) -> CallToolResult | InputRequiredResult:
    """A start in the test's own hands: alone, or with an answer to an earlier question."""
    answer: dict[str, Any] = {}
    if asked is not None:
        assert isinstance(asked, InputRequiredResult)
        given = ElicitResult(action=action, content={"confirm": True} if action == "accept" else None)
        answer = {"input_responses": {"confirm": given}, "request_state": asked.request_state}
    result: CallToolResult | InputRequiredResult = await model.client.session.call_tool(
        "start_batch_call", launch, allow_input_required=True, **answer
    )
    return result


async def test_a_client_that_sends_two_answers_to_a_question_that_is_waited_for(tmp_path: Path) -> None:
    """A no, and a yes at its heels, over the wire: the first one counts."""
    async with a_stored_draft(tmp_path) as (_, launch, account):
        environment = {f"BATCHCALL_{name.upper()}": str(value) for name, value in account.items()}
        with anyio.fail_after(30):
            async with await anyio.open_process(
                forked.program(), env=dict(os.environ) | environment, cwd=ROOT, stderr=None
            ) as process:
                assert process.stdin is not None
                assert process.stdout is not None
                lines = BufferedByteReceiveStream(process.stdout)

                async def say(*messages: dict[str, Any]) -> None:
                    text = "".join(json.dumps({"jsonrpc": "2.0", **one}) + "\n" for one in messages)
                    await process.stdin.send(text.encode())  # type: ignore[union-attr]  # see above

                async def hear() -> dict[str, Any]:
                    heard: dict[str, Any] = json.loads(await lines.receive_until(b"\n", 1_000_000))
                    return heard

                able = {"protocolVersion": "2025-11-25", "capabilities": {"elicitation": {}}}
                client = {"clientInfo": {"name": "test", "version": "1"}}
                await say({"id": 1, "method": "initialize", "params": able | client})
                assert (await hear())["id"] == 1
                call = {"name": "start_batch_call", "arguments": launch}
                await say({"method": "notifications/initialized"}, {"id": 2, "method": "tools/call", "params": call})
                asked = await hear()
                assert asked["method"] == "elicitation/create"
                await say(
                    {"id": asked["id"], "result": {"action": "decline"}},
                    {"id": asked["id"], "result": {"action": "accept", "content": {"confirm": True}}},
                )
                told = await hear()
                assert told["id"] == 2
                assert told["result"]["isError"] is True
                assert "[not_confirmed] The client answered no" in str(told["result"]["content"])
                await say({"id": 3, "method": "ping"})
                assert await hear() == {"jsonrpc": "2.0", "id": 3, "result": {}}
                await process.stdin.aclose()


@pytest.mark.parametrize("confirm", ["auto", "person"])
async def test_a_handshake_era_client_on_stateless_http_cannot_be_asked_and_is_told_how(
    confirm: str, tmp_path: Path
) -> None:
    """It says that it can show questions; there is no way to put one to it."""
    person = Person("yes")
    async with a_stored_draft(tmp_path) as (_, launch, account):
        environment = {f"BATCHCALL_{name.upper()}": str(value) for name, value in account.items()}
        environment["BATCHCALL_CONFIRM"] = confirm
        headers = {"X-API-KEY": zudu.KEY, "X-API-SECRET": zudu.SECRET}
        async with connected(
            Way("stateless", "legacy"), environment, headers=headers, elicitation_callback=person
        ) as client:
            result = await client.call_tool("start_batch_call", launch)
    assert person.questions == []
    answer = result.structured_content or {}
    assert "Call 3 people" in answer["summary"]
    assert answer["result"] == "waiting_for_person"
    assert "`batchcall-mcp approve` in a terminal on the machine of this server" in answer["notes"][0]
    assert "next" not in answer
