"""Attacks on erasing in the dialer's database: what an adversary found, each as a test."""

from __future__ import annotations

from datetime import timedelta

import pytest

from batchcall_mcp.dialer import erasure
from batchcall_mcp.dialer.retention import Retention
from batchcall_mcp.recipients.phone.spellings import Spellings
from tests.dialer.conftest import Caller, NewCaller, body
from tests.erasure.spelt import full_width

ANN, BOB = "+12132000010", "+12132000020"


async def made(caller: Caller, *rows: tuple[str, str], **fields: object) -> str:
    people = [{"to_number": number, "name": name} for number, name in rows]
    return str((await caller.ask("POST", "/batch-call", body([], tasks=people, **fields)))["batch_call_id"])


async def test_retention_empties_the_log_once_its_reader_has_gone(new_caller: NewCaller) -> None:
    """A rewrite that did not work is made up for at the next look, although nobody is erased at that."""
    async with new_caller() as caller:
        await made(caller, (ANN, "Ann Elder"))
        caller.clock.forward(days=3)
        retention = Retention(caller.dialer.store(), timedelta(days=2), caller.data_dir / "carrier.jsonl")
        with pytest.MonkeyPatch.context() as held_up:
            held_up.setattr("batchcall_mcp.dialer.retention.database.leave_no_trace", lambda *_: False)
            assert len(retention.look()) == 1
        files = [caller.data_dir / one for one in ("dialer.db", "dialer.db-wal")]
        assert any(b"Ann Elder" in path.read_bytes() for path in files if path.exists())
        again = Retention(caller.dialer.store(), timedelta(days=2), caller.data_dir / "carrier.jsonl")
        for one in (retention, again):  # the process goes on, or was killed before it had rewritten the file
            assert one.look() == []
        assert not any(b"Ann Elder" in path.read_bytes() for path in files if path.exists())


async def test_other_people_with_the_same_last_digits_are_named(caller: Caller) -> None:
    """The page promises that rows of others whose variables hold the number are named."""
    alike = "+13232000010"
    people = [{"to_number": alike, "dynamic_variables": {"referred_by": ANN}}]
    name = str((await caller.ask("POST", "/batch-call", body([], tasks=people)))["batch_call_id"])
    assert erasure.forget(caller.dialer.store(), Spellings.of(ANN, None)).mentioned == {name: 1}


@pytest.mark.parametrize("written", ["+1 (213) 200-0010", full_width("213-200-0010")])
async def test_other_people_whose_variables_hold_another_spelling_are_named(caller: Caller, written: str) -> None:
    people = [{"to_number": BOB, "dynamic_variables": {"referred_by": written}}]
    name = str((await caller.ask("POST", "/batch-call", body([], tasks=people)))["batch_call_id"])
    assert erasure.forget(caller.dialer.store(), Spellings.of(ANN, None)).mentioned == {name: 1}
