"""What a backend elsewhere keeps cannot be erased from here: it is named, and no launch from here calls the person."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio.to_thread

from batchcall_mcp.erasure.forget import MAY_BE_CALLED, Forget
from batchcall_mcp.recipients.phone.spellings import Spellings
from tests.vendors import zudu
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Person, number, playing, settings_of, tomorrow_at

ADA, BEN = number(NEW_YORK, 0), number(NEW_YORK, 1)
TASKS = [{"to_number": ADA}, {"to_number": BEN}]


async def test_a_live_batch_call_of_a_vendor_is_named_and_a_kept_draft_is_warned_of(tmp_path: Path) -> None:
    vendor, person = Zudu(), Person("yes")
    async with vendor.served() as url:
        account = {"backend": "zudu", "url": url, "api_key": zudu.KEY, "api_secret": zudu.SECRET}
        variables = account | {"data_dir": str(tmp_path), "calling_hours": "00:00-24:00"}
        async with playing("auto", person, **variables) as model:
            given = {"from_number": FROM, "tasks": TASKS}
            ids = []
            for name in ("live", "draft"):
                made = await model.call("create_batch_call", name=name, **given)
                ids.append(made["batch_call"]["batch_call_id"])
            live, draft = ids
            when = tomorrow_at(10).isoformat()
            await model.call("start_batch_call", batch_call_id=live, trigger_timestamp=when)

            settings = settings_of({name.upper(): value for name, value in variables.items()})
            done = Forget(settings, None, Spellings.of(ADA, None), change=True)
            await anyio.to_thread.run_sync(done.run)
            assert done.exit_code == MAY_BE_CALLED
            (may,) = [line for line in done.lines if line.startswith("may still call")]
            assert live in may
            (kept,) = [line for line in done.lines if line.startswith("elsewhere: zudu")]
            assert draft in kept
            assert "2 batch calls" in kept

            await model.call("cancel_batch_call", batch_call_id=live)
            start = {"batch_call_id": draft, "trigger_timestamp": when}
            text = await model.refused("start_batch_call", "invalid_input", **start)
            assert "1 of the people to be called were just forgotten" in text
            with closing(sqlite3.connect(tmp_path / "ledger.db")) as ledger, ledger:
                ledger.execute("UPDATE forgotten SET at = at - 120000")  # two minutes later
            await model.call("start_batch_call", **start)
            assert "do-not-call list" in person.questions[-1]
            again = await model.call("create_batch_call", name="again", **given)
            assert again["batch_call"]["counts"]["total"] == 1
            assert "do-not-call" in str(again)
    assert vendor.dialled == []


async def test_a_second_look_finds_nothing_and_twice_is_once(tmp_path: Path) -> None:
    settings = settings_of({"DATA_DIR": str(tmp_path)})
    for _ in range(2):
        done = Forget(settings, None, Spellings.of(ADA, None), change=True)
        await anyio.to_thread.run_sync(done.run)
        assert (done.exit_code, done.lines) == (0, ["do-not-call: nobody calls this number from here any more."])
    (tmp_path / "copy.csv").write_text(f"phone\n{ADA}\n")
    done = Forget(settings, None, Spellings.of(ADA, None), change=True)
    await anyio.to_thread.run_sync(done.run)
    assert done.exit_code == 1
    assert done.lines[-1].startswith(f"NOT DONE: {tmp_path / 'copy.csv'} in the data folder holds the number")
