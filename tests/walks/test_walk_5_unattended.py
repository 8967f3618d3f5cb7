"""Walk 5: every day at 14:00, no person there. Nothing dials that the operator did not choose to let through."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest

from tests.vendors import zudu
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Era, Model, Person, dials, every_era, number, playing

PEOPLE = [number(NEW_YORK, line) for line in range(4)]
TASKS = [{"to_number": one} for one in PEOPLE]
LIST = {"from_number": FROM, "tasks": TASKS, "window": ALWAYS}


async def draft(model: Model, **others: Any) -> str:
    made = await model.call("create_batch_call", **LIST, **others)
    name: str = made["batch_call"]["batch_call_id"]
    return name


async def watched(model: Model, batch_call_id: str) -> str:
    with anyio.fail_after(30):
        answer = await model.call("watch_batch_call", batch_call_id=batch_call_id, timeout_seconds=15)
    return str(answer["batch_call"]["status"])


@every_era
@pytest.mark.parametrize("answer", ["no", "dismiss"])
async def test_a_client_that_answers_by_itself_launches_nothing_and_the_text_names_the_way_forward(
    era: Era, answer: Literal["no", "dismiss"], tmp_path: Path
) -> None:
    async with playing(era, Person(answer), data_dir=tmp_path) as model:
        name = await draft(model)
        # F31: how long the answer took, what that may mean, and who can change it; no code.
        text = await model.refused("start_batch_call", "not_confirmed", batch_call_id=name, trigger_timestamp="now")
        assert re.search(r"after \d+\.\d s\.", text)
        assert "If no person saw a question" in text
        assert "the operator has to use another client" in text
        assert "BATCHCALL_CONFIRM" not in text
        assert "Nothing was sent" in text
        assert "confirmation_code" not in text
        seen = await model.call("get_batch_call", batch_call_id=name)
        assert seen["batch_call"]["status"] == "draft"
    assert dials(tmp_path) == Counter()


@every_era
async def test_code_mode_asks_nobody_although_the_client_can(era: Era, tmp_path: Path) -> None:
    person = Person("no")
    async with playing(era, person, data_dir=tmp_path, confirm="code", simulated_speed="2000") as model:
        name = await draft(model)
        launch = {"batch_call_id": name, "trigger_timestamp": "now"}
        asked = await model.call("start_batch_call", **launch)
        assert asked["result"] == "confirmation_required"
        assert dials(tmp_path) == Counter()
        await model.call("start_batch_call", **launch, confirmation_code=asked["confirmation_code"])
        assert await watched(model, name) == "completed"
    assert person.questions == []
    assert dials(tmp_path) == Counter(PEOPLE)


@every_era
async def test_person_mode_never_gives_the_model_a_code(era: Era, tmp_path: Path) -> None:
    async with playing(era, data_dir=tmp_path, confirm="person") as model:
        name = await draft(model)
        # F32: a mode in which only a person's answer counts.
        for guessed in ({}, {"confirmation_code": "ABCDEFGH"}):
            waiting = await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now", **guessed)
            assert waiting["result"] == "waiting_for_person"
            assert "4 people" in waiting["summary"]
            assert "`batchcall-mcp approve` in a terminal" in waiting["notes"][0]
            assert "confirmation_code" not in waiting
    assert dials(tmp_path) == Counter()


@every_era
async def test_off_lets_a_small_launch_through_and_blocks_what_a_person_would_have_judged(
    era: Era, tmp_path: Path
) -> None:
    off = {"confirm": "off", "max_calls_per_launch": "4", "simulated_speed": "2000"}
    async with playing(era, None, data_dir=tmp_path, **off) as model:
        name = await draft(model)
        # F34: last year's date would mean now; nobody is there to say no.
        past = await model.refused(
            "start_batch_call",
            "not_confirmed",
            batch_call_id=name,
            trigger_timestamp="2025-11-24T09:00-05:00",
        )
        assert "is past" in past
        assert "Nothing was sent" in past
        larger = await model.call(
            "create_batch_call",
            from_number=FROM,
            tasks=[*TASKS, {"to_number": number(NEW_YORK, 10)}],
            window=ALWAYS,
        )
        many = await model.refused(
            "start_batch_call",
            "invalid_input",
            batch_call_id=larger["batch_call"]["batch_call_id"],
            trigger_timestamp="now",
        )
        assert "BATCHCALL_MAX_CALLS_PER_LAUNCH=4" in many
        assert dials(tmp_path) == Counter()
        begun = await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now")
        assert begun["result"] == "started"
        assert await watched(model, name) == "completed"
    assert dials(tmp_path) == Counter(PEOPLE)


@every_era
async def test_off_blocks_what_cannot_be_stopped(era: Era) -> None:
    vendor = Zudu()
    pair = {"api_key": zudu.KEY, "api_secret": zudu.SECRET}
    off = {"confirm": "off", "max_calls_per_launch": "4"}
    async with vendor.served() as url, playing(era, None, backend="zudu", url=url, **pair, **off) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        text = await model.refused(
            "start_batch_call",
            "not_confirmed",
            batch_call_id=made["batch_call"]["batch_call_id"],
            trigger_timestamp="now",
        )
        assert "Cannot be stopped once started" in text
        assert len(vendor.writes) == 1
    assert vendor.dialled == []


@every_era
async def test_a_key_says_whether_a_job_is_the_same_one_and_the_report_finds_todays(era: Era, tmp_path: Path) -> None:
    async with playing(era, data_dir=tmp_path) as model:
        before = datetime.now(UTC)
        # F33: the same key is the same batch call, a new key is meant anew, however alike the lists.
        monday = await draft(model, name="reminders", idempotency_key="reminders-2026-11-23")
        again = await draft(model, name="reminders", idempotency_key="reminders-2026-11-23")
        tuesday = await draft(model, name="reminders", idempotency_key="reminders-2026-11-24")
        assert again == monday
        told = await model.call(
            "create_batch_call", from_number=FROM, tasks=TASKS, name="other", idempotency_key="reminders-2026-11-25"
        )
        assert "replayed" not in told
        told = await model.call(
            "create_batch_call", from_number=FROM, tasks=TASKS, name="other", idempotency_key="reminders-2026-11-25"
        )
        assert told["replayed"] is True
        assert "Nothing was sent by this call" in told["summary"]
        assert tuesday != monday
        # F35: a report asks for what was made since, so that yesterday's is never taken for today's.
        listed = await model.call("list_batch_calls", name_contains="reminders", created_after=before.isoformat())
        assert {one["batch_call_id"] for one in listed["batch_calls"]} == {monday, tuesday}
        later = await model.call("list_batch_calls", created_after="2100-01-01T00:00Z")
        assert "batch_calls" not in later
        # F36: the counts alone.
        counts = await model.call("get_batch_call", batch_call_id=monday, limit=0)
        assert counts["batch_call"]["counts"]["total"] == len(PEOPLE)
        assert "tasks" not in counts
    assert dials(tmp_path) == Counter()


@pytest.mark.parametrize("generation", zudu.GENERATIONS, ids=str)
async def test_a_time_in_the_past_that_a_person_confirmed_means_now(generation: zudu.Generation) -> None:
    vendor, person = Zudu(generation), Person("yes")
    pair = {"api_key": zudu.KEY, "api_secret": zudu.SECRET}
    async with vendor.served() as url, playing("auto", person, backend="zudu", url=url, **pair) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        begun = await model.call(
            "start_batch_call",
            batch_call_id=made["batch_call"]["batch_call_id"],
            trigger_timestamp="2025-11-24T09:00-05:00",
        )
        assert "is past, so this means now" in person.questions[0]
        assert begun["result"] == "started"
    assert vendor.dialled == PEOPLE
