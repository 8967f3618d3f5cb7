"""Many looks at once whether another process is alive."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from shutil import rmtree

import pytest

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.write_record import Entry, Evidence, Intent, Overtaken
from batchcall_mcp.settings import Settings
from tests.guard.ledger.conftest import Clock

CHANGE = Intent(
    caller="a",
    backend="zudu",
    tool="update_batch_call",
    operation=Operation.UPDATE,
    batch_call_id="bc_1",
    fingerprint="e" * 64,
    evidence=Evidence(),
)


@pytest.mark.timeout(25)
def test_many_launches_at_once_look_whether_another_process_sends_a_change(ledger: Ledger, clock: Clock) -> None:
    """Each holds a connection while it waits for its turn: none is left for the look of the one whose turn it is."""
    other = Ledger(ledger.database, may_arrive_s=60)
    other.writes.begin(CHANGE)
    clock.move(hours=1)
    launch = replace(CHANGE, operation=Operation.START, tool="start_batch_call", dials=True, seen=1)
    with ThreadPoolExecutor(16) as pool:
        begun = list(pool.map(lambda _: ledger.writes.begin(launch), range(16)))
    assert {type(one) for one in begun} == {Overtaken}
    other._owners.close()


def test_who_looks_at_once_sees_that_a_process_is_gone(ledger: Ledger, settings: Settings, clock: Clock) -> None:
    """Each look takes the lock of the one that is gone, for a moment."""
    gone = Ledger.open(settings, clock)
    entry = gone.writes.begin(CHANGE)
    assert isinstance(entry, Entry)
    left = tuple(settings.data_dir.glob("owners/*.lock"))
    gone.close()
    for path in left:
        path.touch()  # as a process leaves it that is killed
    gate = threading.Barrier(8)

    def looked(_nth: int) -> bool:
        gate.wait(20)
        return any(ledger.writes.is_in_hand(entry) for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(looked, range(8)))


def test_a_process_whose_lock_somebody_has_removed_takes_it_again(tmp_path: Path, clock: Clock) -> None:
    """A folder that was tidied up: what is sent from then on is in its hand."""
    settings = Settings(data_dir=tmp_path)
    ledger, other = Ledger.open(settings, clock), Ledger.open(settings, clock)
    first = ledger.writes.begin(CHANGE)
    rmtree(tmp_path / "owners")
    second = ledger.writes.begin(replace(CHANGE, batch_call_id="bc_2"))
    assert isinstance(first, Entry)
    assert isinstance(second, Entry)
    assert other.writes.is_in_hand(second)
    assert other.writes.is_in_hand(first)
    ledger.close()
    assert not other.writes.is_in_hand(second)
    other.close()
