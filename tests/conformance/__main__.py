"""`python -m tests.conformance`: run the suite, write docs/conformance.md, fail if anything did not pass."""

from __future__ import annotations

import sys

import anyio

from tests.clients.node import ROOT
from tests.conformance import suite
from tests.conformance.report import MODES, Mode, Run, rendered
from tests.conformance.serving import served

DOCUMENT = ROOT / "docs" / "conformance.md"


async def run_all() -> list[Run]:
    """Every run, one after the other: the suite has time limits of half a second."""
    return [await _run(mode) for mode in MODES]


async def _run(mode: Mode) -> Run:
    async with served(stateless=mode.stateless) as url:
        results = await suite.run(url, mode.revision)
    return Run(mode, await suite.listed(mode.revision), await suite.required(mode.revision), results)


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
