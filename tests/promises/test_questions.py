"""What a person approves is what happens: the question and the result name it, and no more than is known."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.vendors import zudu
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, LOS_ANGELES, NEW_YORK, Model, Person, number, numbers, playing

ANN, BOB, EVE = (number(NEW_YORK, line) for line in (0, 1, 2))
VOICEMAIL, BUSY = number(NEW_YORK, 8), number(NEW_YORK, 7)
PAIR = {"backend": "zudu", "api_key": zudu.KEY, "api_secret": zudu.SECRET}
LATER = (datetime.now(UTC) + timedelta(days=2)).replace(hour=17, minute=0, second=0, microsecond=0)


class Unreadable(Zudu):
    """It does not give the tasks of a batch call any more."""

    forgets = False

    async def _tasks(self, request: Request) -> Response:
        if self.forgets:
            return JSONResponse({"message": "Not Found"}, status_code=404)
        return await super()._tasks(request)


@asynccontextmanager
async def on_zudu(vendor: Zudu, folder: Path) -> AsyncIterator[tuple[Model, Person]]:
    """A model on this vendor, with a ledger in this folder, and a person who says yes."""
    async with vendor.served() as url, at_zudu(url, folder) as (model, person):
        yield model, person


@asynccontextmanager
async def at_zudu(url: str, folder: Path) -> AsyncIterator[tuple[Model, Person]]:
    """The same on a vendor that is served already."""
    async with playing("auto", person := Person(), url=url, data_dir=folder, **PAIR) as model:
        yield model, person


async def made(model: Model, *tasks: dict[str, Any], **fields: Any) -> dict[str, str]:
    """The id of a new draft of these people, as an argument."""
    answer = await model.call("create_batch_call", from_number=FROM, tasks=list(tasks), **fields)
    return {"batch_call_id": answer["batch_call"]["batch_call_id"]}


def people(*to_numbers: str) -> list[dict[str, Any]]:
    return [{"to_number": one} for one in to_numbers]


class TestWhatWasSkipped:
    ROWS = (*people(ANN, ANN), {"to_number": "+1"}, *people(BOB))
    SAID = "2 rows were skipped: 1 invalid, 1 duplicate."

    async def test_the_launch_names_the_rows_that_were_skipped_when_the_list_was_made(self, tmp_path: Path) -> None:
        async with Zudu().served() as url:
            async with at_zudu(url, tmp_path) as (model, _):
                draft = await made(model, *self.ROWS)
            # Another process on the same ledger, days later.
            async with at_zudu(url, tmp_path) as (model, person):
                begun = await model.call("start_batch_call", **draft, trigger_timestamp="now")
        assert self.SAID in person.questions[0]
        assert begun["preflight"]["skipped_before"] == {"invalid": 1, "duplicate": 1}

    async def test_another_machine_does_not_know_of_them_and_says_nothing(self, tmp_path: Path) -> None:
        async with Zudu().served() as url:
            async with at_zudu(url, tmp_path / "here") as (model, _):
                draft = await made(model, *self.ROWS)
            async with at_zudu(url, tmp_path / "there") as (model, person):
                await model.call("start_batch_call", **draft, trigger_timestamp="now")
        assert "skipped" not in person.questions[0]

    async def test_a_list_that_was_replaced_since_has_its_own(self, tmp_path: Path) -> None:
        async with on_zudu(Zudu(), tmp_path) as (model, person):
            draft = await made(model, *self.ROWS)
            await model.call("update_batch_call", **draft, tasks=people(EVE, EVE, BOB))
            await model.call("update_batch_call", **draft, name="Renamed")
            await model.call("start_batch_call", **draft, trigger_timestamp=LATER.isoformat())
            await model.call("update_batch_call", **draft, tasks=people(BOB))
        assert "1 row was skipped: 1 duplicate." in person.questions[0]
        assert "skipped" not in person.questions[1]


async def test_the_agent_is_named_and_what_it_says_first_is_read_out(tmp_path: Path) -> None:
    async with on_zudu(Zudu(), tmp_path) as (model, person):
        draft = await made(model, *people(ANN))
        await model.call("start_batch_call", **draft, trigger_timestamp="now")
    said = person.questions[0]
    assert said.startswith("Cannot be stopped once started. ")
    assert f'Agent "Reminder" ({zudu.AGENT}) speaks, from +1 415 555 0100.' in said
    assert 'It begins: "Hi {{name}}, this is the clinic."' in said


class TestTheDailyCap:
    """The dialer dials a number three times within 24 hours, and keeps who was dialled so often back."""

    async def dialled_three_times(self, model: Model) -> None:
        for round_ in range(3):
            batch = await made(model, *people(ANN), window=ALWAYS, name=f"Round {round_}")
            await model.call("start_batch_call", **batch, trigger_timestamp="now")
            with anyio.fail_after(60):
                seen = await model.call("watch_batch_call", **batch, timeout_seconds=15)
            assert seen["batch_call"]["status"] == "completed"

    async def test_who_would_not_be_dialled_today_and_when_they_would(self, tmp_path: Path) -> None:
        async with playing("auto", person := Person(), data_dir=tmp_path, simulated_speed="2000") as model:
            await self.dialled_three_times(model)
            batch = await made(model, *people(ANN, BOB), window=ALWAYS)
            begun = await model.call("start_batch_call", **batch, trigger_timestamp="now")
        assert "1 of them waits at least until " in person.questions[-1]
        assert "their time: they were dialled often enough within 24 hours." in person.questions[-1]
        assert [note for note in begun["preflight"]["notes"] if "often enough" in note]

    async def test_a_launch_that_dials_nobody_today_says_so_first(self, tmp_path: Path) -> None:
        async with playing("auto", person := Person(), data_dir=tmp_path, simulated_speed="2000") as model:
            await self.dialled_three_times(model)
            batch = await made(model, *people(ANN), window=ALWAYS)
            await model.call("start_batch_call", **batch, trigger_timestamp="now")
        assert person.questions[-1].startswith(
            "Nobody is dialled before tomorrow: they were dialled often enough within 24 hours. "
        )


class TestAnUpdate:
    async def test_a_list_of_the_same_length_is_replaced_and_says_so(self, tmp_path: Path) -> None:
        async with playing("auto", data_dir=tmp_path) as model:
            draft = await made(model, *people(*numbers(3)), window=ALWAYS)
            changed = await model.call("update_batch_call", **draft, tasks=people(ANN, *numbers(10)[8:]))
            same = await model.call("update_batch_call", **draft, tasks=people(*reversed([ANN, *numbers(10)[8:]])))
            details = [{"to_number": ANN, "name": "Ann"}, *people(*numbers(10)[8:])]
            other = await model.call("update_batch_call", **draft, tasks=details)
        assert "2 of 3 people replaced" in changed["summary"]
        assert changed["changed"] == {"tasks": [3, 3]}
        assert "the backend shows no difference" in same["summary"]
        assert "changed" not in same
        assert "the same 3 people, 1 with other details" in other["summary"]

    async def test_settings_are_named_with_what_they_were(self, tmp_path: Path) -> None:
        async with playing("auto", data_dir=tmp_path) as model:
            draft = await made(model, *people(ANN), name="A", agent_id="agent_1", window=ALWAYS)
            changed = await model.call(
                "update_batch_call", **draft, name="B", agent_id="agent_2", window={"start": "09:00", "end": "17:00"}
            )
            same = await model.call("update_batch_call", **draft, name="B", agent_id="agent_2")
        assert "agent agent_2 instead of agent_1" in changed["summary"]
        assert "hours 9:00 to 17:00 their time instead of 0:00 to 24:00 their time" in changed["summary"]
        assert 'name "B" instead of "A"' in changed["summary"]
        assert "the backend shows no difference" in same["summary"]

    async def test_what_the_backend_does_not_show_is_neither_a_change_nor_no_difference(self, tmp_path: Path) -> None:
        async with on_zudu(Zudu(), tmp_path) as (model, _):
            draft = await made(model, *people(ANN))
            hours = {"start": "09:00", "end": "17:00", "timezone": "America/New_York"}
            changed = await model.call("update_batch_call", **draft, tasks=people(ANN), window=hours)
        assert "no difference" not in changed["summary"]
        assert "whether their variables change is not known" in changed["summary"]

    async def test_a_scheduled_one_is_asked_about_with_the_same_words(self, tmp_path: Path) -> None:
        async with on_zudu(Zudu(), tmp_path) as (model, person):
            draft = await made(model, *people(ANN, BOB, EVE))
            await model.call("start_batch_call", **draft, trigger_timestamp=LATER.isoformat())
            others = people(*(number(LOS_ANGELES, line) for line in (3, 4, 5)))
            changed = await model.call("update_batch_call", **draft, tasks=others)
        assert "Change: 3 of 3 people replaced." in person.questions[-1].partition("Call 3 people")[0]
        assert "3 of 3 people replaced" in changed["summary"]

    async def test_a_list_that_cannot_be_read_before_is_replaced_and_no_more_is_said(self, tmp_path: Path) -> None:
        vendor = Unreadable()
        async with on_zudu(vendor, tmp_path) as (model, _):
            draft = await made(model, *people(ANN, BOB, EVE))
            vendor.forgets = True
            changed = await model.call("update_batch_call", **draft, tasks=people(*numbers(20)[17:]))
        assert "the list is replaced by 3 people (what it held before could not be read)" in changed["summary"]
        assert changed["changed"] == {"tasks": [3, 3]}

    async def test_that_a_launch_by_update_moves_it_is_part_of_the_change(self, tmp_path: Path) -> None:
        async with playing("auto", person := Person(), data_dir=tmp_path, simulated_speed="2000") as model:
            draft = await made(model, *people(ANN), window=ALWAYS)
            await model.call("start_batch_call", **draft, trigger_timestamp=LATER.isoformat())
            await model.call("update_batch_call", **draft, send_now=True, agent_id="agent_2")
        day = f"{LATER:%a} {LATER.day} {LATER:%b %Y}"
        assert person.questions[-1].startswith(f"Change: agent agent_2; it was scheduled for {day} 17:00 UTC.")


@asynccontextmanager
async def ended(folder: Path) -> AsyncIterator[tuple[Model, Person, dict[str, str]]]:
    """Two voicemails, one busy line, one who was reached."""
    async with playing("auto", person := Person(), data_dir=folder, simulated_speed="2000") as model:
        batch = await made(model, *people(ANN, VOICEMAIL, number(LOS_ANGELES, 8), BUSY), window=ALWAYS)
        await model.call("start_batch_call", **batch, trigger_timestamp="now")
        with anyio.fail_after(60):
            seen = await model.call("watch_batch_call", **batch, timeout_seconds=15)
        assert seen["batch_call"]["status"] == "completed"
        yield model, person, batch


class TestARetry:
    SAID = '2 voicemails are not called again (task_status=["voicemail"] calls them).'

    async def test_voicemails_that_are_left_alone_are_named_before_and_after(self, tmp_path: Path) -> None:
        async with ended(tmp_path) as (model, person, batch):
            again = await model.call("retry_batch_call", **batch)
        assert "Call 1 person " in person.questions[-1]
        assert self.SAID in person.questions[-1]
        assert self.SAID in again["summary"]
        assert self.SAID in again["preflight"]["notes"]
        assert again["preflight"].get("warnings", []) == []

    async def test_who_is_named_is_called_and_the_others_are_named(self, tmp_path: Path) -> None:
        async with ended(tmp_path) as (model, person, batch):
            await model.call("retry_batch_call", **batch, task_status=["voicemail"])
        assert "Call 2 people " in person.questions[-1]
        assert "voicemails are not" not in person.questions[-1]
        assert '1 busy line is not called again (task_status=["busy"] calls them).' in person.questions[-1]

    async def test_nobody_to_call_is_not_nobody_left(self, tmp_path: Path) -> None:
        async with ended(tmp_path) as (model, _, batch):
            nobody = await model.call("retry_batch_call", **batch, task_status=["failed"])
        assert nobody["result"] == "nothing_to_do"
        assert self.SAID in nobody["summary"]
