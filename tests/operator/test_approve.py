"""`batchcall-mcp approve CODE`: where only a person may confirm, a terminal lets exactly one launch through."""

from __future__ import annotations

import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.operator.processes import command, of_magpipe, of_zudu, serving, terminal
from tests.vendors.magpipe import Magpipe
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Era, Model, Person, number, tomorrow_at

PEOPLE = [number(NEW_YORK, line) for line in (0, 1, 2)]
OTHERS = [number(NEW_YORK, line) for line in (50, 51)]
ASKS = "Approve exactly this, once? [y/N]"


async def draft(model: Model, people: list[str] = PEOPLE) -> dict[str, Any]:
    """The arguments that start a new draft now."""
    tasks = [{"to_number": one} for one in people]
    made = await model.call("create_batch_call", from_number=FROM, tasks=tasks)
    return {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}


async def code_of(model: Model, tool: str, **arguments: Any) -> str:
    """The code that a refused launch names, after everything that its text has to say."""
    text = await model.refused(tool, "not_confirmed", **arguments)
    assert "Nothing was sent." in text
    assert "BATCHCALL_CONFIRM=person: only a person's own answer launches." in text
    found = re.search(r"run `batchcall-mcp approve ([A-Z2-9]{8})` in a terminal", text)
    assert found is not None, text
    return found[1]


@pytest.mark.parametrize("typed", [None, b"y\n"], ids=["no stdin", "a yes through a pipe"])
async def test_without_a_terminal_nothing_is_approved(typed: bytes | None, tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path, confirm="person")
        async with serving(there) as model:
            launch = await draft(model)
            code = await code_of(model, "start_batch_call", **launch)
            ended = await command(there, "approve", code, typed=typed)
            assert (ended.code, ended.out) == (1, "")
            assert "asks a person at a terminal, and this is none. Nothing was approved" in ended.err
            assert await code_of(model, "start_batch_call", **launch) != code
    assert vendor.dialled == []


@pytest.mark.parametrize("typed", ["n", ""])
async def test_a_no_makes_the_code_worthless(typed: str, tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path, confirm="person")
        async with serving(there) as model:
            launch = await draft(model)
            code = await code_of(model, "start_batch_call", **launch)
            async with terminal(there, "approve", code) as screen:
                await screen.shows(ASKS)
                assert "Call 3 people (United States) now" in screen.said
                assert await screen.types(typed) == 1
                assert "Not approved. The code is worth nothing any more; nothing was sent." in screen.said
            await is_refused_without_a_question(there, code)
            await code_of(model, "start_batch_call", **launch)
    assert vendor.dialled == []


@pytest.mark.parametrize(
    ("era", "person"),
    [("auto", None), ("auto", Person("no")), ("legacy", Person("dismiss"))],
    ids=["a client that cannot ask", "one that declines by itself", "one that dismisses by itself"],
)
async def test_a_yes_lets_exactly_the_same_call_through(era: Era, person: Person | None, tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path, confirm="person")
        async with serving(there, person, era) as model:
            launch, other = await draft(model), await draft(model, OTHERS)
            code = await code_of(model, "start_batch_call", **launch)
            async with terminal(there, "approve", code) as screen:
                await screen.shows(ASKS)
                assert await screen.types("y") == 0
                assert "Approved. The same call launches now" in screen.said
            assert vendor.dialled == [], "an approval sends nothing by itself"
            await code_of(model, "start_batch_call", **other)
            later = {**launch, "trigger_timestamp": tomorrow_at(9).isoformat()}
            await code_of(model, "start_batch_call", **later)
            assert vendor.dialled == []
            asked = person and len(person.questions)
            assert (await model.call("start_batch_call", **launch))["result"] == "started"
            assert (person and len(person.questions)) == asked, "the person has answered already"
            assert vendor.dialled == PEOPLE
            assert (await model.call("start_batch_call", **launch))["replayed"] is True
    assert vendor.dialled == PEOPLE


async def test_an_approval_is_used_up_by_its_launch(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path, confirm="person")
        async with serving(there) as model:
            launch = await draft(model)
            launch["trigger_timestamp"] = tomorrow_at(9).isoformat()
            code = await code_of(model, "start_batch_call", **launch)
            async with terminal(there, "approve", code) as screen:
                await screen.shows(ASKS)
                await screen.types("y")
            assert (await model.call("start_batch_call", **launch))["result"] == "scheduled"
            await model.call("cancel_batch_call", batch_call_id=launch["batch_call_id"])
            # Everything stands as it did when the person said yes.
            await code_of(model, "start_batch_call", **launch)
            await is_refused_without_a_question(there, code)
    vendor.tick(tomorrow_at(10))
    assert vendor.dialled == []


async def test_another_list_needs_another_approval(tmp_path: Path) -> None:
    """Where the list comes with the call that dials."""
    vendor = Magpipe()
    async with vendor.served() as url:
        there = of_magpipe(url, tmp_path, confirm="person")
        async with serving(there) as model:
            shown = {"from_number": FROM, "tasks": [{"to_number": one} for one in PEOPLE], "trigger_timestamp": "now"}
            code = await code_of(model, "create_batch_call", **shown)
            async with terminal(there, "approve", code) as screen:
                await screen.shows(ASKS)
                await screen.types("y")
            for tasks in (OTHERS, PEOPLE[:2], [*PEOPLE, *OTHERS]):
                other = {**shown, "tasks": [{"to_number": one} for one in tasks]}
                assert await code_of(model, "create_batch_call", **other) != code
            assert vendor.actions("create") == []
            await model.call("create_batch_call", **shown)
    assert sorted(vendor.dialled) == PEOPLE


async def test_a_code_that_is_unknown_or_replaced_or_too_old_is_refused_without_a_question(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path, confirm="person")
        async with serving(there) as model:
            launch = await draft(model)
            replaced = await code_of(model, "start_batch_call", **launch)
            old = await code_of(model, "start_batch_call", **launch)
            make_older(tmp_path / "ledger.db", minutes=10.1)
            for code in ("AAAAAAAA", replaced, old):
                await is_refused_without_a_question(there, code)
            await code_of(model, "start_batch_call", **launch)
    assert vendor.dialled == []


async def test_a_code_that_a_tool_takes_is_none_for_the_terminal_and_stays_good(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path, confirm="code")
        async with serving(there) as model:
            launch = await draft(model)
            code = (await model.call("start_batch_call", **launch))["confirmation_code"]
            await is_refused_without_a_question(there, code)
            assert vendor.dialled == []
            await model.call("start_batch_call", **launch, confirmation_code=code)
    assert vendor.dialled == PEOPLE


async def is_refused_without_a_question(there: dict[str, str], code: str) -> None:
    async with terminal(there, "approve", code) as screen:
        assert await screen.ends() == 1
        assert "This code is not valid" in screen.said
        assert "Nothing was approved; nothing was sent." in screen.said
        assert ASKS not in screen.said


def make_older(ledger: Path, *, minutes: float) -> None:
    """Every code in a ledger, as if it had been given so much earlier."""
    connection = sqlite3.connect(ledger)
    with connection:
        connection.execute("UPDATE codes SET issued_at = issued_at - ?", (round(minutes * 60_000),))
    connection.close()


async def test_the_code_for_the_terminal_is_no_confirmation_code(tmp_path: Path) -> None:
    """The model reads it in the tool's own text."""
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path, confirm="person")
        async with serving(there) as model:
            launch = await draft(model)
            code = await code_of(model, "start_batch_call", **launch)
            assert await code_of(model, "start_batch_call", **launch, confirmation_code=code) != code
        # Nor for a server on the same ledger that takes codes.
        async with serving(there | {"BATCHCALL_CONFIRM": "code"}) as model:
            code = await code_of_person(there, launch)
            text = await model.refused("start_batch_call", "not_confirmed", **launch, confirmation_code=code)
            assert "not valid here" in text
    assert vendor.dialled == []


async def code_of_person(there: dict[str, str], launch: dict[str, Any]) -> str:
    async with serving(there) as model:
        return await code_of(model, "start_batch_call", **launch)


async def test_a_code_that_is_replaced_while_the_person_reads_is_not_said_to_be_approved(tmp_path: Path) -> None:
    """The model repeats its call a moment too early, and so gets a new code in the place of this one."""
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path, confirm="person")
        async with serving(there) as model:
            launch = await draft(model)
            code = await code_of(model, "start_batch_call", **launch)
            async with terminal(there, "approve", code) as screen:
                await screen.shows(ASKS)
                await code_of(model, "start_batch_call", **launch)
                ended = await screen.types("y")
            await code_of(model, "start_batch_call", **launch)
    assert vendor.dialled == []
    assert (ended, "Approved." in screen.said) == (1, False)


async def test_the_record_tells_both_answers(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path, confirm="person")
        async with serving(there) as model:
            launch = await draft(model)
            for typed in ("n", "y"):
                code = await code_of(model, "start_batch_call", **launch)
                async with terminal(there, "approve", code) as screen:
                    await screen.shows(ASKS)
                    await screen.types(typed)
        shown = (await command(there, "audit", "--format", "jsonl")).out.splitlines()
    events = [json.loads(line) for line in shown]
    assert [(one["event"], one["outcome"]) for one in events] == [
        ("write", "done"),
        ("question", "approval"),
        ("approved", "declined"),
        ("question", "approval"),
        ("approved", "approved"),
    ]
    assert len({one["caller"] for one in events}) == 1
