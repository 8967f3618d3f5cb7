"""The command line as a process."""

import os
import subprocess
import sys

import pytest

import batchcall_mcp
from tests.server.transports import ROOT


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batchcall_mcp", *arguments],
        env=dict(os.environ) | environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_it_tells_its_version() -> None:
    assert run("--version").stdout == f"batchcall-mcp {batchcall_mcp.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["serve"], ["dialer"], ["dialer", "keys", "create"]])
def test_settings_that_do_not_work_are_one_line_and_code_2(arguments: list[str]) -> None:
    ended = run(*arguments, BATCHCALL_CONFIRM="perhaps")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("batchcall-mcp: The settings do not work. BATCHCALL_CONFIRM: ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--help"], ["serve", "--help"], ["dialer", "--help"], ["dialer", "keys", "--help"]]
)
def test_every_command_explains_itself(arguments: list[str]) -> None:
    ended = run(*arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "Usage: " in ended.stdout


def test_an_unknown_command_is_refused() -> None:
    ended = run("dial")
    assert ended.returncode == 2
    assert "No such command 'dial'" in ended.stderr
