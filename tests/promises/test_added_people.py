"""People who are added to a batch call: nobody is called without a yes that names them, twice, or after a stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.model import WEEKDAYS
from batchcall_mcp.settings import STOP_FILE
from tests.kills.scenes import Front
from tests.vendors.serving import Recording, listening
from tests.walks.stage import (
    ALWAYS,
    FROM,
    NEW_YORK,
    Model,
    Person,
    Thinking,
    dials,
    number,
    numbers,
    playing,
    tomorrow_at,
    write_csv,
)

ANN, BOB, CYD, DAN = (number(NEW_YORK, line) for line in (0, 1, 2, 3))
OPEN = {"calling_hours": "00:00-24:00", "simulated_speed": "2000"}


def of(*to_numbers: str) -> list[dict[str, Any]]:
    return [{"to_number": one} for one in to_numbers]


def closed() -> dict[str, Any]:
    """Hours in which nobody is called for two days: what runs in them stays as it is."""
    other_day = WEEKDAYS[(datetime.now(UTC) + timedelta(days=3)).weekday()]
    return {**ALWAYS, "days": [other_day], "timezone": "UTC"}


async def made(model: Model, status: str, *people: str) -> dict[str, str]:
    """A batch call in this state, of Ann unless others are named; nobody of it is dialled."""
    people = people or (ANN,)
    draft = await model.call("create_batch_call", from_number=FROM, tasks=of(*people), window=closed(), name=status)
    name = {"batch_call_id": draft["batch_call"]["batch_call_id"]}
    when = tomorrow_at(9).isoformat() if status == "scheduled" else "now"
    if status != "draft":
        await model.call("start_batch_call", **name, trigger_timestamp=when)
    if status == "paused":
        await model.call("pause_batch_call", **name)
    if status == "cancelled":
        await model.call("cancel_batch_call", **name)
    return name


async def add(model: Model, name: dict[str, str], *people: str) -> dict[str, Any]:
    return await model.call("update_batch_call", **name, add_tasks=of(*people))


async def people_of(model: Model, name: dict[str, str]) -> list[str]:
    return [task["to_number"] for task in (await model.call("get_batch_call", **name))["tasks"]]


@pytest.mark.parametrize("status", ["running", "scheduled"])
async def test_who_is_added_where_it_dials_is_named_in_a_question_and_a_no_adds_nobody(
    status: str, tmp_path: Path
) -> None:
    person = Person()
    async with playing("auto", person, data_dir=tmp_path, **OPEN) as model:
        name = await made(model, status, *numbers(20))
        person.answer = "no"
        await model.refused("update_batch_call", "not_confirmed", **name, add_tasks=of(*numbers(23)[18:], "no number"))
        assert len(await people_of(model, name)) == 20
        question = person.questions[-1]
        assert question.startswith("Change: 3 people added to the 20 of this batch call.")
        assert "Call 3 people (United States) " in question
        assert "3 rows are skipped: 1 invalid, 2 already there." in question
        person.answer = "yes"
        added = await add(model, name, *numbers(23)[18:])
        assert (added["result"], added["changed"]) == ("added", {"tasks": [20, 23]})
        assert "Added 3 people to" in added["summary"]
        assert "which has 23 now. 2 rows are skipped: 2 already there." in added["summary"]
        assert [row["kind"] for row in added["skipped_rows"]] == ["already_there"] * 2


@pytest.mark.parametrize("status", ["draft", "paused"])
async def test_where_nobody_is_dialled_by_it_nobody_is_asked_and_the_launch_asks_about_all(
    status: str, tmp_path: Path
) -> None:
    """One who adds while a person thinks about the launch has it asked again, about the list as it is then."""
    person = Thinking()
    async with playing("auto", person, data_dir=tmp_path, **OPEN) as model:
        name = await made(model, status)
        person.questions.clear()
        added = await add(model, name, BOB)
        assert (added["result"], added["changed"], person.questions) == ("added", {"tasks": [1, 2]}, [])
        assert "preflight" not in added
        person.meanwhile = lambda: add(model, name, CYD)
        if status == "draft":
            await model.call("start_batch_call", **name, trigger_timestamp="now")
        else:
            await model.call("resume_batch_call", **name)
        assert ["Call 2 people" in person.questions[0], "Call 3 people" in person.questions[1]] == [True, True]
        assert await people_of(model, name) == [ANN, BOB, CYD]


async def test_a_yes_to_an_addition_is_for_the_list_that_it_named(tmp_path: Path) -> None:
    """Meanwhile somebody else added people; then it was paused; then it was cancelled."""
    person = Thinking()
    async with playing("auto", person, data_dir=tmp_path, **OPEN) as model:
        name = await made(model, "running")
        person.meanwhile = lambda: add(model, name, BOB)
        person.questions.clear()
        await add(model, name, CYD)
        wanted = ["1 person added to the 1 of", "1 person added to the 1 of", "1 person added to the 2 of"]
        assert [words in asked for words, asked in zip(wanted, person.questions, strict=True)] == [True] * 3
        person.meanwhile = lambda: model.call("cancel_batch_call", **name)
        text = await model.refused("update_batch_call", "illegal_transition", **name, add_tasks=of(DAN))
        assert "it is cancelled" in text
        assert await people_of(model, name) == [ANN, BOB, CYD]
    assert dials(tmp_path) == Counter()


async def test_one_that_is_over_is_refused_with_what_to_do(tmp_path: Path) -> None:
    """The last call may end while a person thinks; who is on the list is not called again by an addition."""
    person = Thinking()
    async with playing("auto", person, data_dir=tmp_path, **OPEN) as model:
        draft = await model.call("create_batch_call", from_number=FROM, tasks=of(ANN), window=ALWAYS)
        name = {"batch_call_id": draft["batch_call"]["batch_call_id"]}
        await model.call("start_batch_call", **name, trigger_timestamp="now")
        await model.call("watch_batch_call", **name, timeout_seconds=15)
        text = await model.refused("update_batch_call", "illegal_transition", **name, add_tasks=of(BOB))
        assert "it is completed" in text
        assert "create_batch_call makes a new draft of these people; retry_batch_call" in text
        assert "Nothing was sent" in text
        again = await add(model, name, ANN)
        assert again["result"] == "nothing_to_do"
        assert "1 row is skipped: 1 already there. Nothing was sent." in again["summary"]
        assert len(person.questions) == 1
    assert dials(tmp_path) == Counter([ANN])


async def test_the_same_people_twice_are_called_once(tmp_path: Path) -> None:
    """At once, and again after their calls."""
    async with (
        playing("auto", Person(), data_dir=tmp_path, **OPEN) as one,
        playing("auto", Person(), data_dir=tmp_path, **OPEN) as other,
    ):
        draft = await one.call(
            "create_batch_call", from_number=FROM, tasks=of(ANN, number(NEW_YORK, 90)), window={**closed()}
        )
        name = {"batch_call_id": draft["batch_call"]["batch_call_id"]}
        await one.call("start_batch_call", **name, trigger_timestamp="now")
        people = {"add_tasks": [{"to_number": to, "timezone": "UTC"} for to in (BOB, CYD)]}
        results: list[str] = []

        async def added(model: Model) -> None:
            result = await model.client.call_tool("update_batch_call", {**name, **people})
            results.append((result.structured_content or {}).get("result", "refused"))

        async with anyio.create_task_group() as group:
            for model in (one, other):
                group.start_soon(added, model)
        assert "added" in results
        assert await people_of(one, name) == [ANN, number(NEW_YORK, 90), BOB, CYD]
        again = await other.call("update_batch_call", **name, add_tasks=of(CYD, BOB))
        assert again.get("replayed") or again["result"] == "nothing_to_do"
        assert len(await people_of(one, name)) == 4


@pytest.mark.parametrize("status", ["running", "paused"])
async def test_many_small_additions_are_one_large_list(status: str, tmp_path: Path) -> None:
    async with playing("auto", Person(), data_dir=tmp_path, max_calls_per_launch="5", **OPEN) as model:
        name = await made(model, status, ANN, BOB)
        await add(model, name, *numbers(12)[10:])
        text = await model.refused("update_batch_call", "invalid_input", **name, add_tasks=of(*numbers(14)[12:]))
        assert "would have 6 people, more than BATCHCALL_MAX_CALLS_PER_LAUNCH=5" in text
        await add(model, name, DAN)
        assert len(await people_of(model, name)) == 5


async def test_a_day_counts_who_is_added(tmp_path: Path) -> None:
    limits = {"max_calls_per_launch": "9", "max_calls_per_day": "3", "confirm": "off"}
    async with playing("auto", None, data_dir=tmp_path, **limits, **OPEN) as model:
        name = await made(model, "running", ANN, BOB)
        await add(model, name, CYD)
        assert (await model.call("get_backend"))["calls_left_today"] == 0
        text = await model.refused("update_batch_call", "invalid_input", **name, add_tasks=of(DAN))
        assert "BATCHCALL_MAX_CALLS_PER_DAY=3" in text
        assert await people_of(model, name) == [ANN, BOB, CYD]


async def test_after_an_emergency_stop_nobody_is_added_where_they_could_be_called(tmp_path: Path) -> None:
    async with playing("auto", Person(), data_dir=tmp_path, **OPEN) as model:
        running, paused, draft = [await made(model, status) for status in ("running", "paused", "draft")]
        (tmp_path / STOP_FILE).touch()
        for name, code in ((running, "invalid_input"), (paused, "illegal_transition")):
            text = await model.refused("update_batch_call", code, **name, add_tasks=of(BOB))
            assert "emergency stop" in text
            assert await people_of(model, name) == [ANN]
        assert (await add(model, draft, BOB))["result"] == "added"


async def test_draft_mode_adds_to_drafts_alone(tmp_path: Path) -> None:
    async with playing("auto", Person(), data_dir=tmp_path, **OPEN) as model:
        draft, running, scheduled = [await made(model, status) for status in ("draft", "running", "scheduled")]
    async with playing("auto", Person(), data_dir=tmp_path, mode="draft", **OPEN) as model:
        assert (await add(model, draft, BOB))["result"] == "added"
        for name in (running, scheduled):
            text = await model.refused("update_batch_call", "permission_denied", **name, add_tasks=of(BOB))
            assert "BATCHCALL_MODE=draft" in text
            assert await people_of(model, name) == [ANN]


async def test_an_addition_goes_alone_and_may_be_a_file(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    write_csv(files / "more.csv", ["Phone", "plan"], [[ANN, "a"], [BOB, "b"], [CYD, "c"], [DAN, "d"]])
    async with playing("auto", Person(), data_dir=tmp_path / "data", files=files, **OPEN) as model:
        name = await made(model, "draft")
        for other in ({"tasks": of(BOB)}, {"name": "x"}, {"send_now": True}, {"tasks_file": "more.csv"}):
            text = await model.refused("update_batch_call", "invalid_input", **name, add_tasks=of(BOB), **other)
            assert "add_tasks: goes alone" in text
        both = {"add_tasks": of(BOB), "add_tasks_file": "more.csv"}
        assert "not both" in await model.refused("update_batch_call", "invalid_input", **name, **both)
        await model.refused("update_batch_call", "invalid_input", **name, add_tasks_file="/etc/passwd")
        await model.refused("update_batch_call", "invalid_input", **name, add_tasks=of("no number"))
        assert await people_of(model, name) == [ANN]
        added = await model.call("update_batch_call", **name, add_tasks_file="more.csv", rows="1-3")
        assert (added["skipped_rows"][0]["line"], added["changed"]) == (2, {"tasks": [1, 3]})
        assert await people_of(model, name) == [ANN, BOB, CYD]


class Plain:
    """A server of the batch-call REST API without our account: nothing says that it keeps idempotency keys."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/account":
            await Response(status_code=404)(scope, receive, send)
        else:
            await self.app(scope, receive, send)


@asynccontextmanager
async def elsewhere(tmp_path: Path, *, ours: bool = True) -> AsyncIterator[tuple[Model, Front, Recording]]:
    """A model at a dialer on another host, behind a front that loses the answers of additions."""
    dialer = EmbeddedDialer(tmp_path / "dialer", simulated_speed=2000, poll_seconds=0.1)
    await dialer.start()
    key, secret = dialer.credentials
    app: ASGIApp = dialer.app if ours else Plain(dialer.app)
    front = Front(app, lambda method, path, _body: method == "POST" and path.endswith("/tasks"), lambda: None)
    recording = Recording(front, lambda one: one.method == "POST" and one.path.endswith("/tasks"))
    account = {"backend": "batchcall", "api_key": key, "api_secret": secret, "calling_hours": "00:00-24:00"}
    try:
        async with (
            listening(recording) as url,
            playing("auto", Person(), url=url, data_dir=str(tmp_path / "server"), **account) as model,
        ):
            yield model, front, recording
    finally:
        await dialer.aclose()


@pytest.mark.parametrize("status", ["running", "draft"])
@pytest.mark.parametrize("ours", [True, False])
async def test_an_addition_whose_answer_was_lost_is_found_by_its_people(
    ours: bool, status: str, tmp_path: Path
) -> None:
    async with elsewhere(tmp_path, ours=ours) as (model, front, recording):
        name = await made(model, status)
        front.trouble = "carried out"
        added = await add(model, name, BOB, CYD)
        assert added["changed"] == {"tasks": [1, 3]}
        assert "The backend's answer was lost" in added["notes"][-1]
        assert "2 people were sent to be added" in added["summary"]
        assert (await add(model, name, CYD, BOB))["result"] in {"added", "nothing_to_do"}
        assert len(recording.writes) == 1


@pytest.mark.parametrize("status", ["running", "draft"])
async def test_an_addition_that_may_yet_arrive_is_sent_again_only_where_the_server_knows_its_key(
    status: str, tmp_path: Path
) -> None:
    for ours in (True, False):
        async with elsewhere(tmp_path / str(ours), ours=ours) as (model, front, recording):
            name = await made(model, status)
            front.trouble = "carried out later"
            text = await model.refused("update_batch_call", "outcome_unknown", **name, add_tasks=of(BOB, CYD))
            assert "ledger resolve" in text
            if ours:
                assert (await add(model, name, BOB, CYD))["result"] == "added"
                assert len({one.headers["idempotency-key"] for one in recording.writes}) == 1
            else:
                await model.refused("update_batch_call", "outcome_unknown", **name, add_tasks=of(CYD, BOB))
                await model.refused("update_batch_call", "outcome_unknown", **name, add_tasks=of(BOB))
                if status == "draft":
                    await model.refused("start_batch_call", "outcome_unknown", **name, trigger_timestamp="now")
            assert len(recording.writes) == (2 if ours else 1)
            await front.catch_up()
            assert (await add(model, name, BOB, CYD))["result"] in {"added", "nothing_to_do"}
            assert await people_of(model, name) == [ANN, BOB, CYD]


async def test_a_list_that_grew_by_others_is_no_proof(tmp_path: Path) -> None:
    """As many were added as were lost: by somebody else."""
    async with elsewhere(tmp_path, ours=False) as (model, front, _):
        name = await made(model, "running")

        async def somebody_else(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["method"] == "GET" and scope["path"].endswith(name["batch_call_id"]):
                front.app = app
                tags = [(key, value) for key, value in scope["headers"] if key.startswith(b"x-api")]
                body = b'{"tasks": [{"to_number": "%s"}]}' % DAN.encode()
                path = f"{scope['path']}/tasks"
                added: dict[str, Any] = {**scope, "method": "POST", "path": path, "raw_path": path.encode()}

                async def content() -> dict[str, Any]:
                    return {"type": "http.request", "body": body, "more_body": False}

                async def unheard(_message: Any) -> None:
                    return

                await app({**added, "headers": [*tags, (b"content-type", b"application/json")]}, content, unheard)
            await app(scope, receive, send)

        app = front.app

        def lost() -> None:
            front.app = somebody_else

        front.kill, front.trouble = lost, "never carried out"
        text = await model.refused("update_batch_call", "outcome_unknown", **name, add_tasks=of(BOB))
        assert "ledger resolve" in text
        assert await people_of(model, name) == [ANN, DAN]


async def test_a_server_without_it_refuses_and_nothing_changes(tmp_path: Path) -> None:
    """404 of the path, while the batch call is there."""
    async with elsewhere(tmp_path) as (model, front, _):
        name = await made(model, "draft")
        app = front.app

        async def without(scope: Scope, receive: Receive, send: Send) -> None:
            lacks = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith("/tasks")
            await (Response(status_code=404) if lacks else app)(scope, receive, send)

        front.app = without
        text = await model.refused("update_batch_call", "not_supported", **name, add_tasks=of(BOB))
        assert "Could not add people to batch call" in text
        assert await people_of(model, name) == [ANN]


async def test_the_launch_names_the_rows_that_were_skipped_of_the_list_and_of_what_was_added(tmp_path: Path) -> None:
    """Not those who were there: they are called."""
    person = Person()
    async with playing("auto", person, data_dir=tmp_path, **OPEN) as model:
        name = await made(model, "draft", ANN, ANN, BOB)
        await add(model, name, BOB, CYD, "no number")
        await add(model, name, DAN, DAN)
        await model.call("start_batch_call", **name, trigger_timestamp=tomorrow_at(9).isoformat())
        assert "3 rows were skipped: 1 invalid, 2 duplicates." in person.questions[0]
        assert "Call 4 people" in person.questions[0]


async def test_where_nobody_is_asked_who_is_called_by_another_batch_call_is_not_added(tmp_path: Path) -> None:
    unattended = {"confirm": "off", "max_calls_per_launch": "9", "skip_people_max": "50"}
    async with playing("auto", None, data_dir=tmp_path, **unattended, **OPEN) as model:
        name = await made(model, "running")
        await made(model, "scheduled", BOB)
        added = await add(model, name, BOB, CYD, DAN)
        assert added["changed"] == {"tasks": [1, 3]}
        assert [(row["kind"], row["to_number"]) for row in added["skipped_rows"]] == [("concern", BOB)]
        assert await people_of(model, name) == [ANN, CYD, DAN]


async def test_an_answer_that_breaks_off_is_looked_up_too(tmp_path: Path) -> None:
    async with elsewhere(tmp_path) as (model, front, recording):
        name = await made(model, "running")
        front.trouble = "half answered"
        assert (await add(model, name, BOB))["changed"] == {"tasks": [1, 2]}
        assert len(recording.writes) == 1


async def test_nobody_is_added_to_a_test_call_and_the_first_people_stay_the_first(tmp_path: Path) -> None:
    """A test rings as often as somebody asks for it: a list must not pass as one."""
    mine = number(NEW_YORK, 50)
    person = Person()
    async with playing("auto", person, data_dir=tmp_path, test_numbers=mine, **OPEN) as model:
        name = await made(model, "draft", ANN, BOB)
        heard = await model.call("start_batch_call", **name, test_number=mine)
        test = {"batch_call_id": heard["batch_call"]["batch_call_id"]}
        text = await model.refused("update_batch_call", "invalid_input", **test, add_tasks=of(CYD))
        assert "is a test call of" in text
        await model.call("start_batch_call", **name, trigger_timestamp="now", first=1)
        await add(model, name, CYD)
        assert "It pauses after its first person: who is added may wait" in person.questions[-1]
    assert dials(tmp_path) == Counter([mine])
