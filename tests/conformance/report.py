"""What the runs have shown, and what of it stands in docs/conformance.md: the same text for the same outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.conformance.suite import Scenario

REVISIONS = ("2025-11-25", "2026-07-28")

_NO_EVENTS = (
    "Resuming a broken stream is optional, and this server keeps no events to send again: a tool call that was cut off "
    "is looked up with get_batch_call"
)
_NO_WAY_BACK = "Without sessions, a 2025-11-25 server has no way to ask a client anything while a tool call waits"
_NO_SESSION = "The scenario is about sessions, and there are none"


@dataclass(frozen=True)
class Mode:
    """One way in which the server is run for one revision."""

    revision: str
    stateless: bool

    def __str__(self) -> str:
        return f"{self.revision}, streamable HTTP {'without' if self.stateless else 'with'} sessions"


MODES = tuple(Mode(revision, stateless) for revision in REVISIONS for stateless in (False, True))

EXCLUDED: Mapping[Mode, Mapping[str, str]] = {
    Mode("2025-11-25", stateless=False): {"server-sse-polling": _NO_EVENTS},
    Mode("2025-11-25", stateless=True): {
        "server-sse-polling": _NO_EVENTS,
        "server-session-lifecycle": _NO_SESSION,
        "server-sse-multiple-streams": _NO_SESSION,
        "tools-call-sampling": _NO_WAY_BACK,
        "tools-call-elicitation": _NO_WAY_BACK,
        "elicitation-sep1034-defaults": _NO_WAY_BACK,
        "elicitation-sep1330-enums": _NO_WAY_BACK,
    },
}


@dataclass(frozen=True)
class Run:
    """One run of the whole suite."""

    mode: Mode
    listed: Sequence[str]
    required: frozenset[str]
    results: Mapping[str, Scenario]

    @property
    def excluded(self) -> Mapping[str, str]:
        """Scenarios that are not for this mode, and why."""
        return EXCLUDED.get(self.mode, {})

    @property
    def counted(self) -> list[Scenario]:
        """Those that have to pass, in the suite's order; one that did not run is one in which nothing passed."""
        return [self.results.get(name, Scenario(name)) for name in self.listed if name not in self.excluded]

    def problems(self) -> Iterator[str]:
        """Whatever is not as it should be, a line each."""
        for scenario in self.counted:
            if scenario.name not in self.results:
                yield f"{self.mode}: {scenario.name} did not run"
            elif not scenario.is_passed:
                why = "; ".join(scenario.objections) or "nothing was checked"
                yield f"{self.mode}: {scenario.name} did not pass: {why}"
        for name in sorted(self.results.keys() - set(self.listed)):
            yield f"{self.mode}: {name} ran although the suite does not list it"
        for name in sorted(self.required - set(self.listed)):
            yield f"{self.mode}: {name} is required by the revision and not listed"
        for name in self.excluded:
            if name not in self.listed:
                yield f"{self.mode}: {name} is excluded and there is no such scenario"
            elif self.results.get(name, Scenario(name)).is_passed:
                yield f"{self.mode}: {name} is excluded and passes: take it out of the table"


def rendered(runs: Sequence[Run], version: str) -> str:
    """The text of docs/conformance.md."""
    return "\n".join(_lines(runs, version)) + "\n"


def _lines(runs: Sequence[Run], version: str) -> Iterator[str]:
    yield "# Conformance"
    yield ""
    yield (
        f"MCP's official conformance suite, `@modelcontextprotocol/conformance` {version}, against this project's"
        " server: the strict tools of `server/tools/strict_tools.py`, the routes and the access checks of"
        " `server/transports/http.py` and `server/transports/access.py`, with the tools, resources and"
        " prompts that the suite asks for by name"
        " (`tests/conformance/fixtures.py`)."
    )
    yield ""
    yield (
        "`make conformance` runs it and writes this file; a test compares. A scenario passes when at least one of its"
        " checks succeeds and none fails or warns. No scenario is listed as expected to fail: what is excluded is named"
        " below with the reason, and an excluded scenario that passes is an error too."
    )
    yield ""
    yield "| protocol and transport | scenarios passed | checks passed | required by the revision | excluded |"
    yield "|---|---|---|---|---|"
    for run in runs:
        passed = [scenario for scenario in run.counted if scenario.is_passed]
        wanted = run.required - run.excluded.keys()
        met = wanted & {scenario.name for scenario in passed}
        yield (
            f"| {run.mode} | {len(passed)} of {len(run.counted)} | {sum(scenario.passed for scenario in passed)} |"
            f" {len(met)} of {len(run.required)} | {len(run.excluded)} |"
        )
    yield ""
    yield "## Excluded"
    yield ""
    yield "| protocol and transport | scenario | why |"
    yield "|---|---|---|"
    for run in runs:
        for name, why in run.excluded.items():
            yield f"| {run.mode} | {name} | {why} |"
    yield ""
    yield (
        "The suite's scenarios of protocol extensions (`tasks-…`, `sep-2640-skills-…`) belong to no revision and are"
        " not run: the server offers no extension."
    )
    for run in runs:
        yield ""
        yield f"## {run.mode}"
        yield ""
        yield "| scenario | checks passed | required |"
        yield "|---|---|---|"
        for scenario in run.counted:
            outcome = str(scenario.passed) if scenario.is_passed else "**not passed**"
            yield f"| {scenario.name} | {outcome} | {'yes' if scenario.name in run.required else ''} |"
