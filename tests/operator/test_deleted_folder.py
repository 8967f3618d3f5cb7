"""The data folder is deleted under a server that runs: it launches nothing, says why, and stops what it can reach."""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import pytest

from tests.dialer.conftest import dialled, eventually
from tests.operator.processes import LONGEST_S, of_magpipe, serving, variables
from tests.operator.test_stop import MANY, PEOPLE, draft
from tests.vendors.magpipe import Magpipe
from tests.walks.stage import ALWAYS, FROM, Person

GONE = "was deleted, moved or replaced while"


@pytest.mark.sweep
@pytest.mark.parametrize("what", ["the folder", "the ledger", "another ledger"])
async def test_a_launch_into_a_ledger_that_nobody_else_sees_is_refused_before_anyone_is_asked(
    what: str, tmp_path: Path
) -> None:
    """So is a create with the key of an earlier one, which a server on a new ledger would make again."""
    vendor, person, folder = Magpipe(), Person(), tmp_path / "data"
    async with vendor.served() as url, serving(of_magpipe(url, folder), person) as model:
        live = await draft(model, "before")
        await model.call("start_batch_call", **live)
        launch = await draft(model, "after")
        asked, made = len(person.questions), len(vendor.batches)
        if what == "the folder":
            shutil.rmtree(folder)
        elif what == "the ledger":
            (folder / "ledger.db").unlink()
        else:
            shutil.copy(folder / "ledger.db", tmp_path / "ledger.db")
            (tmp_path / "ledger.db").replace(folder / "ledger.db")

        text = await model.refused("start_batch_call", "configuration_error", **launch)
        assert GONE in text
        assert "Nothing was sent. Restart it" in text
        create = {"from_number": FROM, "tasks": [{"to_number": PEOPLE[0]}], "idempotency_key": "november"}
        assert GONE in await model.refused("create_batch_call", "configuration_error", **create)
        assert len(person.questions) == asked
        assert len(vendor.batches) == made
        assert vendor.dialled == PEOPLE
        cancelled = await model.call("cancel_batch_call", batch_call_id=live["batch_call_id"])
        assert cancelled["result"] == "cancelled"


async def test_the_dialer_inside_a_server_dials_nobody_into_a_record_without_a_name(tmp_path: Path) -> None:
    """What it says through the tools is what it does: paused, and why."""
    folder, person = tmp_path / "data", Person()
    async with serving(variables(folder, simulated_speed="200"), person) as model:
        tasks = [{"to_number": one} for one in MANY]
        launch = await draft(model, "November", tasks, window=ALWAYS, max_concurrency=2)
        await model.call("start_batch_call", **launch)
        other = await draft(model, "December")
        record = folder / "carrier.jsonl"
        await eventually(lambda: len(dialled(folder)) >= 5)
        with record.open("rb") as lines:
            shutil.rmtree(folder)
            with anyio.fail_after(LONGEST_S):
                while True:
                    found = (await model.call("get_batch_call", **ids(launch)))["batch_call"]
                    if found["status"] == "paused":
                        break
                    await anyio.sleep(0.01)
            rang = len(lines.readlines())
            assert found["status_reason"]["code"] == "error"
            assert GONE in found["status_reason"]["text"]
            assert GONE in await model.refused("start_batch_call", "configuration_error", **other)
            assert GONE in await model.refused("resume_batch_call", "configuration_error", **ids(launch))
            assert 5 <= rang < len(MANY)
            assert lines.readlines() == []


def ids(launch: dict[str, str]) -> dict[str, str]:
    return {"batch_call_id": launch["batch_call_id"]}
