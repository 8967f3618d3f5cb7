"""The Tool Definition Quality Score's linter, which needs no model, has nothing to say against the tools."""

import io
import json
from pathlib import Path

import pytest
from tdqs.cli.run_cli import run_cli

from tests.server.contract import Surface, reported


@pytest.mark.parametrize("surface", [Surface("dialer"), Surface("zudu"), Surface("magpipe")], ids=str)
def test_the_linter_warns_of_nothing(surface: Surface, tmp_path: Path) -> None:
    file = tmp_path / "tools.json"
    file.write_text(json.dumps({"tools": [reported(tool) for tool in surface.tools()]}), encoding="utf-8")
    out, err = io.StringIO(), io.StringIO()
    arguments = ["lint", "--file", str(file), "--format", "json", "--fail-on", "never"]
    assert run_cli(argv=arguments, env={}, stdout=out, stderr=err) == 0, err.getvalue()
    report = json.loads(out.getvalue())
    assert report["server"]["toolCount"] == len(surface.tools())
    findings = [*report["findings"], *(finding for tool in report["tools"] for finding in tool["findings"])]
    found = {finding["tool"]: finding["rule"] for finding in findings if finding["severity"] in {"error", "warning"}}
    assert found == {}
