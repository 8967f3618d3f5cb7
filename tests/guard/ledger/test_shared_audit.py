"""On a shared database the record of every machine is one: nothing of it lost, nothing twice."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.guard.audit import Audit
from batchcall_mcp.guard.ledger.database import LedgerDatabase
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.ledger.shared_audit import SharedAudit
from batchcall_mcp.settings import Settings
from tests.guard.ledger.conftest import BEGIN, Clock
from tests.guard.test_audit import ASKED, STARTED
from tests.operator.processes import command
from tests.postgresql import postgresql_url


class Machine:
    """One of several on a database: a data folder of its own."""

    def __init__(self, name: str, folder: Path, settings: Settings, clock: Clock) -> None:
        self.clock = clock
        self.settings = settings.model_copy(update={"data_dir": folder / name})
        self.ledger = Ledger(LedgerDatabase.open(self.settings, clock))  # its own thread would copy too
        self.audit = Audit(folder / name, clock)
        self.shared = SharedAudit(self.ledger.database, name)

    def note(self, *tools: str) -> None:
        for tool in tools:
            self.clock.move(milliseconds=1)
            self.audit.note(replace(STARTED, tool=tool))


@pytest.fixture
def machines(tmp_path: Path, clock: Clock) -> Iterator[tuple[Machine, Machine]]:
    shared = Settings.model_validate({"database_url": postgresql_url()})
    both = Machine("one", tmp_path, shared, clock), Machine("two", tmp_path, shared, clock)
    yield both
    for machine in both:
        machine.shared.close()
        machine.ledger.close()


def tools(shared: SharedAudit, **options: Any) -> list[tuple[str, str]]:
    return [(event["machine"], event["tool"]) for event in shared.events(**options)]


def test_every_machine_reads_what_all_have_recorded_in_the_order_of_time(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one.note("a")
    two.note("b")
    one.note("c")
    for machine in machines:
        machine.shared.copy()

    for machine in machines:
        assert tools(machine.shared) == [("one", "a"), ("two", "b"), ("one", "c")]
    assert tools(one.shared, since=BEGIN + timedelta(milliseconds=3)) == [("one", "c")]


def test_what_was_copied_is_not_copied_again_by_whoever_copies(machines: tuple[Machine, Machine]) -> None:
    one, _ = machines
    one.note("a", "b")
    one.shared.copy()
    one.shared.copy()
    again = SharedAudit(one.ledger.database, "one")
    again.copy()
    one.note("c")
    again.copy()
    again.close()
    one.shared.copy()

    assert tools(one.shared) == [("one", "a"), ("one", "b"), ("one", "c")]


def test_a_long_record_is_copied_in_parts_and_read_in_pages(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    names = [f"t{number}" for number in range(2_000)]
    one.note(*names)
    one.shared.copy()

    assert tools(two.shared) == [("one", name) for name in names]


def test_a_record_that_is_moved_away_is_copied_to_its_last_line(machines: tuple[Machine, Machine]) -> None:
    one, _ = machines
    one.note("a")
    one.shared.copy()
    one.note("b")
    one.audit.path.rename(one.audit.path.with_suffix(".1"))
    one.note("c")
    one.shared.copy()

    assert tools(one.shared) == [("one", "a"), ("one", "b"), ("one", "c")]


def test_torn_lines_are_skipped_and_an_unfinished_one_waits(machines: tuple[Machine, Machine]) -> None:
    one, _ = machines
    one.note("a")
    with one.audit.path.open("ab") as file:
        file.write(b'{"at": "2026\n\xff\xfe\n')
    one.note("b")
    whole = one.audit.path.read_bytes()
    one.audit.path.write_bytes(whole[:-1])
    one.shared.copy()
    assert tools(one.shared) == [("one", "a")]

    one.audit.path.write_bytes(whole)
    one.shared.copy()
    assert tools(one.shared) == [("one", "a"), ("one", "b")]


def test_a_pipe_in_its_place_is_not_read(machines: tuple[Machine, Machine]) -> None:
    one, _ = machines
    one.audit.path.parent.mkdir()
    os.mkfifo(one.audit.path)
    one.shared.copy()

    assert tools(one.shared) == []


def test_what_could_not_be_copied_during_an_outage_is_copied_later(
    machines: tuple[Machine, Machine], caplog: pytest.LogCaptureFixture
) -> None:
    one, two = machines
    one.note("a")
    with one.ledger.database.engine.begin() as tx:
        tx.exec_driver_sql("ALTER TABLE audit_events RENAME TO elsewhere")
    with caplog.at_level(logging.WARNING):
        one.shared.start()
        one.shared.close()
    assert "stays in" in caplog.text
    with pytest.raises(ConfigurationError):
        one.shared.copy()
    with one.ledger.database.engine.begin() as tx:
        tx.exec_driver_sql("ALTER TABLE elsewhere RENAME TO audit_events")
    one.shared.copy()

    assert tools(two.shared) == [("one", "a")]


def test_a_process_that_ends_has_copied_its_last_line(machines: tuple[Machine, Machine]) -> None:
    one, two = machines
    one.note("a")
    Ledger.open(one.settings).close()

    assert [tool for _, tool in tools(two.shared)] == ["a"]


@pytest.mark.parametrize("form", ["table", "csv", "jsonl"])
async def test_the_command_shows_every_machine_s_events(tmp_path: Path, form: str) -> None:
    url = postgresql_url()
    environment = {"BATCHCALL_DATABASE_URL": url}
    for name in ("one", "two"):
        settings = Settings.model_validate({"data_dir": tmp_path / name, "database_url": url})
        ledger = Ledger.open(settings)
        Audit(settings.data_dir).note(replace(ASKED, tool=f"tool_of_{name}"))
        ledger.close()

    shown = await command(environment | {"BATCHCALL_DATA_DIR": str(tmp_path / "two")}, "audit", "--format", form)
    assert shown.code == 0, shown.err
    assert "tool_of_one" in shown.out
    assert "tool_of_two" in shown.out
    assert "machine" in shown.out

    mine = await command(
        environment | {"BATCHCALL_DATA_DIR": str(tmp_path / "two")}, "audit", str(tmp_path / "two" / "audit.jsonl")
    )
    assert "tool_of_one" not in mine.out
    assert "tool_of_two" in mine.out


async def test_a_database_that_is_away_is_said_with_the_way_to_the_record_of_this_machine(tmp_path: Path) -> None:
    environment = {
        "BATCHCALL_DATABASE_URL": "postgresql://operator:hunter2@127.0.0.1:1/ledger",
        "BATCHCALL_DATA_DIR": str(tmp_path),
    }
    ended = await command(environment, "audit")
    assert ended.code == 1
    assert f"batchcall-mcp audit {tmp_path / 'audit.jsonl'}" in ended.err
    assert "hunter2" not in ended.err
    assert "Traceback" not in ended.err
