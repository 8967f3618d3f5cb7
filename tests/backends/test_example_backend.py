"""The example of docs/writing-a-backend.md, outside the package: its own test, and the code that the page quotes."""

from __future__ import annotations

import re

from test_acme_backend import test_contract

from batchcall_mcp.testing.check import Check
from batchcall_mcp.testing.contract import CHECKS
from tests.server.transports import ROOT

__all__ = ["test_contract"]

PAGE = ROOT / "docs" / "writing-a-backend.md"
BEGIN = "<!-- checks, from batchcall_mcp.testing: begin -->"
END = "<!-- generated: end -->"


def test_the_page_quotes_the_example() -> None:
    """Each block of Python stands in the example as it is on the page, but for its indentation."""
    example = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples/backend").glob("*.py")))
    quoted = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(quoted) >= 6
    assert [block for block in quoted if unindented(block) not in unindented(example)] == []


def unindented(text: str) -> str:
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


def test_the_page_lists_every_check() -> None:
    lines = [f"- **{check.name}**: {summary(check)}" for check in CHECKS]
    listed = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert listed.strip().splitlines() == lines


def summary(check: Check) -> str:
    return (check.run.__doc__ or "").partition("\n")[0]
