"""What happens over stdio when the account is not, or not rightly, in the environment."""

import os
import subprocess
from pathlib import Path

import pytest
from anyio.from_thread import BlockingPortal

from tests import forked
from tests.server.transports import ROOT, Way
from tests.tools.desk import opened

ZUDU = {"BATCHCALL_BACKEND": "zudu", "BATCHCALL_URL": "http://127.0.0.1:9"}


def test_without_a_secret_the_tools_are_there_and_a_call_names_the_variable(
    portal: BlockingPortal, tmp_path: Path
) -> None:
    with opened(portal, Way("stdio", "auto"), tmp_path, None, ZUDU | {"BATCHCALL_API_KEY": "sk_1"}) as desk:
        assert "create_batch_call" in desk.schemas()
        text = desk.refused("list_batch_calls")
        assert text.startswith("[configuration_error] BATCHCALL_API_SECRET is not set. Nothing was sent.")
        assert "sk_1" not in text


@pytest.mark.parametrize("value", ["${ZUDU_API_SECRET}", "", "  ", "s3cr3t 1", "s3cr3t_1\n"])
def test_a_secret_that_cannot_be_meant_ends_the_process_in_one_clear_line(value: str) -> None:
    environment = dict(os.environ) | ZUDU | {"BATCHCALL_API_KEY": "sk_1", "BATCHCALL_API_SECRET": value}
    ended = subprocess.run(
        forked.program(),
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("batchcall-mcp: Invalid settings. BATCHCALL_API_SECRET: ")
    assert ended.stderr.count("\n") == 1
    assert "s3cr3t" not in ended.stderr
