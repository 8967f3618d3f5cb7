"""A disk that is full at the first start is one clear line, wherever it shows: no traceback, and no defect of ours."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest

from tests import forked
from tests.operator.processes import unmeasured, variables
from tests.server.transports import ROOT, spawned
from tests.walks.stage import FROM, Model

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the size of files is bounded by the shell's ulimit")

BLOCKS = (0, 4, 40, 120, 250, 300)
"""Of 512 bytes (dash) or 1,024 (bash): the databases are 118,784 and 159,744 bytes when they are new."""
NO_BYTECODE = {"PYTHONDONTWRITEBYTECODE": "1"}
"""Which would be cut off at the same size, and stay."""
COMMANDS = (("dialer", "keys", "create"), ("dialer", "keys", "list"), ("dialer", "--port", "0"), ("ledger",))


@pytest.mark.sweep
@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
async def test_a_command_says_in_one_line_that_its_database_cannot_be_written(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    for blocks in BLOCKS[:4]:
        with anyio.fail_after(30):
            ended = await anyio.run_process(
                ["sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh", *forked.program(), *arguments],
                env=unmeasured() | NO_BYTECODE | variables(tmp_path / str(blocks)),
                cwd=ROOT,
                check=False,
            )
        said = ended.stderr.decode()
        assert ended.returncode == 2, said
        assert said.startswith("batchcall-mcp: The ")
        assert "Nothing was sent." in said
        assert said.count("\n") == 1


@pytest.mark.sweep
@pytest.mark.parametrize("blocks", BLOCKS)
async def test_a_server_says_it_in_every_answer(tmp_path: Path, blocks: int) -> None:
    program = (
        "import os, resource; "
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({blocks * 512}, {blocks * 512})); "
        "measured = [name for name in os.environ if name.startswith('COVERAGE_')]; "
        "[os.environ.pop(name) for name in measured]; "
        f"forked = {forked.program()}; os.execv(forked[0], forked)"
    )
    with anyio.fail_after(60):
        async with spawned(("-I", "-S", "-c", program), variables(tmp_path)) as client:
            model = Model(client)
            await model.refused("list_batch_calls", "configuration_error")
            text = await model.refused(
                "create_batch_call", "configuration_error", from_number=FROM, tasks=[{"to_number": "+14155550123"}]
            )
    assert "Nothing was sent." in text
