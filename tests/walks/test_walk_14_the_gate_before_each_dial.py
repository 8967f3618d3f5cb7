"""A walk: the operator's own service is asked before each dial and is down for five minutes; and somebody opts out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

import anyio
import pytest

from batchcall_mcp.clock import utc_now
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.storage import api_keys
from batchcall_mcp.dialer.webhooks.predial import PredialUrl
from batchcall_mcp.server.app import build_server
from batchcall_mcp.signed_http.url_policy import WebhookAddresses
from tests.dialer.receiver import Receiver, receiving, status
from tests.dialer.test_predial import NO, SECRET, YES
from tests.server.transports import Way, client_of, served
from tests.vendors.serving import listening
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Model, Person, dials, number, playing, settings_of

Transport: TypeAlias = Literal["stdio", "http"]
both = pytest.mark.parametrize("transport", ["stdio", "http"])


class Later:
    """The time of the machine, moved forward by a test."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


@asynccontextmanager
async def speaking(transport: Transport, url: str, pair: api_keys.KeyPair, data: Path) -> AsyncIterator[Model]:
    """A model at a relay, in front of a standing dialer."""
    person, account = Person("yes"), {"backend": "batchcall", "url": url}
    if transport == "stdio":
        keys = {"api_key": pair.api_key, "api_secret": pair.api_secret}
        async with playing("auto", person, data_dir=data, **account, **keys) as model:
            yield model
        return
    way = Way("http", "auto")
    settings = settings_of({name.upper(): value for name, value in {**account, "data_dir": str(data)}.items()})
    server = build_server(settings, transport="http")
    async with served(server, settings, way=way, authenticate=server.authenticate) as address:
        headers = {"X-API-KEY": pair.api_key, "X-API-SECRET": pair.api_secret}
        async with client_of(address, way, headers=headers, elicitation_callback=person) as client:
            yield Model(client)


@asynccontextmanager
async def standing(
    transport: Transport, folder: Path, clock: Later, gate: Receiver | None = None
) -> AsyncIterator[Model]:
    """A standing dialer, and a model that may use it."""
    addresses = WebhookAddresses(allow_private=True)
    predial = None if gate is None else PredialUrl(gate.url(), SECRET, addresses)
    dialer = EmbeddedDialer(
        folder / "dialer", simulated_speed=2_000, clock=clock, poll_seconds=0.1, predial=predial, late_after=None
    )
    await dialer.start()
    try:
        async with (
            listening(dialer.app) as url,
            speaking(transport, url, dialer.credentials, folder / "relay") as model,
        ):
            yield model
    finally:
        await dialer.aclose()


async def started(model: Model, people: list[str]) -> str:
    """A batch call of these people, confirmed and running."""
    tasks = [{"to_number": one} for one in people]
    made = await model.call("create_batch_call", from_number=FROM, tasks=tasks, window=ALWAYS)
    name = str(made["batch_call"]["batch_call_id"])
    await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now")
    return name


async def shown(model: Model, name: str, reached: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
    """The batch call, as soon as it is so."""
    with anyio.fail_after(30):
        while True:
            found: dict[str, Any] = (await model.call("get_batch_call", batch_call_id=name, limit=0))["batch_call"]
            if reached(found):
                return found
            await anyio.sleep(0.03)


def all_wait_or_over(found: Mapping[str, Any]) -> bool:
    """Whether nothing happens before the clock moves."""
    held = sum(one["calls"] for one in found.get("held_back", []))
    return bool(found["status"] == "completed" or found["counts"]["pending"] == held > 0 == found["counts"]["calling"])


@both
async def test_the_gate_is_down_for_five_minutes(transport: Transport, tmp_path: Path) -> None:
    people, clock = [number(NEW_YORK, line) for line in (0, 1, 2, 3, 4)], Later()
    async with receiving() as gate, standing(transport, tmp_path, clock, gate) as model:
        gate.always = status(503)
        name = await started(model, people)
        while clock.ahead < timedelta(minutes=5):
            found = await shown(model, name, all_wait_or_over)
            assert [(one["reason"], one["calls"]) for one in found["held_back"]] == [("predial", 5)]
            clock.ahead += timedelta(seconds=50)
        await shown(model, name, all_wait_or_over)
        seen = await model.call("watch_batch_call", batch_call_id=name, timeout_seconds=0)
        assert "5 wait for the pre-dial gate, which gives no clear answer" in seen["summary"]
        # Nobody was dialled and nobody was skipped; each waits with the reason.
        waiting = (await model.call("get_batch_call", batch_call_id=name))["tasks"]
        assert {task["status"] for task in waiting} == {"pending"}
        assert all("answered 503" in json.dumps(task) for task in waiting)
        assert dials(tmp_path / "dialer") == Counter()
        gate.replies, gate.always = [NO], YES
        while (found := await shown(model, name, all_wait_or_over))["status"] != "completed":
            clock.ahead += timedelta(minutes=1)
        assert found["counts"]["completed"] == 4
        # One of them was refused, and says why; the others were dialled once.
        [refused] = (await model.call("get_batch_call", batch_call_id=name, task_status=["skipped"]))["tasks"]
        assert "asked us by mail" in json.dumps(refused)
        assert dials(tmp_path / "dialer") == Counter(dict.fromkeys(set(people) - {refused["to_number"]}, 1))


@both
async def test_somebody_opts_out_in_mid_run(transport: Transport, tmp_path: Path) -> None:
    """The batch call that runs finishes, and another one to the same list skips that person."""
    first, them, second, third = (number(NEW_YORK, line) for line in (0, 44, 1, 2))
    async with standing(transport, tmp_path, Later()) as model:
        for people, skipped in (([first, them], []), ([them, second, third], [them])):
            name = await started(model, people)
            await shown(model, name, all_wait_or_over)
            found = await model.call("get_batch_call", batch_call_id=name, task_status=["skipped"])
            assert [task["to_number"] for task in found.get("tasks", [])] == skipped
        assert dials(tmp_path / "dialer") == Counter([first, them, second, third])
