"""How long a pause waits for the ledger while a launch of 100,000 people is being recorded, on both databases.

Beside it, in the same run: the launch alone, the launch beside an equally large one that shares a person, and a pause
with nobody beside it. Run: python benchmarks/ledger.py
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.write_record import STOP_WAITS_S, Entry, Intent, Shared, WriteState
from batchcall_mcp.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.postgresql import postgresql_url

PEOPLE = 100_000
ROUNDS = 5


def numbers(first: int) -> tuple[tuple[str, int], ...]:
    return tuple((f"+1{2_000_000_000 + at}", 1) for at in range(first, first + PEOPLE))


LAUNCH = Intent(
    caller="a",
    backend="zudu https://api.zudu.ai",
    tool="start_batch_call",
    operation=Operation.START,
    fingerprint="s" * 64,
    batch_call_id="bc_1",
    dials=True,
    starts_at=datetime.now(UTC),
    calls=PEOPLE,
)
PAUSE = replace(
    LAUNCH,
    tool="pause_batch_call",
    operation=Operation.PAUSE,
    batch_call_id="bc_paused",
    dials=False,
    starts_at=None,
    calls=None,
)


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def measured(name: str, settings: Settings) -> None:
    ledger = Ledger.open(settings)
    alone, pauses_alone, beside, against = [], [], [], []
    for at in range(ROUNDS):
        launch = replace(
            LAUNCH,
            batch_call_id=f"bc_{at}",
            fingerprint=f"{at:064}",
            since=ledger.history.newest(),
            numbers=numbers(0),
        )
        pauses_alone.append(timed(lambda: ledger.writes.begin(PAUSE)))
        entry: list[Entry] = []

        def record(launch: Intent = launch, entry: list[Entry] = entry) -> None:
            begun = ledger.writes.begin(launch)
            assert isinstance(begun, Entry)
            entry.append(begun)

        recording = threading.Thread(target=lambda: alone.append(timed(record)))
        recording.start()
        waits = []
        while recording.is_alive():
            with suppress(ConfigurationError):  # it waited as long as it may, and goes on without the ledger
                waits.append(timed(lambda: ledger.writes.begin(PAUSE)))
                time.sleep(0.01)
                continue
            waits.append(STOP_WAITS_S)
        recording.join()
        beside.append(max(waits, default=0))
        other = replace(LAUNCH, batch_call_id=f"other_{at}", numbers=numbers(PEOPLE - 1), since=launch.since)
        against.append(timed(lambda other=other: _shares(ledger, other)))
        ledger.writes.finish(entry[0].write_id, WriteState.REFUSED)
    ledger.close()
    print(
        f"| {name} | {median(alone):.2f} | {median(against):.2f} | {median(pauses_alone) * 1000:.1f} | "
        f"{max(beside) * 1000:.0f} | {max(beside) / median(alone):.2f} |"
    )


def _shares(ledger: Ledger, launch: Intent) -> None:
    assert isinstance(ledger.writes.begin(launch), Shared)


def main() -> None:
    print(
        "| ledger | a launch of 100,000, s | one that shares a person, refused, s | a pause alone, ms "
        "| longest pause beside the launch, ms | beside it / the launch |"
    )
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        measured("SQLite", Settings(data_dir=Path(folder)))
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.model_validate({"data_dir": folder, "database_url": postgresql_url()})
        measured("PostgreSQL", settings)


if __name__ == "__main__":
    main()
