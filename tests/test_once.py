"""Nobody is called twice, and no result claims more than happened.

Equal calls at once, keys that come again, lists that never end.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import ClientRequestContext
from mcp.types import CallToolResult, ElicitRequestParams, ElicitResult, InputRequiredResult
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from batchcall_mcp.errors import UnexpectedResponse
from batchcall_mcp.vendor_http.paging import RawPage, scan
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, Era, Person, every_era, number, playing

PEOPLE = [number(NEW_YORK, line) for line in (0, 1)]
TASKS = [{"to_number": one} for one in PEOPLE]
BUSY = [{"to_number": number(NEW_YORK, 7)}]


async def test_two_equal_starts_at_once_both_confirmed_in_so_many_words_start_it_once() -> None:
    vendor = Magpipe()
    async with (
        vendor.served() as url,
        playing("legacy", person := Person(), backend="magpipe", url=url, api_key=magpipe.KEY) as model,
    ):
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        start = {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(lambda: model.call("start_batch_call", **start))
    assert person.questions
    assert len(vendor.actions("start")) == 1
    assert sorted(vendor.dialled) == PEOPLE


async def test_two_answers_that_come_at_once_start_it_once() -> None:
    vendor = Magpipe()
    async with (
        vendor.served() as url,
        playing("auto", Person(), backend="magpipe", url=url, api_key=magpipe.KEY) as model,
    ):
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        start = {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}
        session = model.client.session
        answers: list[CallToolResult | InputRequiredResult] = []

        async def confirmed(asked: CallToolResult | InputRequiredResult) -> None:
            assert isinstance(asked, InputRequiredResult)
            yes: dict[str, Any] = {"confirm": ElicitResult(action="accept", content={"confirm": True})}
            answers.append(
                await session.call_tool(
                    "start_batch_call",
                    start,
                    allow_input_required=True,
                    input_responses=yes,
                    request_state=asked.request_state,
                )
            )

        asked = [await session.call_tool("start_batch_call", start, allow_input_required=True) for _ in range(3)]
        with anyio.fail_after(60):
            async with anyio.create_task_group() as group:
                for one in asked:
                    group.start_soon(confirmed, one)
    assert len(answers) == len(asked)
    assert len(vendor.actions("start")) == 1


async def test_the_code_of_an_earlier_question_about_the_same_launch_is_worth_nothing() -> None:
    vendor = Magpipe()
    account: dict[str, Any] = {"backend": "magpipe", "api_key": magpipe.KEY, "confirm": "code"}
    async with vendor.served() as url, playing("auto", url=url, **account) as model:
        launch: dict[str, Any] = {"from_number": FROM, "tasks": TASKS, "trigger_timestamp": "now"}
        codes = [(await model.call("create_batch_call", **launch))["confirmation_code"] for _ in range(2)]
        await model.call("create_batch_call", from_number=FROM, confirmation_code=codes[1])
        await model.refused("create_batch_call", "not_confirmed", from_number=FROM, confirmation_code=codes[0])
    assert sorted(vendor.dialled) == PEOPLE


@pytest.mark.parametrize("status", ["completed", "calling", "pending"])
async def test_a_retry_calls_nobody_who_was_reached_or_is_being_called(status: str, tmp_path: Path) -> None:
    async with playing("auto", Person(), data_dir=tmp_path, simulated_speed="2000") as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS, window=ALWAYS)
        name = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await model.call("start_batch_call", **name, trigger_timestamp="now")
        await model.call("watch_batch_call", **name, timeout_seconds=20)
        text = await model.refused("retry_batch_call", "invalid_input", **name, task_status=[status, "busy"])
        assert f"{status} is not a state" in text
        counts = (await model.call("get_batch_call", **name))["batch_call"]["counts"]
        assert (counts["sent"], counts["completed"]) == (2, 2)


async def test_a_key_that_comes_again_says_that_this_call_did_nothing(tmp_path: Path) -> None:
    async with playing("auto", Person(), data_dir=tmp_path, simulated_speed="2000") as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=BUSY, window=ALWAYS)
        name = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await model.call("start_batch_call", **name, trigger_timestamp="now")
        await model.call("watch_batch_call", **name, timeout_seconds=20)
        first = await model.call("retry_batch_call", **name, idempotency_key="again")
        assert "1 tasks" in first["summary"]
        await model.call("watch_batch_call", **name, timeout_seconds=20)
        second = await model.call("retry_batch_call", **name, idempotency_key="again")
        assert second["replayed"] is True
        assert "this call dials nobody" in second["summary"]
        task = (await model.call("get_batch_call", **name))["tasks"][0]
        assert task["attempts"] == 2


async def test_a_number_that_came_onto_the_list_after_the_draft_is_in_the_question(tmp_path: Path) -> None:
    never = tmp_path / "never.txt"
    never.write_text("")
    vendor = Zudu()
    async with vendor.served() as url:
        account = {"backend": "zudu", "url": url, "api_key": zudu.KEY, "api_secret": zudu.SECRET}
        async with playing("auto", person := Person("no"), **account, do_not_call=never) as model:
            made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
            never.write_text(f"{PEOPLE[1]}\n")
            name = {"batch_call_id": made["batch_call"]["batch_call_id"]}
            await model.refused("start_batch_call", "not_confirmed", **name, trigger_timestamp="now")
    assert "1 of the numbers is now on the do-not-call list." in person.questions[0]
    assert vendor.dialled == []


async def test_the_same_page_again_and_again_ends_with_an_error() -> None:
    async def fetch(page: int, size: int) -> RawPage:
        return RawPage(tuple({"id": str(n)} for n in range(size)), None, has_more=True)

    with pytest.raises(UnexpectedResponse, match="no end"):
        await scan(fetch, lambda _raw: None, cursor=None, limit=10, size=10)


async def test_a_list_of_tasks_without_an_end_is_not_read_for_ever() -> None:
    async def tasks(_request: Request) -> JSONResponse:
        page = [{"task_id": f"t{n}", "to_number": PEOPLE[0], "status": "pending"} for n in range(100)]
        return JSONResponse({"data": {"tasks": page, "pagination": {"has_next_page": True}}})

    async def batch_call(_request: Request) -> JSONResponse:
        return JSONResponse({"data": {"batch_call_id": "bc", "status": "draft", "from_number": FROM}})

    app = Starlette(routes=[Route("/batch-call/bc", batch_call), Route("/batch-call/bc/tasks", tasks)])
    async with listening(app) as url:
        account = {"backend": "zudu", "url": url, "api_key": zudu.KEY, "api_secret": zudu.SECRET}
        async with playing("auto", person := Person("no"), **account) as model:
            with anyio.fail_after(60):
                start = {"batch_call_id": "bc", "trigger_timestamp": "now"}
                text = await model.refused("start_batch_call", "unexpected_response", **start)
    assert "brought nothing new after 100 tasks" in text
    assert "Nothing was sent" in text
    assert person.questions == []


async def test_what_a_backend_says_does_not_flood_the_answer_or_run_in_a_spreadsheet(tmp_path: Path) -> None:
    formula = "=cmd|' /C calc'!A0"
    huge = {f"v{n}": "x" * 50 for n in range(20_000)}

    async def tasks(_request: Request) -> JSONResponse:
        page = [
            {"task_id": "t", "to_number": formula, "status": "completed", "name": formula, "dynamic_variables": huge},
            {"task_id": "u", "to_number": PEOPLE[0], "status": "completed"},
        ]
        return JSONResponse({"data": {"tasks": page, "pagination": {"has_next_page": False}}})

    async def batch_call(_request: Request) -> JSONResponse:
        return JSONResponse({"data": {"batch_call_id": "bc", "status": "completed", "from_number": FROM}})

    app = Starlette(routes=[Route("/batch-call/bc", batch_call), Route("/batch-call/bc/tasks", tasks)])
    async with listening(app) as url:
        account = {"backend": "batchcall", "url": url, "api_key": zudu.KEY, "api_secret": zudu.SECRET}
        async with playing("auto", None, **account, files=tmp_path) as model:
            shown = await model.call("get_batch_call", batch_call_id="bc", include_variables=True)
            assert len(str(shown)) < 60_000
            written = await model.call("export_batch_call", batch_call_id="bc")
    rows = list(csv.reader((await anyio.Path(written["file"]).read_text(encoding="utf-8")).splitlines()))
    assert rows[1][:2] == [f"'{formula}", f"'{formula}"]
    assert rows[2][0] == PEOPLE[0]


LIST = "phone,name\n" + "".join(f"{one},{name}\n" for one, name in zip(PEOPLE, ("Ann", "Bob"), strict=True))
EDITS = {
    "one more person": LIST + f"{number(NEW_YORK, 50)},Cyd\n",
    "one person less": LIST.replace(f"{PEOPLE[1]},Bob\n", ""),
    "another person in the place of one": LIST.replace(PEOPLE[1], number(NEW_YORK, 50)),
    "another name": LIST.replace("Bob", "Rob"),
    "a row that is left out": LIST + "12,Cyd\n",
}


def on_magpipe(tmp_path: Path) -> dict[str, Any]:
    return {"backend": "magpipe", "api_key": magpipe.KEY, "data_dir": tmp_path, "files": tmp_path}


def in_file(text: str) -> list[str]:
    return [row["phone"] for row in csv.DictReader(text.splitlines()) if row["phone"] != "12"]


@pytest.mark.sweep
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
async def test_a_file_that_is_edited_after_the_code_was_given_is_asked_about_again(edit: str, tmp_path: Path) -> None:
    """Where the list goes out with the call that dials."""
    vendor, file = Magpipe(), tmp_path / "people.csv"
    file.write_text(LIST)
    account = on_magpipe(tmp_path) | {"confirm": "code"}
    async with vendor.served() as url, playing("auto", url=url, **account) as model:
        asked = await model.call(
            "create_batch_call", from_number=FROM, tasks_file="people.csv", trigger_timestamp="now"
        )
        file.write_text(edit)
        code = {"from_number": FROM, "confirmation_code": asked["confirmation_code"]}
        again = await model.call("create_batch_call", **code)
        assert again["result"] == "confirmation_required"
        assert "The list or the batch call has changed since the last question." in again["summary"]
        assert again["preflight"]["calls"] == len(in_file(edit))
        assert "used already" in await model.refused("create_batch_call", "not_confirmed", **code)
        assert vendor.writes == []
        await model.call("create_batch_call", from_number=FROM, confirmation_code=again["confirmation_code"])
    assert vendor.dialled == in_file(edit)


@pytest.mark.parametrize("edit", [EDITS["one more person"], EDITS["another name"]], ids=["a person", "a name"])
@every_era
async def test_a_file_that_is_edited_while_the_person_thinks_is_asked_about_again(
    era: Era, edit: str, tmp_path: Path
) -> None:
    vendor, file = Magpipe(), tmp_path / "people.csv"
    file.write_text(LIST)
    account = on_magpipe(tmp_path)
    person = Editing(lambda: file.write_text(edit))
    async with vendor.served() as url, playing(era, person, url=url, **account) as model:
        await model.refused(
            "create_batch_call", "not_confirmed", from_number=FROM, tasks_file="people.csv", trigger_timestamp="now"
        )
    first, second = person.questions
    assert "Call 2 people " in first
    assert second.startswith("The list or the batch call has changed since the last question. ")
    assert vendor.writes == []
    assert vendor.dialled == []


class Editing(Person):
    """Says yes to the first question, after somebody has edited the file; and no to what is asked then."""

    def __init__(self, edit: Callable[[], object]) -> None:
        super().__init__()
        self._edit = edit

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        self.answer = "no" if self.questions else "yes"
        self._edit()
        return await super().__call__(context, params)


async def test_a_file_that_is_gone_when_the_code_comes_sends_nothing(tmp_path: Path) -> None:
    vendor, file = Magpipe(), tmp_path / "people.csv"
    file.write_text(LIST)
    account = on_magpipe(tmp_path) | {"confirm": "code"}
    async with vendor.served() as url, playing("auto", url=url, **account) as model:
        launch = {"from_number": FROM, "tasks_file": "people.csv", "trigger_timestamp": "now"}
        code = (await model.call("create_batch_call", **launch))["confirmation_code"]
        file.unlink()
        text = await model.refused("create_batch_call", "invalid_input", from_number=FROM, confirmation_code=code)
        assert "does not exist" in text
        assert vendor.writes == []
        # Put back as it was, it is what was shown.
        file.write_text(LIST)
        await model.call("create_batch_call", from_number=FROM, confirmation_code=code)
    assert vendor.dialled == PEOPLE
