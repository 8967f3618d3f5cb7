"""Another version of the program migrates the tables, or the role may not: the dialer stops, and says why in a line."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.storage.store import Store
from tests.dialer.conftest import NewCaller, emptied_postgresql, eventually, numbers
from tests.operator.processes import command, variables
from tests.postgresql import postgresql_url

NEWER = "UPDATE dialer_version SET version_num = '9999'"
OURS = f"UPDATE dialer_version SET version_num = '{Store.schema.head}'"
SAYS = "The database's tables are not of this version"
NEEDS = "it needs CREATE on the schema public"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_dialer_that_runs_stops_when_a_newer_version_has_migrated(
    new_caller: NewCaller, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Nobody is dialled and nothing launched, said once; what is in progress ends, and a stop is not held up."""
    database = emptied_postgresql() if kind == "postgresql" else None
    async with new_caller(database=database, simulated_speed=100.0) as caller:
        running = await caller.create(numbers(500), send_now=True, max_concurrency=5)
        draft = await caller.create(numbers(2, 1))
        await caller.until(running, lambda data: data["sent"] >= 20)
        with caller.dialer.store().writing() as tx:
            tx.execute(sa.text(NEWER))
        try:
            await eventually(lambda: SAYS in caplog.text)
            data = await caller.until(running, lambda data: data["counts"]["calling"] == 0)
            rang = len(caller.dialled())
            assert data["sent"] == rang < 500
            assert data["counts"]["interrupted"] == 0
            refused = await caller.ask("POST", f"/batch-call/{draft}/execute", status=409)
            assert refused["code"] == "dialer_halted"
            assert SAYS in refused["error"]
            assert "Nothing was changed. Restart this process on the newest version." in refused["error"]
            other = await caller.ask("POST", f"/batch-call/{running}/pause")
            assert other["status"] == "paused"
            assert len(caller.dialled()) == rang
        finally:
            with caller.dialer.store().writing() as tx:
                tx.execute(sa.text(OURS))
    assert caplog.text.count(SAYS) == 1


@pytest.mark.parametrize("made", [False, True], ids=["to make the tables", "to make the tables of DBOS"])
async def test_one_line_says_what_a_role_without_create_needs(tmp_path: Path, made: bool) -> None:
    owner = postgresql_url()
    admin = sa.create_engine(sa.make_url(owner).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    name = f"small_{sa.make_url(owner).database}"
    small = sa.make_url(owner).set(username=name, password="hunter2").render_as_string(hide_password=False)
    if made:
        assert (await command(variables(tmp_path, database_url=owner), "dialer", "keys", "create")).code == 0
    with admin.connect() as tx:
        tx.execute(sa.text(f"CREATE ROLE {name} LOGIN PASSWORD 'hunter2'"))
        if made:
            tx.execute(sa.text(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}"))
            tx.execute(sa.text(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {name}"))
    admin.dispose()
    ended = await command(variables(tmp_path, database_url=small), "dialer", "--port", "0", "--drain-seconds", "0")
    assert ended.code != 0
    (line,) = [one for one in ended.err.splitlines() if NEEDS in one]
    assert "permission denied" in line
    assert "Traceback" not in ended.err
    assert "hunter2" not in ended.err
    assert len(ended.err.splitlines()) == 1
