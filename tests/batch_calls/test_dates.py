"""A launch on a date and with an end, from a model's call to the dialer; a server that keeps none gets none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fastapi import FastAPI, Request

from batchcall_mcp.backends.base import At
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.rest_api import requests
from batchcall_mcp.guard.delivery.effect_evidence import is_as_left, took_effect
from batchcall_mcp.guard.fingerprints import fingerprint
from batchcall_mcp.guard.write_record import Entry, Evidence, WriteState
from batchcall_mcp.model import BatchCall, BatchCallRequest, BatchStatus, CallTask
from tests.guard.test_binding import CURRENT, bound
from tests.vendors.serving import listening
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Model, Person, number, playing

HERE = number(NEW_YORK, 0)
FRIDAY = date(2026, 11, 27)


@cache
def in_days(days: int) -> str:
    return str(datetime.now(UTC).date() + timedelta(days=days))


@asynccontextmanager
async def drafted(folder: Path, person: Person, **variables: str) -> AsyncIterator[tuple[Model, dict[str, str]]]:
    async with playing("auto", person, data_dir=folder, simulated_speed="2000", **variables) as model:
        made = await model.call(
            "create_batch_call",
            from_number=FROM,
            tasks=[{"to_number": HERE}, {"to_number": "+442079460106"}],
            timezone="Europe/Berlin",
            window=ALWAYS,
        )
        yield model, {"batch_call_id": made["batch_call"]["batch_call_id"]}


async def test_an_end_is_given_when_it_is_made_changed_and_started(tmp_path: Path) -> None:
    person = Person("yes")
    async with drafted(tmp_path, person) as (model, one):
        made = await model.call(
            "create_batch_call", from_number=FROM, tasks=[{"to_number": HERE}], ends_at=in_days(5), window=ALWAYS
        )
        assert made["batch_call"]["expires_on"] == in_days(5)
        changed = await model.call("update_batch_call", **one, ends_at="2099-11-30T18:00", timezone="Europe/Berlin")
        assert changed["batch_call"]["expires_at"] == "2099-11-30T17:00:00Z", "18:00 in Berlin"
        assert "ends_at" in changed["changed"]
        assert person.questions == []
        started = await model.call("start_batch_call", **one, trigger_timestamp=in_days(3), ends_at=in_days(4))
        assert (started["batch_call"]["scheduled_on"], started["batch_call"]["expires_on"]) == (in_days(3), in_days(4))
        [question] = person.questions
        assert " from " in question
        assert "Who is not dialled by the end of" in question


async def test_a_time_without_an_offset_is_in_the_zone_of_the_call_else_of_the_batch_call(tmp_path: Path) -> None:
    async with drafted(tmp_path, Person("yes")) as (model, one):
        for zone, hour in (({"timezone": "Asia/Tokyo"}, 0), ({}, 8)):
            started = await model.call("start_batch_call", **one, trigger_timestamp="2099-11-27T09:00", **zone)
            assert started["batch_call"]["scheduled_at"] == f"2099-11-27T0{hour}:00:00Z"
        await model.refused("start_batch_call", "invalid_input", **one, trigger_timestamp="2026-02-30")


async def test_moved_to_a_date_and_back_to_a_moment_it_says_so(tmp_path: Path) -> None:
    person = Person("yes")
    async with drafted(tmp_path, person) as (model, one):
        await model.call("start_batch_call", **one, trigger_timestamp=in_days(3))
        moved = await model.call("update_batch_call", **one, trigger_timestamp=in_days(4))
        assert moved["changed"]["trigger_timestamp"] == [in_days(3), in_days(4)]
        assert f"it was scheduled for {in_days(3)} (each person's own date)" in person.questions[-1]
        later = await model.call("start_batch_call", **one, trigger_timestamp="2099-11-27T09:00Z")
        assert later["batch_call"].keys() & {"scheduled_on", "expires_on", "expires_at"} == set()


async def test_a_date_on_which_somebody_can_be_called_at_once_leaves_time_to_think_again(tmp_path: Path) -> None:
    person = Person("yes")
    zone = next(one for one in ("UTC", "Etc/GMT+10") if datetime.now(ZoneInfo(one)).hour < 20)
    tasks = [{"to_number": HERE, "timezone": zone}]
    async with drafted(tmp_path, person, undo_seconds="3600") as (model, later):
        made = await model.call("create_batch_call", from_number=FROM, tasks=tasks, window=ALWAYS)
        one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        today = datetime.now(ZoneInfo(zone)).date()
        started = await model.call("start_batch_call", **one, trigger_timestamp=str(today))
        assert started["result"] == "scheduled"
        assert "3,600 seconds after your yes" in person.questions[0]
        begins = datetime.fromisoformat(started["batch_call"]["scheduled_at"])
        assert begins > datetime.now(UTC) + timedelta(minutes=50)
        cancelled = await model.call("cancel_batch_call", **one)
        assert cancelled["batch_call"]["status"] == "cancelled"
        await model.call("start_batch_call", **later, trigger_timestamp=in_days(3))
        assert "after your yes" not in person.questions[1]


async def test_the_limit_of_a_day_counts_the_date_that_was_named(tmp_path: Path) -> None:
    async with drafted(tmp_path, Person("yes"), max_calls_per_day="3") as (model, one):
        await model.call("start_batch_call", **one, trigger_timestamp=in_days(3))
        other = await model.call(
            "create_batch_call", from_number=FROM, tasks=[{"to_number": number(NEW_YORK, at)} for at in (1, 2)]
        )
        two = {"batch_call_id": other["batch_call"]["batch_call_id"]}
        text = await model.refused("start_batch_call", "invalid_input", **two, trigger_timestamp=in_days(3))
        assert f"2 calls and 2 of other launches on {in_days(3)} (UTC)" in text
        await model.call("start_batch_call", **two, trigger_timestamp=in_days(4))


async def test_a_call_back_after_the_end_names_the_task(tmp_path: Path) -> None:
    async with drafted(tmp_path, Person("yes")) as (model, _):
        tasks = [{"to_number": "+442079460106"}, {"to_number": HERE, "not_before": f"{in_days(5)}T12:00Z"}]
        text = await model.refused(
            "create_batch_call", "invalid_input", from_number=FROM, tasks=tasks, ends_at=in_days(4)
        )
        assert "task 2 (" in text
        made = await model.call("create_batch_call", from_number=FROM, tasks=tasks)
        one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        text = await model.refused("start_batch_call", "invalid_input", **one, trigger_timestamp=in_days(4))
        assert "task 2 (" in text


class Plain:
    """A server of the plain batch-call REST API: it takes any field, and knows nothing of dates."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.bodies: list[Any] = []
        self.app.add_api_route("/batch-call", self.create, methods=["POST"])
        self.app.add_api_route("/batch-call/{batch_call_id}", self.read, methods=["GET", "PATCH"])

    async def create(self, request: Request) -> Any:
        self.bodies.append(await request.json())
        return {"data": {"batch_call_id": "bc_1", "status": "draft"}}

    async def read(self, batch_call_id: str, request: Request) -> Any:
        if request.method == "PATCH":
            self.bodies.append(await request.json())
        return {"data": {"batch_call_id": batch_call_id, "status": "draft", "from_number": FROM, "total": 1}}


async def test_a_server_that_does_not_say_that_it_keeps_dates_gets_none(tmp_path: Path) -> None:
    plain = Plain()
    async with listening(plain.app) as url:
        account = {"backend": "batchcall", "url": url, "api_key": "key", "api_secret": "secret"}
        async with playing("auto", Person("yes"), data_dir=tmp_path, **account) as model:
            dated = {"from_number": FROM, "tasks": [{"to_number": HERE, "not_before": "2099-01-01T00:00Z"}]}
            await model.refused("create_batch_call", "not_supported", **dated)
            await model.refused("create_batch_call", "not_supported", from_number=FROM, tasks=[{"to_number": HERE}],
                                ends_at="2099-01-01")  # fmt: skip
            await model.refused("update_batch_call", "not_supported", batch_call_id="bc_1", ends_at="2099-01-01")
            assert plain.bodies == []
            await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": HERE}])
            assert set(plain.bodies[0]) == {"from_number", "tasks", "status", "send_now"} | plain.bodies[0].keys() & {
                "name"
            }


@pytest.mark.parametrize(
    "changes",
    [
        {"request": BatchCallRequest(trigger_on=FRIDAY)},
        {"request": BatchCallRequest(ends_on=FRIDAY)},
        {"request": BatchCallRequest(ends_at=datetime(2026, 11, 27, tzinfo=UTC))},
        {"current": replace(CURRENT, scheduled_on=FRIDAY)},
        {"current": replace(CURRENT, expires_on=FRIDAY)},
        {"current": replace(CURRENT, expires_at=datetime(2026, 11, 27, tzinfo=UTC))},
        {"current": replace(CURRENT, first=20)},
        {"called": (CallTask(to_number=HERE, not_before=datetime(2026, 11, 27, tzinfo=UTC)),)},
    ],
)
def test_a_yes_is_bound_to_dates_ends_and_call_backs(changes: dict[str, Any]) -> None:
    plain = {"request": BatchCallRequest(), "called": (CallTask(to_number=HERE),)}
    assert bound(**(plain | changes)).text != bound(**plain).text


def test_what_has_no_date_is_known_again_as_earlier_versions_recorded_it() -> None:
    """The digest of a write whose answer was lost before an update must be the same after it."""
    request = BatchCallRequest(from_number=FROM, send_now=True, tasks=(CallTask(to_number=HERE),))
    before = "164aaf6cbacdf4b8376d020b66b2d254a320e0fc"
    assert fingerprint(Operation.CREATE, request)[:40] == before


def test_a_launch_on_a_date_whose_answer_was_lost_is_seen_at_the_backend() -> None:
    entry = Entry.__new__(Entry)
    values = {
        "operation": Operation.START,
        "evidence": Evidence(trigger_on="2026-11-27"),
        "status": "scheduled",
        "state": WriteState.DONE,
    }
    for name, value in values.items():
        object.__setattr__(entry, name, value)
    current = BatchCall(batch_call_id="bc_1", status=BatchStatus.SCHEDULED, scheduled_on=FRIDAY)
    assert took_effect(entry, current)
    assert is_as_left(entry, current)
    other = replace(current, scheduled_on=date(2026, 11, 28))
    assert not took_effect(entry, other)
    assert not is_as_left(entry, other)


def test_a_replacement_keeps_the_date_and_the_end_that_it_does_not_change() -> None:
    current = BatchCall(
        batch_call_id="bc_1", status=BatchStatus.SCHEDULED, from_number=FROM, scheduled_on=FRIDAY, expires_on=FRIDAY,
        scheduled_at=datetime(2026, 11, 27, 9, tzinfo=UTC),
    )  # fmt: skip
    people = (CallTask(to_number=HERE),)
    method, body = requests.update_call(current, BatchCallRequest(tasks=people), extended=True, patches_tasks=False)
    assert method == "PUT"
    assert (body["trigger_date"], body["expires_date"], "trigger_timestamp" in body) == (
        "2026-11-27",
        "2026-11-27",
        False,
    )
    moved = BatchCallRequest(tasks=people, trigger_at=datetime(2026, 11, 28, 9, tzinfo=UTC))
    _, body = requests.update_call(current, moved, extended=True, patches_tasks=False)
    assert not {"trigger_date", "expires_date"} & body.keys()


def test_a_date_counts_for_its_own_day_whatever_the_time() -> None:
    assert At.date(FRIDAY).counts_at(datetime(2026, 11, 28, 9, tzinfo=UTC)).date() == FRIDAY
