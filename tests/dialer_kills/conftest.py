"""A judge, who has processes that dial."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.dialer_kills.harness import zygote
from tests.dialer_kills.judging import Judge


@pytest.fixture
async def judge(tmp_path: Path) -> AsyncIterator[Judge]:
    async with zygote() as process:
        yield Judge(process, tmp_path)
