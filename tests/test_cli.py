"""The command line: as a process, and in this one where what it says is the claim."""

import csv
import gc
import io
import json
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol
from unittest import mock

import pytest
from click.testing import CliRunner, Result

import batchcall_mcp
from batchcall_mcp.__main__ import main
from batchcall_mcp.cli import cli
from batchcall_mcp.cli.audit import since
from batchcall_mcp.guard.audit import COLUMNS, Audit, Event
from tests.server.transports import ROOT

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
AT = "2026-11-02T12:00:00.000+00:00"
STARTED = Event(
    event="write",
    caller="0123456789abcdef",
    tool="start_batch_call",
    operation="start",
    backend="zudu",
    batch_call_id="bc_1",
    calls=300,
    max_dials=900,
    outcome="done",
    seconds=0.5,
    write_id=7,
)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batchcall_mcp", *arguments],
        env=dict(os.environ) | environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_it_tells_its_version() -> None:
    assert run("--version").stdout == f"batchcall-mcp {batchcall_mcp.__version__}\n"


def in_this_process(*arguments: str) -> tuple[int, str, str]:
    """Its exit code, and what it wrote to stdout and to stderr."""
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "argv", ["batchcall-mcp", *arguments]), redirect_stdout(out), redirect_stderr(err):
        with pytest.raises(SystemExit) as ended:
            main()
        gc.enable()  # as the first command would
    code = ended.value.code
    return code if isinstance(code, int) else 1, out.getvalue(), err.getvalue()


SETTINGS_FAIL = "batchcall-mcp: Invalid settings. BATCHCALL_CONFIRM: "


def test_settings_that_do_not_work_are_one_line_and_code_2() -> None:
    ended = run(BATCHCALL_CONFIRM="perhaps")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith(SETTINGS_FAIL)
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["serve"], ["dialer"], ["dialer", "keys", "create"], ["audit"]])
def test_settings_that_do_not_work_are_that_for_every_command(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHCALL_CONFIRM", "perhaps")
    code, out, err = in_this_process(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(SETTINGS_FAIL)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["serve", "--help"], ["dialer", "--help"], ["dialer", "keys", "--help"], ["audit", "--help"]],
)
def test_every_command_explains_itself(arguments: list[str]) -> None:
    code, out, err = in_this_process(*arguments)
    assert (code, err) == (0, "")
    assert "Usage: " in out


def test_an_unknown_command_is_refused() -> None:
    code, _, err = in_this_process("dial")
    assert code == 2
    assert "No such command 'dial'" in err


class Command(Protocol):
    def __call__(self, *arguments: str) -> Result: ...


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """A command in this process, with `tmp_path` as its data folder; the log is given back afterwards."""
    monkeypatch.setenv("BATCHCALL_DATA_DIR", str(tmp_path))
    loggers = [logging.getLogger(name) for name in (None, "batchcall_mcp", "httpx2")]
    levels, handlers = [logger.level for logger in loggers], list(loggers[0].handlers)
    yield lambda *arguments: CliRunner().invoke(cli, arguments)
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def record(folder: Path, *batch_call_ids: str | None, at: datetime = NOON, event: Event = STARTED) -> Path:
    audit = Audit(folder, lambda: at)
    for batch_call_id in batch_call_ids or (event.batch_call_id,):
        audit.note(replace(event, batch_call_id=batch_call_id))
    return audit.path


def ids(result: Result) -> list[str]:
    assert (result.exit_code, result.stderr) == (0, "")
    return [json.loads(line)["batch_call_id"] for line in result.stdout.splitlines()]


def test_before_anything_is_recorded_the_audit_says_where_it_will_be(command: Command, tmp_path: Path) -> None:
    shown = command("audit", "--format", "csv", "--output", str(tmp_path / "out.csv"))
    assert (shown.exit_code, shown.stdout) == (0, "")
    assert shown.stderr == f"Nothing is recorded yet. The record will be {tmp_path / 'audit.jsonl'}.\n"
    assert list(tmp_path.iterdir()) == []


def test_the_audit_is_a_table(command: Command, tmp_path: Path) -> None:
    record(tmp_path)
    record(tmp_path, event=Event(event="question", caller="fedcba", tool="create_batch_call"))
    shown = command("audit")
    assert (shown.exit_code, shown.stderr) == (0, "")
    heading, _, *rows = [line.split() for line in shown.stdout.splitlines()]
    assert heading == ["at", "(UTC)", "event", "what", "batch", "call", "calls", "outcome", "entry", "caller"]
    assert rows == [
        ["2026-11-02", "12:00:00", "write", "start", "bc_1", "300", "done", "7", "0123456789ab"],
        ["2026-11-02", "12:00:00", "question", "create_batch_call", "fedcba"],
    ]


def test_a_table_shows_the_newest_twenty_and_an_export_everything(command: Command, tmp_path: Path) -> None:
    record(tmp_path, *(f"bc_{number}" for number in range(25)))
    shown = [line.split()[4] for line in command("audit").stdout.splitlines()[2:]]
    assert shown == [f"bc_{number}" for number in range(5, 25)]
    assert ids(command("audit", "--format", "jsonl")) == [f"bc_{number}" for number in range(25)]
    assert len(command("audit", "--format", "csv").stdout.splitlines()) == 26
    assert ids(command("audit", "--format", "jsonl", "--last", "2")) == ["bc_23", "bc_24"]
    assert command("audit", "--output", str(tmp_path / "all.txt")).exit_code == 0
    assert len((tmp_path / "all.txt").read_text(encoding="utf-8").splitlines()) == 27


def test_json_lines_are_those_of_the_record(command: Command, tmp_path: Path) -> None:
    path = record(tmp_path, "bc_1", "\u00fcber\n")
    assert command("audit", "--format", "jsonl").stdout == path.read_text(encoding="utf-8")


def test_csv_has_every_column(command: Command, tmp_path: Path) -> None:
    record(tmp_path)
    record(tmp_path, event=Event(event="stop", caller="a", tool="stop"))
    assert list(csv.reader(io.StringIO(command("audit", "--format", "csv").stdout))) == [
        list(COLUMNS),
        [AT, "write", "0123456789ab", "start_batch_call", "start", "zudu", "bc_1", "300", "900", "done", "0.5", "7"],
        [AT, "stop", "a", "stop", *[""] * 8],
    ]


@pytest.mark.parametrize("batch_call_id", ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "\uff1d1", "'=1"])
def test_no_cell_is_a_formula(command: Command, tmp_path: Path, batch_call_id: str) -> None:
    record(tmp_path, batch_call_id)
    (_, row) = csv.reader(io.StringIO(command("audit", "--format", "csv").stdout))
    assert row[COLUMNS.index("batch_call_id")] == "'" + batch_call_id.replace("\t", " ")


def test_an_id_is_no_markup(command: Command, tmp_path: Path) -> None:
    record(tmp_path, "[red]:bomb:[/red]")
    assert " [red]:bomb:[/red] " in command("audit").stdout


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30m", NOON - timedelta(minutes=30)),
        ("24h", NOON - timedelta(hours=24)),
        ("7d", NOON - timedelta(days=7)),
        ("2w", NOON - timedelta(weeks=2)),
        ("2026-11-02", NOON - timedelta(hours=12)),
        ("2026-11-02T12:00", NOON),
        ("2026-11-02 14:00+02:00", NOON),
        ("2026-11-02T12:00:00Z", NOON),
    ],
)
def test_since_is_a_date_or_an_age(text: str, moment: datetime) -> None:
    assert since(text, NOON) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "7", "7y", "-7d", "1.5h", "999999w", "\u0667d", "12:00"])
def test_since_anything_else_is_refused(command: Command, text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        since(text, NOON)
    refused = command("audit", "--since", text)
    assert refused.exit_code == 2
    assert "must be like 2026-11-02, 2026-11-02T09:00, 24h or 7d." in refused.stderr


def test_only_since_a_moment(command: Command, tmp_path: Path) -> None:
    for year in (2000, 2998, 2999):
        record(tmp_path, f"bc_{year}", at=datetime(year, 1, 1, tzinfo=UTC))
    assert ids(command("audit", "--format", "jsonl", "--since", "7d")) == ["bc_2998", "bc_2999"]
    assert ids(command("audit", "--format", "jsonl", "--since", "2999-01-01")) == ["bc_2999"]


@pytest.mark.parametrize("wanted", ["bc_1", "x" * 300, "a\nb"])
def test_only_one_batch_call(command: Command, tmp_path: Path, wanted: str) -> None:
    """Named by its whole id, also where the record holds only a part of it."""
    record(tmp_path, None, "bc", wanted, "bc_11", wanted)
    assert len(ids(command("audit", "--format", "jsonl", "--batch-call", wanted))) == 2


def test_nothing_that_fits_is_said(command: Command, tmp_path: Path) -> None:
    record(tmp_path)
    shown = command("audit", "--batch-call", "bc_2")
    assert (shown.exit_code, shown.stdout, shown.stderr) == (0, "", "No recorded event matches.\n")


@pytest.mark.parametrize(
    ("name", "beginning"), [("a.csv", "at,event,"), ("a.JSONL", '{"at": '), ("a.txt", "at (UTC) ")]
)
def test_an_export_is_a_new_private_file_in_the_form_of_its_ending(
    command: Command, tmp_path: Path, name: str, beginning: str
) -> None:
    record(tmp_path)
    output = tmp_path / name
    shown = command("audit", "--output", str(output))
    assert (shown.exit_code, shown.output) == (0, "")
    assert output.read_text(encoding="utf-8").startswith(beginning)
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


def test_an_export_overwrites_nothing(command: Command, tmp_path: Path) -> None:
    record(tmp_path)
    output = tmp_path / "out.csv"
    output.write_text("mine", encoding="utf-8")
    refused = command("audit", "--output", str(output))
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == f"Error: {output} exists already. Nothing was written; name a new file.\n"
    assert output.read_text(encoding="utf-8") == "mine"


def test_an_export_to_nowhere_is_refused(command: Command, tmp_path: Path) -> None:
    record(tmp_path)
    output = tmp_path / "none" / "out.csv"
    refused = command("audit", "--output", str(output))
    assert refused.exit_code == 1
    assert refused.stderr == f"Error: {output} cannot be written: No such file or directory. Nothing was written.\n"


def test_a_part_of_an_export_is_not_left_behind(tmp_path: Path) -> None:
    """The disk fills up on the way."""
    record(tmp_path, *("x" * 200 for _ in range(100)))
    output = tmp_path / "out.csv"
    limited = (
        "import resource, sys; from batchcall_mcp.cli import cli; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, resource.RLIM_INFINITY)); "
        "cli(['audit', '--output', sys.argv[1]])"
    )
    ended = subprocess.run(
        [sys.executable, "-c", limited, str(output)],
        env={name: value for name, value in os.environ.items() if not name.startswith("COV")}
        | {"BATCHCALL_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr == f"Error: {output} cannot be written: File too large. It was removed.\n"
    assert not output.exists()


def test_a_record_that_cannot_be_read_is_said_and_no_export_left(command: Command, tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    refused = command("audit", "--output", str(tmp_path / "out.csv"))
    assert refused.exit_code == 1
    assert refused.stderr == f"Error: {tmp_path / 'audit.jsonl'} cannot be read: Is a directory.\n"
    assert not (tmp_path / "out.csv").exists()


def test_a_data_folder_that_is_none_is_said(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("BATCHCALL_DATA_DIR", str(tmp_path / "file"))
    refused = command("audit")
    assert refused.exit_code == 1
    assert refused.stderr == f"Error: {tmp_path / 'file' / 'audit.jsonl'} cannot be read: Not a directory.\n"


def test_rotated_records_are_read_when_they_are_named(command: Command, tmp_path: Path) -> None:
    rotated = record(tmp_path, "bc_1").rename(tmp_path / "audit.jsonl.1")
    current = record(tmp_path, "bc_2")
    assert ids(command("audit", "--format", "jsonl")) == ["bc_2"]
    assert ids(command("audit", "--format", "jsonl", str(rotated))) == ["bc_1"]
    assert ids(command("audit", "--format", "jsonl", str(rotated), str(current))) == ["bc_1", "bc_2"]


def test_lines_that_are_no_events_are_counted_aloud(command: Command, tmp_path: Path) -> None:
    path = record(tmp_path)
    with path.open("a", encoding="utf-8") as file:
        file.write('hello\n{"at": "2026')
    shown = command("audit", "--format", "jsonl")
    assert (shown.exit_code, len(shown.stdout.splitlines())) == (0, 1)
    assert shown.stderr == f"Skipped lines of {path} that are not complete events: 2.\n"
