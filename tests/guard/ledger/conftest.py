"""A ledger on SQLite and one on a real PostgreSQL, with a clock that is moved by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.ledger.tables import metadata
from batchcall_mcp.settings import Settings
from tests.postgresql import emptied, postgresql_url

BEGIN = datetime(2026, 11, 24, 15, 0, tzinfo=UTC)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Of an empty database; that of PostgreSQL is one for all tests of this process."""
    if request.param == "sqlite":
        return Settings(data_dir=tmp_path)
    url = _postgresql()
    emptied(url, metadata)
    return Settings.model_validate({"data_dir": tmp_path, "database_url": url})


@cache
def _postgresql() -> str:
    url = postgresql_url()
    with TemporaryDirectory() as folder:
        Ledger.open(Settings.model_validate({"data_dir": folder, "database_url": url})).close()
    return url


@pytest.fixture
def ledger(settings: Settings, clock: Clock) -> Iterator[Ledger]:
    """Open."""
    opened = Ledger.open(settings, clock)
    yield opened
    opened.close()
