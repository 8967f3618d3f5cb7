"""The tables of docs/guarantees.md: what was observed, in the words of a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from tests.faults.matrix import ANSWER, FOUND, READS, WRITES, Expected
from tests.faults.observing import Observed
from tests.server.transports import ROOT

PAGE = ROOT / "docs" / "guarantees.md"
END = "<!-- generated: end -->\n"
FAULTS_BEGIN = "<!-- faults, as observed by tests/faults: begin -->\n"
STATUSES_BEGIN = "<!-- statuses, as observed by tests/faults: begin -->\n"
_HEADER = "| a read answers | a write answers |\n|---|---|---|"
FAULTS_HEADER = f"| the backend {_HEADER}"
STATUSES_HEADER = f"| HTTP {_HEADER}"


def row(name: str, cells: Sequence[Observed]) -> str:
    """One line of a table."""
    reads = [cell for cell in cells if cell.tool in READS]
    writes = [cell for cell in cells if cell.tool in WRITES]
    return f"| {name} | {_told(reads)} | {_told(writes)} |"


def ranges(rows: Mapping[int, str]) -> list[str]:
    """Lines of statuses, those that are alike and follow each other in one."""
    found = []
    for _, members in groupby(sorted(rows), key=lambda status: rows[status].partition(" | ")[2]):
        together = list(members)
        name = str(together[0]) if len(together) == 1 else f"{together[0]}-{together[-1]}"
        found.append(rows[together[0]].replace(f"| {together[0]} |", f"| {name} |", 1))
    return found


def section(begin: str) -> list[str]:
    """The lines of a table as the page has them, without its header."""
    inside = PAGE.read_text(encoding="utf-8").partition(begin)[2].partition(END)[0]
    return inside.strip().splitlines()[2:]


def renewed(page: str, begin: str, header: str, rows: Iterable[str]) -> str:
    """The page with another table in that place."""
    before, _, rest = page.partition(begin)
    return before + begin + "\n".join([header, *rows, ""]) + END + rest.partition(END)[2]


def _told(cells: Sequence[Observed]) -> str:
    usual = Counter(cell.expected for cell in cells).most_common(1)[0][0]
    others: dict[str, set[str]] = {}
    tools = sorted({cell.tool for cell in cells})
    for tool in tools:
        of_tool = [cell for cell in cells if cell.tool == tool]
        odd = [cell for cell in of_tool if cell.expected != usual]
        for cell in odd:
            where = f"`{tool}`" if len(odd) == len(of_tool) else f"`{tool}` on `{cell.backend}`"
            others.setdefault(where, set()).add(_in_words(cell.expected))
    told = [f"{where}: {', '.join(sorted(what))}" for where, what in sorted(others.items())]
    return "; ".join([_in_words(usual), *told])


def _in_words(expected: Expected) -> str:
    what = {ANSWER: "the answer", FOUND: "the answer after a look"}.get(expected.code, f"`{expected.code}`")
    times = {0: "nothing arrives", 1: "asked once"}.get(expected.requests, f"asked {expected.requests} times")
    return f"{what}, {times}"
