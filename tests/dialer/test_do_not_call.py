"""Who may not be called: the operator's files, what an organisation adds, and who opts out during a call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.storage import api_keys
from batchcall_mcp.dialer.storage.tables import do_not_call
from tests.dialer.conftest import Caller, NewCaller, client_of, numbers

OPTS_OUT = "+12132000044"


async def statuses(caller: Caller, batch_call_id: str) -> list[str]:
    await caller.until_status(batch_call_id, "completed")
    return [task["status"] for task in await caller.tasks(batch_call_id)]


async def own(caller: Caller) -> list[tuple[str, str]]:
    found = await caller.ask("GET", "/do-not-call")
    assert found["pagination"]["total_count"] == len(found["do_not_call"])
    return [(row["to_number"], row["source"]) for row in found["do_not_call"]]


async def test_each_file_is_read_again_and_what_came_otherwise_stays(new_caller: NewCaller, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.txt", tmp_path / "theirs.txt"
    one, two, three, four = numbers(4)
    ours.write_text(f"{one}\n")
    theirs.write_text(f"{two}\n")
    async with new_caller(do_not_call=[ours, theirs]) as caller:
        await caller.ask("POST", "/do-not-call", {"to_numbers": [three], "reason": "asked us by mail"})
        assert await statuses(caller, await caller.create([one, two, three, four], send_now=True)) == [
            *["skipped"] * 3,
            "completed",
        ]
        theirs.write_text("# nobody any more\n")
        assert await statuses(caller, await caller.create([one, two, three], send_now=True)) == [
            "skipped",
            "completed",
            "skipped",
        ]
        theirs.write_text("nonsense\n")  # its last numbers go on to hold, and the other file is still read
        ours.write_text(f"{one}\n{four}\n")
        assert await statuses(caller, await caller.create([one, four], send_now=True)) == ["skipped"] * 2
        with caller.dialer.store().reading() as tx:
            sources = set(tx.execute(sa.select(do_not_call.c.source, do_not_call.c.organization_id)).all())
        assert sources == {(f"file:{ours}", None), ("api", "local")}


async def test_an_organisation_adds_and_removes_its_own_numbers(caller: Caller) -> None:
    one, two, _ = numbers(3)
    added = await caller.ask("POST", "/do-not-call", {"to_numbers": [one, two, one], "reason": "asked"})
    assert added == {"added_count": 2, "already_listed_count": 0}
    again = await caller.ask("POST", "/do-not-call", {"to_numbers": [two]})
    assert again == {"added_count": 0, "already_listed_count": 1}
    assert await own(caller) == [(one, "api"), (two, "api")]
    await caller.ask("DELETE", f"/do-not-call/{one}")
    refused = await caller.ask("DELETE", f"/do-not-call/{one}", status=404)
    assert "not on this organization's own" in refused["error"]
    assert await statuses(caller, await caller.create([one, two], send_now=True)) == ["completed", "skipped"]


async def test_an_organisation_neither_sees_nor_is_held_by_another_one_s_numbers(caller: Caller) -> None:
    [one] = numbers(1)
    await caller.ask("POST", "/do-not-call", {"to_numbers": [one]})
    pair = api_keys.new_pair()
    api_keys.add(caller.dialer.store(), pair, "sales")
    async with client_of(caller.dialer.app, *pair) as http:
        sales = Caller(caller.dialer, http, caller.clock, caller.data_dir)
        assert await own(sales) == []
        await sales.ask("DELETE", f"/do-not-call/{one}", status=404)
        assert await statuses(sales, await sales.create([one], send_now=True)) == ["completed"]
    assert await statuses(caller, await caller.create([one], send_now=True)) == ["skipped"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"to_numbers": []},
        {"to_numbers": ["4155550100"]},
        {"to_numbers": ["+12132000000"] * 10_001},
        {"numbers": []},
    ],
)
async def test_a_body_that_is_wrong_adds_nobody(caller: Caller, body: dict[str, Any]) -> None:
    await caller.ask("POST", "/do-not-call", body, status=422)
    assert await own(caller) == []


async def test_who_opts_out_is_called_by_no_batch_call_of_the_organisation_again(caller: Caller) -> None:
    """Written in the transaction of the outcome: a redial, and another batch call that waits, find it."""
    rules = [{"condition": "voicemail", "retry_timing": {"type": "AFTER", "duration_minutes": 0}}]
    later = await caller.create([OPTS_OUT, *numbers(1)])
    first = await caller.create([OPTS_OUT], send_now=True, retry_config={"max_attempts": 2}, retry_rules=rules)
    assert await statuses(caller, first) == ["completed"]
    assert await own(caller) == [(OPTS_OUT, "carrier")]
    await caller.ask("POST", f"/batch-call/{later}/execute")
    assert await statuses(caller, later) == ["skipped", "completed"]
    refused = await caller.ask("DELETE", f"/do-not-call/{OPTS_OUT}", status=409)
    assert refused["code"] == "opted_out"
    assert [line["to_number"] for line in caller.dialled()] == [OPTS_OUT, *numbers(1)]
