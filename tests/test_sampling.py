"""What `make test` leaves to `make torture` of the tests for both databases."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.sampling import on_one_database
from tests.server.transports import ROOT


@dataclass(eq=False)
class Item:
    nodeid: str
    path: Path
    callspec: SimpleNamespace


def item(name: str, file: str = "dialer/test_stops.py", **params: Any) -> Any:
    nodeid = f"tests/{file}::{name}[{'-'.join(map(str, params.values()))}]"
    return Item(nodeid, ROOT / "tests" / file, SimpleNamespace(params=params))


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
