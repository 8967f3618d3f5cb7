"""`docs/backup.md` as an operator follows it: backed up with calls in progress, restored when more was done."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.operator.processes import Ended, command, of_magpipe, serving, variables
from tests.operator.test_stop import MANY, draft, until
from tests.postgresql import bundled_programs, postgresql_url
from tests.vendors.magpipe import Magpipe
from tests.walks.stage import ALWAYS, FROM, Model, Person, dials, number, tomorrow_at

PAGE = (Path(__file__).parents[2] / "docs" / "backup.md").read_text(encoding="utf-8")
STEP = re.compile(r"^\*\*(\d)\. ", re.MULTILINE)
UNKNOWN = "The database is of version {}, which this version of batchcall-mcp does not know."
SAYS = UNKNOWN.format("9999")
NIGHT = number("212", 91)  # nobody of MANY


@dataclass(frozen=True)
class Operator:
    """Types what the page says into a shell."""

    there: dict[str, str]
    backup: Path

    async def types(self, heading: str, nth: int = 0) -> None:
        """A block of shell lines below a heading, or below a step of one."""
        block = re.findall(r"```sh\n(.*?)```", PAGE.split(heading, 1)[1], re.DOTALL)[nth]
        path = f"{bundled_programs()}:{os.environ['PATH']}"
        environment = os.environ | self.there | {"BACKUP": str(self.backup), "PATH": path}
        ended = await anyio.run_process(["bash", "-eu", "-c", block], env=environment, check=False)
        assert (ended.returncode, ended.stderr) == (0, b""), ended

    async def runs(self, step: int) -> Ended:
        """The command of a step, which succeeds and prints what the page shows."""
        part = STEP.split(PAGE.partition("## Restore")[2])[2 * step]
        found = re.search(r"^\$ batchcall-mcp (.*)\n(.*)$", part, re.MULTILINE)
        assert found is not None
        ended = await command(self.there, *found[1].split())
        assert (ended.code, ended.err) == (0, "")
        assert found[2] in {"…", *ended.out.splitlines()}
        return ended


async def nightly(model: Model) -> dict[str, Any]:
    """What cron starts once a night, with the key of that night."""
    made = await model.call(
        "create_batch_call", from_number=FROM, tasks=[{"to_number": NIGHT}], idempotency_key="night", window=ALWAYS
    )
    return {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}


async def paused_in(model: Model) -> set[str]:
    """The batch calls there are, once every one of them is paused."""
    while True:
        found = (await model.call("list_batch_calls"))["batch_calls"]
        if {one["status"] for one in found} == {"paused"}:
            return {one["batch_call_id"] for one in found}
        await anyio.sleep(0.05)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_after_a_restore_nobody_is_called_until_a_person_has_compared(tmp_path: Path, kind: str) -> None:
    folder, sqlite = tmp_path / "data", kind == "sqlite"
    shared = {} if sqlite else {"database_url": postgresql_url()}
    there = variables(folder, simulated_speed="40", calling_hours="00:00-24:00", **shared)
    operator = Operator(there, tmp_path / "backup")
    async with serving(there, Person()) as model:
        launch = await draft(model, "November", [{"to_number": one} for one in MANY], max_concurrency=5, window=ALWAYS)
        await model.call("start_batch_call", **launch)
        later = await draft(model, "December")
        await model.call("start_batch_call", **later | {"trigger_timestamp": tomorrow_at(9).isoformat()})
        await until(lambda: dials(folder).total() >= 10)
        await operator.types("## Back up", 0 if sqlite else 1)
        await model.call("start_batch_call", **await nightly(model))
        await until(lambda: dials(folder)[NIGHT] == 1)
    rang = dials(folder).total()
    if not sqlite:
        there |= variables(folder, database_url=postgresql_url())

    await operator.types("**2.")
    await operator.types("**3.", 0 if sqlite else 1)
    if sqlite:
        adopted = await operator.runs(4)
        assert f"paused: {launch['batch_call_id']} (November) of local, " in adopted.out
    async with serving(there, Person()) as model:
        with anyio.fail_after(30):
            assert await paused_in(model) == {launch["batch_call_id"], later["batch_call_id"]}
        again = await nightly(model)  # a draft: the ledger does not know the one of that night
        assert "emergency stop is on" in await model.refused("start_batch_call", "invalid_input", **again)
        compared = await operator.runs(6)
        assert re.search(r"stop +older|stop .* older", compared.out) is not None
        assert len(re.findall(r" start ", compared.out)) > len({"November", "December"})
        await operator.runs(7)
        assert dials(folder).total() == rang
        resumed = await model.call("resume_batch_call", batch_call_id=launch["batch_call_id"])
        assert resumed["result"] == "resumed"


async def test_a_launch_that_only_the_ledger_knows_is_not_made_again(tmp_path: Path) -> None:
    """Why the ledger is copied last: the other way round its repetition would be a new one."""
    folder = tmp_path / "data"
    there = variables(folder, simulated_speed="1000", calling_hours="00:00-24:00")
    async with serving(there, Person()) as model:
        await draft(model, "November")
    operator = Operator(there, tmp_path / "backup")
    await operator.types("## Back up")
    async with serving(there, Person()) as model:
        await model.call("start_batch_call", **await nightly(model))
        await until(lambda: dials(folder)[NIGHT] == 1)
    (tmp_path / "backup" / "ledger.db").unlink()
    await operator.types("**3.")
    await operator.runs(4)
    async with serving(there, Person()) as model:
        arguments = {"from_number": FROM, "tasks": [{"to_number": NIGHT}], "window": ALWAYS}
        await model.refused("create_batch_call", "not_found", **arguments, idempotency_key="night")
    assert dials(folder)[NIGHT] == 1


async def test_an_older_version_changes_nothing_in_a_newer_database(tmp_path: Path) -> None:
    """Tables that a newer version has made: reads and stops of a vendor's batch calls go on, all else is refused."""
    assert UNKNOWN.format("…") in PAGE
    vendor = Magpipe()
    async with vendor.served() as url:
        there = of_magpipe(url, tmp_path)
        async with serving(there, Person()) as model:
            launch = await draft(model, "November")
        newer(tmp_path / "ledger.db", "alembic_version")
        async with serving(there, Person()) as model:
            read = await model.call("get_batch_call", batch_call_id=launch["batch_call_id"])
            assert read["batch_call"]["status"] == "draft"
            assert SAYS in await model.refused("start_batch_call", "configuration_error", **launch)
            stopped = await model.call("cancel_batch_call", batch_call_id=launch["batch_call_id"])
            assert stopped["result"] == "cancelled"
            assert "not recorded" in stopped["notes"][0]
        assert version_of(tmp_path / "ledger.db", "alembic_version") == "9999"
    assert vendor.dialled == []
    for arguments in (("ledger",), ("stop",)):
        ended = await command(there, *arguments)
        assert (ended.code != 0, SAYS in ended.err) == (True, True)


async def test_an_older_dialer_does_not_start_on_a_newer_database(tmp_path: Path) -> None:
    there = variables(tmp_path)
    assert (await command(there, "dialer", "keys", "create")).code == 0
    newer(tmp_path / "dialer.db", "dialer_version")
    for arguments in (("dialer", "--port", "0"), ("dialer", "adopt")):
        ended = await command(there, *arguments)
        assert (ended.code, SAYS in ended.err) == (2, True)
    async with serving(there, Person()) as model:
        assert SAYS in await model.refused("list_batch_calls", "configuration_error")
    assert version_of(tmp_path / "dialer.db", "dialer_version") == "9999"


def version_of(database: Path, table: str) -> str:
    with closing(sqlite3.connect(database)) as connection:
        return str(connection.execute(f"SELECT version_num FROM {table}").fetchone()[0])


def newer(database: Path, table: str) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(f"UPDATE {table} SET version_num = '9999'")
