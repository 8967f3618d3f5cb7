"""Where creating dials: it is confirmed with its time, and who was missed is called again by a confirmed create."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from click.testing import CliRunner

from batchcall_mcp.backends.capabilities import Limits
from batchcall_mcp.cli import cli
from tests.vendors.talking import AGENT, COMES, NO_ANSWER
from tests.vendors.varied import EchoingBackend, Varied, able, account
from tests.walks.stage import FROM, NEW_YORK, Model, Person, number, playing, tomorrow_at

ANN, BOB, CY = (number(NEW_YORK, line) for line in (0, 4, 8))
TASKS: list[dict[str, Any]] = [{"to_number": one, "dynamic_variables": {"first_name": "A"}} for one in (ANN, BOB, CY)]


@asynccontextmanager
async def using(folder: Path, vendor: Varied, person: Person | None = None, **more: str) -> AsyncIterator[Model]:
    """A model in front of that service."""
    async with vendor.served() as url:
        (folder / "files").mkdir(exist_ok=True)
        here: dict[str, str | Path] = {"data_dir": folder / "data", "files": folder / "files"}
        here |= {"calling_hours": "00:00-24:00", **account(url), **more}
        async with playing("auto", person or Person(), **here) as model:
            yield model


@pytest.fixture
def creates_dial(monkeypatch: pytest.MonkeyPatch) -> Varied:
    able(monkeypatch, drafts="none", without="start update retry", results=frozenset())
    return Varied(creates_dial=True)


async def created(model: Model, when: str = "now", **more: Any) -> str:
    answer = await model.call("create_batch_call", from_number=FROM, tasks=TASKS, trigger_timestamp=when, **more)
    name: str = answer["batch_call"]["batch_call_id"]
    return name


async def test_a_create_is_confirmed_with_its_time_and_then_dials(creates_dial: Varied, tmp_path: Path) -> None:
    person = Person()
    async with using(tmp_path, creates_dial, person) as model:
        schema = await model.schema("create_batch_call")
        assert "trigger_timestamp" in schema
        text = await model.refused("create_batch_call", "invalid_input", from_number=FROM, tasks=TASKS)
        assert "trigger_timestamp" in text
        answer = await model.call("create_batch_call", from_number=FROM, tasks=TASKS, trigger_timestamp="now")
        assert {"start_batch_call", "update_batch_call"}.isdisjoint(await model.tools())
    assert answer["result"] == "started"
    assert person.questions[0].startswith("Call 3 people (United States) now")
    assert creates_dial.dialled == [ANN, BOB, CY]


async def test_people_missed_are_called_again_by_a_confirmed_create_of_exactly_those(
    creates_dial: Varied, tmp_path: Path
) -> None:
    person = Person()
    async with using(tmp_path, creates_dial, person) as model:
        first = await created(model)
        creates_dial.finish(first, {ANN: COMES, BOB: NO_ANSWER, CY: NO_ANSWER})
        text = await model.refused("retry_batch_call", "invalid_input", batch_call_id=first)
        assert "trigger_timestamp" in text
        retried = await model.call("retry_batch_call", batch_call_id=first, trigger_timestamp="now")
        assert person.questions[-1].startswith("Call 2 people (United States) now")
        assert retried["result"] == "started"
        assert retried["batch_call"]["retry_of"] == first
        again = await model.call("retry_batch_call", batch_call_id=first, trigger_timestamp="now")
    assert creates_dial.dialled == [ANN, BOB, CY, BOB, CY]
    assert again["result"] == "nothing_to_do", "the second batch call has them"


async def test_a_timed_retry_is_scheduled_and_its_people_are_in_no_second_one(
    creates_dial: Varied, tmp_path: Path
) -> None:
    async with using(tmp_path, creates_dial) as model:
        first = await created(model)
        creates_dial.finish(first, {ANN: COMES, BOB: NO_ANSWER, CY: NO_ANSWER})
        at = tomorrow_at(9).isoformat()
        retried = await model.call("retry_batch_call", batch_call_id=first, trigger_timestamp=at)
        assert (retried["result"], creates_dial.dialled) == ("scheduled", [ANN, BOB, CY])
        nobody = await model.call("retry_batch_call", batch_call_id=first, trigger_timestamp="now")
    assert nobody["result"] == "nothing_to_do"
    assert "2 people are skipped: a later batch call has them." in nobody["summary"]


async def test_a_code_names_all_that_has_to_be_repeated(
    creates_dial: Varied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, drafts="none", without="start update retry", required=frozenset({"from_number", "agent_id"}))
    async with using(tmp_path, creates_dial, None, confirm="code") as model:
        asked = await model.call(
            "create_batch_call", from_number=FROM, agent_id=AGENT, tasks=TASKS, trigger_timestamp="now"
        )
        assert "the same agent_id, from_number and trigger_timestamp" in asked["notes"][0]
        code = asked["confirmation_code"]
        done = await model.call(
            "create_batch_call", from_number=FROM, agent_id=AGENT, trigger_timestamp="now", confirmation_code=code
        )
    assert done["result"] == "started"
    assert creates_dial.dialled == [ANN, BOB, CY]


async def test_in_draft_mode_nothing_is_offered_that_dials(creates_dial: Varied, tmp_path: Path) -> None:
    async with using(tmp_path, creates_dial, mode="draft") as model:
        tools = await model.tools()
    assert {"create_batch_call", "retry_batch_call", "start_batch_call"}.isdisjoint(tools)


async def test_a_launch_that_is_accepted_is_not_called_running_or_scheduled(
    creates_dial: Varied, tmp_path: Path
) -> None:
    """The backend's word for a launch that it took: "scheduled" without a time, or one that nobody knows."""
    for word, shown in (("scheduled", "scheduled"), ("in_queue", "in_queue")):
        creates_dial.word = word
        async with using(tmp_path, creates_dial) as model:
            name = f"accepted as {word}"
            made = await model.call(
                "create_batch_call", from_number=FROM, tasks=TASKS, trigger_timestamp="now", name=name
            )
        assert made["result"] == "created"
        assert made["batch_call"]["status"] == "unknown"
        assert made["batch_call"]["backend_status"] == shown
        assert f'the backend says "{shown}"' in made["summary"]


async def test_a_lost_create_is_found_by_the_metadata_that_it_gives_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, EchoingBackend, drafts="none", without="start update retry list")
    vendor = Varied(creates_dial=True, can_list=False)
    async with using(tmp_path, vendor) as model:
        vendor.recording.swallow_next_write = True
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS, trigger_timestamp="now")
    assert made["batch_call"]["batch_call_id"] == "talk_1"
    assert vendor.dialled == [ANN, BOB, CY], "it was sent once"


async def test_a_lost_create_that_can_be_looked_up_nowhere_stays_unknown_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, drafts="none", without="start update retry list")
    vendor = Varied(creates_dial=True, can_list=False)
    call: dict[str, Any] = {"from_number": FROM, "tasks": TASKS, "trigger_timestamp": "now"}
    async with using(tmp_path, vendor) as model:
        vendor.recording.swallow_next_write = True
        texts = [await model.refused("create_batch_call", "outcome_unknown", **call) for _ in range(2)]
    for text in texts:
        assert "cannot list batch calls, so it was looked up nowhere" in text
        assert "look at the backend's own page" in text
        assert "`batchcall-mcp ledger resolve 1 made` or `not-made`" in text
    assert vendor.dialled == [ANN, BOB, CY], "it was sent once"


async def test_a_required_field_is_in_the_schema_and_named_where_it_is_missing(
    creates_dial: Varied, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, required=frozenset({"from_number", "agent_id"}))
    vendor = Varied()
    async with using(tmp_path, vendor) as model:
        tools = (await model.client.list_tools()).tools
        (create,) = [one for one in tools if one.name == "create_batch_call"]
        assert {"from_number", "agent_id"} <= set(create.input_schema["required"])
        text = await model.refused("create_batch_call", "invalid_input", from_number=FROM, tasks=TASKS)
        assert "agent_id" in text
        checked = await model.call("check_batch_call", from_number=FROM, tasks=TASKS)
        assert checked["next"]["ask_person"].startswith("agent_id: is missing; varied needs it")
    assert vendor.writes == []


@pytest.mark.parametrize(
    ("limits", "more", "said"),
    [
        (Limits(list_bytes=40), {}, "tasks: it takes a list of 40 bytes, this one has"),
        (
            Limits(variables_bytes=20),
            {"tasks": [*TASKS, {"to_number": number(NEW_YORK, 9), "dynamic_variables": {"first_name": "Annabel"}}]},
            "tasks[3].dynamic_variables: it takes 20 bytes of a task, these have 25",
        ),
        (Limits(ahead=timedelta(days=1)), {"trigger_timestamp": "in 2 days"}, "it can be scheduled 1 day ahead"),
        (Limits(lead=timedelta(days=3)), {"trigger_timestamp": "in 2 days"}, "scheduled 3 days before its start; give"),
    ],
)
async def test_a_limit_is_checked_before_anything_is_sent_and_named(
    limits: Limits, more: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, drafts="none", without="start update retry", limits=limits)
    vendor, person = Varied(creates_dial=True), Person()
    call: dict[str, Any] = {"from_number": FROM, "tasks": TASKS, "trigger_timestamp": "now", **more}
    if call["trigger_timestamp"] != "now":
        call["trigger_timestamp"] = tomorrow_at(9).isoformat()
    async with using(tmp_path, vendor, person) as model:
        text = await model.refused("create_batch_call", "not_supported", **call)
    assert said in text
    assert (vendor.writes, person.questions) == ([], [])


async def test_a_start_that_the_backend_moves_up_is_said_in_the_question_and_the_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, drafts="none", without="start update retry", limits=Limits(rounding=timedelta(minutes=10)))
    vendor, person = Varied(creates_dial=True), Person()
    at = tomorrow_at(9).replace(minute=3)
    up = f"Its start moves up to {at:%Y-%m-%d} {at:%H}:10 UTC."
    call: dict[str, Any] = {"tasks": TASKS, "from_number": FROM, "trigger_timestamp": at.isoformat()}
    async with using(tmp_path, vendor, person) as model:
        checked = await model.call("check_batch_call", **call)
        await model.call("create_batch_call", **call)
    assert up in checked["preflight"]["notes"]
    assert up in person.questions[0]


async def test_a_caller_number_that_stands_for_a_pool_is_said_in_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, drafts="none", without="start update retry", caller="pool")
    vendor, person = Varied(creates_dial=True), Person()
    async with using(tmp_path, vendor, person) as model:
        await created(model)
    assert "from the numbers of the pool of +1 415 555 0100, which take turns" in person.questions[0]


async def test_what_cannot_be_stopped_or_listed_is_said_and_the_list_is_what_was_made_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, drafts="none", stop="never", without="start update retry list cancel pause resume")
    vendor, person = Varied(creates_dial=True, can_list=False, can_cancel=False), Person()
    async with using(tmp_path, vendor, person) as model:
        first = await created(model)
        second = await created(model, name="Second")
        tools = await model.tools()
        listed = await model.call("list_batch_calls")
        named = await model.call("list_batch_calls", name_contains="second")
        page = await model.call("list_batch_calls", limit=1)
        rest = await model.call("list_batch_calls", limit=1, cursor=page["next_cursor"])
    assert person.questions[0].startswith("Cannot be stopped once confirmed.")
    assert "cancel_batch_call" not in tools
    assert [one["batch_call_id"] for one in listed["batch_calls"]] == [second, first]
    assert "varied cannot list batch calls: only those made from here with this key are known." in listed["summary"]
    assert [one["batch_call_id"] for one in named["batch_calls"]] == [second]
    assert [one["batch_call_id"] for one in (*page["batch_calls"], *rest["batch_calls"])] == [second, first]
    assert "next_cursor" not in rest


async def test_where_nothing_can_be_read_the_list_is_as_it_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, drafts="none", stop="never", without="start update retry list cancel pause resume get get_call")
    vendor = Varied(creates_dial=True, can_list=False, can_cancel=False)
    async with using(tmp_path, vendor) as model:
        first = await created(model)
        assert {"get_backend", "check_batch_call", "list_batch_calls"} <= await model.tools()
        assert "get_batch_call" not in await model.tools()
        (one,) = (await model.call("list_batch_calls"))["batch_calls"]
    assert (one["batch_call_id"], one["status"], one["counts"]) == (first, "unknown", {"total": 3})
    assert "as recorded here" in one["backend_status"]


async def test_the_emergency_stop_says_what_it_can_neither_stop_nor_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, drafts="none", stop="never", without="start update retry list cancel pause resume")
    vendor = Varied(creates_dial=True, can_list=False, can_cancel=False)
    async with using(tmp_path, vendor) as model:
        first = await created(model)
        asked = vendor.recording.requests[-1]
        base = f"http://{asked.headers['host']}"
        environment = {f"BATCHCALL_{name.upper()}": value for name, value in account(base).items()}
        environment["BATCHCALL_DATA_DIR"] = str(tmp_path / "data")
        ended = await anyio.to_thread.run_sync(partial(CliRunner().invoke, cli, ["stop"], env=environment))
    assert ended.exit_code != 0
    assert f"{first}" in ended.output
    assert "can neither pause nor cancel: its phones may ring on. Stop it at the backend itself." in ended.output
    assert "varied cannot list batch calls: only those launched from here are known." in ended.output


async def test_a_lost_start_that_the_backend_moves_up_is_recognised_by_the_moved_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    able(monkeypatch, limits=Limits(rounding=timedelta(minutes=10)))
    vendor = Varied()
    at = tomorrow_at(9)
    vendor.moves_up = timedelta(minutes=7)
    async with using(tmp_path, vendor) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        name = made["batch_call"]["batch_call_id"]
        vendor.recording.swallow_next_write = True
        start = {"batch_call_id": name, "trigger_timestamp": at.replace(minute=3).isoformat()}
        started = await model.call("start_batch_call", **start)
    assert started["result"] == "scheduled"
    assert started["batch_call"]["scheduled_at"] == at.replace(minute=10).isoformat().replace("+00:00", "Z")
