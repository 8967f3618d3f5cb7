"""A test call, a launch of the first people, and time to think again: none of them rings a phone that nobody meant."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.registry import BUILT_IN, backend_class
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.guard.preflight import undo
from batchcall_mcp.settings import Settings
from tests.kills.scenes import Front
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Model, Person, dials, number, playing

MINE, ALSO_MINE = number(NEW_YORK, 90), number(NEW_YORK, 91)
ANN, BOB, CYD = (number(NEW_YORK, line) for line in (0, 1, 2))
TASKS = [
    {"to_number": one, "dynamic_variables": {"name": name}} for one, name in ((ANN, "Ann"), (BOB, "Bob"), (CYD, "C"))
]
OPEN: dict[str, Any] = {
    "calling_hours": "00:00-24:00",
    "simulated_speed": "2000",
    "test_numbers": f"{MINE}, {ALSO_MINE}",
}
AT_ZUDU: dict[str, Any] = {"backend": "zudu", "api_key": zudu.KEY, "api_secret": zudu.SECRET, **OPEN}


async def draft(model: Model, **more: Any) -> dict[str, Any]:
    made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS, **more)
    return {"batch_call_id": made["batch_call"]["batch_call_id"]}


async def heard(model: Model, answer: dict[str, Any]) -> None:
    assert answer["result"] == "started", answer
    name = {"batch_call_id": answer["batch_call"]["batch_call_id"]}
    while (await model.call("watch_batch_call", **name, timeout_seconds=15))["batch_call"]["status"] != "completed":
        continue


class TestAYesIsForOneOfThem:
    async def test_the_code_of_a_test_call_starts_no_list_and_the_code_of_a_list_rings_no_test_number(
        self, tmp_path: Path
    ) -> None:
        async with playing("auto", data_dir=tmp_path, **OPEN) as model:
            one = await draft(model)
            test = (await model.call("start_batch_call", **one, test_number=MINE))["confirmation_code"]
            for more in (
                {"trigger_timestamp": "now"},
                {"trigger_timestamp": "now", "first": 1},
                {"test_number": ALSO_MINE},
            ):
                await model.refused("start_batch_call", "not_confirmed", **one, **more, confirmation_code=test)
            whole = (await model.call("start_batch_call", **one, trigger_timestamp="now"))["confirmation_code"]
            for more in ({"test_number": MINE}, {"trigger_timestamp": "now", "first": 1}):
                await model.refused("start_batch_call", "not_confirmed", **one, **more, confirmation_code=whole)
            first = (await model.call("start_batch_call", **one, trigger_timestamp="now", first=1))["confirmation_code"]
            await model.refused(
                "start_batch_call", "not_confirmed", **one, trigger_timestamp="now", first=2, confirmation_code=first
            )
            assert dials(tmp_path) == Counter()
            # What is not repeated is as it was asked about.
            begun = await model.call("start_batch_call", **one, trigger_timestamp="now", confirmation_code=first)
            assert begun["batch_call"]["first"] == 1

    async def test_the_yes_to_a_test_call_is_for_these_variables_this_agent_and_this_caller_number(
        self, tmp_path: Path
    ) -> None:
        async with playing("auto", data_dir=tmp_path, **OPEN) as model:
            one = await draft(model, agent_id="reminders")
            for change in (
                {"tasks": [{"to_number": ANN, "dynamic_variables": {"name": "Ann, who owes us"}}]},
                {"agent_id": "collections"},
                {"from_number": "+14155550101"},
            ):
                asked = await model.call("start_batch_call", **one, test_number=MINE)
                await model.call("update_batch_call", **one, **change)
                told = await model.call("start_batch_call", **one, confirmation_code=asked["confirmation_code"])
                assert told["result"] == "confirmation_required", change
            assert dials(tmp_path) == Counter()

    async def test_each_test_call_has_a_yes_of_its_own(self, tmp_path: Path) -> None:
        async with playing("auto", data_dir=tmp_path, **OPEN) as model:
            one = await draft(model)
            asked = await model.call("start_batch_call", **one, test_number=MINE)
            code = {"confirmation_code": asked["confirmation_code"]}
            await heard(model, await model.call("start_batch_call", **one, **code))
            await model.refused("start_batch_call", "not_confirmed", **one, **code)
            assert dials(tmp_path) == Counter([MINE])


class TestATestCallKeepsToTheRules:
    async def test_only_a_number_of_the_operators_and_nothing_else_with_it(self, tmp_path: Path) -> None:
        person = Person()
        async with playing("auto", person, data_dir=tmp_path, **OPEN) as model:
            one = await draft(model)
            text = await model.refused("start_batch_call", "invalid_input", **one, test_number=ANN)
            assert "only a number of BATCHCALL_TEST_NUMBERS (+1 … 190, +1 … 191)" in text
            await model.refused("start_batch_call", "invalid_input", **one, test_number="me")
            await model.refused("start_batch_call", "invalid_input", **one, test_number=MINE, first=2)
            later = {"trigger_timestamp": "2099-01-01T00:00:00Z"}
            await model.refused("start_batch_call", "invalid_input", **one, test_number=MINE, **later)
            text = await model.refused("start_batch_call", "invalid_input", **one)
            assert "trigger_timestamp: is missing" in text
        assert person.questions == []
        assert dials(tmp_path) == Counter()

    async def test_without_the_setting_there_is_no_such_argument(self, tmp_path: Path) -> None:
        async with playing("auto", Person(), data_dir=tmp_path) as model:
            assert "test_number" not in await model.schema("start_batch_call")
            await model.refused("start_batch_call", "invalid_input", **await draft(model), test_number=MINE)

    async def test_the_do_not_call_list_the_limits_and_the_stop_hold(self, tmp_path: Path) -> None:
        never, person = tmp_path / "never.txt", Person()
        never.write_text(ALSO_MINE)
        async with playing(
            "auto", person, data_dir=tmp_path, do_not_call=never, max_calls_per_day="1", **OPEN
        ) as model:
            one = await draft(model)
            text = await model.refused("start_batch_call", "invalid_input", **one, test_number=ALSO_MINE)
            assert "do-not-call list" in text
            await heard(model, await model.call("start_batch_call", **one, test_number=MINE))
            text = await model.refused("start_batch_call", "invalid_input", **one, test_number=MINE)
            assert "BATCHCALL_MAX_CALLS_PER_DAY=1" in text
            assert len(person.questions) == 1
            (tmp_path / "STOP").touch()
            text = await model.refused("start_batch_call", "invalid_input", **one, test_number=MINE)
            assert "the emergency stop is on" in text
        assert dials(tmp_path) == Counter([MINE])

    async def test_at_another_hour_the_question_warns_and_it_rings_after_the_yes(self, tmp_path: Path) -> None:
        person, there = Person(), datetime.now(ZoneInfo("America/New_York"))
        closed = "-".join(f"{(there + timedelta(hours=hours)).hour:02d}:30" for hours in (3, 4))
        async with playing("auto", person, data_dir=tmp_path, **{**OPEN, "calling_hours": closed}) as model:
            one = await draft(model)
            await heard(model, await model.call("start_batch_call", **one, test_number=MINE))
            assert f"1 call would start outside {closed} of the called person's own time." in person.questions[0]
        assert dials(tmp_path) == Counter([MINE])
        async with playing(
            "auto",
            None,
            data_dir=tmp_path,
            confirm="off",
            max_calls_per_launch="9",
            **{**OPEN, "calling_hours": closed},
        ) as model:
            await model.refused("start_batch_call", "not_confirmed", **one, test_number=MINE)
        assert dials(tmp_path) == Counter([MINE])

    async def test_nobody_calls_the_unreached_of_a_test_again(self, tmp_path: Path) -> None:
        async with playing("auto", Person(), data_dir=tmp_path, **OPEN) as model:
            one = await draft(model)
            answer = await model.call("start_batch_call", **one, test_number=MINE)
            await heard(model, answer)
            test = {"batch_call_id": answer["batch_call"]["batch_call_id"]}
            text = await model.refused("retry_batch_call", "invalid_input", **test)
            assert "is a test call, which no retry belongs to" in text
            await model.refused("start_batch_call", "invalid_input", **test, test_number=MINE)


class TestWhereTheVendorDials:
    async def test_zudu_gives_no_variables_back_so_it_is_refused_with_what_to_pass(self, tmp_path: Path) -> None:
        vendor, person = Zudu(), Person()
        async with vendor.served() as url, playing("auto", person, url=url, data_dir=tmp_path, **AT_ZUDU) as model:
            one = await draft(model)
            text = await model.refused("start_batch_call", "not_supported", **one, test_number=MINE)
            assert "Make a batch call of one row instead: create_batch_call" in text
            assert "first" not in await model.schema("start_batch_call")
        assert (vendor.dialled, person.questions) == ([], [])

    async def test_magpipe_keeps_the_mark_in_the_name(self, tmp_path: Path) -> None:
        vendor, person = Magpipe(), Person()
        account = {"backend": "magpipe", "api_key": magpipe.KEY, **OPEN}
        async with vendor.served() as url, playing("auto", person, url=url, data_dir=tmp_path, **account) as model:
            made = await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": ANN}], name="Visits")
            one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
            answer = await model.call("start_batch_call", **one, test_number=MINE)
            again = await model.call("start_batch_call", **one, test_number=MINE)
            assert answer["batch_call"]["name"] == f"Test of Visits (test of {one['batch_call_id']})"
            assert answer["batch_call"]["test_of"] == again["batch_call"]["test_of"] == one["batch_call_id"]
        assert vendor.dialled == [MINE, MINE]

    async def test_a_server_that_does_not_know_first_is_not_asked_to_start(self, tmp_path: Path) -> None:
        """It would read past the field, and call everybody."""
        vendor, person = Zudu(), Person()
        account = {**AT_ZUDU, "backend": "batchcall"}
        async with vendor.served() as url, playing("auto", person, url=url, data_dir=tmp_path, **account) as model:
            one = await draft(model)
            text = await model.refused("start_batch_call", "not_supported", **one, trigger_timestamp="now", first=1)
            assert "it would call everybody. Nothing was sent." in text
        assert (vendor.dialled, person.questions) == ([], [])


class TestTheFirstOnly:
    async def test_limits_count_what_can_ring(self, tmp_path: Path) -> None:
        person = Person()
        limits = {"max_calls_per_launch": "2", "max_calls_per_day": "2"}
        async with playing("auto", person, data_dir=tmp_path, **limits, **OPEN) as model:
            one = await draft(model)
            await model.refused("start_batch_call", "invalid_input", **one, trigger_timestamp="now")
            await model.refused("start_batch_call", "invalid_input", **one, trigger_timestamp="now", first=3)
            await model.call("start_batch_call", **one, trigger_timestamp="now", first=2)
            while (await model.call("get_batch_call", **one))["batch_call"]["status"] != "paused":
                continue
            # The third of today is one too many, although two were launched before.
            text = await model.refused("resume_batch_call", "invalid_input", **one)
            assert "BATCHCALL_MAX_CALLS_PER_DAY=2" in text
        assert len(person.questions) == 1
        assert dials(tmp_path) == Counter([ANN, BOB])


class TestTimeToThinkAgain:
    async def test_zudu_gets_the_moment_and_a_cancel_makes_a_draft_of_it(self, tmp_path: Path) -> None:
        vendor, person = Zudu(), Person()
        async with (
            vendor.served() as url,
            playing("auto", person, url=url, data_dir=tmp_path, undo_seconds="60", **AT_ZUDU) as model,
        ):
            one = await draft(model)
            begun = await model.call("start_batch_call", **one, trigger_timestamp="now")
            assert "Phones ring 60 seconds after your yes" in person.questions[0]
            assert (begun["result"], vendor.dialled) == ("scheduled", [])
            assert vendor.writes[-1].json["status"] == "scheduled"
            assert (await model.call("cancel_batch_call", **one))["batch_call"]["status"] == "draft"
        assert vendor.dialled == []

    async def test_where_it_cannot_wait_the_question_says_so(self, tmp_path: Path) -> None:
        vendor, person = Magpipe(), Person()
        account = {"backend": "magpipe", "api_key": magpipe.KEY, "undo_seconds": "60", **OPEN}
        async with vendor.served() as url, playing("auto", person, url=url, data_dir=tmp_path, **account) as model:
            made = await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": ANN}])
            name = made["batch_call"]["batch_call_id"]
            await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now")
            assert undo.CANNOT in person.questions[0]
            assert vendor.dialled == [ANN]
            # A new one can be given its moment.
            new = await model.call(
                "create_batch_call", from_number=FROM, tasks=[{"to_number": BOB}], trigger_timestamp="now"
            )
            assert new["batch_call"]["status"] == "scheduled"
            assert "Phones ring 60 seconds after your yes" in person.questions[1]
        assert vendor.dialled == [ANN]

    async def test_a_past_time_and_an_update_wait_too(self, tmp_path: Path) -> None:
        person = Person()
        async with playing("auto", person, data_dir=tmp_path, undo_seconds="600", **OPEN) as model:
            past = {"trigger_timestamp": (datetime.now(ZoneInfo("UTC")) - timedelta(minutes=1)).isoformat()}
            one = await draft(model)
            assert (await model.call("start_batch_call", **one, **past))["batch_call"]["status"] == "scheduled"
            other = await draft(model, name="Other")
            sent = await model.call("update_batch_call", **other, send_now=True)
            assert sent["batch_call"]["status"] == "scheduled"
            await model.call("pause_batch_call", **other)
        assert all("Phones ring 600 seconds after your yes" in asked for asked in person.questions)
        assert dials(tmp_path) == Counter()

    async def test_a_start_whose_answer_was_lost_keeps_its_moment(self, tmp_path: Path) -> None:
        dialer = EmbeddedDialer(tmp_path / "dialer", simulated_speed=2000, poll_seconds=0.1)
        await dialer.start()
        key, secret = dialer.credentials
        front = Front(dialer.app, lambda method, _path, _body: method == "PATCH", lambda: None, "carried out later")
        account = {"backend": "batchcall", "api_key": key, "api_secret": secret, "undo_seconds": "600", **OPEN}
        async with (
            listening(front) as url,
            playing("auto", Person(), url=url, data_dir=tmp_path / "s", **account) as model,
        ):
            one = await draft(model, window=ALWAYS)
            await model.refused("start_batch_call", "outcome_unknown", **one, trigger_timestamp="now", first=2)
            told = await model.call("start_batch_call", **one, trigger_timestamp="now", first=2)
            at = told["batch_call"]["scheduled_at"]
            await front.catch_up()
            found = (await model.call("get_batch_call", **one))["batch_call"]
            assert (found["status"], found["scheduled_at"], found["first"]) == ("scheduled", at, 2)
        await dialer.aclose()
        assert dials(tmp_path / "dialer") == Counter()


@pytest.mark.parametrize("name", BUILT_IN)
def test_by_default_only_our_own_dialer_with_real_phones_waits(name: str) -> None:
    can = backend_class(name).capabilities
    assert [undo.seconds(None, can, people, simulated=False) for people in (49, 50, None)] == [0, 0, 0]
    assert undo.seconds(0, can, 1000, simulated=False) == 0
    assert undo.seconds(7, can, 1, simulated=True) == 7
    assert not undo.is_possible(Operation.RESUME, can)


def test_a_real_carrier_in_this_process_waits_for_a_minute_from_fifty_people_on() -> None:
    can = replace(backend_class("dialer").capabilities, simulated=False)
    assert [undo.seconds(None, can, people, simulated=False) for people in (49, 50, None)] == [0, 60, 60]
    assert undo.seconds(None, can, 1000, simulated=True) == 0


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("UNDO_SECONDS", "3601", "less than or equal to 3600"),
        ("UNDO_SECONDS", "-1", "greater than or equal to 0"),
        ("TEST_NUMBERS", "+14155550110, 555", "'555' is not a number in E.164"),
    ],
)
def test_a_wrong_setting_stops_the_start(variable: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"BATCHCALL_{variable}", value)
    with pytest.raises(ConfigurationError, match=f"BATCHCALL_{variable}: .*{said}"):
        Settings.load()
