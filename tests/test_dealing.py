"""The order of a run in several workers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.dealing import LONGEST_FIRST, dealt

TIERS = (*LONGEST_FIRST, "fast", "fast", "fast", "fast")
ITEMS: list[Any] = [
    SimpleNamespace(path=Path(f"test_{number}.py"), tier=TIERS[number % len(TIERS)], at=at)
    for number in range(64)
    for at in range(3)
]


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 7])
def test_each_worker_begins_with_long_ones_of_another_kind_and_ends_with_short_ones(workers: int) -> None:
    order: list[Any] = dealt(ITEMS, workers, lambda item: item.tier)  # type: ignore[attr-defined]
    assert sorted((item.path, item.at) for item in order) == sorted((item.path, item.at) for item in ITEMS)
    size = len(order) // workers
    stretches = [order[number * size :][:size] for number in range(workers)]
    assert [stretch[0].tier for stretch in stretches[:4]] == list(LONGEST_FIRST[:workers])
    for stretch in stretches:
        tiers = [item.tier for item in stretch]
        assert tiers[-1] == "fast"
        assert "fast" not in tiers[: len(tiers) - tiers.count("fast")]


def test_the_tests_of_a_file_stay_together_and_in_their_order() -> None:
    order: list[Any] = dealt(ITEMS, 4, lambda item: item.tier)  # type: ignore[attr-defined]
    for at, item in enumerate(order[:-1]):
        if item.at < 2:
            assert (order[at + 1].path, order[at + 1].at) == (item.path, item.at + 1)
