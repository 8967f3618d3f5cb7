"""The Tool Definition Quality Score's linter, which needs no model, has nothing to say against the tools."""

import json
import subprocess
import sys

import pytest

from tests.server.contract import Surface, reported

COMMAND = (sys.executable, "-m", "tdqs", "lint", "--file", "-", "--format", "json", "--fail-on", "never")


@pytest.mark.parametrize("surface", [Surface("dialer"), Surface("zudu"), Surface("magpipe")], ids=str)
def test_the_linter_warns_of_nothing(surface: Surface) -> None:
    tools = json.dumps({"tools": [reported(tool) for tool in surface.tools()]})
    ended = subprocess.run(COMMAND, input=tools, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["server"]["toolCount"] == len(surface.tools())
    findings = [*report["findings"], *(finding for tool in report["tools"] for finding in tool["findings"])]
    found = {finding["tool"]: finding["rule"] for finding in findings if finding["severity"] in {"error", "warning"}}
    assert found == {}
