"""`batchcall-mcp ledger`: what nobody knows is listed, and a person's word settles it, once."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner

from batchcall_mcp.cli import cli
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.ledger.writes import Writes
from batchcall_mcp.guard.write_record import Entry, WriteState
from batchcall_mcp.settings import Settings
from tests.guard.ledger.conftest import BEGIN
from tests.guard.ledger.test_writes import START
from tests.kills.scenes import Front
from tests.operator.gate import Gate, starts
from tests.operator.processes import LONGEST_S, command, of_magpipe, of_zudu, serving
from tests.vendors import zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Model, Person, number

PEOPLE = [number(NEW_YORK, line) for line in (0, 1, 2)]
TASKS = [{"to_number": one} for one in PEOPLE]
SENT = r"sent 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"
NOTHING = "The outcome of every write is known.\n"


def loses(vendor: Zudu, *, create: bool = False) -> Front:
    """A Zudu that does not carry out the next start (or create), and does not answer it."""
    path = "/batch-call" if create else "/execute"
    return Front(vendor.recording, lambda method, where, _json: method == "POST" and where.endswith(path), lambda: None)


@asynccontextmanager
async def a_lost_start(
    folder: Path, person: Person, **others: str
) -> AsyncIterator[tuple[Zudu, dict[str, str], Model, dict[str, Any]]]:
    """A start whose answer is lost, and which was not carried out. Its entry is number 2: the draft's is 1."""
    vendor = Zudu()
    front = loses(vendor)
    async with listening(front) as url:
        there = of_zudu(url, folder, **others)
        async with serving(there, person) as model:
            made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS, name="November")
            launch = {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}
            front.trouble = "never carried out"
            text = await model.refused("start_batch_call", "outcome_unknown", **launch)
            assert "`batchcall-mcp ledger resolve 2 made` or `not-made`" in text
            assert text.endswith("(Ledger entry 2.)")
            yield vendor, there, model, launch


async def test_where_every_outcome_is_known_nothing_is_listed(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        assert (await command(there, "ledger")).out == NOTHING
        async with serving(there) as model:
            await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        listed = await command(there, "ledger")
    assert (listed.code, listed.out, listed.err) == (0, NOTHING, "")


async def test_what_was_not_made_launches_after_a_new_question(tmp_path: Path) -> None:
    person = Person()
    async with a_lost_start(tmp_path, person) as (vendor, there, model, launch):
        listed = await command(there, "ledger")
        assert (listed.code, listed.err) == (0, "")
        line = rf"2: start_batch_call {launch['batch_call_id']}, 3 calls, {SENT}: unknown\n"
        assert re.fullmatch(line, listed.out)
        assert "start_batch_call" in await model.refused("start_batch_call", "outcome_unknown", **launch)
        assert len(person.questions) == 1, "nobody is asked about what cannot be sent"

        settled = await command(there, "ledger", "resolve", "2", "not-made")
        assert (settled.code, settled.out, settled.err) == (0, "Entry 2 is settled: not-made.\n", "")
        assert (await command(there, "ledger")).out == NOTHING
        assert vendor.dialled == [], "a word settles, and sends nothing"
        assert (await model.call("start_batch_call", **launch))["result"] == "started"
    assert len(person.questions) == 2
    assert vendor.dialled == PEOPLE


async def test_what_was_made_is_not_sent_again(tmp_path: Path) -> None:
    """The person saw it at the vendor's own page, and so does the next look."""
    person = Person()
    async with a_lost_start(tmp_path, person) as (vendor, there, model, launch):
        vendor._dial(vendor.batches[launch["batch_call_id"]])
        settled = await command(there, "ledger", "resolve", "2", "made")
        assert (settled.code, settled.out) == (0, "Entry 2 is settled: made.\n")
        again = await model.call("start_batch_call", **launch)
        assert (again["result"], again["replayed"]) == ("started", True)
        assert "Its status is running" in again["summary"]
    assert len(person.questions) == 1
    assert vendor.dialled == PEOPLE
    assert [one for one in vendor.writes if one.path.endswith("/execute")] == []


async def test_what_a_person_says_was_made_is_not_sent_again_although_the_backend_lags(tmp_path: Path) -> None:
    """Unattended there is no question that would stop it. The backend restarts what is over, and calls all again."""
    unattended = {"confirm": "off", "max_calls_per_launch": "10", "calling_hours": "00:00-24:00"}
    vendor = Magpipe()
    batch = vendor._stored({"name": "November", "caller_id": FROM}, PEOPLE, "draft")
    front = Front(
        vendor.recording, lambda _method, path, body: path == "/batch-calls" and body["action"] == "start", lambda: None
    )
    async with listening(front) as url:
        there = of_magpipe(url, tmp_path, **unattended)
        async with serving(there) as model:
            front.trouble = "carried out later"
            launch = {"batch_call_id": batch["id"], "trigger_timestamp": "now"}
            await model.refused("start_batch_call", "outcome_unknown", **launch)
            assert (await command(there, "ledger", "resolve", "1", "made")).code == 0
            await model.client.call_tool("start_batch_call", launch)
            vendor.finish(batch["id"])
            await front.catch_up()
    assert sorted(vendor.dialled) == PEOPLE


async def test_what_a_create_made_has_to_be_named(tmp_path: Path) -> None:
    vendor = Zudu()
    front = loses(vendor, create=True)
    asked = {"from_number": FROM, "tasks": TASKS, "name": "November"}
    async with listening(front) as url:
        there = of_zudu(url, tmp_path)
        async with serving(there) as model:
            front.trouble = "never carried out"
            await model.refused("create_batch_call", "outcome_unknown", **asked)
            listed = (await command(there, "ledger")).out
            assert re.fullmatch(rf"1: create_batch_call a batch call of 3 people, {SENT}: unknown\n", listed)
            unnamed = await command(there, "ledger", "resolve", "1", "made")
            assert (unnamed.code, unnamed.out) == (1, "")
            assert "--batch-call-id" in unnamed.err
            assert "unknown" in (await command(there, "ledger")).out, "it stays as it was"
            # As it arrived late, under another name than the list would tell.
            vendor.batches["bc_9"] = zudu_batch("bc_9", vendor)
            named = await command(there, "ledger", "resolve", "1", "made", "--batch-call-id", "bc_9")
            assert (named.code, named.err) == (0, "")
            again = await model.call("create_batch_call", **asked)
            assert (again["replayed"], again["batch_call"]["batch_call_id"]) == (True, "bc_9")
    assert list(vendor.batches) == ["bc_9"]


def zudu_batch(name: str, vendor: Zudu) -> zudu.Batch:
    tasks = [zudu.Task(f"task_{at}", one, {}) for at, one in enumerate(PEOPLE)]
    return zudu.Batch(name, "org_first", vendor.now, {"from_number": FROM, "name": "Renamed"}, "DRAFT", None, tasks)


async def test_only_what_is_open_can_be_settled_and_only_once(tmp_path: Path) -> None:
    async with a_lost_start(tmp_path, Person()) as (_, there, _model, _launch):
        for entry, words in (("1", "Entry 1 is already settled: done."), ("3", "Entry 3 does not exist.")):
            refused = await command(there, "ledger", "resolve", entry, "not-made")
            assert (refused.code, refused.out) == (1, "")
            assert words in refused.err
        assert (await command(there, "ledger", "resolve", "2", "made")).code == 0
        late = await command(there, "ledger", "resolve", "2", "not-made")
        assert (late.code, late.out) == (1, "")
        assert "Entry 2 is already settled: done." in late.err


@pytest.mark.parametrize("arguments", [("0", "made"), ("x", "made"), ("2", "perhaps"), ("2",), ()], ids=" ".join)
async def test_what_is_not_an_entry_or_an_outcome_is_refused(arguments: tuple[str, ...], tmp_path: Path) -> None:
    refused = await command(of_zudu("http://127.0.0.1:9", tmp_path), "ledger", "resolve", *arguments)
    assert (refused.code, refused.out) == (2, "")
    assert "Usage: " in refused.err
    assert not (tmp_path / "ledger.db").exists()


async def test_what_is_being_sent_is_listed_and_not_settled(tmp_path: Path) -> None:
    vendor = Zudu()
    gate = Gate(vendor.recording, starts)
    async with listening(gate) as url:
        there = of_zudu(url, tmp_path, request_timeout_s="100")  # three commands look at it meanwhile
        async with serving(there, Person()) as model, anyio.create_task_group() as group:
            made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
            launch = {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}
            group.start_soon(partial(model.call, "start_batch_call", **launch))
            with anyio.fail_after(LONGEST_S):
                await gate.arrived.wait()
            assert (await command(there, "ledger")).out.endswith(" UTC: sending\n")
            for outcome in ("made", "not-made"):
                refused = await command(there, "ledger", "resolve", "2", outcome)
                assert (refused.code, refused.out) == (1, "")
                assert "Entry 2 is being sent now." in refused.err
            gate.opened.set()
        assert (await command(there, "ledger")).out == NOTHING
    assert vendor.dialled == PEOPLE


async def test_a_start_keeps_the_batch_call_that_it_was_recorded_with(tmp_path: Path) -> None:
    """An id is for what a create made: a wrong one would take the start away from its own batch call."""
    async with a_lost_start(tmp_path, Person()) as (_, there, _model, launch):
        await command(there, "ledger", "resolve", "2", "made", "--batch-call-id", "bc_of_somebody_else")
        events = (await command(there, "audit", "--batch-call", launch["batch_call_id"], "--format", "jsonl")).out
    assert '"event": "settled"' in events or "unknown" in (await command(there, "ledger")).out


async def test_the_operators_commands_need_no_account_and_no_write_mode(tmp_path: Path) -> None:
    async with a_lost_start(tmp_path, Person()) as (_, there, _model, _launch):
        bare = {name: value for name, value in there.items() if name == "BATCHCALL_DATA_DIR"}
        bare["BATCHCALL_MODE"] = "read-only"
        assert "unknown" in (await command(bare, "ledger")).out
        assert (await command(bare, "ledger", "resolve", "2", "not-made")).code == 0


@pytest.mark.parametrize("outcome", ["made", "not-made"])
def test_a_word_on_an_entry_that_is_sent_again_at_that_moment_changes_nothing(
    outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at it and the word another process takes it over: that launch is on its way."""
    settings = Settings(data_dir=tmp_path)
    server = Ledger.open(settings)
    sent = server.writes.begin(START)
    assert isinstance(sent, Entry)
    lost = server.writes.finish(sent.write_id, WriteState.UNKNOWN)
    looked = Writes.is_in_hand

    def taken_over_meanwhile(self: Writes, entry: Entry) -> bool:
        held = looked(self, entry)
        assert isinstance(server.writes.take_over(lost, START), Entry)
        return held

    monkeypatch.setattr(Writes, "is_in_hand", taken_over_meanwhile)
    monkeypatch.setenv("BATCHCALL_DATA_DIR", str(tmp_path))
    said = CliRunner().invoke(cli, ["ledger", "resolve", "1", outcome])
    assert said.exit_code == 1
    assert "was sent again" in said.output
    assert "This command changed nothing" in said.output
    (entry,) = server.history.unsettled()
    assert (entry.state, entry.owner) == (WriteState.SENDING, lost.owner)
    assert server.history.attempts([number for number, _ in START.numbers], BEGIN) == dict(START.numbers)
    assert server.writes.finish(entry.write_id, WriteState.DONE, sent=entry).state is WriteState.DONE
    server.close()
