"""The record of what was done: whole lines, nothing private, and never in the way of what is being done."""

from __future__ import annotations

import json
import logging
import os
import stat
import subprocess
import sys
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.guard.audit import COLUMNS, Audit, Event, Reading, recorded_id

NOON = datetime(2026, 11, 2, 12, 0, 0, 123456, UTC)
CALLER = "0123456789abcdef" * 4
STARTED = Event(
    event="write",
    caller=CALLER,
    tool="start_batch_call",
    operation=Operation.START,
    backend="zudu",
    batch_call_id="bc_1",
    calls=3,
    max_dials=9,
    outcome="done",
    seconds=0.12345,
    write_id=7,
)
LINE = {
    "at": "2026-11-02T12:00:00.123+00:00",
    "event": "write",
    "caller": "0123456789ab",
    "tool": "start_batch_call",
    "operation": "start",
    "backend": "zudu",
    "batch_call_id": "bc_1",
    "calls": 3,
    "max_dials": 9,
    "outcome": "done",
    "seconds": 0.123,
    "write_id": 7,
}
ASKED = Event(event="question", caller=CALLER, tool="create_batch_call")


def audit(folder: Path) -> Audit:
    return Audit(folder, lambda: NOON)


def events(path: Path) -> list[dict[str, Any]]:
    return list(Reading(path))


def test_an_event_is_one_line(tmp_path: Path) -> None:
    audit(tmp_path).note(STARTED)
    text = (tmp_path / "audit.jsonl").read_text(encoding="utf-8")
    assert text.endswith("\n")
    assert json.loads(text) == LINE
    assert tuple(LINE) == COLUMNS


def test_what_is_not_known_is_left_out(tmp_path: Path) -> None:
    audit(tmp_path).note(ASKED)
    assert events(tmp_path / "audit.jsonl") == [
        {"at": LINE["at"], "event": "question", "caller": "0123456789ab", "tool": "create_batch_call"}
    ]


def test_moments_are_utc_whatever_the_clock_shows(tmp_path: Path) -> None:
    Audit(tmp_path, lambda: NOON.astimezone(timezone(timedelta(hours=9)))).note(ASKED)
    assert events(tmp_path / "audit.jsonl")[0]["at"] == LINE["at"]


def test_only_its_owner_may_read_it_and_its_folder_is_made(tmp_path: Path) -> None:
    record = audit(tmp_path / "new" / "folder")
    before = os.umask(0)
    try:
        record.note(ASKED)
    finally:
        os.umask(before)
    assert stat.S_IMODE(record.path.stat().st_mode) == 0o600


def test_a_record_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    """As logrotate does it, with no signal to anybody."""
    record = audit(tmp_path)
    record.note(STARTED)
    record.path.rename(tmp_path / "audit.jsonl.1")
    record.note(ASKED)
    assert [event["event"] for event in events(record.path)] == ["question"]
    assert [event["event"] for event in events(tmp_path / "audit.jsonl.1")] == ["write"]


def test_an_event_has_no_field_for_what_is_private() -> None:
    """A new field has to pass here: is there a name, a variable or a phone number in it?"""
    assert {field.name for field in fields(Event)} == set(LINE) - {"at"}


@pytest.mark.parametrize("text", ["+14155550101", "4155550101", "Ann Smith", "row 3: Ann", "", "a\nb", "é", "a" * 65])
@pytest.mark.parametrize("field", ["tool", "operation", "backend", "outcome"])
def test_what_is_no_word_of_ours_is_not_written(tmp_path: Path, field: str, text: str) -> None:
    audit(tmp_path).note(replace(STARTED, **{field: text}))  # type: ignore[arg-type]  # a text field, see above
    assert events(tmp_path / "audit.jsonl") == [LINE | {field: "?"}]


@pytest.mark.parametrize("outcome", ["done", "idempotency_conflict", "outcome_unknown", "accepted"])
def test_words_of_ours_are_written(tmp_path: Path, outcome: str) -> None:
    audit(tmp_path).note(replace(STARTED, outcome=outcome))
    assert events(tmp_path / "audit.jsonl") == [LINE | {"outcome": outcome}]


@given(st.text(max_size=400) | st.text("\r\n\x00\x85\u2028\u202e\ud800'\"{}\\😀", min_size=150, max_size=250))
def test_no_id_breaks_a_line(batch_call_id: str) -> None:
    with TemporaryDirectory() as folder:
        record = audit(Path(folder))
        record.note(replace(STARTED, batch_call_id=batch_call_id))
        record.note(STARTED)
        written = record.path.read_bytes()
        assert written.count(b"\n") == len(written.splitlines()) == 2
        assert written.isascii()
        assert len(written) < 2 * 4096
        shown = json.loads(written.splitlines()[0])["batch_call_id"]
        assert shown == recorded_id(batch_call_id)
        assert len(shown) <= 200
        assert shown.isprintable()
        assert events(record.path) == [LINE | {"batch_call_id": shown}, LINE]


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_a_time_that_is_no_number_is_left_out(tmp_path: Path, seconds: float) -> None:
    audit(tmp_path).note(replace(STARTED, seconds=seconds))
    assert events(tmp_path / "audit.jsonl") == [{key: value for key, value in LINE.items() if key != "seconds"}]


WRITER = """
import sys
from pathlib import Path
from batchcall_mcp.guard.audit import Audit, Event

audit = Audit(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for number in range(300):
    audit.note(Event(event="write", caller=sys.argv[2], tool="t", batch_call_id="😀" * 200, write_id=number))
"""


def test_processes_that_write_at_once_tear_no_line(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "abcd"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=30)
        assert writer.returncode == 0
    reading = Reading(tmp_path / "audit.jsonl")
    order: dict[str, list[int]] = {}
    for event in reading:
        order.setdefault(event["caller"], []).append(event["write_id"])
    assert reading.skipped == 0
    assert order == {name: list(range(300)) for name in "abcd"}


def lost(caplog: pytest.LogCaptureFixture) -> str:
    (message,) = caplog.messages
    assert caplog.records[0].levelno == logging.WARNING
    return message


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the disk that is always full")
def test_a_full_disk_is_a_warning_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = audit(tmp_path)
    record.path.symlink_to("/dev/full")
    record.note(STARTED)
    assert lost(caplog) == (
        f"write of start_batch_call (done) is missing from the audit record: {record.path} cannot be written: "
        "OSError: No space left on device"
    )


def test_a_folder_that_cannot_be_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    audit(tmp_path / "file").note(STARTED)
    assert lost(caplog).endswith("cannot be written: FileExistsError: File exists")


def test_a_pipe_that_nobody_reads_is_a_warning_not_a_wait(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = audit(tmp_path)
    os.mkfifo(record.path)
    record.note(STARTED)
    assert lost(caplog).endswith("OSError: No such device or address")


LIMITED = """
import logging, resource, sys
from pathlib import Path
from batchcall_mcp.guard.audit import Audit, Event

logging.basicConfig(stream=sys.stdout, format="%(message)s")
audit = Audit(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (audit.path.stat().st_size + 40, resource.RLIM_INFINITY))
audit.note(Event(event="stop", caller="a", tool="stop"))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def test_a_line_torn_half_way_is_a_warning_and_costs_no_other(tmp_path: Path) -> None:
    """The disk has room for a part of a line, and later for whole ones again."""
    record = audit(tmp_path)
    record.note(STARTED)
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    assert said.endswith("OSError: only a part of the line was written\n")
    assert not record.path.read_bytes().endswith(b"\n")
    record.note(ASKED)
    reading = Reading(record.path)
    assert [event["event"] for event in reading] == ["write", "question"]
    assert reading.skipped == 1


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"[]",
        b'"at"',
        b"7",
        b"null",
        b"{}",
        b'{"at":"2026-11-02T12:00:00+00:00"}',
        b'{"at":"2026-11-02T12:00:00","event":"write"}',
        b'{"at":"yesterday","event":"write"}',
        b'{"at":7,"event":"write"}',
        b'{"at":"2026-11-02T12:00:00+00:00","event":"write","calls":[1]}',
        b'{"at":"2026-11-02T12:00:00+00:00","event":"write","seconds":NaN}',
        b'{"at":"2026-11-02T12:00:00+00:00","event":"write","seconds":1e999}',
        b'{"at":"2026-11-02T12:00:00+00:00","event":"write","calls":' + b"9" * 5000 + b"}",
        b'{"at":"2026-11-02T12:00:00+00:00","event":"wri',
        b"\xff\xfe",
        b"[" * 10_000,
        b"x" * (16 * 1024),
        b"x" * 100_000,
    ],
)
def test_a_line_that_is_no_event_is_skipped_and_counted(tmp_path: Path, line: bytes) -> None:
    record = audit(tmp_path)
    record.note(STARTED)
    with record.path.open("ab") as file:
        file.write(line + b"\n")
    record.note(ASKED)
    reading = Reading(record.path)
    assert [event["event"] for event in reading] == ["write", "question"]
    assert reading.skipped == 1


@given(st.lists(st.binary(max_size=60)))
def test_no_file_stops_the_reader(lines: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        record = audit(Path(folder))
        record.path.write_bytes(b"\n".join(lines))
        record.note(STARTED)
        assert events(record.path)[-1:] == [LINE]


def test_what_a_crash_left_empty_costs_no_event(tmp_path: Path) -> None:
    """A file system may keep a file's length and lose its last blocks: they read as zeros."""
    record = audit(tmp_path)
    record.path.write_bytes(bytes(4096))
    record.note(STARTED)
    reading = Reading(record.path)
    assert list(reading) == [LINE]
    assert reading.skipped == 1


def test_what_a_newer_version_adds_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").write_text(json.dumps(LINE | {"event": "new", "weight": 1.5}))
    assert events(tmp_path / "audit.jsonl") == [LINE | {"event": "new", "weight": 1.5}]


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        events(tmp_path / "audit.jsonl")


IMPORTED = """
import sys
before = set(sys.modules)
import batchcall_mcp.guard.audit
roots = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(roots - sys.stdlib_module_names))
"""


def test_the_server_may_import_it_at_start() -> None:
    command = [sys.executable, "-c", IMPORTED]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    assert loaded == "batchcall_mcp\n"
