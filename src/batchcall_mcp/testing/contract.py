"""The contract as a parametrized test: one test for each backend and each check that its Capabilities call for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.testing import failing, launching, reading
from batchcall_mcp.testing.check import Check
from batchcall_mcp.testing.fake import Case
from batchcall_mcp.testing.scene import LONGEST_S, Broken, opened

CHECKS: tuple[Check, ...] = (*launching.CHECKS, *reading.CHECKS, *failing.CHECKS)


def contract(*cases: Case) -> Callable[[Case, Check], None]:
    """A test function for these backends; a test module gives it a name that begins with `test_`.

    Raises:
        ValueError: a case skips a check that does not exist.
    """
    unknown = {name for case in cases for name in case.skip} - {check.name for check in CHECKS}
    if unknown:
        raise ValueError(f"There is no such check: {', '.join(sorted(unknown))}.")

    @pytest.mark.parametrize(("case", "check"), [one for case in cases for one in _of(case)])
    def test(case: Case, check: Check) -> None:
        try:
            anyio.run(play, case, check)
        except Broken as broken:
            wrong = str(broken)
        else:
            return
        pytest.fail(wrong, pytrace=False)

    return test


def _of(case: Case) -> Iterator[Any]:
    for check in CHECKS:
        if check.applies(case.backend.capabilities):
            reason = case.skip.get(check.name)
            marks = () if reason is None else pytest.mark.skip(reason=reason)
            yield pytest.param(case, check, id=f"{case.backend.name}: {check.name}", marks=marks)


async def play(case: Case, check: Check) -> None:
    """One check of one backend, with a fresh fake."""
    with anyio.fail_after(LONGEST_S):
        try:
            async with opened(case) as scene:
                await check.run(scene)
        except BatchCallError as error:
            raise Broken(
                f"The adapter raised {error!r} where it should have succeeded.\nWhat to do: if the fake refused the "
                "request, send what the vendor's documents show; if the adapter did, its Capabilities promise too much."
            ) from error
