"""`batchcall-mcp approve`: where the client cannot ask, a person at a terminal lets exactly one launch through."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.operator.processes import Terminal, command, of_magpipe, of_zudu, serving, terminal
from tests.vendors.magpipe import Magpipe
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Era, Model, Person, number, tomorrow_at

PEOPLE = [number(NEW_YORK, line) for line in (0, 1, 2)]
OTHERS = [number(NEW_YORK, line) for line in (50, 51)]
ASKS = "To approve exactly this, once, type the number of people who would be called. To decline: no"


async def draft(model: Model, people: list[str] = PEOPLE) -> dict[str, Any]:
    """The arguments that start a new draft now."""
    tasks = [{"to_number": one} for one in people]
    made = await model.call("create_batch_call", from_number=FROM, tasks=tasks)
    return {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}


async def waits(model: Model, tool: str, **arguments: Any) -> dict[str, Any]:
    """A launch that waits for a person. Nothing in its result approves it, and nothing in it tells to launch."""
    answer = await model.call(tool, **arguments)
    assert answer["result"] == "waiting_for_person"
    assert answer["summary"].startswith("Nothing was sent yet: a person has to answer first. The question: ")
    assert "`batchcall-mcp approve` in a terminal" in " ".join(answer["notes"])
    assert "confirmation_code" not in answer
    assert "next" not in answer
    return answer


async def answered(there: dict[str, str], typed: str, *shown: str) -> Terminal:
    """Run `approve`, read the one question that waits, and type a line."""
    async with terminal(there, "approve") as screen:
        await screen.shows(ASKS)
        assert [words for words in shown if words not in screen.said] == []
        screen.code = await screen.types(typed)
    return screen


@pytest.mark.sweep
@pytest.mark.parametrize("confirm", ["auto", "person"])
@pytest.mark.parametrize("typed", [None, b"3\n"], ids=["no stdin", "an answer through a pipe"])
async def test_without_a_terminal_nothing_is_approved(typed: bytes | None, confirm: str, tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path, confirm=confirm)
        async with serving(there) as model:
            launch = await draft(model)
            await waits(model, "start_batch_call", **launch)
            ended = await command(there, "approve", typed=typed)
            assert (ended.code, ended.out) == (1, "")
            assert "needs a person at a terminal, and this is not a terminal. Nothing was approved" in ended.err
            await waits(model, "start_batch_call", **launch)
    assert vendor.dialled == []


@pytest.mark.parametrize("typed", ["no", "n", ""])
async def test_a_no_is_reported_once_and_a_later_call_asks_again(typed: str, tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there) as model:
            launch = await draft(model)
            await waits(model, "start_batch_call", **launch)
            screen = await answered(there, typed, "Call 3 people (United States) now", "+1 … 100; +1 … 101; +1 … 102")
            assert (screen.code, "Declined. Nothing was sent." in screen.said) == (1, True)
            text = await model.refused("start_batch_call", "not_confirmed", **launch)
            assert "the answer was no. Nothing was sent." in text
            await waits(model, "start_batch_call", **launch)
    assert vendor.dialled == []


@pytest.mark.sweep
@pytest.mark.parametrize("typed", ["y", "yes", "2", "33"])
async def test_anything_but_the_number_of_people_or_no_answers_nothing(typed: str, tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there) as model:
            launch = await draft(model)
            await waits(model, "start_batch_call", **launch)
            screen = await answered(there, typed)
            assert (screen.code, "Nothing was approved or declined" in screen.said) == (1, True)
            await waits(model, "start_batch_call", **launch)
            assert (await answered(there, "3")).code == 0
            assert (await model.call("start_batch_call", **launch))["result"] == "started"
    assert vendor.dialled == PEOPLE


@pytest.mark.sweep
@pytest.mark.parametrize("confirm", ["auto", "person"])
@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_yes_lets_exactly_the_same_call_through(era: Era, confirm: str, tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path, confirm=confirm)
        async with serving(there, None, era) as model:
            launch, other = await draft(model), await draft(model, OTHERS)
            await waits(model, "start_batch_call", **launch)
            screen = await answered(there, "3")
            assert (screen.code, "Approved. The same tool call launches now" in screen.said) == (0, True)
            assert vendor.dialled == [], "an approval sends nothing by itself"
            await waits(model, "start_batch_call", **other)
            later = {**launch, "trigger_timestamp": tomorrow_at(9).isoformat()}
            await waits(model, "start_batch_call", **later)
            assert vendor.dialled == []
            assert (await model.call("start_batch_call", **launch))["result"] == "started"
            assert vendor.dialled == PEOPLE
            assert (await model.call("start_batch_call", **launch))["replayed"] is True
    assert vendor.dialled == PEOPLE


@pytest.mark.sweep
@pytest.mark.parametrize("person", [Person("no"), Person("dismiss")], ids=["declines", "dismisses"])
@pytest.mark.parametrize("confirm", ["auto", "person"])
async def test_a_client_that_answers_no_by_itself_leaves_nothing_to_approve(
    person: Person, confirm: str, tmp_path: Path
) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path, confirm=confirm)
        async with serving(there, person) as model:
            launch = await draft(model)
            text = await model.refused("start_batch_call", "not_confirmed", **launch)
            assert "Nothing was sent." in text
            async with terminal(there, "approve") as screen:
                assert await screen.ends() == 0
                assert "No question waits for an answer." in screen.said
    assert vendor.dialled == []


async def test_of_several_questions_a_person_chooses_one_by_its_id(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there) as model:
            launch, other = await draft(model), await draft(model, OTHERS)
            await waits(model, "start_batch_call", **launch)
            await waits(model, "start_batch_call", **other)
            async with terminal(there, "approve") as screen:
                await screen.shows("Which one (its id)?")
                assert "2 questions wait:" in screen.said
                ids = [line.split()[0] for line in screen.said.splitlines() if ", caller " in line]
                assert len(ids) == 2
                await screen.types_on(ids[1].lower())
                await screen.shows("Call 2 people")
                await screen.shows(ASKS)
                assert await screen.types("2") == 0
            await waits(model, "start_batch_call", **launch)
            assert (await model.call("start_batch_call", **other))["result"] == "started"
            async with terminal(there, "approve", ids[0]) as screen:
                await screen.shows(ASKS)
                assert await screen.types("3") == 0
            await model.call("start_batch_call", **launch)
            for gone in (*ids, "AAAAAA"):
                async with terminal(there, "approve", gone) as screen:
                    assert await screen.ends() == 1
                    assert "This question is not open" in screen.said
                    assert ASKS not in screen.said
    assert vendor.dialled == [*OTHERS, *PEOPLE]


async def test_an_approval_is_used_up_by_its_launch(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there) as model:
            launch = await draft(model)
            launch["trigger_timestamp"] = tomorrow_at(9).isoformat()
            await waits(model, "start_batch_call", **launch)
            await answered(there, "3")
            assert (await model.call("start_batch_call", **launch))["result"] == "scheduled"
            await model.call("cancel_batch_call", batch_call_id=launch["batch_call_id"])
            # Everything stands as it did when the person said yes.
            await waits(model, "start_batch_call", **launch)
    vendor.tick(tomorrow_at(10))
    assert vendor.dialled == []


async def test_another_list_needs_another_approval(tmp_path: Path) -> None:
    """Where the list comes with the call that dials."""
    vendor = Magpipe()
    async with vendor.served() as url:
        there = of_magpipe(url, tmp_path)
        async with serving(there) as model:
            shown = {"from_number": FROM, "tasks": [{"to_number": one} for one in PEOPLE], "trigger_timestamp": "now"}
            await waits(model, "create_batch_call", **shown)
            await answered(there, "3")
            for tasks in (OTHERS, PEOPLE[:2], [*PEOPLE, *OTHERS]):
                other = {**shown, "tasks": [{"to_number": one} for one in tasks]}
                await waits(model, "create_batch_call", **other)
            assert vendor.actions("create") == []
            await model.call("create_batch_call", **shown)
    assert sorted(vendor.dialled) == PEOPLE


async def test_a_question_that_is_too_old_is_not_shown_and_an_old_yes_is_not_one(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there) as model:
            launch, other = await draft(model), await draft(model, OTHERS)
            await waits(model, "start_batch_call", **launch)
            await answered(there, "3")
            await waits(model, "start_batch_call", **other)
            make_older(tmp_path / "ledger.db", minutes=10.1)
            async with terminal(there, "approve") as screen:
                assert await screen.ends() == 0
                assert "No question waits" in screen.said
            await waits(model, "start_batch_call", **launch)
    assert vendor.dialled == []


def make_older(ledger: Path, *, minutes: float) -> None:
    """Every question in a ledger, as if it had been asked so much earlier."""
    connection = sqlite3.connect(ledger)
    with connection:
        connection.execute("UPDATE codes SET issued_at = issued_at - ?", (round(minutes * 60_000),))
    connection.close()


async def test_a_code_that_a_tool_takes_is_not_one_for_the_terminal_and_stays_good(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path, confirm="code")
        async with serving(there) as model:
            launch = await draft(model)
            code = (await model.call("start_batch_call", **launch))["confirmation_code"]
            for arguments in (["approve", code], ["approve"]):
                async with terminal(there, *arguments) as screen:
                    assert await screen.ends() == (1 if len(arguments) > 1 else 0)
                    assert ASKS not in screen.said
            assert vendor.dialled == []
            await model.call("start_batch_call", **launch, confirmation_code=code)
    assert vendor.dialled == PEOPLE


async def test_a_question_that_is_replaced_while_the_person_reads_is_not_said_to_be_approved(tmp_path: Path) -> None:
    """Somebody changes the list while the person reads, and the model calls again."""
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there) as model:
            launch = await draft(model)
            await waits(model, "start_batch_call", **launch)
            async with terminal(there, "approve") as screen:
                await screen.shows(ASKS)
                make_older(tmp_path / "ledger.db", minutes=10.1)
                await waits(model, "start_batch_call", **launch)
                ended = await screen.types("3")
            await waits(model, "start_batch_call", **launch)
    assert vendor.dialled == []
    assert (ended, "Approved." in screen.said, "was answered, was replaced or has expired" in screen.said) == (
        1,
        False,
        True,
    )


async def test_the_record_shows_both_answers(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there) as model:
            launch = await draft(model)
            await waits(model, "start_batch_call", **launch)
            await answered(there, "no")
            await model.refused("start_batch_call", "not_confirmed", **launch)
            await waits(model, "start_batch_call", **launch)
            await answered(there, "3")
            await model.call("start_batch_call", **launch)
        shown = (await command(there, "audit", "--format", "jsonl")).out.splitlines()
    events = [json.loads(line) for line in shown]
    assert [(one["event"], one["outcome"]) for one in events] == [
        ("write", "done"),
        ("question", "approval"),
        ("approved", "declined"),
        ("answer", "declined"),
        ("question", "approval"),
        ("approved", "approved"),
        ("answer", "approved"),
        ("write", "done"),
    ]
    assert len({one["caller"] for one in events}) == 1
