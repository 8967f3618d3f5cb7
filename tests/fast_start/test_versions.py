"""With other versions of the packages that rendered the snapshot, its lists might not be the server's; none is used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from batchcall_mcp.fast_start.surface import are_installed
from release.snapshot import rendered_by
from tests.fast_start.messages import initialize
from tests.server.transports import ROOT

OURS = "9.9.9"
"""What the real server says of itself in these processes, and no snapshot does."""


def test_it_looks_where_python_imports_from() -> None:
    assert are_installed(rendered_by(), sys.path)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (("mcp", "mcp-2.3.0.dist-info"), (), True),
        (("mcp", "mcp-2.3.1.dist-info"), (), True),
        (("mcp", "mcp-2.4.0.dist-info"), (), False),
        (("mcp", "mcp-2.30.0.dist-info"), (), False),
        (("mcp", "mcp-2.3.0.dist-info", "mcp-2.3.1.dist-info"), (), False),  # as `pip install --target` leaves it
        (("mcp",), ("mcp", "mcp-2.3.0.dist-info"), False),
        (("mcp_types",), ("mcp", "mcp-2.3.0.dist-info"), True),
        (("mcp-2.3.0.dist-info",), (), False),
        ((), (), False),
    ],
)
def test_a_version_is_what_the_folder_next_to_the_package_says(
    tmp_path: Path, first: tuple[str, ...], second: tuple[str, ...], expected: bool
) -> None:
    for place, folders in (("first", first), ("second", second)):
        for folder in folders:
            (tmp_path / place / folder).mkdir(parents=True)
    path = [str(tmp_path / place) for place in ("nowhere", "first", "second")]
    assert are_installed({"mcp": "2.3"}, path) is expected


def said_by_a_process(folder: Path, more: dict[str, str]) -> str:
    """The version in the answer to `initialize`; the real server of this process says OURS."""
    folder.joinpath("sitecustomize.py").write_text(f"import batchcall_mcp\nbatchcall_mcp.__version__ = {OURS!r}\n")
    environment = os.environ | {"PYTHONPATH": str(folder), "BATCHCALL_DATA_DIR": str(folder)} | more
    done = subprocess.run(  # noqa: PLW1510 - its log is shown
        [sys.executable, "-m", "batchcall_mcp"], input=initialize(), env=environment, cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    version: str = json.loads(done.stdout)["result"]["serverInfo"]["version"]
    return version


@pytest.mark.process
def test_with_another_version_of_a_package_the_real_server_answers(tmp_path: Path) -> None:
    import pydantic

    (tmp_path / "pydantic").symlink_to(Path(pydantic.__file__).parent)
    (tmp_path / "pydantic-2.99.0.dist-info").mkdir()
    assert said_by_a_process(tmp_path, {}) == OURS


@pytest.mark.process
def test_with_the_same_versions_a_file_of_settings_is_served_from_its_snapshot(tmp_path: Path) -> None:
    file = tmp_path / "batchcall.env"
    file.write_text("BATCHCALL_BACKEND=zudu\nBATCHCALL_API_KEY=key\nBATCHCALL_API_SECRET='sec#ret'\n")
    assert said_by_a_process(tmp_path, {"BATCHCALL_ENV_FILE": str(file)}) == metadata.version("batchcall-mcp")
