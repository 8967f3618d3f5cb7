"""Attacks on time to think again, on a launch of the first people, and on a test call, as a model would make them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from mcp.types import CallToolResult, ElicitResult, InputRequiredResult

from batchcall_mcp.backends.rest_api import requests
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.guard.preflight import undo
from batchcall_mcp.model import BatchCall, BatchCallRequest, BatchStatus, CallTask
from tests.kills.scenes import Front
from tests.vendors.serving import listening
from tests.walks.stage import ALWAYS, FROM, LOS_ANGELES, NEW_YORK, Model, Person, dials, number, playing

IN_NEW_YORK, IN_LOS_ANGELES = ZoneInfo("America/New_York"), ZoneInfo("America/Los_Angeles")
AREA, ZONE = (NEW_YORK, IN_NEW_YORK) if datetime.now(IN_NEW_YORK).hour < 22 else (LOS_ANGELES, IN_LOS_ANGELES)
"""Where the day lasts for longer than any time to think again: a test at midnight there would be about midnight."""
MINE = number(AREA, 90)
PEOPLE = [number(AREA, line) for line in range(3)]
TASKS = [{"to_number": one, "dynamic_variables": {"name": f"P{at}"}} for at, one in enumerate(PEOPLE)]
OPEN: dict[str, Any] = {"calling_hours": "00:00-24:00", "simulated_speed": "2000", "test_numbers": MINE}


async def draft(model: Model, **more: Any) -> dict[str, Any]:
    made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS, **more)
    return {"batch_call_id": made["batch_call"]["batch_call_id"]}


async def until(model: Model, one: dict[str, Any], *statuses: str) -> dict[str, Any]:
    while (found := (await model.call("get_batch_call", **one))["batch_call"])["status"] not in statuses:
        continue
    return dict(found)


async def on_their_date(model: Model, **start: Any) -> dict[str, Any]:
    """Started for the date that it is where the people are."""
    date = datetime.now(ZONE).date().isoformat()
    return await model.call("start_batch_call", trigger_timestamp=date, **start)


@asynccontextmanager
async def far_away(tmp_path: Path, person: Person, **more: str) -> AsyncIterator[tuple[Front, Model]]:
    """A dialer as a server of its own; the first PATCH gets no answer, and arrives later or never."""
    dialer = EmbeddedDialer(tmp_path / "dialer", simulated_speed=2000, poll_seconds=0.1)
    await dialer.start()
    key, secret = dialer.credentials
    front = Front(dialer.app, lambda method, _path, _body: method == "PATCH", lambda: None, "carried out later")
    account = {"backend": "batchcall", "api_key": key, "api_secret": secret, **OPEN, **more}
    async with (
        listening(front) as url,
        playing("auto", person, url=url, data_dir=tmp_path / "server", **account) as model,
    ):
        yield front, model
    await dialer.aclose()


class TestTheFirstOnly:
    async def test_on_a_date_too(self, tmp_path: Path) -> None:
        """The dialer did not look at `first` where the start names a date: the question said 2, and all rang."""
        person = Person()
        async with playing("auto", person, data_dir=tmp_path, **OPEN) as model:
            one = await draft(model, window=ALWAYS)
            await on_their_date(model, **one, first=2)
            assert "Call 2 of 3 people" in person.questions[-1]
            found = await until(model, one, "paused", "completed")
            assert (found["status"], found["first"]) == ("paused", 2)
        assert dials(tmp_path) == Counter(PEOPLE[:2])

    async def test_with_an_end_too(self, tmp_path: Path) -> None:
        async with playing("auto", Person(), data_dir=tmp_path, **OPEN) as model:
            one = await draft(model)
            end = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
            await model.call("start_batch_call", **one, trigger_timestamp="now", first=2, ends_at=end)
            assert (await until(model, one, "paused", "completed"))["status"] == "paused"
        assert dials(tmp_path) == Counter(PEOPLE[:2])

    async def test_a_resume_within_the_first_calls_all_only_after_a_yes_that_says_so(self, tmp_path: Path) -> None:
        person = Person()
        later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        async with playing("auto", person, data_dir=tmp_path, max_calls_per_launch="2", **OPEN) as model:
            one = await draft(model)
            await model.call("start_batch_call", **one, trigger_timestamp=later, first=2)
            await model.call("pause_batch_call", **one)
            text = await model.refused("resume_batch_call", "invalid_input", **one)
            assert "3 calls are more than BATCHCALL_MAX_CALLS_PER_LAUNCH=2" in text

    async def test_a_change_that_moves_it_is_for_all_and_counts_as_all(self, tmp_path: Path) -> None:
        person = Person()
        later = datetime.now(UTC) + timedelta(hours=1)
        async with playing("auto", person, data_dir=tmp_path, max_calls_per_launch="2", **OPEN) as model:
            one = await draft(model)
            await model.call("start_batch_call", **one, trigger_timestamp=later.isoformat(), first=2)
            for change in (
                {"trigger_timestamp": (later + timedelta(hours=1)).isoformat()},
                {"send_now": True},
                {"status": "scheduled"},
            ):
                await model.refused("update_batch_call", "invalid_input", **one, **change)
            await model.call("update_batch_call", **one, name="Renamed")
            assert (await model.call("get_batch_call", **one))["batch_call"]["first"] == 2
        assert dials(tmp_path) == Counter()

    def test_a_replacement_keeps_it_unless_it_says_when(self) -> None:
        """A server that gets the whole batch call forgets what is not named."""
        now = datetime(2026, 11, 27, tzinfo=UTC)
        current = BatchCall(
            batch_call_id="b", status=BatchStatus.SCHEDULED, from_number=FROM, scheduled_at=now, first=2
        )
        tasks = (CallTask(to_number=PEOPLE[0]),)
        _, body = requests.update_call(current, BatchCallRequest(tasks=tasks), extended=True, patches_tasks=False)
        assert (body["status"], body["first"]) == ("scheduled", 2)
        for moved in (
            BatchCallRequest(tasks=tasks, trigger_at=now + timedelta(hours=1)),
            BatchCallRequest(tasks=tasks, send_now=True),
            BatchCallRequest(tasks=tasks, status=BatchStatus.DRAFT),
        ):
            _, body = requests.update_call(current, moved, extended=True, patches_tasks=False)
            assert "first" not in body


class TestTimeToThinkAgain:
    async def test_a_start_that_is_sent_again_promises_no_time_that_is_over(self, tmp_path: Path) -> None:
        """It is sent with the moment of the first try; the question said "600 seconds after your yes" again."""
        person = Person()
        async with far_away(tmp_path, person, undo_seconds="600") as (front, model):
            one = await draft(model, window=ALWAYS)
            await model.refused("start_batch_call", "outcome_unknown", **one, trigger_timestamp="now")
            front.late.clear()  # it never arrives
            told = await model.call("start_batch_call", **one, trigger_timestamp="now")
            at = datetime.fromisoformat(told["batch_call"]["scheduled_at"])
        assert "Phones ring 600 seconds after your yes" in person.questions[0]
        assert "seconds after your yes" not in person.questions[1]
        assert undo.again(at) in person.questions[1]
        assert dials(tmp_path / "dialer") == Counter()

    def test_a_replacement_on_a_date_keeps_the_moment(self) -> None:
        """Where the whole batch call is sent, the date hid the moment until which it can be cancelled."""
        now = datetime(2026, 11, 27, 12, tzinfo=UTC)
        current = BatchCall(batch_call_id="b", status=BatchStatus.DRAFT, from_number=FROM)
        request = BatchCallRequest(
            tasks=(CallTask(to_number=PEOPLE[0]),),
            status=BatchStatus.SCHEDULED,
            trigger_on=now.date(),
            trigger_at=now,
        )
        _, body = requests.update_call(current, request, extended=True, patches_tasks=False)
        assert (body["trigger_date"], body["trigger_timestamp"]) == ("2026-11-27", int(now.timestamp() * 1000))
        body = requests.create_body(
            BatchCallRequest(from_number=FROM, tasks=request.tasks, trigger_on=now.date(), trigger_at=now),
            extended=True,
        )
        assert (body["trigger_date"], body["trigger_timestamp"]) == ("2026-11-27", int(now.timestamp() * 1000))

    async def test_a_launch_that_is_repeated_within_the_time_is_the_same_one(self, tmp_path: Path) -> None:
        person = Person()
        async with playing("auto", person, data_dir=tmp_path, undo_seconds="600", **OPEN) as model:
            one = await draft(model)
            begun = await model.call("start_batch_call", **one, trigger_timestamp="now")
            again = await model.call("start_batch_call", **one, trigger_timestamp="now")
            assert again["batch_call"]["scheduled_at"] == begun["batch_call"]["scheduled_at"]
            await model.call("cancel_batch_call", **one)
            await model.refused("start_batch_call", "illegal_transition", **one, trigger_timestamp="now")
            await model.refused("resume_batch_call", "illegal_transition", **one)
        assert len(person.questions) == 1
        assert dials(tmp_path) == Counter()

    async def test_a_start_that_arrives_after_the_cancel_dials_nobody(self, tmp_path: Path) -> None:
        """Lost, sent again, cancelled; then the first one arrives."""
        person = Person()
        async with far_away(tmp_path, person, undo_seconds="600") as (front, model):
            one = await draft(model, window=ALWAYS)
            await model.refused("start_batch_call", "outcome_unknown", **one, trigger_timestamp="now")
            await model.call("start_batch_call", **one, trigger_timestamp="now")
            await model.call("cancel_batch_call", **one)
            await front.catch_up()
            assert (await model.call("get_batch_call", **one))["batch_call"]["status"] == "cancelled"
        assert dials(tmp_path / "dialer") == Counter()

    async def test_who_is_added_meanwhile_begins_nothing(self, tmp_path: Path) -> None:
        """On a date that has begun, the addition of one person let all others ring at once."""
        person = Person()
        async with playing("auto", person, data_dir=tmp_path, undo_seconds="600", **OPEN) as model:
            one = await draft(model, window=ALWAYS)
            begun = await on_their_date(model, **one)
            assert "Phones ring 600 seconds after your yes" in person.questions[-1]
            added = await model.call("update_batch_call", **one, add_tasks=[{"to_number": number(AREA, 50)}])
            assert added["result"] == "added"
            assert undo.CANNOT not in person.questions[-1]
            found = (await model.call("get_batch_call", **one))["batch_call"]
            assert (found["status"], found["scheduled_at"]) == ("scheduled", begun["batch_call"]["scheduled_at"])
            await model.call("cancel_batch_call", **one)
        assert dials(tmp_path) == Counter()


class TestATestCall:
    @pytest.mark.parametrize("mode", ["draft", "read-only"])
    async def test_a_mode_that_dials_nobody_has_none(self, tmp_path: Path, mode: str) -> None:
        async with playing("auto", None, data_dir=tmp_path, **OPEN) as model:
            one = await draft(model)
        async with playing("auto", Person(), data_dir=tmp_path, mode=mode, **OPEN) as model:
            result = await model.client.call_tool("start_batch_call", {**one, "test_number": MINE})
            assert result.is_error
        assert dials(tmp_path) == Counter()

    async def test_a_stop_between_the_question_and_the_yes(self, tmp_path: Path) -> None:
        async with playing("auto", data_dir=tmp_path, **OPEN) as model:
            one = await draft(model)
            asked = await model.call("start_batch_call", **one, test_number=MINE)
            (tmp_path / "STOP").touch()
            code = {"confirmation_code": asked["confirmation_code"]}
            await model.refused("start_batch_call", "invalid_input", **one, **code)
        assert dials(tmp_path) == Counter()

    async def test_another_spelling_is_the_same_number_and_the_do_not_call_list_holds_for_it(
        self, tmp_path: Path
    ) -> None:
        never = tmp_path / "never.txt"
        never.write_text("")
        person = Person()
        async with playing("auto", person, data_dir=tmp_path, do_not_call=never, **OPEN) as model:
            one = await draft(model)
            spelled = f"+1 ({MINE[2:5]}) {MINE[5:8]}-{MINE[8:]}"
            told = await model.call("start_batch_call", **one, test_number=spelled)
            await until(model, {"batch_call_id": told["batch_call"]["batch_call_id"]}, "completed")
            never.write_text(f"{spelled}\n")
            await model.refused("start_batch_call", "invalid_input", **one, test_number=spelled)
        assert dials(tmp_path) == Counter([MINE])

    async def test_one_key_is_one_call_and_starts_no_list(self, tmp_path: Path) -> None:
        person = Person()
        async with playing("auto", person, data_dir=tmp_path, **OPEN) as model:
            one = await draft(model)
            key = {"idempotency_key": "test-1"}
            told = await model.call("start_batch_call", **one, test_number=MINE, **key)
            await until(model, {"batch_call_id": told["batch_call"]["batch_call_id"]}, "completed")
            again = await model.call("start_batch_call", **one, test_number=MINE, **key)
            assert again["batch_call"]["batch_call_id"] == told["batch_call"]["batch_call_id"]
            assert len(person.questions) == 1
            # The list is another write, with a yes of its own.
            person.answer = "no"
            await model.refused("start_batch_call", "not_confirmed", **one, trigger_timestamp="now", **key)
        assert dials(tmp_path) == Counter([MINE])

    async def test_its_number_in_a_list_is_held_to_the_rules_there(self, tmp_path: Path) -> None:
        """Two test calls of a number do not make its list free of the daily cap."""
        async with playing("auto", Person(), data_dir=tmp_path, max_calls_per_launch="2", **OPEN) as model:
            one = await draft(model)
            for _ in range(2):
                told = await model.call("start_batch_call", **one, test_number=MINE)
                await until(model, {"batch_call_id": told["batch_call"]["batch_call_id"]}, "completed")
            await model.refused("start_batch_call", "invalid_input", **one, trigger_timestamp="now")
            test = {"batch_call_id": told["batch_call"]["batch_call_id"]}
            await model.refused("update_batch_call", "illegal_transition", **test, tasks=TASKS)
            await model.refused("update_batch_call", "invalid_input", **test, add_tasks=TASKS)
        assert dials(tmp_path) == Counter([MINE, MINE])
        assert told["batch_call"]["test_of"] == one["batch_call_id"]


@pytest.mark.parametrize("on_a_date", [False, True])
async def test_where_nobody_is_asked_it_skips_and_calls_the_first_of_the_others(
    tmp_path: Path, on_a_date: bool
) -> None:
    never = tmp_path / "never.txt"
    never.write_text("+12125550199\n")
    unattended: dict[str, Any] = {"confirm": "off", "max_calls_per_launch": "9", "skip_people_max": "50%"}
    async with playing("auto", None, data_dir=tmp_path, do_not_call=never, **unattended, **OPEN) as model:
        one = await draft(model, window=ALWAYS)
        never.write_text(f"{PEOPLE[0]}\n")
        if on_a_date:
            await on_their_date(model, **one, first=1)
        else:
            await model.call("start_batch_call", **one, trigger_timestamp="now", first=1)
        found = await until(model, one, "paused", "completed")
        assert (found["status"], found["counts"]["skipped"], found["counts"]["pending"]) == ("paused", 1, 1)
    assert dials(tmp_path) == Counter([PEOPLE[1]])


async def test_the_answer_to_a_test_call_that_is_sent_twice_rings_once(tmp_path: Path) -> None:
    """A client that sends the answered question again: of a test call no earlier one is looked for."""
    async with playing("auto", Person(), data_dir=tmp_path, **OPEN) as model:
        one = await draft(model)
        arguments = {**one, "test_number": MINE}
        asked = await model.client.session.call_tool("start_batch_call", arguments, allow_input_required=True)
        assert isinstance(asked, InputRequiredResult)
        results = [
            await model.client.session.call_tool(
                "start_batch_call",
                arguments,
                input_responses={"confirm": ElicitResult(action="accept", content={"confirm": True})},
                request_state=asked.request_state,
                allow_input_required=True,
            )
            for _ in range(2)
        ]
        begun, again = results
        assert isinstance(begun, CallToolResult)
        assert begun.structured_content is not None
        assert isinstance(again, CallToolResult)
        assert again.is_error
        await until(model, {"batch_call_id": begun.structured_content["batch_call"]["batch_call_id"]}, "completed")
    assert dials(tmp_path) == Counter([MINE])
