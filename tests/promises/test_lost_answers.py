"""What is told, and what may follow, after an answer was lost."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from starlette.requests import Request
from starlette.responses import Response

from batchcall_mcp.backends.vendors.speechify import SpeechifyBackend
from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.model import WEEKDAYS
from tests.kills.scenes import Front
from tests.vendors import magpipe, zudu
from tests.vendors.bland import Bland
from tests.vendors.cartesia import Cartesia
from tests.vendors.elevenlabs import ElevenLabs
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.speechify import Speechify
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Model, Person, number, playing

ANN, BOB, CYD, DAN = (number(NEW_YORK, line) for line in (0, 1, 2, 3))
FIRST, SECOND = [{"to_number": ANN}, {"to_number": BOB}], [{"to_number": CYD}, {"to_number": DAN}]


class Unreliable(Zudu):
    """`loses`: the next create takes effect, and its answer is an error; `drops`: it comes to nothing."""

    loses = drops = False
    list_is_down = False
    tells_when = True

    async def _create(self, request: Request) -> Response:
        loses, self.loses = self.loses, False
        drops, self.drops = self.drops, False
        if loses:
            await super()._create(request)
        return Response(status_code=500) if loses or drops else await super()._create(request)

    async def _list(self, request: Request) -> Response:
        return Response(status_code=404) if self.list_is_down else await super()._list(request)

    def _shown(self, batch: zudu.Batch, told: tuple[str, ...] | None = None) -> dict[str, Any]:
        shown = super()._shown(batch, told)
        return shown if self.tells_when else {name: value for name, value in shown.items() if "created" not in name}

    def people(self, batch_call_id: str) -> list[str]:
        return [task.to_number for task in self.batches[batch_call_id].tasks]

    def made_elsewhere(self, name: str, people: list[str], age: timedelta = timedelta()) -> str:
        """In the vendor's own web application, or by another program."""
        made = f"batch_call_web_{len(self.batches)}"
        tasks = [zudu.Task(f"task_{at}", one, {}) for at, one in enumerate(people)]
        body = {"from_number": FROM, "name": name}
        self.batches[made] = zudu.Batch(made, "org_first", self.now - age, body, "DRAFT", None, tasks)
        return made


@asynccontextmanager
async def desk(tmp_path: Path, vendor: Zudu) -> AsyncIterator[Model]:
    async with (
        vendor.served() as url,
        playing(
            "auto",
            Person(),
            backend="zudu",
            url=url,
            api_key=zudu.KEY,
            api_secret=zudu.SECRET,
            data_dir=tmp_path,
            calling_hours="00:00-24:00",
        ) as model,
    ):
        yield model


async def test_of_two_lists_with_one_name_none_is_taken_for_the_other(tmp_path: Path) -> None:
    """As of 2,000 rows in two parts. Else the second list's start calls the first, and the first is made once more."""
    vendor = Unreliable()
    async with desk(tmp_path, vendor) as model:
        vendor.loses = vendor.list_is_down = True
        await model.refused("create_batch_call", "outcome_unknown", from_number=FROM, name="November", tasks=FIRST)
        vendor.drops, vendor.list_is_down = True, False
        result = await model.client.call_tool(
            "create_batch_call", {"from_number": FROM, "name": "November", "tasks": SECOND}
        )
        if not result.is_error:
            told = (result.structured_content or {})["batch_call"]["batch_call_id"]
            assert vendor.people(told) == [CYD, DAN], f"it is said to be made as {told}"


@pytest.mark.parametrize("tells_when", [True, False])
async def test_a_draft_that_somebody_else_made_for_other_people_is_not_said_to_be_ours(
    tells_when: bool, tmp_path: Path
) -> None:
    vendor = Unreliable()
    vendor.tells_when = tells_when
    async with desk(tmp_path, vendor) as model:
        vendor.made_elsewhere("November", [CYD, DAN], timedelta(minutes=2) if tells_when else timedelta(days=90))
        vendor.drops = True
        result = await model.client.call_tool(
            "create_batch_call", {"from_number": FROM, "name": "November", "tasks": FIRST}
        )
        if not result.is_error:
            told = (result.structured_content or {})["batch_call"]["batch_call_id"]
            assert vendor.people(told) == [ANN, BOB], f"it is said to be made as {told}"


@pytest.mark.parametrize("name", ["November (retry of batch_7)", "November\u200e\nsecond", " November "])
async def test_a_draft_is_found_whatever_its_name(name: str, tmp_path: Path) -> None:
    vendor = Unreliable()
    async with desk(tmp_path, vendor) as model:
        vendor.loses = True
        made = await model.call("create_batch_call", from_number=FROM, name=name, tasks=FIRST)
        assert made["batch_call"]["batch_call_id"] in vendor.batches


async def test_what_was_launched_is_not_said_not_to_have_been_sent(tmp_path: Path) -> None:
    """The ledger's disk is full between the launch and its lost answer."""

    class Fills(Zudu):
        async def _execute(self, request: Request) -> Response:
            await super()._execute(request)
            ledger = sqlite3.connect(tmp_path / "ledger.db")
            ledger.execute(
                "CREATE TRIGGER full BEFORE UPDATE ON writes BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
            )
            ledger.close()
            return Response(status_code=502)

    vendor = Fills()
    async with desk(tmp_path, vendor) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=FIRST)
        name = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        result = await model.client.call_tool("start_batch_call", {**name, "trigger_timestamp": "now"})
    assert vendor.dialled == [ANN, BOB]
    assert "Nothing was sent" not in str(result.content), str(result.content)


async def test_a_second_launch_of_the_same_people_tells_of_the_one_whose_outcome_is_unknown(tmp_path: Path) -> None:
    vendor = Magpipe()
    front = Front(vendor.recording, lambda _method, path, body: path == "/batch-calls" and body["action"] == "create",
                  lambda: None)  # fmt: skip
    async with (
        listening(front) as url,
        playing("auto", person := Person(), backend="magpipe", url=url, api_key=magpipe.KEY, data_dir=tmp_path,
                calling_hours="00:00-24:00") as model,
    ):  # fmt: skip
        front.trouble = "carried out later"
        launch: dict[str, Any] = {"from_number": FROM, "tasks": FIRST}
        await model.refused("create_batch_call", "outcome_unknown", **launch, trigger_timestamp="now")
        draft = await model.call("create_batch_call", **launch)
        name = {"batch_call_id": draft["batch_call"]["batch_call_id"]}
        await model.call("start_batch_call", **name, trigger_timestamp="now")
        await front.catch_up()
    assert sorted(vendor.dialled) == [ANN, ANN, BOB, BOB]
    assert "not known" in person.questions[-1] or "unknown" in person.questions[-1], person.questions[-1]


async def test_a_draft_whose_launch_may_still_arrive_is_not_said_to_dial_nobody(tmp_path: Path) -> None:
    vendor = Zudu()
    front = Front(vendor.recording, lambda _method, path, _body: path.endswith("/execute"), lambda: None)
    account = {"backend": "zudu", "api_key": zudu.KEY, "api_secret": zudu.SECRET, "calling_hours": "00:00-24:00"}
    async with (
        listening(front) as url,
        playing("auto", Person(), url=url, data_dir=tmp_path, **account) as model,
    ):
        made = await model.call("create_batch_call", from_number=FROM, tasks=FIRST)
        name = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        front.trouble = "carried out later"
        await model.refused("start_batch_call", "outcome_unknown", **name, trigger_timestamp="now")
        told = await model.call("cancel_batch_call", **name)
        await front.catch_up()
    assert vendor.dialled == [ANN, BOB]
    assert "dials nobody" not in told["summary"], told["summary"]


async def test_a_create_is_not_said_to_be_done_by_a_draft_that_holds_other_people_since(tmp_path: Path) -> None:
    vendor = Unreliable()
    async with desk(tmp_path, vendor) as model:
        launch: dict[str, Any] = {"from_number": FROM, "tasks": FIRST}
        made = (await model.call("create_batch_call", **launch))["batch_call"]["batch_call_id"]
        await model.call("update_batch_call", batch_call_id=made, tasks=SECOND)
        again = await model.call("create_batch_call", **launch)
        told = again["batch_call"]["batch_call_id"]
        assert vendor.people(told) == [ANN, BOB] or "changed" in str(again), again["summary"]


async def test_a_launch_that_never_arrived_is_not_said_to_have_been_done_because_it_was_cancelled(
    tmp_path: Path,
) -> None:
    vendor = Magpipe()
    batch = vendor._stored({"name": "November", "caller_id": FROM}, [ANN, BOB], "draft")
    front = Front(vendor.recording, lambda _method, path, body: path == "/batch-calls" and body["action"] == "start",
                  lambda: None)  # fmt: skip
    async with (
        listening(front) as url,
        playing("auto", Person(), backend="magpipe", url=url, api_key=magpipe.KEY, data_dir=tmp_path,
                calling_hours="00:00-24:00") as model,
    ):  # fmt: skip
        front.trouble = "never carried out"
        start = {"batch_call_id": batch["id"], "trigger_timestamp": "now"}
        await model.refused("start_batch_call", "outcome_unknown", **start)
        await model.call("cancel_batch_call", batch_call_id=batch["id"])
        result = await model.client.call_tool("start_batch_call", start)
    assert vendor.dialled == []
    assert "launched" not in str(result.content), str(result.structured_content or result.content)


async def test_what_was_changed_is_told_although_it_was_launched_since(tmp_path: Path) -> None:
    vendor = Unreliable()
    async with desk(tmp_path, vendor) as model:
        launch: dict[str, Any] = {"from_number": FROM, "tasks": FIRST}
        made = (await model.call("create_batch_call", **launch))["batch_call"]["batch_call_id"]
        await model.call("update_batch_call", batch_call_id=made, tasks=SECOND)
        await model.call("start_batch_call", batch_call_id=made, trigger_timestamp="now")
        again = await model.call("create_batch_call", **launch)
    told = again["batch_call"]["batch_call_id"]
    assert vendor.dialled == [CYD, DAN]
    assert vendor.people(told) == [ANN, BOB] or "changed" in str(again), again["summary"]


async def test_a_draft_whose_tasks_the_backend_shows_later_is_not_made_again(tmp_path: Path) -> None:
    """It lists the batch call with its size at once; its tasks are stored in the background."""

    class Slow(Unreliable):
        behind = True

        async def _tasks(self, request: Request) -> Response:
            if not self.behind:
                return await super()._tasks(request)
            batch = self._batch(request)
            kept, batch.tasks = batch.tasks, []
            answer = await super()._tasks(request)
            batch.tasks = kept
            return answer

    vendor = Slow()
    async with desk(tmp_path, vendor) as model:
        vendor.loses = True
        result = await model.client.call_tool("create_batch_call", {"from_number": FROM, "tasks": FIRST})
    assert "does not show it" not in str(result.content), str(result.content)


async def test_a_list_of_tasks_without_an_end_does_not_hold_a_look_for_ever(tmp_path: Path) -> None:
    class Endless(Unreliable):
        async def _tasks(self, request: Request) -> Response:
            rows = [{"task_id": f"t{at}", "to_number": ANN, "status": "PENDING"} for at in range(100)]
            return self._success("Tasks retrieved", {"tasks": rows, "pagination": {"has_next_page": True}})

    vendor = Endless()
    async with desk(tmp_path, vendor) as model:
        vendor.loses = True
        with anyio.fail_after(60):
            await model.client.call_tool("create_batch_call", {"from_number": FROM, "tasks": FIRST})


async def test_every_write_whose_answer_was_lost_says_so(tmp_path: Path) -> None:
    """No use case can drop that sentence: what is known from a look at the backend is not known from an answer."""
    dialer = EmbeddedDialer(tmp_path / "dialer", simulated_speed=2000, poll_seconds=0.1, daily_cap=9)
    await dialer.start()
    key, secret = dialer.credentials
    front = Front(dialer.app, lambda method, _path, _body: method != "GET", lambda: None)
    account = {"backend": "batchcall", "api_key": key, "api_secret": secret, "calling_hours": "00:00-24:00"}
    in_three_days = datetime.now(UTC) + timedelta(days=3)
    heard: dict[str, str] = {}
    async with (
        listening(front) as url,
        playing("auto", Person(), url=url, data_dir=tmp_path / "server", **account) as model,
    ):

        async def lost(tool: str, **arguments: Any) -> dict[str, Any]:
            front.trouble = "half answered"
            told = await model.call(tool, **arguments)
            assert str(front.trouble) == "none", f"{tool} sent nothing"
            heard[tool] = " ".join(told.get("notes", []))
            return told

        made = await lost("create_batch_call", from_number=FROM, tasks=[{"to_number": number(NEW_YORK, 7)}],
                          window=ALWAYS)  # fmt: skip
        name = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await lost("update_batch_call", **name, tasks=[{"to_number": one} for one in (number(NEW_YORK, 7), ANN)])
        await lost("start_batch_call", **name, trigger_timestamp="2030-01-01T12:00Z")
        await lost("cancel_batch_call", **name)
        await lost("delete_batch_call", **name)
        made = await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": number(NEW_YORK, 7)}],
                                window=ALWAYS | {"days": [WEEKDAYS[in_three_days.weekday()]]})  # fmt: skip
        name = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await model.call("start_batch_call", **name, trigger_timestamp="now")
        await lost("pause_batch_call", **name)
        await lost("resume_batch_call", **name)
        made = await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": number(NEW_YORK, 17)}],
                                window=ALWAYS)  # fmt: skip
        name = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await model.call("start_batch_call", **name, trigger_timestamp="now")
        await model.call("watch_batch_call", **name, timeout_seconds=15)
        await lost("retry_batch_call", **name)
    await dialer.aclose()
    assert len(heard) == 8
    assert {tool: notes for tool, notes in heard.items() if "The backend's answer was lost; " not in notes} == {}


@pytest.mark.parametrize("opened", [ElevenLabs, Bland, Cartesia, Speechify])
async def test_a_lost_create_that_dials_is_found_by_its_name_and_never_sent_again(
    opened: type[ElevenLabs | Bland | Cartesia | Speechify], tmp_path: Path
) -> None:
    """No read shows a key or an id of ours: what it lists among its newest is all that there is."""
    vendor = opened()  # its clock begins now
    launch: dict[str, Any] = {"from_number": FROM, "agent_id": vendor.agent_id, "tasks": FIRST, "name": "November"}
    launch["trigger_timestamp"] = "now"
    backend = type(vendor).__name__.lower()
    async with (
        vendor.served() as url,
        playing("auto", Person(), backend=backend, url=url, api_key=vendor.key, data_dir=tmp_path,
                calling_hours="00:00-24:00") as model,
    ):  # fmt: skip
        vendor.recording.swallow_next_write = True
        made = await model.call("create_batch_call", **launch)
        again = await model.call("create_batch_call", **launch)
    (batch_id,) = vendor.batch_ids()
    assert made["batch_call"]["batch_call_id"] == again["batch_call"]["batch_call_id"] == batch_id
    assert "The backend's answer was lost" in str(made["notes"])
    assert "Nothing was sent by this call" in again["summary"]
    assert vendor.dialled == [ANN, BOB]


class Dropping(Speechify):
    """The first create comes to nothing, and its answer is an error that does not say so."""

    drops = True

    async def _create(self, request: Request) -> Response:
        drops, self.drops = self.drops, False
        return Response(status_code=502) if drops else await super()._create(request)


@pytest.mark.parametrize("kept", [SpeechifyBackend.capabilities.keys_kept, timedelta()], ids=["kept", "forgotten"])
async def test_a_create_is_sent_again_only_while_its_key_is_kept(
    kept: timedelta, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that the vendor has forgotten makes a second batch call, which calls the same people."""
    capabilities = replace(SpeechifyBackend.capabilities, keys_kept=kept)
    monkeypatch.setattr(SpeechifyBackend, "capabilities", capabilities)
    vendor = Dropping()
    launch: dict[str, Any] = {"from_number": FROM, "agent_id": vendor.agent_id, "tasks": FIRST}
    launch["trigger_timestamp"] = "now"
    async with (
        vendor.served() as url,
        playing("auto", Person(), backend="speechify", url=url, api_key=vendor.key, data_dir=tmp_path,
                calling_hours="00:00-24:00") as model,
    ):  # fmt: skip
        await model.refused("create_batch_call", "outcome_unknown", **launch)
        if kept:
            await model.call("create_batch_call", **launch)
        else:
            await model.refused("create_batch_call", "outcome_unknown", **launch)
    first, *more = (one.headers["idempotency-key"] for one in vendor.writes)
    assert more == ([first] if kept else [])
    assert vendor.dialled == ([ANN, BOB] if kept else [])
