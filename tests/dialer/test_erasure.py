"""The dialer forgets a person, and what was over long ago: rows stay, nobody in them can be recognised or called."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer import erasure
from batchcall_mcp.dialer.retention import Retention
from batchcall_mcp.dialer.storage import do_not_call as do_not_call_module
from batchcall_mcp.dialer.storage.tables import attempts, do_not_call, metadata, webhook_outbox
from batchcall_mcp.recipients.phone.spellings import Spellings
from tests.dialer.conftest import Caller, NewCaller, body, emptied_postgresql, eventually

ANN, BOB, CAT = "+12132000010", "+12132000020", "+12132000037"
"""Ann and Bob answer; Cat's line is busy."""
BUSY_ONCE = {"max_attempts": 1, "enabled": True}


def who(number: str) -> Spellings:
    return Spellings.of(number, None)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    return emptied_postgresql() if request.param == "postgresql" else None


def everything(caller: Caller) -> str:
    """All values of all rows."""
    with caller.dialer.store().reading() as tx:
        rows = {name: [list(row) for row in tx.execute(sa.select(table))] for name, table in metadata.tables.items()}
    return json.dumps(rows, default=str)


def people(*rows: tuple[str, str]) -> list[dict[str, Any]]:
    return [
        {"to_number": number, "name": name, "dynamic_variables": {"of": f"variable of {name}"}} for number, name in rows
    ]


async def made(caller: Caller, *rows: tuple[str, str], **fields: Any) -> str:
    content = body([], tasks=people(*rows), **fields)
    return str((await caller.ask("POST", "/batch-call", content))["batch_call_id"])


async def test_who_waits_is_skipped_and_everybody_else_is_called(new_caller: NewCaller, database: str | None) -> None:
    async with new_caller(database=database) as caller:
        name = await made(caller, (ANN, "Ann"), (BOB, "Bob"), name="Ann and Bob", trigger_timestamp=soon(caller))
        found = erasure.forget(caller.dialer.store(), who(ANN))
        assert (found.waiting, found.calling) == ((name,), ())
        caller.clock.forward(hours=2)
        data = await caller.until_status(name, "completed")
        assert data["counts"] | {"completed": 1, "skipped": 1} == data["counts"]
        assert data["name"] == "[forgotten] and Bob"
        assert [one["to_number"] for one in caller.dialled()] == [BOB]
        text = everything(caller)
        assert "Ann" not in text
        assert text.count(ANN) == 1, "the do-not-call list"
        assert "variable of Bob" in text


def soon(caller: Caller) -> str:
    return (caller.clock.now + timedelta(hours=1)).isoformat()


async def test_a_batch_call_whose_last_one_is_forgotten_ends(new_caller: NewCaller, database: str | None) -> None:
    async with new_caller(database=database) as caller:
        name = await made(caller, (CAT, "Cat"), send_now=True, retry_config=BUSY_ONCE)
        await caller.until(name, lambda data: data["sent"] == 1 and data["counts"].get("pending") == 1)
        erasure.forget(caller.dialer.store(), who(CAT))
        data = await caller.until_status(name, "completed")
        assert data["counts"]["busy"] == 1, "what came of the call stays"
        assert len(caller.dialled()) == 1


async def test_who_is_in_a_call_is_not_called_again_and_erased_later(
    new_caller: NewCaller, database: str | None
) -> None:
    async with new_caller(database=database, simulated_speed=0.001) as caller:
        name = await made(caller, (CAT, "Cat"), (BOB, "Bob"), send_now=True, retry_config=BUSY_ONCE, max_concurrency=1)
        await caller.until(name, lambda data: data["counts"].get("calling") == 1)
        store = caller.dialer.store()
        first = erasure.forget(store, who(CAT))
        assert first.calling == (name,)
        assert "variable of Cat" in everything(caller), "nothing was erased"
        with store.reading() as tx:
            assert do_not_call_module.listed(tx, [CAT], "anybody", "twilio") == {CAT}
    # The process has ended, and the call with it.
    async with new_caller(database=database) as caller:
        data = await caller.until_status(name, "completed")
        assert data["counts"]["interrupted"] == 1
        assert [one["to_number"] for one in caller.dialled()] == [CAT, BOB], "no redial"
        second = erasure.forget(caller.dialer.store(), who(CAT))
        assert (second.calling, len(second.task_ids), second.attempts) == ((), 1, 1)
        text = everything(caller)
        assert "Cat" not in text
        assert text.count(CAT) == 1


async def test_no_retry_calls_a_stand_in(caller: Caller) -> None:
    name = await made(caller, (CAT, "Cat"), ("+12132000047", "Cy"), send_now=True)
    await caller.until_status(name, "completed")
    (hers, his) = await caller.tasks(name)
    erasure.forget(caller.dialer.store(), who(CAT))
    refused = await caller.ask("POST", f"/batch-call/{name}/retry", {"task_ids": [hers["task_id"]]}, status=409)
    assert "were forgotten" in refused["error"]
    retried = await caller.ask("POST", f"/batch-call/{name}/retry", {"task_status": ["busy"]})
    assert retried["retried_count"] == 1
    await caller.until_status(name, "completed")
    assert [one["to_number"] for one in caller.dialled()] == [CAT, his["to_number"], his["to_number"]]
    stored = caller.dialer.store()
    with stored.writing() as tx:  # whatever may make it due again
        tx.execute(sa.text("UPDATE tasks SET status = 'pending', due_at = 0 WHERE to_number LIKE 'forgotten-%'"))
        tx.execute(sa.text("UPDATE batch_calls SET status = 'sent'"))
    await caller.until_status(name, "completed")
    assert len(caller.dialled()) == 3


async def test_the_do_not_call_list_keeps_the_number_and_nothing_else(desk: Caller) -> None:
    store = desk.dialer.store()
    london = "+442079460010"
    await desk.ask("POST", "/do-not-call", {"to_numbers": ["+4402079460010", ANN], "reason": "Ann wrote to us"})
    erasure.forget(store, who(london))
    with store.reading() as tx:
        rows = tx.execute(sa.select(*do_not_call.c["to_number", "organization_id", "source", "reason"])).all()
    assert sorted(map(tuple, rows), key=str) == sorted(
        [
            (london, None, "forgotten", None),
            (london, "local", "api", None),
            (ANN, "local", "api", "Ann wrote to us"),
        ],
        key=str,
    )
    erasure.forget(store, who("+44 20 7946 0010"))
    with store.reading() as tx:
        assert len(tx.execute(sa.select(do_not_call.c.entry_id)).all()) == 3, "twice is once"


async def test_no_file_takes_a_forgotten_number_from_the_list(new_caller: NewCaller, tmp_path: Path) -> None:
    listed = tmp_path / "listed.txt"
    listed.write_text(f"{BOB}\n")
    async with new_caller(do_not_call=[listed]) as caller:
        erasure.forget(caller.dialer.store(), who(ANN))
    async with new_caller(do_not_call=[listed]) as caller:
        name = await caller.create([ANN, BOB, "+12132000030"], send_now=True)
        await caller.until_status(name, "completed")
        assert [one["to_number"] for one in caller.dialled()] == ["+12132000030"]


def old(caller: Caller, **span: float) -> Retention:
    return Retention(caller.dialer.store(), timedelta(**span), caller.data_dir / "carrier.jsonl")


async def test_people_are_erased_so_many_days_after_the_end(new_caller: NewCaller, database: str | None) -> None:
    async with new_caller(database=database) as caller:
        over = await made(caller, (ANN, "Ann"), (CAT, "Cat"), send_now=True)
        gone = await made(caller, ("+12132000050", "Eve"), send_now=True)
        for one in (over, gone):
            await caller.until_status(one, "completed")
        await caller.ask("DELETE", f"/batch-call/{gone}")
        before, tasks = await caller.get(over), await caller.tasks(over)
        draft = await made(caller, (BOB, "Bob"))
        paused = await made(caller, ("+12132000060", "Pat"), send_now=True, window={"start": "00:00", "end": "00:01"})
        await caller.ask("POST", f"/batch-call/{paused}/pause")
        late = await made(caller, ("+12132000070", "Liv"), trigger_timestamp=soon_in_days(caller, 40))
        caller.clock.forward(days=9)
        assert old(caller, days=10).look() == []
        assert "Ann" in everything(caller)
        caller.clock.forward(days=1)
        assert sorted(old(caller, days=10).look()) == sorted([over, draft])
        assert old(caller, days=10).look() == [], "each once"
        text = everything(caller)
        for name in ("Ann", "Cat", "Bob", "Eve", ANN, CAT, BOB, "+12132000050"):
            assert name not in text
        for name in ("Pat", "Liv"):
            assert f"variable of {name}" in text, "never what is live"
        after = await caller.get(over)
        shown = ("counts", "total", "sent", "picked_up", "completed", "status")
        assert {name: after[name] for name in shown} == {name: before[name] for name in shown}
        assert [one["status"] for one in await caller.tasks(over)] == [one["status"] for one in tasks]
        assert {one["to_number"] for one in caller.dialled()}.isdisjoint({ANN, CAT, "+12132000050"})
        assert (await caller.get(draft))["counts"]["skipped"] == 1
        assert (await caller.get(late))["status"] == "scheduled"
        assert (await caller.get(paused))["status"] == "paused"
        assert not do_not_call_rows(caller), "retention says nothing of the future"
        # Who comes to an erased draft later has days of their own.
        await caller.ask("POST", f"/batch-call/{draft}/tasks", {"tasks": people(("+12132000080", "Max"))})
        caller.clock.forward(days=9)
        assert draft not in old(caller, days=10).look()
        caller.clock.forward(days=2)
        assert draft in old(caller, days=10).look()
        assert "Max" not in everything(caller)


def soon_in_days(caller: Caller, days: int) -> str:
    return (caller.clock.now + timedelta(days=days)).isoformat()


def do_not_call_rows(caller: Caller) -> list[Any]:
    with caller.dialer.store().reading() as tx:
        return list(tx.execute(sa.select(do_not_call)))


async def test_an_engine_looks_by_itself_and_leaves_no_byte(new_caller: NewCaller) -> None:
    async with new_caller() as caller:
        name = await made(caller, (ANN, "Ann Elder"), send_now=True)
        await caller.until_status(name, "completed")
        caller.clock.forward(days=3)
    async with new_caller(retention=timedelta(days=2)) as caller:
        files = [caller.data_dir / one for one in ("dialer.db", "dialer.db-wal", "carrier.jsonl")]

        def is_gone() -> bool:
            there = b"".join(path.read_bytes() for path in files if path.exists())
            return b"Ann Elder" not in there and ANN.encode() not in there

        await eventually(is_gone)


async def test_messages_of_webhooks_name_nobody(desk: Caller) -> None:
    store = desk.dialer.store()
    name = await made(desk, (ANN, "Ann"), (BOB, "Bob"), name="Ann")
    (hers, his) = await desk.tasks(name)
    with store.writing() as tx:
        tx.execute(
            sa.text(
                "INSERT INTO webhooks (webhook_id, organization_id, url, secret, created_at) "
                "VALUES ('hook', 'local', 'https://example.com', 's', 0)"
            )
        )
        for at, task in enumerate((hers, his)):
            data = {"batch_call_id": name, "task_id": task["task_id"], "to_number": task["to_number"]}
            tx.execute(
                webhook_outbox.insert().values(
                    message_id=f"msg_{at}",
                    webhook_id="hook",
                    event="task.finished",
                    payload=json.dumps({"type": "task.finished", "data": data}),
                    created_at=0,
                    due_at=0,
                    tries=0,
                )
            )
        tx.execute(
            attempts.insert().values(
                task_id=hers["task_id"],
                n=1,
                batch_call_id=name,
                organization_id="local",
                to_number=ANN,
                started_at=0,
                ended_at=0,
                outcome="completed",
                carrier="twilio",
                carrier_call_id="CA0123456789",
            )
        )
    found = erasure.forget(store, who(ANN))
    assert found.at_carriers == {"twilio": ["CA0123456789"]}
    text = everything(desk)
    assert text.count(ANN) == 1
    assert "Ann" not in text
    assert "CA0123456789" not in text
    assert BOB in text
