"""A column not_before is a promised call-back: a time, on the row's own clock where it has no offset."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from batchcall_mcp.recipients.validation import ReadOptions, read_file

ROWS = """phone,timezone,not before
+12125550101,,2026-11-27T15:00+01:00
+12125550102,America/New_York,2026-11-27 15:00
+12125550103,,
+12125550104,,2026-11-27 15:00
+12125550105,,tomorrow
+12125550106,,2026-11-27
+12125550107,,0001-01-01T00:00+14:00
"""


def test_each_row_has_its_own_and_a_wrong_one_is_skipped_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(ROWS, encoding="utf-8")
    read = read_file(tmp_path / "list.csv", ReadOptions())
    assert [task.not_before for task in read.tasks] == [
        datetime(2026, 11, 27, 14, tzinfo=UTC),
        datetime(2026, 11, 27, 20, tzinfo=UTC),
        None,
    ]
    assert [row.line for row in read.skipped_rows] == [5, 6, 7, 8]
    assert "has no offset" in read.skipped_rows[0].reason
    assert all("is not a time" in row.reason for row in read.skipped_rows[1:])
    assert read.columns is not None
    assert read.columns.not_before == "not before"


def test_json_lines_have_them_too(tmp_path: Path) -> None:
    text = '{"phone": "+12125550101", "not_before": "2026-11-27T15:00Z"}\n'
    (tmp_path / "list.jsonl").write_text(text, encoding="utf-8")
    [task] = read_file(tmp_path / "list.jsonl", ReadOptions()).tasks
    assert task.not_before == datetime(2026, 11, 27, 15, tzinfo=UTC)
