"""A failed export leaves nothing behind that looks like a whole one."""

from __future__ import annotations

import io
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from batchcall_mcp.batch_calls.export import _store
from tests.server.transports import ROOT

STORE = """
import io, resource, sys
from pathlib import Path
from batchcall_mcp.batch_calls.export import _store
folder, most = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
try:
    print(_store(folder, "bc_1", "csv", io.StringIO("x" * 1_000_000)).name)
except OSError as error:
    print(type(error).__name__)
print(sorted(one.name for one in folder.iterdir()))
"""
SPOOL = """
import anyio, resource, sys, tempfile
from batchcall_mcp.batch_calls import export
from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.model import BatchCall, CallTask
class Backend:
    async def get(self, batch_call_id):
        return BatchCall(batch_call_id=batch_call_id, status="running")
    async def tasks(self, *_arguments):
        raise AssertionError("the pages are those below")
class Context:
    backend = Backend()
    async def every_task(self, *_arguments, **_options):
        for number in range(60_000):
            yield CallTask(to_number=f"+1212{2_000_000 + number}", name="x" * 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    anyio.run(export.export_text, Context(), "bc_1", "csv", None)
except InvalidInput as error:
    print(error)
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the size of files is bounded by setrlimit")


def run(program: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-B", "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()


def test_an_export_that_cannot_be_written_to_its_end_leaves_no_file(tmp_path: Path) -> None:
    assert run(STORE, str(tmp_path), "300000") == ["OSError", "[]"]
    assert run(STORE, str(tmp_path), "3000000") == ["bc_1.csv", "['bc_1.csv']"]


def test_only_its_owner_may_read_an_export(tmp_path: Path) -> None:
    """Names, numbers and what was said, in a folder of documents that others of the machine may look into."""
    path = _store(tmp_path / "exports", "bc_1", "csv", io.StringIO("number\n"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_export_for_which_temporary_files_have_no_room_says_so() -> None:
    (said,) = run(SPOOL)
    assert said.startswith("The folder for temporary files (")
    assert "Nothing was written." in said
