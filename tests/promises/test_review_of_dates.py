"""An attack on dates, ends, call-backs and additions: no yes is stretched, no date moved, no end passed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.rest_api import requests
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.guard.delivery.effect_evidence import is_as_left, took_effect
from batchcall_mcp.guard.write_record import Entry, Evidence, WriteState
from batchcall_mcp.model import BatchCall, BatchCallRequest, BatchStatus, CallTask
from tests.kills.scenes import Front
from tests.vendors.serving import listening
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Model, Person, dials, number, numbers, playing

FRIDAY = date(2026, 11, 27)
LAST_ZONE = "Etc/GMT+10"
"""Where the date of today in UTC is never over."""


@asynccontextmanager
async def talking(folder: Path, person: Person, **variables: str) -> AsyncIterator[Model]:
    async with playing("auto", person, data_dir=folder, simulated_speed="2000", **variables) as model:
        yield model


def test_a_batch_call_that_is_made_for_a_date_keeps_it_while_it_can_be_undone() -> None:
    """The moment of the undo went out in the place of the date: everybody would be called then, whatever their date."""
    undo = datetime(2026, 11, 27, 9, 1, tzinfo=UTC)
    people = (CallTask(to_number=number(NEW_YORK, 0)),)
    body = requests.create_body(
        BatchCallRequest(from_number=FROM, tasks=people, trigger_on=FRIDAY, trigger_at=undo), extended=True
    )
    assert (body["status"], body.get("trigger_date")) == ("scheduled", "2026-11-27")
    assert body["trigger_timestamp"] == int(undo.timestamp() * 1000)


async def test_a_start_of_the_first_people_on_a_date_calls_them_and_pauses(tmp_path: Path) -> None:
    """A date made the dialer forget for how many people the launch was: the question named 2, and all were called."""
    person = Person("yes")
    async with talking(tmp_path, person) as model:
        tasks = [{"to_number": one, "timezone": LAST_ZONE} for one in numbers(5)]
        made = await model.call("create_batch_call", from_number=FROM, tasks=tasks, window=ALWAYS)
        one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        in_three_days = str(datetime.now(UTC).date() + timedelta(days=3))
        started = await model.call("start_batch_call", **one, trigger_timestamp=in_three_days, first=2)
        assert "Call 2 of 5 people" in person.questions[0]
        assert (started["batch_call"]["scheduled_on"], started["batch_call"].get("first")) == (in_three_days, 2)
    assert not dials(tmp_path)


def test_a_replacement_says_the_date_and_the_moment_of_the_undo() -> None:
    current = BatchCall(batch_call_id="bc_1", status=BatchStatus.DRAFT, from_number=FROM)
    undo = datetime(2026, 11, 27, 9, 1, tzinfo=UTC)
    request = BatchCallRequest(
        tasks=(CallTask(to_number=number(NEW_YORK, 0)),),
        status=BatchStatus.SCHEDULED,
        trigger_on=FRIDAY,
        trigger_at=undo,
    )
    method, body = requests.update_call(current, request, extended=True, patches_tasks=False)
    assert (method, body["trigger_date"]) == ("PUT", "2026-11-27")
    assert body["trigger_timestamp"] == int(undo.timestamp() * 1000)


def _entry(evidence: Evidence) -> Entry:
    entry = Entry.__new__(Entry)
    values = {"operation": Operation.START, "evidence": evidence, "status": "scheduled", "state": WriteState.UNKNOWN}
    for name, value in values.items():
        object.__setattr__(entry, name, value)
    return entry


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        ({"ends_on": "2026-11-27"}, {"expires_on": FRIDAY}),
        (
            {"ends_at": int(datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp() * 1000)},
            {"expires_at": datetime(2026, 11, 27, 12, tzinfo=UTC)},
        ),
        ({"first": 20}, {"first": 20}),
    ],
)
def test_a_launch_whose_answer_was_lost_is_not_seen_without_its_end(
    wanted: dict[str, Any], shown: dict[str, Any]
) -> None:
    """It was scheduled for that date before: that alone does not show that the new end, or `first`, has arrived."""
    entry = _entry(Evidence(trigger_on="2026-11-27", **wanted))
    before = BatchCall(
        batch_call_id="bc_1",
        status=BatchStatus.SCHEDULED,
        scheduled_on=FRIDAY,
        expires_on=date(2026, 11, 30),
        expires_at=datetime(2026, 12, 1, tzinfo=UTC),
    )
    assert not took_effect(entry, before)
    assert not is_as_left(entry, before)
    after = replace(before, **({"expires_on": None} | shown))
    assert took_effect(entry, after)
    assert is_as_left(entry, after)


async def test_the_question_says_that_an_end_goes(tmp_path: Path) -> None:
    """An end that was given and is the date itself goes with the date: people were called after it without a word."""
    person = Person("yes")
    async with talking(tmp_path, person) as model:
        last = str(datetime.now(UTC).date() + timedelta(days=3))
        made = await model.call(
            "create_batch_call", from_number=FROM, tasks=[{"to_number": number(NEW_YORK, 0)}], ends_at=last
        )
        one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await model.call("start_batch_call", **one, trigger_timestamp=last)
        assert "Change" not in person.questions[-1]
        moved = await model.call("start_batch_call", **one, trigger_timestamp="2099-11-27T09:00Z")
        assert "expires_at" not in moved["batch_call"]
        assert f"Change: end none instead of {last} (each person's own date)." in person.questions[-1]
        await model.call("start_batch_call", **one, trigger_timestamp=last)
        await model.call("update_batch_call", **one, trigger_timestamp="2099-11-28T09:00Z")
        assert f"end none instead of {last} (each person's own date)" in person.questions[-1]


async def test_an_addition_with_another_promise_is_not_the_same_addition(tmp_path: Path) -> None:
    """It answered "an equal call added them", and whoever was promised a call-back was called before it."""
    person = Person("yes")
    async with talking(tmp_path, person) as model:
        made = await model.call(
            "create_batch_call", from_number=FROM, tasks=[{"to_number": number(NEW_YORK, 0)}], window=ALWAYS
        )
        one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await model.call("start_batch_call", **one, trigger_timestamp="2099-11-27T09:00Z")
        bob = {"to_number": number(NEW_YORK, 1)}
        assert (await model.call("update_batch_call", **one, add_tasks=[bob]))["result"] == "added"
        assert (await model.call("update_batch_call", **one, add_tasks=[bob]))["replayed"]
        promised = {**bob, "not_before": "2099-11-28T09:00Z"}
        again = await model.call("update_batch_call", **one, add_tasks=[promised])
        assert (again["result"], again["skipped_rows"][0]["kind"]) == ("nothing_to_do", "already_there")


async def test_a_lost_end_is_not_reported_as_done(tmp_path: Path) -> None:
    """The batch call was scheduled for that date before, so its start with an earlier end seemed to have arrived."""
    dialer = EmbeddedDialer(tmp_path / "dialer", simulated_speed=2000)
    await dialer.start()
    front = Front(dialer.app, lambda method, _path, _body: method == "PATCH", lambda: None)
    key, secret = dialer.credentials
    account = {"backend": "batchcall", "api_key": key, "api_secret": secret}
    first, last = (str(datetime.now(UTC).date() + timedelta(days=days)) for days in (3, 5))
    try:
        async with listening(front) as url, talking(tmp_path, Person("yes"), url=url, **account) as model:
            made = await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": number(NEW_YORK, 0)}])
            one = {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": first}
            await model.call("start_batch_call", **one, ends_at=last)
            front.trouble = "never carried out"
            await model.refused("start_batch_call", "outcome_unknown", **one, ends_at=first)
            again = await model.call("start_batch_call", **one, ends_at=first)
            assert again["batch_call"]["expires_on"] == first
    finally:
        await dialer.aclose()


@pytest.mark.parametrize("promised", ["2099-11-28", "2099-11-28T15:00", "20991128"])
async def test_a_promise_is_on_the_clock_of_the_person_or_says_which(promised: str, tmp_path: Path) -> None:
    """15:00 was read in the zone of the batch call, Berlin: 9 in the morning in New York. Files refused it already."""
    async with talking(tmp_path, Person("yes")) as model:
        tasks = [{"to_number": number(NEW_YORK, 0), "not_before": promised}]
        text = await model.refused(
            "create_batch_call", "invalid_input", from_number=FROM, tasks=tasks, timezone="Europe/Berlin"
        )
        assert "not_before" in text
