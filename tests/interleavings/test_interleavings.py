"""Three callers over two processes: nobody is called whom no answered question covered, and nobody twice.

`make torture` plays 50 on each database; `python -m tests.interleavings` takes other seeds.
"""

from __future__ import annotations

import re
import subprocess

import pytest

from tests import forked
from tests.interleavings.house import DATABASES, Database
from tests.server.transports import ROOT

EXAMPLES = {"sqlite": 3, "postgresql": 4}
SEED = 20261127


@pytest.mark.timeout(240)
@pytest.mark.parametrize("on", DATABASES)
def test_random_interleavings_call_nobody_whom_no_question_covered(on: Database) -> None:
    """In a process of its own, because its callers live in threads and sessions that outlast a failure."""
    command = [*forked.program(), "-m", "tests.interleavings", "--examples", str(EXAMPLES[on]), "--seed", str(SEED)]
    ended = subprocess.run(
        [*command, "--database", on], cwd=ROOT, capture_output=True, text=True, check=False, timeout=200
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-1000:]
    dials = sum(map(int, re.findall(r"s (\d+) dials", ended.stdout)))
    assert dials, "somebody was called"
    assert "start_batch_call started" in ended.stdout, "and a start went through"
