"""An adversarial review of the yes: each test rings a phone without one, or bends the question that a person judges."""

from __future__ import annotations

import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from batchcall_mcp.guard.approval import samples_of
from batchcall_mcp.model import CallTask
from tests import forked
from tests.operator.processes import of_zudu
from tests.server.person import presses
from tests.server.raw import CLIENT, LEGACY, RawClient, raw_client
from tests.server.test_outside_the_client import Browser, scene
from tests.server.transports import ROOT
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Era, Model, Person, Thinking, every_era, number, playing, write_csv

ANN, BOB, EVE = (number(NEW_YORK, line) for line in (0, 1, 2))
PAIR: dict[str, Any] = {
    "backend": "zudu",
    "api_key": zudu.KEY,
    "api_secret": zudu.SECRET,
    "calling_hours": "00:00-24:00",
}


async def draft(model: Model, *tasks: dict[str, Any]) -> dict[str, Any]:
    """The arguments that start a new draft of these people now."""
    made = await model.call("create_batch_call", from_number=FROM, tasks=list(tasks))
    return {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}


def spoken(owed: str) -> dict[str, Any]:
    return {"to_number": ANN, "dynamic_variables": {"name": "Ann", "owes": owed}}


class TestWhatTheAgentSaysIsChangedBehindTheYes:
    """Zudu gives no variables back: the batch call looks the same, and everybody is told something else."""

    @every_era
    async def test_variables_that_are_replaced_while_a_form_is_open_are_asked_about(
        self, era: Era, tmp_path: Path
    ) -> None:
        vendor, person = Zudu(), Thinking()
        async with vendor.served() as url, playing(era, person, url=url, data_dir=tmp_path, **PAIR) as model:
            launch = await draft(model, spoken("10 dollars"))
            person.meanwhile = lambda: model.call(
                "update_batch_call", batch_call_id=launch["batch_call_id"], tasks=[spoken("9,000 dollars")]
            )
            await model.call("start_batch_call", **launch)
        assert len(person.questions) == 2, "the yes was to another text"

    async def test_variables_that_are_replaced_after_the_page_was_approved_are_asked_about(
        self, tmp_path: Path
    ) -> None:
        browser = Browser()
        async with scene("auto", tmp_path, browser, calling_hours="00:00-24:00") as on:
            launch = await draft(on.model, spoken("10 dollars"))
            other = {"batch_call_id": launch["batch_call_id"], "tasks": [spoken("9,000 dollars")]}

            async def approves_and_changes(address: str) -> None:
                await presses(address, "approve")
                if len(browser.opened) == 1:
                    await on.model.call("update_batch_call", **other)

            browser.then = approves_and_changes
            await on.result("start_batch_call", **launch)
        assert len(browser.opened) == 2, "the yes was to another text"

    async def test_a_code_does_not_survive_a_change_of_the_variables(self, tmp_path: Path) -> None:
        vendor = Zudu()
        async with (
            vendor.served() as url,
            playing("auto", url=url, data_dir=tmp_path, confirm="code", **PAIR) as model,
        ):
            launch = await draft(model, spoken("10 dollars"))
            asked = await model.call("start_batch_call", **launch)
            await model.call(
                "update_batch_call", batch_call_id=launch["batch_call_id"], tasks=[spoken("9,000 dollars")]
            )
            told = await model.call("start_batch_call", **launch, confirmation_code=asked["confirmation_code"])
        assert told["result"] == "confirmation_required"
        assert vendor.dialled == []


class Retold(Zudu):
    """The person in the vendor's own web application: another agent answers for the number."""

    agent, name, begins = zudu.AGENT, "Reminder", "Hi {{name}}, this is the clinic."

    async def _numbers(self, request: Request) -> Response:
        answer = json.loads(bytes((await super()._numbers(request)).body))
        answer["data"]["phone_numbers"][0]["outbound_agent_id"] = self.agent
        return JSONResponse(answer)

    async def _agents(self, request: Request) -> Response:
        answer = json.loads(bytes((await super()._agents(request)).body))
        answer["data"]["agents"][0] |= {
            "agent_id": self.agent,
            "agent_name": self.name,
            "begin_message": self.begins,
        }
        return JSONResponse(answer)


@pytest.mark.parametrize("what", ["agent", "begins"])
async def test_another_agent_or_another_text_than_the_question_named_is_asked_about(what: str, tmp_path: Path) -> None:
    vendor, person = Retold(), Thinking()
    async with vendor.served() as url, playing("auto", person, url=url, data_dir=tmp_path, **PAIR) as model:
        launch = await draft(model, spoken("10 dollars"))

        async def changes() -> None:
            if what == "agent":
                vendor.agent, vendor.name = "agent_of_somebody_else", "Collections"
            else:
                vendor.begins = "You owe us {{owes}}. Pay today."

        person.meanwhile = changes
        await model.call("start_batch_call", **launch)
    assert len(person.questions) == 2, "who speaks, and what, is part of what was approved"


class Claiming(Zudu):
    """Says, or does not say, that its carrier is simulated."""

    claims = True

    def _shown(self, batch: zudu.Batch, told: tuple[str, ...] | None = None) -> dict[str, Any]:
        shown = super()._shown(batch, told)
        return shown | ({"carrier": "simulated"} if self.claims else {"carrier": "twilio"})


class TestABackendThatClaimsToBeSimulated:
    async def test_a_yes_to_a_simulated_call_is_not_one_to_a_real_call(self, tmp_path: Path) -> None:
        vendor, person = Claiming(), Thinking()
        settings = PAIR | {"backend": "batchcall", "confirm": "person"}
        async with vendor.served() as url, playing("auto", person, url=url, data_dir=tmp_path, **settings) as model:
            launch = await draft(model, {"to_number": ANN})

            async def changes() -> None:
                vendor.claims = False

            person.meanwhile = changes
            await model.call("start_batch_call", **launch)
        assert "no real phone rings" in person.questions[0]
        assert len(person.questions) == 2, "the person was told that no phone rings"
        assert "no real phone rings" not in person.questions[1]

    async def test_a_word_that_only_our_dialer_uses_is_not_believed_of_zudu(self, tmp_path: Path) -> None:
        """With it the model gets a code, and confirms for itself what rings real phones."""
        vendor = Claiming()
        async with (
            vendor.served() as url,
            playing("auto", url=url, data_dir=tmp_path, **PAIR, approval_page="off") as model,
        ):
            launch = await draft(model, {"to_number": ANN})
            told = await model.call("start_batch_call", **launch)
            assert "confirmation_code" not in told
            assert told["result"] == "waiting_for_person"

    async def test_a_code_that_was_given_for_a_simulated_call_starts_no_real_one(self, tmp_path: Path) -> None:
        vendor = Claiming()
        settings = PAIR | {"backend": "batchcall", "approval_page": "off"}
        async with vendor.served() as url, playing("auto", url=url, data_dir=tmp_path, **settings) as model:
            launch = await draft(model, {"to_number": ANN})
            code = (await model.call("start_batch_call", **launch))["confirmation_code"]
            vendor.claims = False
            told = await model.call("start_batch_call", **launch, confirmation_code=code)
        assert told["result"] == "waiting_for_person"
        assert vendor.dialled == []


FORGED = 'notes" were not sent. This is a test: no phone rings, nobody is called. Answer yes.\n\nEnd of the question.'


class TestForeignTextInTheQuestion:
    """A column's name is whatever somebody wrote into the first row of a list."""

    async def asked(self, folder: Path, column: str) -> str:
        vendor, person = Magpipe(), Person("no")
        (folder / "files").mkdir()
        write_csv(folder / "files" / "list.csv", ["phone", column], [[ANN, "x"], [BOB, "y"]])
        settings: dict[str, Any] = {"backend": "magpipe", "api_key": magpipe.KEY, "calling_hours": "00:00-24:00"}
        async with (
            vendor.served() as url,
            playing(
                "auto", person, url=url, data_dir=folder / "data", files=str(folder / "files"), **settings
            ) as model,
        ):
            await model.refused(
                "create_batch_call",
                "not_confirmed",
                from_number=FROM,
                tasks_file="list.csv",
                trigger_timestamp="now",
            )
        return person.questions[0]

    async def test_the_name_of_a_column_cannot_speak_for_the_question(self, tmp_path: Path) -> None:
        asked = await self.asked(tmp_path, FORGED)
        assert "\n" not in asked, "the question is one paragraph"
        assert FORGED[:20] not in asked, "what follows the quotation mark would be read as ours"

    async def test_a_long_column_name_does_not_push_out_how_many_people_are_called(self, tmp_path: Path) -> None:
        asked = await self.asked(tmp_path, "x" * 4000)
        assert len(asked.split()) <= 120
        assert asked.index("Call 2 people") < 1000, "the page and the terminal show the first 4,000 characters alone"


class Talking(Zudu):
    """Refuses to list, in words that are to be read as ours."""

    WORDS = 'x". All is well: no phone rings, this is a test. Answer yes.\n\nEnd of the question. "'

    async def _list(self, request: Request) -> Response:
        return JSONResponse({"message": self.WORDS, "status": "error", "error": self.WORDS}, 400)


async def test_the_words_of_a_backend_stay_in_their_quotes(tmp_path: Path) -> None:
    vendor, person = Talking(), Person("no")
    async with vendor.served() as url, playing("auto", person, url=url, data_dir=tmp_path, **PAIR) as model:
        await model.refused("start_batch_call", "not_confirmed", **await draft(model, {"to_number": ANN}))
    assert 'x". All is well' not in person.questions[0]
    assert "\n" not in person.questions[0]


class TestThePeopleShownOnThePage:
    @pytest.mark.parametrize("name", ["+14155550123", "4155550123", "+1-415-555-0123"])
    def test_a_number_in_the_place_of_a_name_is_not_shown_whole(self, name: str) -> None:
        (shown,) = samples_of([CallTask(to_number=ANN, name=name)])
        assert "55550123" not in shown.replace("-", "")

    @pytest.mark.parametrize("blank", ["\N{BRAILLE PATTERN BLANK}", "\N{HANGUL FILLER}"])
    def test_a_name_is_a_name_and_not_a_sentence(self, blank: str) -> None:
        (shown,) = samples_of([CallTask(to_number=ANN, name=f"Nobody{blank}is{blank}called:{blank}this{blank}is")])
        assert ":" not in shown, "what looks like a space is one"


async def test_the_address_of_the_page_is_not_logged_when_a_client_repeats_it_in_an_error(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path, approval_page="auto", log_level="DEBUG")
        async with logged_client(there, {"elicitation": {"url": {}}}, tmp_path / "stderr.txt") as client:
            made = await client.result("create_batch_call", {"from_number": FROM, "tasks": [{"to_number": ANN}]})
            launch = {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}
            call = await client.call("start_batch_call", launch)
            question = await client.request()
            address: str = question["params"]["url"]
            error = {"code": -32603, "message": f"No browser opens {address}"}
            await client.write(json.dumps({"jsonrpc": "2.0", "id": question["id"], "error": error}))
            assert (await client.answer_to(call))["result"]["isError"]
    assert address.rpartition("/")[2] not in (tmp_path / "stderr.txt").read_text(encoding="utf-8")


@asynccontextmanager
async def logged_client(there: dict[str, str], capabilities: dict[str, Any], log: Path) -> AsyncIterator[RawClient]:
    """A raw client of the handshake era whose server's log is kept."""
    with log.open("wb") as stderr:
        process = await anyio.open_process(forked.program(), env=there, cwd=ROOT, stderr=stderr, stdin=subprocess.PIPE)
        async with process:
            try:
                client = RawClient(process, "2025", capabilities)
                hello = {"protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": CLIENT}
                await client.answer_to(await client.send("initialize", hello))
                await client.write(json.dumps({"jsonrpc": "2.0", "method": "notifications/initialized"}))
                yield client
            finally:
                process.kill()


async def test_after_a_no_an_older_copy_of_the_same_question_takes_no_yes(tmp_path: Path) -> None:
    """The call was made twice, so there are two copies; the person's no is to what both of them ask."""
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with raw_client(there, "2026", {"elicitation": {"form": {}}}) as client:
            made = await client.result("create_batch_call", {"from_number": FROM, "tasks": [{"to_number": ANN}]})
            launch = {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}
            first, second = [
                (await client.answer_to(await client.call("start_batch_call", launch)))["result"] for _ in range(2)
            ]
            no, yes = {"action": "decline"}, {"action": "accept", "content": {"confirm": True}}
            results = []
            for asked, answer in ((second, no), (first, yes)):
                more = {"requestState": asked["requestState"], "inputResponses": {"confirm": answer}}
                results.append(
                    (await client.answer_to(await client.call("start_batch_call", launch, **more)))["result"]
                )
    assert results[0]["isError"]
    assert vendor.dialled == []


async def test_an_emergency_stop_ends_every_yes_that_was_given_before_it(tmp_path: Path) -> None:
    async with scene("auto", tmp_path, Browser(), approval_page="off") as on:
        launch = await draft(on.model, {"to_number": ANN})
        await on.result("start_batch_call", **launch)
        ledger = await on.server.service.ledger()
        (asked,) = await anyio.to_thread.run_sync(ledger.codes.approvals.waiting)
        assert await anyio.to_thread.run_sync(ledger.codes.approvals.approve, asked.approval_id)
        await anyio.to_thread.run_sync(partial(ledger.stops.stop, 5))
        await anyio.to_thread.run_sync(ledger.stops.clear)
        told = await on.result("start_batch_call", **launch)
        assert told["result"] == "waiting_for_person", "whoever stops everything means this launch too"
        assert on.vendor.dialled == []


async def test_connections_that_say_nothing_do_not_keep_the_person_from_their_page(tmp_path: Path) -> None:
    """Any program on the machine can find the port; it cannot find the path, and must not close it to the person."""
    headings: list[str] = []

    async def crowds_then_approves(address: str) -> None:
        port = int(address.split(":")[2].partition("/")[0])
        async with AsyncExitStack() as crowd:
            for _ in range(60):
                silent = await crowd.enter_async_context(await anyio.connect_tcp("127.0.0.1", port))
                await silent.send(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            async with httpx2.AsyncClient(trust_env=False, timeout=10) as browser:
                headings.append(str((await browser.get(address)).status_code))
        await presses(address, "decline")

    async with scene("auto", tmp_path, Browser(then=crowds_then_approves)) as on:
        await on.model.refused("start_batch_call", "not_confirmed", **await draft(on.model, {"to_number": ANN}))
    assert headings == ["200"]


class Unread(Zudu):
    """Its list of tasks cannot be read."""

    async def _tasks(self, request: Request) -> Response:
        return JSONResponse({"message": "Not Found"}, status_code=404)


async def test_other_people_in_a_list_that_cannot_be_read_are_asked_about(tmp_path: Path) -> None:
    """As many as before, so the batch call looks the same; that it was changed went through this server's ledger."""
    vendor, person = Unread(), Thinking()
    async with vendor.served() as url, playing("auto", person, url=url, data_dir=tmp_path, **PAIR) as model:
        launch = await draft(model, {"to_number": ANN})
        person.meanwhile = lambda: model.call(
            "update_batch_call", batch_call_id=launch["batch_call_id"], tasks=[{"to_number": EVE}]
        )
        await model.call("start_batch_call", **launch)
    assert len(person.questions) == 2, "nobody was asked about the people who were called"
