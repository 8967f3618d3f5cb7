"""Collects the sentences that are seen most from where they are made. `python -m tests.golden.sentences` renews them.

The file is for the ear: its diff shows what a change of words does to what people and models read. What may differ from
run to run (ids, times, codes, folders) is a placeholder in it.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import anyio
from click.testing import CliRunner

from batchcall_mcp.batch_calls.next_call import in_words
from batchcall_mcp.cli import cli
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.settings import Settings
from tests.guard.questions import SCENES
from tests.readme import spoken
from tests.server.contract import Surface
from tests.walks.stage import ALWAYS, FROM, Model, Person, playing, write_csv

PAGE = Path(__file__).with_name("sentences.txt")
_SENTENCE_ENDS = re.compile(r"(?<=[.?!\"*])(?<![^.?!][\"*])\s+(?=[A-Z*`\"])")
_PLAYED = ("Summaries", "Errors")
_DIFFERS = (
    (re.compile(r"\bbatch_call_[0-9a-f]{8,}"), "batch_call_…"),
    (re.compile(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9:.]+(?:Z|\+00:00)?"), "DATE TIME"),
    (re.compile(r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [0-9]{1,2} [A-Z][a-z]{2}\b"), "DAY"),
    (re.compile(r"\b[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?(?: UTC)?"), "TIME"),
    (re.compile(r"\bin [0-9]+ (?:seconds?|minutes?|hours?|days?)"), "in N"),
    (re.compile(r"\b[0-9]+(?:\.[0-9]+)? (?:s|ms|seconds)\b"), "N s"),
    (re.compile(r"[0-9a-f]{12,}"), "…"),
)
_SETTINGS = (
    {"MODE": "readonly"},
    {"API_KEY": "${KEY}"},
    {"CALLING_HOURS": "9-17"},
    {"MAX_CALL_PER_LAUNCH": "10"},
    {"ENV_FILE": "/nowhere/.env"},
    {"DATABASE_URL": "mysql://localhost"},
)
_COMMANDS = (
    ("audit",),
    ("ledger",),
    ("ledger", "resolve", "7", "made"),
    ("approve",),
    ("dialer", "adopt"),
    ("stop",),
    ("stop", "--clear"),
)


def collected() -> str:
    """The whole file."""
    with tempfile.TemporaryDirectory(prefix="sentences-") as name:
        home = Path(name).resolve()
        parts = {
            "README": dict(_of_the_readme()),
            "Tools": {"instructions": Surface("dialer").server().instructions or ""}
            | {tool.name: tool.description or "" for tool in Surface("dialer").tools()},
            "Questions": {scene.title: scene.question for scene in SCENES},
            "Summaries": anyio.run(_summaries, home),
            "Errors": anyio.run(_errors, home),
            "Settings": dict(_refused_settings()),
            "Commands": dict(_commands(home)),
        }
        return "\n".join(_part(title, texts, home) for title, texts in parts.items())


def _part(title: str, texts: Mapping[str, str], home: Path) -> str:
    lines = [f"# {title}", ""]
    for key, text in texts.items():
        same = text.replace(str(home), "FOLDER")
        for differs, placeholder in _DIFFERS if title in _PLAYED else ():
            same = differs.sub(placeholder, same)
        sentences = [sentence for line in same.splitlines() for sentence in _SENTENCE_ENDS.split(line.strip())]
        lines += [f"{key}:", *(f"  {sentence}" for sentence in sentences if sentence)]
    return "\n".join([*lines, ""])


def _of_the_readme() -> Iterator[tuple[str, str]]:
    for number, block in enumerate(re.split(r"\n\n+|\n(?=- )", spoken()), 1):
        yield f"paragraph {number}", " ".join(block.split())


async def _summaries(home: Path) -> dict[str, str]:
    """Of one job in the life of an agent, each tool once."""
    files = home / "files"
    files.mkdir()
    rows = [["Ada", "+12125550101"], ["Ada again", "+12125550101"], ["Bob", "n/a"], ["Eve", "+12125550107"]]
    write_csv(files / "customers.csv", ["name", "phone"], rows)
    said: dict[str, str] = {}
    async with _playing(home / "job", Person(), files=files) as model:

        async def call(tool: str, *, note: str = "", **arguments: object) -> str:
            answer = await model.call(tool, **arguments)
            after = f"\nnext: {in_words(answer['next'])}" if answer.get("next") else ""
            said[f"{tool}{note}"] = answer["summary"] + after
            return str(answer.get("batch_call", {}).get("batch_call_id", ""))

        await call("get_backend")
        await call("check_batch_call", tasks_file="customers.csv", from_number=FROM)
        made: dict[str, Any] = {
            "from_number": FROM,
            "tasks_file": "customers.csv",
            "name": "Reminders",
            "window": ALWAYS,
        }
        one = {"batch_call_id": await call("create_batch_call", **made)}
        await call("create_batch_call", note=", repeated", **made)
        await call("update_batch_call", **one, name="Reminders for December")
        await call("start_batch_call", note=", later", **one, trigger_timestamp="2099-01-01T09:00:00Z")
        await call("watch_batch_call", note=", too early", **one)
        await call("pause_batch_call", **one)
        await call("resume_batch_call", **one)
        await call("cancel_batch_call", **one)
        two = {"batch_call_id": await call("create_batch_call", note=", again on purpose", **made, idempotency_key="2")}
        await call("start_batch_call", note=", now", **two, trigger_timestamp="now")
        with anyio.fail_after(30):
            await call("watch_batch_call", **two, timeout_seconds=25)
        await call("get_batch_call", **two)
        await call("list_batch_calls")
        await call("retry_batch_call", **two)
        with anyio.fail_after(30):
            await call("watch_batch_call", note=", of a retry", **two, timeout_seconds=25)
        await call("export_batch_call", **two)
        await call("delete_batch_call", **one)
    async with _playing(home / "codes", None, files=files) as model:
        two = {"batch_call_id": await call("create_batch_call", note=", without elicitation", **made)}
        await call("start_batch_call", note=", without elicitation", **two, trigger_timestamp="now")
    return said


async def _errors(home: Path) -> dict[str, str]:
    """What a model gets wrong most, and a person who says no."""
    files = home / "files"
    tasks = [{"to_number": "+12125550102"}]
    said: dict[str, str] = {}
    person = Person("no")
    async with _playing(home / "errors", person, files=files) as model:

        async def refused(note: str, tool: str, code: str, **arguments: object) -> None:
            said[note] = await model.refused(tool, code, **arguments)

        check, wrong = "check_batch_call", "invalid_input"
        await refused("a file outside the folders", check, wrong, tasks_file="/etc/passwd")
        await refused("a file that does not exist", check, wrong, tasks_file="gone.csv")
        await refused("an unknown number column", check, wrong, tasks_file="customers.csv", number_column="mobile")
        await refused("rows past the end", check, wrong, tasks_file="customers.csv", rows="1-9")
        await refused("an unknown argument", check, wrong, tasks=tasks, time_zone="UTC")
        await refused("an abbreviated time zone", check, wrong, tasks=tasks, window=ALWAYS | {"timezone": "EST"})
        await refused("a list and a file", check, wrong, tasks=tasks, tasks_file="customers.csv")
        await refused("no list", "create_batch_call", wrong, from_number=FROM)
        await refused("nobody to call", "create_batch_call", wrong, from_number=FROM, tasks=[{"to_number": "n/a"}])
        await refused("an unknown batch call", "get_batch_call", "not_found", batch_call_id="gone")
        made = await model.call("create_batch_call", from_number=FROM, tasks=tasks, window=ALWAYS)
        one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await refused(
            "a time without an offset", "start_batch_call", wrong, **one, trigger_timestamp="2099-01-01T09:00:00"
        )
        await refused("a person says no", "start_batch_call", "not_confirmed", **one, trigger_timestamp="now")
        person.answer = "dismiss"
        await refused("a person dismisses", "start_batch_call", "not_confirmed", **one, trigger_timestamp="now")
        await refused("a pause of a draft", "pause_batch_call", "illegal_transition", **one)
        key = {"idempotency_key": "job"}
        await model.call("create_batch_call", from_number=FROM, tasks=tasks, **key)
        await refused(
            "a key of another request", "create_batch_call", wrong, from_number=FROM, tasks=tasks, name="B", **key
        )
    async with _playing(home / "errors", None, files=files) as model:
        await refused(
            "a wrong code", "start_batch_call", "not_confirmed", **one, trigger_timestamp="now", confirmation_code="x"
        )
    async with _playing(home / "off", None, files=files, confirm="off", max_calls_per_launch="1") as model:
        many = [{"to_number": f"+121255501{line:02d}"} for line in (11, 21)]
        made = await model.call("create_batch_call", from_number=FROM, tasks=many, window=ALWAYS)
        one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await refused("more people than allowed", "start_batch_call", wrong, **one, trigger_timestamp="now")
    return said


def _playing(data_dir: Path, person: Person | None, **variables: str | Path) -> AbstractAsyncContextManager[Model]:
    return playing("auto", person, data_dir=data_dir, simulated_speed="2000", **variables)


def _refused_settings() -> Iterator[tuple[str, str]]:
    for one in _SETTINGS:
        variables = {f"BATCHCALL_{name}": value for name, value in one.items()}
        with mock.patch.dict(os.environ, variables):
            try:
                Settings.load()
            except ConfigurationError as error:
                yield " ".join(f"{name}={value}" for name, value in variables.items()), error.message


def _commands(home: Path) -> Iterator[tuple[str, str]]:
    (home / "operator").mkdir()
    with mock.patch.dict(os.environ, {"BATCHCALL_DATA_DIR": str(home / "operator")}):
        for arguments in _COMMANDS:
            ended = CliRunner().invoke(cli, arguments)
            yield f"batchcall-mcp {' '.join(arguments)} ({ended.exit_code})", ended.output


def main() -> None:
    """Write the file."""
    PAGE.write_text(collected(), encoding="utf-8")


if __name__ == "__main__":
    main()
