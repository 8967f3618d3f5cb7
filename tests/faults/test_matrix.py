"""No cell of the fault matrix is worse than its promise, and the page tells what is so.

`python -m tests.faults.renew` writes the page's tables anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from batchcall_mcp.backends.capabilities import Operation
from tests.faults.matrix import FAULTS, ONE_OF_EACH_KIND, STATUSES, WRITES, Expected, Fault, status_fault
from tests.faults.observing import BACKENDS, EVERY_FAULT, HTTP, Observed, observe, sweep
from tests.faults.page import FAULTS_BEGIN, PAGE, STATUSES_BEGIN, ranges, row, section
from tests.server.transports import ROOT


@pytest.mark.sweep
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_model_gets_what_is_promised_whatever_goes_wrong(fault: Fault) -> None:
    cells = await observe(fault)
    assert worse(fault, cells) == []
    assert row(fault.name, cells) in section(FAULTS_BEGIN)


@pytest.mark.sweep
@pytest.mark.parametrize("name", ONE_OF_EACH_KIND)
@pytest.mark.parametrize("backend", [one for one in BACKENDS if one not in EVERY_FAULT])
async def test_what_differs_between_backends_is_promised_too(backend: str, name: str) -> None:
    fault = next(one for one in FAULTS if one.name == name)
    assert worse(fault, await observe(fault, backends=[backend])) == []


@pytest.mark.parametrize("status", [404, 405, 410])
async def test_a_server_without_an_extension_still_cancels_what_waits(status: int) -> None:
    fault = status_fault(status)
    assert worse(fault, await observe(fault, ["cancel_batch_call"], ["batchcall"])) == []


@pytest.mark.sweep
@pytest.mark.parametrize("status", sorted({meaning: status for status, meaning in sorted(STATUSES.items())}.values()))
async def test_a_status_means_the_same_through_every_tool(status: int) -> None:
    """One of each meaning; that each of the 300 has its meaning is the adapter's, below."""
    fault = status_fault(status)
    assert worse(fault, await observe(fault)) == []


async def test_every_status_from_300_to_599_means_what_the_page_says() -> None:
    observed = await sweep(range(300, 600))
    assert [found for status, cells in observed.items() for found in said_otherwise(status_fault(status), cells)] == []
    rows = {status: row(str(status), cells) for status, cells in observed.items()}
    assert ranges(rows) == section(STATUSES_BEGIN)


def test_the_page_has_every_fault_once_and_no_other() -> None:
    assert [line.split(" | ")[0].removeprefix("| ") for line in section(FAULTS_BEGIN)] == [one.name for one in FAULTS]


def test_the_tests_that_the_page_names_are_there() -> None:
    named = set(re.findall(r"`(tests/[a-z_0-9/]+\.py)`", PAGE.read_text(encoding="utf-8")))
    assert len(named) > 10
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []


def test_no_promise_lets_a_write_be_sent_twice_unless_it_cannot_have_arrived() -> None:
    promised = [fault.expected(backend, tool) for fault in FAULTS for backend in BACKENDS for tool in WRITES]
    assert {one.requests for one in promised} == {0, 1}
    assert {status for status, (_, write) in STATUSES.items() if write.requests > 1} == {429}


def worse(fault: Fault, cells: list[Observed]) -> list[str]:
    """The cells that are not what was promised of the tools."""

    def promised(cell: Observed) -> Expected:
        lists = Operation.LIST in HTTP[cell.backend].backend.capabilities.operations
        return fault.expected(cell.backend, cell.tool, cell.usual, lists=lists)

    return _other_than(promised, cells)


def said_otherwise(fault: Fault, cells: list[Observed]) -> list[str]:
    """The cells that are not what was promised of the adapters."""
    return _other_than(lambda cell: fault.said(cell.backend, cell.tool, cell.usual), cells)


def _other_than(promised: Callable[[Observed], Expected], cells: list[Observed]) -> list[str]:
    return [
        f"{cell.backend} {cell.tool}: {cell.expected}, promised {promised(cell)}: {cell.text}"
        for cell in cells
        if cell.expected != promised(cell)
    ]
