"""What a review found where creating dials, a retry means everybody, and people are not listed."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from click.testing import CliRunner

from batchcall_mcp.backends.capabilities import Limits
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.cli import cli
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.guard.ledger.writes import Writes
from tests.promises.test_creates_that_dial import ANN, BOB, CY, TASKS, using
from tests.promises.test_people_not_listed import drafted, every_way
from tests.promises.test_retries_of_everybody import ended
from tests.vendors.bolna import Bolna
from tests.vendors.elevenlabs import ElevenLabs
from tests.vendors.retell import Retell
from tests.vendors.talking import COMES, NO_ANSWER
from tests.vendors.varied import EchoingBackend, Shows, Varied, able, account
from tests.walks.stage import ALWAYS, FROM, LOS_ANGELES, Model, Person, number, playing, tomorrow_at

DAY_MS = 24 * 60 * 60 * 1000


def age(folder: Path, ms: int) -> None:
    """All that the ledger knows happened so much earlier."""
    with sqlite3.connect(folder / "data" / "ledger.db") as ledger:
        ledger.execute("UPDATE writes SET at = at - ?, sent_at = sent_at - ?, settled_at = settled_at - ?", [ms] * 3)
        ledger.execute("UPDATE dialled SET at = at - ? WHERE dials = 0", [ms])
    ledger.close()


def at_time(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    """What every tool call takes for now."""
    monkeypatch.setitem(CallContext.__init__.__kwdefaults__ or {}, "clock", lambda: moment)


async def draft_of(model: Model, *people: str, **more: Any) -> str:
    tasks = [{"to_number": one, "dynamic_variables": {"first_name": "A"}} for one in people]
    given: dict[str, Any] = {"from_number": FROM, "tasks": tasks, "window": ALWAYS, **more}
    made = await model.call("create_batch_call", **given)
    name: str = made["batch_call"]["batch_call_id"]
    return name


# --- people who are not listed


@every_way
async def test_people_not_listed_are_compared_with_other_live_batch_calls_however_long_ago_those_were_launched(
    shows: Shows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported=shows)
    vendor, person = Varied(shows=shows), Person()
    async with using(tmp_path, vendor, person) as model:
        first = await draft_of(model, ANN, BOB)
        second = await draft_of(model, BOB, CY)
        at = tomorrow_at(9).isoformat()
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp=at)
        age(tmp_path, 60 * 60 * 1000)
        person.answer = "no"
        await model.refused("start_batch_call", "not_confirmed", batch_call_id=second, trigger_timestamp=at)
    assert f"1 of the numbers is in another live batch call ({first})." in person.questions[-1]


async def test_people_not_listed_are_compared_with_people_of_a_live_batch_call_who_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was launched from elsewhere: the backend shows whom it is calling."""
    able(monkeypatch, tasks_reported="dialled_only")
    vendor, person = Varied(shows="dialled_only"), Person()
    (tmp_path / "other").mkdir()
    async with using(tmp_path / "other", vendor) as model:
        first = await draft_of(model, ANN, BOB)
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
    async with using(tmp_path, vendor, person) as model:
        second = await draft_of(model, BOB, CY)
        person.answer = "no"
        await model.refused("start_batch_call", "not_confirmed", batch_call_id=second, trigger_timestamp="now")
    assert f"1 of the numbers is in another live batch call ({first})." in person.questions[-1]


async def test_people_not_listed_are_not_compared_with_a_live_batch_call_of_which_nothing_is_known_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported="none")
    vendor, person = Varied(shows="none"), Person()
    (tmp_path / "other").mkdir()
    async with using(tmp_path / "other", vendor) as model:
        first = await draft_of(model, ANN, BOB)
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp=tomorrow_at(9).isoformat())
    async with using(tmp_path, vendor, person) as model:
        second = await draft_of(model, BOB, CY)
        person.answer = "no"
        await model.refused("start_batch_call", "not_confirmed", batch_call_id=second, trigger_timestamp="now")
    assert f"could not be compared with this list ({first})" in person.questions[-1]


async def test_how_often_people_not_listed_may_be_dialled_again_counts_for_their_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported="none", retry_policy=True)
    vendor, person = Varied(shows="none"), Person()
    async with using(tmp_path, vendor, person) as model:
        first = await draft_of(model, ANN, retry={"max_retries": 2, "on": ["no_answer"], "after_minutes": 5})
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
        vendor.finish(first, {ANN: NO_ANSWER})
        second = await draft_of(model, ANN, name="Again")
        person.answer = "no"
        await model.refused("start_batch_call", "not_confirmed", batch_call_id=second, trigger_timestamp="now")
    assert "may now be dialled more than 3 times in a day" in person.questions[-1]


async def test_a_resume_of_people_not_listed_says_that_it_is_night_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody of the list was dialled, so the list is not quite empty."""
    able(monkeypatch, tasks_reported="dialled_only", windows="none")
    vendor, person = Varied(shows="dialled_only"), Person()
    night = datetime.now(UTC).replace(hour=9, minute=0)  # 01:00 or 02:00 in Los Angeles, 04:00 or 05:00 in New York
    at_time(monkeypatch, night)
    async with using(tmp_path, vendor, person, calling_hours="08:00-21:00") as model:
        tasks = [{"to_number": one, "dynamic_variables": {"first_name": "A"}} for one in (ANN, number(LOS_ANGELES, 4))]
        made = await model.call("create_batch_call", from_number=FROM, tasks=tasks)
        first = made["batch_call"]["batch_call_id"]
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
        vendor.tasks[first][1] |= {"status": "pending", "attempts": 0}
        vendor._end(first, vendor.tasks[first][0], COMES)
        await model.call("pause_batch_call", batch_call_id=first)
        await model.call("resume_batch_call", batch_call_id=first)
    assert "Call 1 person" in person.questions[-1]
    assert "Los_Angeles" in person.questions[-1] or "outside" in person.questions[-1]


async def test_people_whom_the_ledger_has_forgotten_are_not_called_unattended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported="none")
    vendor = Varied(shows="none")
    (tmp_path / "never.csv").write_text("phone\n")
    more = {"confirm": "off", "max_calls_per_launch": "3", "do_not_call": str(tmp_path / "never.csv")}
    async with using(tmp_path, vendor, None, **more) as model:
        first = await drafted(model)
        (tmp_path / "never.csv").write_text(f"phone\n{CY}\n")
        age(tmp_path, 31 * DAY_MS)
        await draft_of(model, BOB, name="Another one")  # what is old goes with it
        await model.refused("start_batch_call", "not_confirmed", batch_call_id=first, trigger_timestamp="now")
    assert vendor.dialled == []


async def test_a_live_batch_call_of_which_the_ledger_knows_only_some_people_is_not_called_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was made elsewhere; from here it was only resumed, when one of its people was listed and waited."""
    able(monkeypatch, tasks_reported="dialled_only")
    vendor, person = Varied(shows="dialled_only"), Person()
    (tmp_path / "other").mkdir()
    async with using(tmp_path / "other", vendor) as model:
        first = await draft_of(model, ANN, BOB)
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
        vendor.tasks[first][0] |= {"status": "pending", "attempts": 1}
        vendor.tasks[first][1] |= {"status": "pending", "attempts": 0}
        await model.call("pause_batch_call", batch_call_id=first)
    async with using(tmp_path, vendor, person) as model:
        await model.call("resume_batch_call", batch_call_id=first)
        for task in vendor.tasks[first]:
            task |= {"status": "pending"}
        vendor.tasks[first][1]["attempts"] = 0
        second = await draft_of(model, BOB, CY)
        person.answer = "no"
        await model.refused("start_batch_call", "not_confirmed", batch_call_id=second, trigger_timestamp="now")
    assert f"could not be compared with this list ({first})" in person.questions[-1]


async def test_a_resume_of_people_not_listed_counts_nobody_twice_for_the_limit_of_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported="dialled_only")
    vendor = Varied(shows="dialled_only")
    more = {"max_calls_per_day": "3", "max_cost_per_day": "1 USD", "cost_per_minute": "0.1 USD"}
    async with using(tmp_path, vendor, Person(), **more) as model:
        first = await drafted(model)
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
        for task in vendor.tasks[first][1:]:
            task |= {"status": "pending", "attempts": 0}
        vendor._end(first, vendor.tasks[first][0], COMES)
        await model.call("pause_batch_call", batch_call_id=first)
        resumed = await model.call("resume_batch_call", batch_call_id=first)
    assert resumed["result"] == "resumed"


async def test_who_was_dialled_already_by_a_live_batch_call_that_hides_the_others_is_not_called_by_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported="dialled_only")
    vendor, person = Varied(shows="dialled_only"), Person()
    async with using(tmp_path, vendor, person) as model:
        first = await draft_of(model, ANN, BOB)
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
        vendor._end(first, vendor.tasks[first][0], NO_ANSWER)
        vendor.tasks[first][1] |= {"status": "pending", "attempts": 0}
        age(tmp_path, 60 * 60 * 1000)
        second = await draft_of(model, ANN)
        await model.call("start_batch_call", batch_call_id=second, trigger_timestamp="now")
    assert "another live batch call" not in person.questions[-1]


# --- who is dialled again by the backend itself


async def redialling(model: Model, vendor: Varied) -> str:
    """A batch call that runs. Ann did not answer, and is dialled again in an hour."""
    first = await draft_of(model, ANN, BOB, retry={"max_retries": 1, "on": ["no_answer"], "after_minutes": 60})
    await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
    vendor._end(first, vendor.tasks[first][0], NO_ANSWER)
    return first


async def test_who_waits_for_an_automatic_redial_is_called_by_that_batch_call_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported="dialled_only", retry_policy=True)
    vendor, person = Varied(shows="dialled_only"), Person()
    async with using(tmp_path, vendor, person) as model:
        first = await redialling(model, vendor)
        age(tmp_path, 60 * 60 * 1000)
        second = await draft_of(model, ANN, CY)
        person.answer = "no"
        await model.refused("start_batch_call", "not_confirmed", batch_call_id=second, trigger_timestamp="now")
        assert f"1 of the numbers is in another live batch call ({first})." in person.questions[-1]
        vendor.tasks[first][0]["attempts"] = 2
        await model.refused("start_batch_call", "not_confirmed", batch_call_id=second, trigger_timestamp="now")
        assert "another live batch call" not in person.questions[-1], "it was the last one"


async def test_who_waits_for_an_automatic_redial_is_put_in_no_second_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported="dialled_only", retry_policy=True, without="retry")
    vendor = Varied(shows="dialled_only")
    async with using(tmp_path, vendor) as model:
        first = await redialling(model, vendor)
        missed = {"batch_call_id": first, "task_status": ["no_answer"]}
        text = await model.refused("create_batch_call", "invalid_input", from_number=FROM, tasks_from=missed)
        assert f"1 person of them is about to be called by {first} itself" in text
        nobody = await model.call("retry_batch_call", batch_call_id=first)
    assert nobody["result"] == "nothing_to_do"


# --- retries of everybody


async def test_people_in_a_state_that_nobody_knows_may_be_called_again_too_and_are_counted_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch)
    vendor, person = Varied(), Person("yes")
    async with using(tmp_path, vendor, person) as model:
        first = await ended(model, vendor)
        vendor.tasks[first][0]["status"] = "no_response"
        person.answer = "no"
        await model.refused("retry_batch_call", "not_confirmed", batch_call_id=first)
    assert "Call 3 people" in person.questions[-1]
    assert "1 of them is neither reached nor missed, as far as is known here" in person.questions[-1]


async def test_a_retry_of_everybody_counts_people_not_listed_towards_the_limit_of_a_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported="dialled_only")
    vendor, person = Varied(shows="dialled_only"), Person()
    async with using(tmp_path, vendor, person, max_calls_per_launch="3") as model:
        first = await ended(model, vendor, {ANN: NO_ANSWER, BOB: NO_ANSWER, CY: NO_ANSWER})
        vendor._keep_tasks("more", {"tasks": [{"to_number": number(LOS_ANGELES, at)} for at in range(5)]})
        vendor.tasks[first] += [{**task, "status": "failed"} for task in vendor.tasks.pop("more")]
        text = await model.refused("retry_batch_call", "invalid_input", batch_call_id=first)
    assert "8 calls are more than BATCHCALL_MAX_CALLS_PER_LAUNCH=3" in text
    assert len(vendor.dialled) == 3


# --- times


async def test_a_launch_whose_start_moves_to_the_next_day_counts_for_that_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, limits=Limits(lead=timedelta(minutes=2), rounding=timedelta(minutes=10)))
    vendor = Varied()
    late = (datetime.now(UTC) + timedelta(days=1)).replace(hour=23, minute=55, second=0, microsecond=0)
    at_time(monkeypatch, late)
    async with using(tmp_path, vendor, max_calls_per_day="5") as model:
        first = await draft_of(model, ANN, BOB, CY)
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
        with sqlite3.connect(tmp_path / "data" / "ledger.db") as ledger:
            (starts_at,) = ledger.execute("SELECT starts_at FROM writes WHERE dials").fetchone()
        ledger.close()
    assert starts_at == round((late + timedelta(minutes=5)).timestamp() * 1000)


# --- lost answers


async def test_a_lost_create_is_not_taken_for_what_was_made_with_the_same_key_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key that the backend gives back is made of the caller's own, and another machine may use the same word."""
    able(monkeypatch, EchoingBackend, drafts="none", without="start update retry list")
    vendor = Varied(creates_dial=True, can_list=False)
    monday: dict[str, Any] = {"from_number": FROM, "trigger_timestamp": "now", "idempotency_key": "monday"}
    (tmp_path / "other").mkdir()
    async with using(tmp_path / "other", vendor) as model:
        await model.call("create_batch_call", tasks=TASKS, **monday)
    async with using(tmp_path, vendor) as model:
        vendor.recording.swallow_next_write = True
        vendor.forgets_next_create = True
        await model.refused("create_batch_call", "outcome_unknown", tasks=TASKS[:2], **monday)


async def test_of_two_lost_creates_of_one_name_neither_is_taken_for_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one never arrived, and the backend shows neither people nor whose create it was."""
    able(monkeypatch, tasks_reported="none")
    vendor = Varied(shows="none", can_list=False)
    others = [{**task, "to_number": number(LOS_ANGELES, at)} for at, task in enumerate(TASKS)]
    given = {"from_number": FROM, "name": "Reminder"}
    async with using(tmp_path, vendor) as model:
        vendor.recording.swallow_next_write = vendor.forgets_next_create = True
        await model.refused("create_batch_call", "outcome_unknown", tasks=TASKS, **given)
        vendor.recording.swallow_next_write = True
        await model.refused("create_batch_call", "outcome_unknown", tasks=others, **given)
        vendor.can_list = True
        text = await model.refused("create_batch_call", "outcome_unknown", tasks=TASKS, **given)
    assert "Possible matches" in text


# --- with the real adapters


@asynccontextmanager
async def at_vendor(folder: Path, name: str, vendor: Any, person: Person | None, **more: str) -> AsyncIterator[Model]:
    """A model in front of that vendor."""
    async with vendor.served() as url:
        here: dict[str, str | Path] = {"data_dir": folder / "data", "calling_hours": "00:00-24:00"}
        here |= {"backend": name, "url": url, "api_key": vendor.key, **more}
        async with playing("auto", person, **here) as model:
            yield model


def given_of(vendor: Any, *people: str) -> dict[str, Any]:
    tasks = [{"to_number": one, "dynamic_variables": {"first_name": "A"}} for one in people]
    return {"from_number": vendor.from_number, "agent_id": vendor.agent_id, "tasks": tasks}


async def test_bolna_says_who_is_in_two_batches_and_a_cancel_within_the_minutes_of_now_holds(tmp_path: Path) -> None:
    vendor, person = Bolna(), Person()
    async with at_vendor(tmp_path, "bolna", vendor, person) as model:
        drafts = [await model.call("create_batch_call", **given_of(vendor, ANN, one)) for one in (BOB, CY)]
        first, second = (one["batch_call"]["batch_call_id"] for one in drafts)
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
        age(tmp_path, 60 * 60 * 1000)
        await model.call("start_batch_call", batch_call_id=second, trigger_timestamp=tomorrow_at(9).isoformat())
        assert f"1 of the numbers is in another live batch call ({first})." in person.questions[-1]
        again = await model.call("start_batch_call", batch_call_id=first, trigger_timestamp="now")
        assert again["replayed"]
        await model.call("cancel_batch_call", batch_call_id=first)
        vendor.tick(vendor.now + timedelta(minutes=20))
    assert vendor.dialled == []


async def test_the_emergency_stop_within_the_minutes_of_now_holds_at_bolna(tmp_path: Path) -> None:
    vendor = Bolna()
    async with at_vendor(tmp_path, "bolna", vendor, Person()) as model:
        made = await model.call("create_batch_call", **given_of(vendor, ANN))
        name = made["batch_call"]["batch_call_id"]
        await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now")
        waiting = await model.call("create_batch_call", **given_of(vendor, BOB))
    async with vendor.served() as url:
        env = {"BATCHCALL_BACKEND": "bolna", "BATCHCALL_URL": url, "BATCHCALL_API_KEY": vendor.key}
        run = partial(CliRunner().invoke, cli, ["stop"], env=env | {"BATCHCALL_DATA_DIR": str(tmp_path / "data")})
        stopped = await anyio.to_thread.run_sync(run)
        vendor.tick(vendor.now + timedelta(minutes=20))
    assert f"{name}" in stopped.output
    assert "not stopped" not in stopped.output
    assert vendor.dialled == []
    assert waiting


async def test_retell_says_who_waits_in_another_batch_call_that_it_shows_nothing_of(tmp_path: Path) -> None:
    vendor, person = Retell(), Person()
    async with at_vendor(tmp_path, "retell", vendor, person) as model:
        at = tomorrow_at(9).isoformat()
        made = await model.call("create_batch_call", **given_of(vendor, ANN, BOB), trigger_timestamp=at)
        first = made["batch_call"]["batch_call_id"]
        age(tmp_path, 60 * 60 * 1000)
        await model.call("create_batch_call", **given_of(vendor, BOB, CY), trigger_timestamp="now")
    assert f"1 of the numbers is in another live batch call ({first})." in person.questions[-1]


async def test_two_retries_at_retell_at_once_call_nobody_twice(tmp_path: Path) -> None:
    vendor, person = Retell(), Person()
    async with at_vendor(tmp_path, "retell", vendor, person) as model:
        made = await model.call("create_batch_call", **given_of(vendor, ANN, BOB), trigger_timestamp="now")
        first = made["batch_call"]["batch_call_id"]
        vendor.finish(first, {BOB: "no_answer"})
        at = tomorrow_at(9).isoformat()

        async def again(when: str) -> None:
            with suppress(AssertionError):
                await model.call("retry_batch_call", batch_call_id=first, trigger_timestamp=when)

        async with anyio.create_task_group() as group:
            for when in ("now", at, "now"):
                group.start_soon(again, when)
    assert [len(one.body["tasks"]) for one in vendor.batches.values()] == [2, 1]


async def test_elevenlabs_retry_counts_people_in_a_state_that_nobody_knows(tmp_path: Path) -> None:
    vendor, person = ElevenLabs(), Person()
    async with at_vendor(tmp_path, "elevenlabs", vendor, person, max_calls_per_launch="2") as model:
        made = await model.call("create_batch_call", **given_of(vendor, ANN, BOB), trigger_timestamp="now")
        first = made["batch_call"]["batch_call_id"]
        vendor.finish(first, {ANN: "failed", BOB: "no_answer"})
        vendor.say_task_status(first, BOB, "no_response")
        await model.call("retry_batch_call", batch_call_id=first)
    assert "Call 2 people" in person.questions[-1]
    assert "1 of them is neither reached nor missed, as far as is known here" in person.questions[-1]


async def test_a_list_from_the_ledger_filters_by_the_time_of_creation_and_refuses_a_made_up_cursor(
    tmp_path: Path,
) -> None:
    vendor = Retell()
    async with at_vendor(tmp_path, "retell", vendor, Person()) as model:
        made = await model.call("create_batch_call", **given_of(vendor, ANN), trigger_timestamp="now")
        hour_ago = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
        listed = await model.call("list_batch_calls", created_after=hour_ago)
        text = await model.refused("list_batch_calls", "invalid_input", cursor="9" * 40)
    shown = [one["batch_call_id"] for one in listed["batch_calls"]]
    assert shown == [made["batch_call"]["batch_call_id"]]
    assert "pass next_cursor as the last answer gave it" in text


@pytest.mark.sweep
@pytest.mark.parametrize("state", ["pending", "calling", "cancelled", "no_such_word"])
async def test_whoever_may_be_called_by_a_retry_of_everybody_is_counted(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch)
    vendor, person = Varied(), Person()
    async with using(tmp_path, vendor, person, max_calls_per_launch="3") as model:
        first = await ended(model, vendor)
        vendor.tasks[first][0]["status"] = state
        person.answer = "no"
        await model.refused("retry_batch_call", "not_confirmed", batch_call_id=first)
    assert "Call 3 people" in person.questions[-1]
    assert "1 of them is neither reached nor missed, as far as is known here" in person.questions[-1]


async def test_what_waits_at_a_vendor_that_says_nothing_of_it_is_read_although_the_ledger_cannot_be(
    tmp_path: Path,
) -> None:
    vendor = Retell()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ledger.db").write_text("not a database, and long enough to be taken for a damaged one" * 50)
    async with at_vendor(tmp_path, "retell", vendor, Person()) as model:
        found = await model.call("get_batch_call", batch_call_id="batch_call_1")
    assert found["batch_call"]["status"] == "unknown"


async def test_a_create_without_an_answer_is_said_where_the_ledger_is_the_list(tmp_path: Path) -> None:
    """It may dial, and no list shows it."""
    vendor = Retell()
    async with at_vendor(tmp_path, "retell", vendor, Person()) as model:
        vendor.recording.swallow_next_write = True
        await model.refused("create_batch_call", "outcome_unknown", **given_of(vendor, ANN), trigger_timestamp="now")
        listed = await model.call("list_batch_calls")
    assert not listed.get("batch_calls")
    assert "1 create got no answer, and may have been made" in str(listed)


async def test_two_equal_starts_at_once_from_two_servers_dial_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, tasks_reported="none")
    vendor = Varied(shows="none")
    here: dict[str, str | Path] = {"data_dir": tmp_path / "data", "calling_hours": "00:00-24:00"}
    async with AsyncExitStack() as stack:
        here |= account(await stack.enter_async_context(vendor.served()))
        model, other = [await stack.enter_async_context(playing("auto", Person(), **here)) for _ in range(2)]
        first = await drafted(model)
        answers: list[dict[str, Any]] = []

        async def start(one: Model) -> None:
            answers.append(await one.call("start_batch_call", batch_call_id=first, trigger_timestamp="now"))

        async with anyio.create_task_group() as group:
            for one in (model, other, model, other):
                group.start_soon(start, one)
    assert vendor.dialled == [ANN, BOB, CY]
    assert sum(not one.get("replayed", False) for one in answers) == 1
    assert len(answers) == 4


async def test_a_ledger_that_can_be_read_and_not_written_ends_a_launch_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier launch took effect, which cannot be recorded: it is not asked for without an end."""
    able(monkeypatch)
    vendor = Varied()
    async with using(tmp_path, vendor) as model:
        first = await drafted(model)
        await model.call("start_batch_call", batch_call_id=first, trigger_timestamp=tomorrow_at(9).isoformat())
        with sqlite3.connect(tmp_path / "data" / "ledger.db") as ledger:
            ledger.execute("UPDATE writes SET state = 'unknown', settled_at = NULL WHERE dials")
        ledger.close()

        def full(*_args: object, **_more: object) -> None:
            raise ConfigurationError("The disk is full.")

        monkeypatch.setattr(Writes, "finish", full)
        asked = len(vendor.requests)
        at = tomorrow_at(10).isoformat()
        text = await model.refused("start_batch_call", "outcome_unknown", batch_call_id=first, trigger_timestamp=at)
    assert first in text
    assert len(vendor.requests) - asked < 10


async def test_what_is_over_is_not_read_before_every_launch_where_the_ledger_is_the_list(tmp_path: Path) -> None:
    vendor = Retell()
    async with at_vendor(tmp_path, "retell", vendor, Person()) as model:
        for nth in range(8):
            one = given_of(vendor, number(LOS_ANGELES, nth))
            made = await model.call("create_batch_call", **one, name=f"No. {nth}", trigger_timestamp="now")
            vendor.finish(made["batch_call"]["batch_call_id"])
        age(tmp_path, 60 * 60 * 1000)
        asked = []
        for line in (20, 21):
            before = len(vendor.requests)
            one = given_of(vendor, number(LOS_ANGELES, line))
            at = tomorrow_at(9).isoformat()
            await model.call("create_batch_call", **one, name=f"Line {line}", trigger_timestamp=at)
            asked.append(sum("list-calls" in request.path for request in vendor.requests[before:]))
    first, second = asked
    assert first >= 8
    assert second <= 4, "the one that waits, before the question and after it"
