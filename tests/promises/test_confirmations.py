"""What a yes was for: the question that was shown, warnings included."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from mcp.types import CallToolResult, ElicitResult, InputRequiredResult

from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.settings import Settings
from tests.vendors import zudu
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Person, number, playing

PEOPLE = [number(NEW_YORK, line) for line in (0, 1)]
TASKS = [{"to_number": one} for one in PEOPLE]


def account(url: str, tmp_path: Path) -> dict[str, Any]:
    return {
        "backend": "zudu",
        "url": url,
        "api_key": zudu.KEY,
        "api_secret": zudu.SECRET,
        "data_dir": tmp_path,
        "calling_hours": "00:00-24:00",
    }


async def test_two_questions_about_the_same_people_both_open_do_not_call_them_twice_unasked(tmp_path: Path) -> None:
    """When the questions were shown neither was live; when the second code comes the first one is."""
    vendor = Zudu()
    async with vendor.served() as url, playing("auto", **account(url, tmp_path), confirm="code") as model:
        starts: list[dict[str, Any]] = []
        for name in ("November", "November again"):
            made = await model.call("create_batch_call", from_number=FROM, name=name, tasks=TASKS)
            starts.append({"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"})
        asked = [await model.call("start_batch_call", **start) for start in starts]
        assert not any("another live batch call" in one["summary"] for one in asked)
        for start, one in zip(starts, asked, strict=True):
            told = await model.call("start_batch_call", **start, confirmation_code=one["confirmation_code"])
    assert told["result"] == "confirmation_required", told["preflight"]["warnings"]
    assert max(Counter(vendor.dialled).values()) == 1


async def test_two_answers_about_the_same_people_do_not_call_them_twice_unasked(tmp_path: Path) -> None:
    """The same where the client can ask."""
    vendor = Zudu()
    async with vendor.served() as url, playing("auto", Person(), **account(url, tmp_path)) as model:
        starts: list[dict[str, Any]] = []
        for name in ("November", "November again"):
            made = await model.call("create_batch_call", from_number=FROM, name=name, tasks=TASKS)
            starts.append({"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"})
        session = model.client.session
        results: list[CallToolResult | InputRequiredResult] = []
        asked = [await session.call_tool("start_batch_call", one, allow_input_required=True) for one in starts]
        for start, one in zip(starts, asked, strict=True):
            assert isinstance(one, InputRequiredResult)
            yes: dict[str, Any] = {"confirm": ElicitResult(action="accept", content={"confirm": True})}
            results.append(
                await session.call_tool(
                    "start_batch_call",
                    start,
                    allow_input_required=True,
                    input_responses=yes,
                    request_state=one.request_state,
                )
            )
    assert isinstance(results[1], InputRequiredResult), str(results[1])[:400]
    assert max(Counter(vendor.dialled).values()) == 1


async def approve_all(folder: Path) -> None:
    """What a person does who answers every question that waits."""

    def approve() -> None:
        ledger = Ledger.open(Settings(data_dir=folder))
        for one in ledger.codes.approvals.waiting():
            assert ledger.codes.approvals.approve(one.approval_id)
        ledger.close()

    await anyio.to_thread.run_sync(approve)


@pytest.mark.parametrize("confirm", ["code", "auto"])
async def test_a_number_that_came_onto_the_list_after_the_question_is_asked_about(confirm: str, tmp_path: Path) -> None:
    never = tmp_path / "never.txt"
    never.write_text("")
    vendor = Zudu()
    async with (
        vendor.served() as url,
        playing("auto", **account(url, tmp_path), do_not_call=never, confirm=confirm) as model,
    ):
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        start = {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}
        asked = await model.call("start_batch_call", **start)
        assert "do-not-call" not in asked["summary"]
        never.write_text(f"{PEOPLE[1]}\n")
        if confirm == "auto":
            await approve_all(tmp_path)
        code = {"confirmation_code": asked["confirmation_code"]} if confirm == "code" else {}
        told = await model.call("start_batch_call", **start, **code)
    assert told["result"] == asked["result"], told["preflight"]["warnings"]
    assert "do-not-call" in told["summary"]
    assert PEOPLE[1] not in vendor.dialled


async def test_somebody_who_is_in_the_stored_list_twice_is_told(tmp_path: Path) -> None:
    """It was made in the vendor's own web application."""
    vendor = Zudu()
    tasks = [zudu.Task(f"task_{at}", PEOPLE[0], {}) for at in range(2)]
    vendor.batches["bc_1"] = zudu.Batch("bc_1", "org_first", vendor.now, {"from_number": FROM}, "DRAFT", None, tasks)
    async with vendor.served() as url, playing("auto", person := Person("no"), **account(url, tmp_path)) as model:
        await model.refused("start_batch_call", "not_confirmed", batch_call_id="bc_1", trigger_timestamp="now")
    assert "twice" in person.questions[0] or "more than once" in person.questions[0], person.questions[0]
