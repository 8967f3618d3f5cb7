"""Two operators at once: one stops everything, the other lifts a stop."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batchcall_mcp.cli import stopping
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.settings import Settings
from tests.dialer.conftest import numbers
from tests.dialer.wired import Desk


@pytest.mark.parametrize("when", ["before the dialers", "after them"])
def test_a_stop_that_was_lifted_before_it_was_reported_is_not_reported(
    when: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.stop_file.touch()
    Ledger.open(settings).close()
    Store.open(tmp_path / "dialer.db").close()
    stop_dialers = stopping.Stop._stop_dialers

    def with_a_clear(*given: Any) -> Any:
        if when == "before the dialers":
            stopping.clear(settings, None)
        stopped = stop_dialers(*given)
        if when == "after them":
            stopping.clear(settings, None)
        return stopped

    monkeypatch.setattr(stopping.Stop, "_stop_dialers", with_a_clear)
    with pytest.raises(SystemExit) as ended:
        stopping.Stop(settings, None).run(None)
    said = capsys.readouterr()
    with closing(Ledger.open(settings)) as ledger:
        assert ledger.stops.since() is None
    assert ended.value.code == 1
    assert "NOT STOPPED" in said.out
    assert "was lifted" in said.err


def test_a_file_that_no_dialer_saw_before_it_was_lifted_has_paused_what_is_live(tmp_path: Path) -> None:
    """As a dialer that runs would have done: lifting a stop resumes nothing."""
    settings = Settings(data_dir=tmp_path)
    with closing(Store.open(tmp_path / "dialer.db")) as store:
        desk = Desk(store)
        key = desk.running(numbers(3))
        settings.stop_file.touch()
        stopping.clear(settings, None)
        assert not settings.stop_file.exists()
        assert desk.record(key).status == "paused"
