"""The example of docs/writing-a-backend.md, outside the package: its own test. `tests/documented` holds the quotes."""

from __future__ import annotations

from test_acme_backend import test_contract

from batchcall_mcp.testing.check import Check
from batchcall_mcp.testing.contract import CHECKS
from tests.server.transports import ROOT

__all__ = ["test_contract"]

PAGE = ROOT / "docs" / "writing-a-backend.md"
BEGIN = "<!-- checks, from batchcall_mcp.testing: begin -->"
END = "<!-- generated: end -->"


def test_the_page_lists_every_check() -> None:
    lines = [f"- **{check.name}**: {summary(check)}" for check in CHECKS]
    listed = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert listed.strip().splitlines() == lines


def summary(check: Check) -> str:
    return (check.run.__doc__ or "").partition("\n")[0]
