"""docs/backends.md says what the backends say of themselves."""

import json
from pathlib import Path

import pytest

from batchcall_mcp.backends.matrix import render
from batchcall_mcp.backends.registry import BUILT_IN, backend_class
from batchcall_mcp.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "backends.md"
BEGIN = "<!-- generated from Capabilities by backends/matrix.py: begin -->\n"
END = "<!-- generated: end -->\n"


def test_the_table_in_the_documents_is_the_one_that_the_backends_make() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page.partition(BEGIN)[2].partition(END)[0].strip() == render().strip()


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_backend_has_its_page_and_its_example(name: str) -> None:
    assert (PAGE.parent / "backends" / f"{name}.md").is_file()
    example = json.loads((PAGE.parents[1] / "examples" / "mcp" / f"{name}.json").read_text(encoding="utf-8"))
    (server,) = example["mcpServers"].values()
    environment = server.get("env", {})
    assert environment.get("BATCHCALL_BACKEND", "dialer") == name
    assert environment.keys() <= {f"BATCHCALL_{field}".upper() for field in Settings.model_fields}
    given = {"BATCHCALL_API_KEY", "BATCHCALL_API_SECRET"} & environment.keys()
    needs = 0 if name == "dialer" else 1 + backend_class(name).capabilities.needs_secret
    assert len(given) == needs
