"""Who may not be called: the operator's files, what an organisation adds, and who opts out during a call."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.dialer.storage import api_keys
from batchcall_mcp.dialer.storage import do_not_call as do_not_call_module
from batchcall_mcp.dialer.storage.tables import do_not_call
from batchcall_mcp.errors import ConfigurationError
from tests.dialer.conftest import Caller, NewCaller, client_of, numbers
from tests.dialer.test_predial import gating

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
    assert await own(caller) == [(OPTS_OUT, "simulator")]
    await caller.ask("POST", f"/batch-call/{later}/execute")
    assert await statuses(caller, later) == ["skipped", "completed"]
    assert [line["to_number"] for line in caller.dialled()] == [OPTS_OUT, *numbers(1)]
    await caller.ask("DELETE", f"/do-not-call/{OPTS_OUT}")
    assert await own(caller) == []


async def test_what_a_rehearsal_reported_holds_for_no_real_phone_and_what_a_person_said_holds_always(
    caller: Caller,
) -> None:
    rehearsed, said = numbers(2)
    with caller.dialer.store().writing() as tx:
        do_not_call_module.opt_out(tx, "local", "simulated", rehearsed, "a rehearsal", caller.dialer.store().now())
        do_not_call_module.opt_out(tx, "local", "twilio", said, "pressed a key", caller.dialer.store().now())
        assert do_not_call_module.listed(tx, [rehearsed, said], "local", "simulated") == {rehearsed, said}
        assert do_not_call_module.listed(tx, [rehearsed, said], "local", "twilio") == {said}
    refused = await caller.ask("DELETE", f"/do-not-call/{said}", status=409)
    assert refused["code"] == "opted_out"


@pytest.mark.parametrize(
    ("listed", "called"),
    [
        ("+525512345678", "+5215512345678"),
        ("+5215512345678", "+525512345678"),
        ("+491701234567", "+4901701234567"),
        ("+4901701234567", "+491701234567"),
        ("+5215512345678", "+5215512345678"),
    ],
)
async def test_a_number_is_held_however_the_list_and_the_task_write_it(
    new_caller: NewCaller, tmp_path: Path, listed: str, called: str
) -> None:
    ours = tmp_path / "ours.txt"
    for from_file in (False, True):
        ours.write_text(f"{listed}\n" if from_file else "")
        async with new_caller(do_not_call=[ours]) as caller:
            if not from_file:
                await caller.ask("POST", "/do-not-call", {"to_numbers": [listed]})
            held = await caller.create([called], timezone="America/Los_Angeles", send_now=True)
            assert await statuses(caller, held) == ["skipped"]
            [task] = await caller.tasks(held)
            assert task["error_message"] == "the number is on the do-not-call list"


async def test_a_number_that_is_added_again_is_held_in_each_of_its_spellings(caller: Caller) -> None:
    former, today = "+5215512345678", "+525512345678"
    await caller.ask("POST", "/do-not-call", {"to_numbers": [former]})
    await caller.ask("DELETE", f"/do-not-call/{today}")
    await caller.ask("POST", "/do-not-call", {"to_numbers": [former]})
    held = await caller.create([former, today], timezone="America/Los_Angeles", send_now=True)
    assert await statuses(caller, held) == ["skipped", "skipped"]


async def test_a_file_that_could_not_be_read_for_a_moment_is_read_again(
    new_caller: NewCaller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock of Excel's, a network folder: the file itself is the same when it can be read again."""
    ours = tmp_path / "ours.txt"
    one, two = numbers(2)
    ours.write_text(f"{one}\n")
    async with new_caller(do_not_call=[ours]) as caller:
        ours.write_text(f"{one}\n{two}\n")
        with monkeypatch.context() as away:

            def refused(*_: Any, **__: Any) -> Any:
                raise ConfigurationError("it is in use")

            away.setattr(do_not_call_module, "read_do_not_call", refused)
            assert await statuses(caller, await caller.create([one], send_now=True)) == ["skipped"]
        caller.clock.forward(seconds=do_not_call_module.TRIED_AGAIN_AFTER.total_seconds())
        assert await statuses(caller, await caller.create([one, two], send_now=True)) == ["skipped", "skipped"]


async def test_a_file_that_took_the_place_of_another_one_is_read(new_caller: NewCaller, tmp_path: Path) -> None:
    """A copy that keeps the time of the file, with as many numbers."""
    ours, new = tmp_path / "ours.txt", tmp_path / "new.txt"
    one, two = numbers(2)
    ours.write_text(f"{one}\n")
    async with new_caller(do_not_call=[ours]) as caller:
        new.write_text(f"{two}\n")
        before = ours.stat()
        os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
        new.replace(ours)
        assert await statuses(caller, await caller.create([one, two], send_now=True)) == ["completed", "skipped"]


async def test_a_process_that_does_not_dial_takes_no_file_from_the_one_that_does(
    new_caller: NewCaller, tmp_path: Path
) -> None:
    """An MCP server that starts next to `batchcall-mcp dialer`, on its data folder, with fewer files."""
    ours, theirs = tmp_path / "ours.txt", tmp_path / "theirs.txt"
    one, two = numbers(2)
    ours.write_text(f"{one}\n")
    theirs.write_text(f"{two}\n")
    async with new_caller(do_not_call=[ours, theirs]) as caller:
        standby = EmbeddedDialer(caller.data_dir, do_not_call=[ours], simulated_speed=1000)
        await standby.start()
        try:
            assert await statuses(caller, await caller.create([one, two], send_now=True)) == ["skipped", "skipped"]
        finally:
            await standby.aclose()


async def test_who_joins_a_file_while_the_gate_is_asked_is_not_dialled(new_caller: NewCaller, tmp_path: Path) -> None:
    ours = tmp_path / "ours.txt"
    ours.write_text("")
    one, two = numbers(2)
    async with gating(new_caller, do_not_call=[ours]) as gated:

        async def join(_asked: dict[str, Any]) -> None:
            ours.write_text(f"{one}\n")

        gated.during.append(join)
        held = await gated.running([one, two], max_concurrency=1)
        assert await statuses(gated.caller, held) == ["skipped", "completed"]
        assert [line["to_number"] for line in gated.caller.dialled()] == [two]
