"""What `make test` leaves to `make torture`, of the tests for both databases and of sweeps."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.sampling import on_one_database, some_of_each_sweep
from tests.server.transports import ROOT


@dataclass(eq=False)
class Item:
    nodeid: str
    path: Path
    callspec: SimpleNamespace
    markers: tuple[str, ...]

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.markers else None


def item(name: str, file: str = "dialer/test_stops.py", *, marked: str = "", **params: Any) -> Any:
    nodeid = f"tests/{file}::{name}[{'-'.join(map(str, params.values()))}]"
    return Item(nodeid, ROOT / "tests" / file, SimpleNamespace(params=params), (marked,))


def twins(count: int, file: str = "dialer/test_stops.py") -> list[Any]:
    return [item(f"test_{n}", file, desk=on, at=n) for n in range(count) for on in ("sqlite", "postgresql")]


def test_each_runs_on_one_of_the_two_and_each_database_gets_many() -> None:
    chosen: list[Any] = list(on_one_database(twins(100)))
    assert [one.callspec.params["at"] for one in chosen] == list(range(100))
    assert min(Counter(one.callspec.params["desk"] for one in chosen).values()) > 30


def test_what_has_no_twin_stays() -> None:
    alone = [item("test_a", desk="sqlite"), item("test_b", desk="postgresql"), item("test_c", way="http")]
    assert on_one_database(alone) == alone


def test_where_the_database_is_what_is_tested_both_stay() -> None:
    both = twins(5, "guard/ledger/test_writes.py")
    assert on_one_database(both) == both


def test_of_a_sweep_a_third_stays_with_each_backend_and_each_fault_before_one_comes_again() -> None:
    backends, faults = [f"b{n}" for n in range(6)], [f"f{n}" for n in range(10)]
    sweep = [item("test_faults", marked="sweep", at=at, fault=fault) for at in backends for fault in faults]
    chosen: list[Any] = list(some_of_each_sweep(sweep))
    assert len(chosen) == 20
    assert chosen == [one for one in sweep if one in chosen]
    assert max(Counter(one.callspec.params["at"] for one in chosen).values()) <= 4
    assert max(Counter(one.callspec.params["fault"] for one in chosen).values()) <= 3


def test_of_two_cases_one_stays_and_not_always_the_first() -> None:
    sweeps = [item(f"test_{n}", marked="sweep", at=at) for n in range(100) for at in ("stdio", "http")]
    chosen: list[Any] = list(some_of_each_sweep(sweeps))
    assert [one.nodeid.partition("[")[0] for one in chosen] == [one.nodeid.partition("[")[0] for one in sweeps[::2]]
    assert min(Counter(one.callspec.params["at"] for one in chosen).values()) > 30


def test_a_walk_is_a_sweep_over_its_ways_and_another_test_stays_whole() -> None:
    walk = [item("test_call", "walks/test_walk_1.py", era=era) for era in ("2025", "2026")]
    others = [item("test_call", at=n) for n in range(9)]
    assert len(some_of_each_sweep([*walk, *others])) == 1 + len(others)
