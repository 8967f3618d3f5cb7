"""The official suite passes, and docs/conformance.md says exactly what it has shown."""

import anyio
import pytest

from tests.conformance import suite
from tests.conformance.__main__ import DOCUMENT, run_all
from tests.conformance.report import EXCLUDED, Mode, Run, rendered
from tests.conformance.suite import Scenario, judged

MODE = Mode("2026-07-28", stateless=False)
EXCLUDING = Mode("2025-11-25", stateless=False)
SUCCESS = {"id": "a", "status": "SUCCESS", "description": "It is so"}
WARNING = {"id": "b", "status": "WARNING", "description": "It should be so"}
INFO = {"id": "c", "status": "INFO", "description": "It was looked at"}


@pytest.mark.timeout(400)
async def test_every_scenario_of_both_revisions_passes_and_the_document_says_so() -> None:
    with anyio.fail_after(380):  # the first time Node's packages are installed
        runs = await run_all()
    assert [problem for run in runs for problem in run.problems()] == []
    assert rendered(runs, suite.suite_version()) == DOCUMENT.read_text(encoding="utf-8"), "run `make conformance`"


def test_a_scenario_passes_only_if_something_succeeds_and_nothing_objects() -> None:
    assert judged("x", [SUCCESS, INFO, SUCCESS]) == Scenario("x", 2)
    assert judged("x", [SUCCESS, INFO]).is_passed
    assert not judged("x", [INFO]).is_passed
    assert not judged("x", [SUCCESS, WARNING]).is_passed
    assert not judged("x", [SUCCESS, {**WARNING, "status": "FAILURE"}]).is_passed
    assert not judged("x", [SUCCESS, {**WARNING, "status": "SKIPPED"}]).is_passed


@pytest.mark.parametrize(
    ("listed", "required", "results", "problem"),
    [
        (["x", "y"], [], [Scenario("x", 1)], "y did not run"),
        (["x"], [], [Scenario("x", 1, ("FAILURE a: no",))], "x did not pass: FAILURE a: no"),
        (["x"], [], [Scenario("x")], "x did not pass: nothing was checked"),
        (["x"], [], [Scenario("x", 1), Scenario("y", 1)], "y ran although the suite does not list it"),
        (["x"], ["x", "y"], [Scenario("x", 1)], "y is required by the revision and not listed"),
    ],
)
def test_what_is_not_as_it_should_be_is_a_problem(
    listed: list[str], required: list[str], results: list[Scenario], problem: str
) -> None:
    run = Run(MODE, listed, frozenset(required), {result.name: result for result in results})
    assert list(run.problems()) == [f"{MODE}: {problem}"]


def test_an_exclusion_that_is_not_needed_any_more_is_a_problem() -> None:
    (name,) = EXCLUDED[EXCLUDING]
    passing = Run(EXCLUDING, [name], frozenset(), {name: Scenario(name, 1)})
    assert list(passing.problems()) == [f"{EXCLUDING}: {name} is excluded and passes: take it out of the table"]
    gone = Run(EXCLUDING, [], frozenset(), {})
    assert list(gone.problems()) == [f"{EXCLUDING}: {name} is excluded and there is no such scenario"]
