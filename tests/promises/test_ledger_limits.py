"""The ledger itself: one winner however PostgreSQL is set up, limits that are not passed, counts that are true."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.write_record import Entry, Evidence, Intent, WriteState
from batchcall_mcp.settings import Settings
from tests.guard.ledger.conftest import Clock
from tests.postgresql import _server, postgresql_url
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Person, number, playing, tomorrow_at

PEOPLE = [number(NEW_YORK, line) for line in (0, 1)]
TASKS = [{"to_number": one} for one in PEOPLE]
LAUNCH = Intent(
    caller="a",
    backend="magpipe https://m",
    tool="create_batch_call",
    operation=Operation.CREATE,
    fingerprint="f" * 64,
    evidence=Evidence(name="Batch call 2026-11-24 ffffff", total=2),
    dials=True,
    starts_at=datetime(2026, 11, 24, 15, 0, tzinfo=UTC),
    calls=2,
)


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_one_of_many_equal_launches_is_recorded_whatever_isolation_the_database_has(
    isolation: str, tmp_path: Path
) -> None:
    """`default_transaction_isolation` belongs to the server, the database or the role: whoever runs it may set it."""
    url = postgresql_url()
    name = sa.make_url(url).database
    admin = sa.create_engine(
        sa.make_url(_server().get_uri()).set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(sa.text(f"ALTER DATABASE {name} SET default_transaction_isolation = '{isolation}'"))
    admin.dispose()
    ledgers = [
        Ledger.open(Settings.model_validate({"data_dir": tmp_path / str(at), "database_url": url})) for at in range(2)
    ]

    together = threading.Barrier(16)

    def begin(at: int) -> Any:
        together.wait()
        try:
            return ledgers[at % 2].writes.begin(LAUNCH)
        except Exception as error:  # noqa: BLE001 - nothing is sent then
            return error

    with ThreadPoolExecutor(16) as pool:
        begun = list(pool.map(begin, range(32)))
    for ledger in ledgers:
        ledger.close()
    assert sum(isinstance(one, Entry) for one in begun) == 1


def test_a_launch_that_is_sent_again_on_another_day_counts_for_that_day(tmp_path: Path) -> None:
    """The limit is two calls a day. Yesterday's launch got no answer and is sent today, and so is another one."""
    clock = Clock()
    ledger = Ledger.open(Settings(data_dir=tmp_path), clock)
    start = replace(
        LAUNCH, operation=Operation.START, tool="start_batch_call", batch_call_id="bc_1", starts_at=clock.now
    )
    begun = ledger.writes.begin(replace(start, numbers=(("+14155550101", 3),)), max_calls_per_day=2)
    assert isinstance(begun, Entry)
    lost = ledger.writes.finish(begun.write_id, WriteState.UNKNOWN)
    clock.move(days=1)
    again = ledger.writes.take_over(lost, replace(start, starts_at=clock.now, numbers=(("+14155550101", 3),)))
    assert isinstance(again, Entry)
    ledger.writes.finish(again.write_id, WriteState.DONE, batch_call_id="bc_1", status="running")
    newest = ledger.history.newest()
    other = replace(start, batch_call_id="bc_2", fingerprint="g" * 64, starts_at=clock.now, since=newest)
    told = ledger.history.attempts(["+14155550101"], clock.now)
    with pytest.raises(InvalidInput):
        ledger.writes.begin(other, max_calls_per_day=2)
    assert told == {"+14155550101": 3}
    ledger.close()


async def test_moving_a_schedule_does_not_count_as_dialling(tmp_path: Path) -> None:
    """Nobody was dialled, and the question says that they were; with BATCHCALL_CONFIRM=off it is refused for that."""
    vendor = Zudu()
    account: dict[str, Any] = {
        "backend": "zudu",
        "api_key": zudu.KEY,
        "api_secret": zudu.SECRET,
        "calling_hours": "00:00-24:00",
    }
    async with (
        vendor.served() as url,
        playing("auto", person := Person(), url=url, data_dir=tmp_path, **account) as model,
    ):
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        name = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        for hour in (9, 10, 11, 12):
            await model.call("start_batch_call", **name, trigger_timestamp=tomorrow_at(hour).isoformat())
    assert vendor.dialled == []
    assert not [one for one in person.questions if "were dialled" in one], person.questions[-1]


async def test_pausing_and_resuming_does_not_count_as_dialling(tmp_path: Path) -> None:
    """A series whose next run is next week, paused and resumed by an unattended job."""
    vendor = Magpipe()
    series = vendor.series(PEOPLE)
    account: dict[str, Any] = {"backend": "magpipe", "api_key": magpipe.KEY, "calling_hours": "00:00-24:00"}
    unattended: dict[str, Any] = {"confirm": "off", "max_calls_per_launch": "10"}
    async with vendor.served() as url, playing("auto", url=url, data_dir=tmp_path, **account, **unattended) as model:
        for _ in range(5):
            await model.call("pause_batch_call", batch_call_id=series)
            await model.call("resume_batch_call", batch_call_id=series)
    assert vendor.dialled == []
