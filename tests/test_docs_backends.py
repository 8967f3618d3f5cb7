"""docs/backends.md says what the backends say of themselves."""

from pathlib import Path

from batchcall_mcp.backends.matrix import render
from batchcall_mcp.backends.registry import BUILT_IN

PAGE = Path(__file__).parents[1] / "docs" / "backends.md"
BEGIN = "<!-- generated from Capabilities by backends/matrix.py: begin -->\n"
END = "<!-- generated: end -->\n"


def test_the_table_in_the_documents_is_the_one_that_the_backends_make() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == render().strip()


def test_every_backend_has_its_chapter() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert [name for name in BUILT_IN if f"\n## `{name}`" not in page] == []
