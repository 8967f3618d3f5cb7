"""`batchcall-mcp call`: exit codes, what stdout and stderr hold, and the same guard for the same caller."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from click.testing import CliRunner, Result

from batchcall_mcp.cli import cli
from batchcall_mcp.cli.call import DONE, REFUSED, UNKNOWN, WAITS_FOR_PERSON, WRONG_USAGE
from batchcall_mcp.errors import BackendUnavailable, BatchCallError, OutcomeUnknown
from tests.walks.stage import ALWAYS, FROM, NEW_YORK, dials, number

PEOPLE = [number(NEW_YORK, line) for line in range(3)]
DRAFT = {"from_number": FROM, "tasks": [{"to_number": one} for one in PEOPLE], "window": ALWAYS}


class Command(Protocol):
    def __call__(self, tool: str, arguments: object = None, *options: str, stdin: str | None = None) -> Result: ...


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """The command in this process; the log is given back afterwards."""
    monkeypatch.setenv("BATCHCALL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("BATCHCALL_FILES", str(tmp_path / "files"))
    monkeypatch.setenv("BATCHCALL_SIMULATED_SPEED", "5000")
    monkeypatch.setenv("DISPLAY", ":0")
    loggers = [logging.getLogger(name) for name in (None, "batchcall_mcp", "httpx2")]
    levels, handlers = [logger.level for logger in loggers], list(loggers[0].handlers)

    def called(tool: str, arguments: object = None, *options: str, stdin: str | None = None) -> Result:
        given = [] if arguments is None else [arguments if isinstance(arguments, str) else json.dumps(arguments)]
        return CliRunner().invoke(cli, ["call", *options, tool, *given], input=stdin)

    yield called
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def answer(result: Result, code: int = DONE) -> dict[str, Any]:
    """The one line of JSON on stdout."""
    assert result.exit_code == code, result.output
    assert result.stdout.count("\n") == 1
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def failed(result: Result, code: int) -> str:
    """What it says on stderr; stdout stays empty."""
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    return result.stderr


def unattended(monkeypatch: pytest.MonkeyPatch, most: int = 10) -> None:
    monkeypatch.setenv("BATCHCALL_CONFIRM", "off")
    monkeypatch.setenv("BATCHCALL_MAX_CALLS_PER_LAUNCH", str(most))


def drafted(call: Command, **others: object) -> str:
    name: str = answer(call("create_batch_call", DRAFT | others))["batch_call"]["batch_call_id"]
    return name


def test_a_wrong_tool_name_is_answered_with_those_there_are(call: Command) -> None:
    said = failed(call("start_batchcall"), WRONG_USAGE)
    assert "did you mean start_batch_call?" in said
    assert "The tools here: get_backend, check_batch_call, create_batch_call" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ('{"batch_call": "x"}', "batch_call: unknown argument; did you mean batch_call_id?"),
        ('{"batch_call_id": "x", "limit": "many"}', "limit: must be a whole number"),
        ("{}", "batch_call_id: is required"),
        ("[]", "not a JSON object"),
        ("batch_call_id", "not a JSON object"),
        ("batch_call=x", "batch_call: unknown argument; did you mean batch_call_id?"),
        ("limit=1", "batch_call_id: is required"),
        ("batch_call_id=", "batch_call_id: must not be empty"),
        ('{"limit": 1, "limit": 2}', "a name stands twice"),
        ('{"limit": NaN}', "NaN does not exist in JSON"),
    ],
)
def test_wrong_arguments_are_named_and_nothing_is_opened(
    call: Command, arguments: str, words: str, tmp_path: Path
) -> None:
    said = failed(call("get_batch_call", arguments), WRONG_USAGE)
    assert words in said
    assert "Nothing was sent." in said
    assert not (tmp_path / "data").exists()


def test_the_first_call_makes_the_folder_for_lists_as_a_server_does(call: Command, tmp_path: Path) -> None:
    found = answer(call("get_backend"))
    assert (found["folder"], [file["name"] for file in found["files"]]) == (str(tmp_path / "files"), ["sample.csv"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("batch_call_id=x", "limit=many"), "limit: must be a whole number"),
        (("batch_call_id=x", "limit=NaN"), "limit: must be a whole number"),
        (("batch_call_id=x", "limit=1", "limit=2"), "limit stands twice in the arguments"),
        (("batch_call_id=x", "now"), '"now" is not a pair NAME=VALUE'),
        (("batch_call_id=x", '{"limit": 1}'), "is not a pair NAME=VALUE"),
    ],
)
def test_a_wrong_pair_is_named_and_nothing_is_opened(
    call: Command, words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    ended = CliRunner().invoke(cli, ["call", "get_batch_call", *words])
    assert said in failed(ended, WRONG_USAGE)
    assert "Nothing was sent." in ended.stderr
    assert not (tmp_path / "data").exists()


def test_arguments_may_be_typed_as_pairs(call: Command) -> None:
    window = json.dumps(ALWAYS)
    people = json.dumps(DRAFT["tasks"])
    made = CliRunner().invoke(
        cli,
        ["call", "create_batch_call", "name=2026", f"from_number={FROM}", f"tasks={people}", f"window={window}"],
    )
    batch_call = answer(made)["batch_call"]
    assert (batch_call["name"], batch_call["counts"]["total"]) == ("2026", 3), "a name of digits is a name"
    named = f"batch_call_id={batch_call['batch_call_id']}"
    found = answer(CliRunner().invoke(cli, ["call", "get_batch_call", named, "task_status=busy, pending", "limit=2"]))
    assert len(found["tasks"]) == 2
    for nobody in ("busy", '["busy"]'):
        found = answer(CliRunner().invoke(cli, ["call", "get_batch_call", named, f"task_status={nobody}"]))
        assert "tasks" not in found


def test_on_a_terminal_the_result_is_in_words_and_what_is_next_is_a_command(
    call: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    rows = f"phone,name\n{PEOPLE[0]},A\u009b31m B\n{PEOPLE[0]},\n{PEOPLE[1]},\n"
    (tmp_path / "files" / "a list.csv").write_text(rows, encoding="utf-8")
    monkeypatch.setattr("batchcall_mcp.cli.call._is_read_by_a_person", lambda: True)
    checked = call("check_batch_call", {"tasks_file": "a list.csv", "from_number": FROM, "window": ALWAYS})
    assert checked.exit_code == DONE
    summary, skipped, following = checked.stdout.splitlines()
    assert summary.startswith("2 of 3 rows can be called")
    assert skipped == f"  line 3: {PEOPLE[0]} is already on line 2"
    assert following.startswith("Next: batchcall-mcp call create_batch_call ")
    made = CliRunner().invoke(cli, shlex.split(following)[2:])
    assert made.exit_code == DONE, made.output
    summary, *_notes, following = made.stdout.splitlines()
    assert summary.startswith("Made the draft")
    read = CliRunner().invoke(cli, ["call", "get_batch_call", shlex.split(following)[-1]])
    assert read.stdout.splitlines()[1:3] == [f"  {PEOPLE[0]}  pending  A 31m B", f"  {PEOPLE[1]}  pending"]


def test_on_a_terminal_a_person_reads_the_warnings_and_what_the_next_call_lacks(
    call: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "latin.csv").write_text(f"phone,name\n{PEOPLE[0]},Jürgen\n", encoding="latin-1")
    monkeypatch.setattr("batchcall_mcp.cli.call._is_read_by_a_person", lambda: True)
    checked = call("check_batch_call", {"tasks_file": "latin.csv", "from_number": FROM, "window": ALWAYS})
    assert "- The file is not UTF-8 and was read as Windows-1252" in checked.stdout
    facts = call("get_backend").stdout
    assert "- Who is called, from which number, and what for?" in facts, "the command alone would be refused"
    assert facts.count("Its carrier is simulated: no phone rings") == 1


def test_arguments_come_from_stdin_too_and_stdout_is_utf_8_in_any_locale(call: Command) -> None:
    made = call("create_batch_call", "-", stdin=json.dumps(DRAFT | {"name": "Žižkov"}))
    assert answer(made)["batch_call"]["name"] == "Žižkov"
    assert "Žižkov".encode() in made.stdout_bytes


def test_a_setting_that_does_not_work_is_wrong_usage(call: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHCALL_BACKEND", "zudu")
    assert "BATCHCALL_API_KEY" in failed(call("list_batch_calls"), WRONG_USAGE)


def test_a_launch_waits_for_a_person_and_opens_no_page(
    call: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BATCHCALL_CONFIRM", "person")
    launch = {"batch_call_id": drafted(call), "trigger_timestamp": "now"}
    asked = call("start_batch_call", launch)
    assert answer(asked, WAITS_FOR_PERSON)["result"] == "waiting_for_person"
    assert "Call 3 people (United States)" in asked.stderr
    assert "`batchcall-mcp approve` in a terminal" in asked.stderr
    assert "page" not in asked.stderr
    assert dials(tmp_path / "data") == {}


def test_what_the_guard_refuses_is_refused(call: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unattended(monkeypatch, most=2)
    launch = {"batch_call_id": drafted(call), "trigger_timestamp": "now"}
    assert "BATCHCALL_MAX_CALLS_PER_LAUNCH=2" in failed(call("start_batch_call", launch, "--until-finished"), REFUSED)
    monkeypatch.setenv("BATCHCALL_MODE", "read-only")
    # A tool that the mode does not offer is not there, as over stdio.
    assert "There is no tool" in failed(call("start_batch_call", launch), WRONG_USAGE)
    assert dials(tmp_path / "data") == {}


def test_without_the_option_it_ends_at_once_says_so_and_dials_nobody(
    call: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unattended(monkeypatch)
    launch = {"batch_call_id": drafted(call), "trigger_timestamp": "now"}
    started = call("start_batch_call", launch)
    assert answer(started)["result"] == "started"
    assert "This command ends now, and does not dial." in started.stderr
    assert call("get_batch_call", {"batch_call_id": launch["batch_call_id"]}).stderr == ""
    assert dials(tmp_path / "data") == {}


def test_until_finished_it_dials_says_how_it_ended_and_a_repeated_call_calls_nobody_twice(
    call: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unattended(monkeypatch)
    launch = {"batch_call_id": drafted(call, idempotency_key="n-1"), "trigger_timestamp": "now"}
    assert drafted(call, idempotency_key="n-1") == launch["batch_call_id"]
    for tried in range(2):
        ended = call("start_batch_call", launch | {"idempotency_key": "n-1"}, "--until-finished")
        assert ended.exit_code == DONE, ended.output
        started, finished = map(json.loads, ended.stdout.splitlines())
        assert (started["result"], bool(started.get("replayed"))) == ("started", tried == 1)
        assert finished["batch_call"]["status"] == "completed"
    assert dials(tmp_path / "data") == dict.fromkeys(PEOPLE, 1)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OutcomeUnknown("It was sent, and nobody knows."), UNKNOWN),
        (BackendUnavailable("It could not be asked. Nothing was sent."), REFUSED),
        (RuntimeError("a defect"), UNKNOWN),
    ],
)
def test_only_what_may_have_taken_effect_is_unknown(
    call: Command, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    async def fails(*_arguments: object, **_named: object) -> None:
        raise error

    unattended(monkeypatch)
    name = drafted(call)
    monkeypatch.setattr("batchcall_mcp.batch_calls.writes.launch.start", fails)
    said = failed(call("start_batch_call", {"batch_call_id": name, "trigger_timestamp": "now"}), code)
    assert f"[{error.code if isinstance(error, BatchCallError) else 'internal_error'}]" in said


def test_a_full_disk_does_not_change_what_the_exit_code_says(call: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_line: object, *, err: bool = False) -> None:
        if not err:
            raise OSError(28, "No space left on device")
        said.append(str(_line))

    said: list[str] = []
    monkeypatch.setattr("batchcall_mcp.cli.call.click.echo", full)
    assert call("list_batch_calls").exit_code == DONE
    assert "The result could not be written to stdout" in said[0]
