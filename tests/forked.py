"""`batchcall-mcp` processes that start at once: forked from one that has imported everything, a second each otherwise.

`program()` is the beginning of a command line. What it starts hands its standard streams, environment, folder and
limits to the process that forks, passes signals on, and dies with the child and as the child did. After `-m` a module
is named that runs instead. `FORKED_FIRST` in its environment names a `module:function` that is called before, and
`FORKED_PID_FILE` a file that gets the child's process id, which is nobody's child here, before the child does
anything. Between two tries of a backend a child waits a hundredth of what the product waits. A start from nothing is
tested where it matters: stdio in `tests/server/test_stdio.py`, commands in `tests/test_cli.py`, `dialer`, `serve` and
`demo` in `tests/test_package.py`.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

HERE = Path(__file__).parent
SHARED = "FORKED_SHARED"
"""In the environment: where one listens that all workers of a test run share; it may not have begun yet."""
LONGEST_START_S = 100


@cache
def program() -> tuple[str, ...]:
    """Takes the arguments of `batchcall-mcp`. The process that forks lives as long as this one, or as the test run."""
    shared = os.environ.get(SHARED)
    if shared:
        listens = Path(shared)
        until = time.monotonic() + LONGEST_START_S
        while not listens.exists():
            assert time.monotonic() < until, "what forks did not begin"
            time.sleep(0.05)
    else:
        folder = tempfile.TemporaryDirectory(prefix="batchcall-forked-")
        atexit.register(folder.cleanup)
        listens = Path(folder.name) / "socket"
        forking = begin(listens)
        assert forking.stdout is not None
        assert forking.stdout.readline() == b"ready\n"
    return launcher(listens)


def launcher(listens: Path) -> tuple[str, ...]:
    """What a test starts, and what the one that listens there forks."""
    # -S: the launcher needs nothing that is installed, and starts in 15 ms.
    return sys.executable, "-I", "-S", str(HERE / "forked_launcher.py"), str(listens)


def begin(listens: Path) -> subprocess.Popen[bytes]:
    """A process that forks, until this one ends. It listens there when it is ready, and not before."""
    forking = subprocess.Popen(
        [sys.executable, "-m", "tests.forking", str(listens)],
        cwd=HERE.parent,
        env={name: value for name, value in os.environ.items() if not name.startswith("COV")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a signal for a whole process group, at a terminal or from a test, is not for it
    )
    assert forking.stdin is not None
    atexit.register(forking.wait)
    atexit.register(forking.stdin.close)
    return forking
