"""`python -m tests.conformance`: run the suite, write docs/conformance.md, fail if anything did not pass."""

from __future__ import annotations

import sys

import anyio

from tests.clients.node import ROOT
from tests.conformance import suite
from tests.conformance.report import MODES, REVISIONS, Mode, Run, rendered
from tests.conformance.serving import served

DOCUMENT = ROOT / "docs" / "conformance.md"


async def run_all() -> list[Run]:
    """Every run, one after the other: the suite has time limits of half a second."""
    asked = {one: (await suite.listed(one), await suite.required(one)) for one in REVISIONS}
    return [Run(mode, *asked[mode.revision], await _results(mode)) for mode in MODES]


async def _results(mode: Mode) -> dict[str, suite.Scenario]:
    async with served(stateless=mode.stateless) as url:
        return await suite.run(url, mode.revision)


def main() -> int:
    """Exit code 1 if anything is not as it should be."""
    runs = anyio.run(run_all)
    text = rendered(runs, suite.suite_version())
    DOCUMENT.write_text(text, encoding="utf-8")
    problems = [problem for run in runs for problem in run.problems()]
    sys.stderr.writelines(f"{problem}\n" for problem in problems)
    sys.stdout.write(f"{DOCUMENT.relative_to(ROOT)} is written; {len(problems)} problems.\n")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
