"""`batchcall-mcp call`: one tool, without a model, for cron and scripts.

It is a client of the same server that speaks MCP over stdio, in this process: so a call goes through the same guard and
the same ledger, as the same caller. Nobody can be asked here, and no page is opened: it would end with this process.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any, Final, NoReturn

import anyio
import click

from batchcall_mcp.cli.call_results import in_lines
from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.server.startup import load_settings
from batchcall_mcp.text import in_quotes, printable_lines

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult

    from batchcall_mcp.server.app import BatchCallServer

logger = logging.getLogger(__name__)

DONE, WRONG_USAGE, WAITS_FOR_PERSON, REFUSED, UNKNOWN = 0, 2, 3, 4, 5
MOST_BYTES: Final = 50 * 1024 * 1024
"""Of the arguments: as much as a list that is uploaded may have."""
_CODES: Final[Mapping[str, int]] = {"outcome_unknown": UNKNOWN, "configuration_error": WRONG_USAGE}
"""Where an error is not a refusal, or not one of what was asked for."""
_PASSES: Final = frozenset({"backend_unavailable", "rate_limited", "unexpected_response"})
"""Errors of a look that the next look may not have."""
_CODE: Final = re.compile(r"\[(\w+)\] ")
_NAMED: Final = re.compile(r"(\w+)=(.*)", re.DOTALL)
_STDOUT: Final = 1
_WATCHES_S: Final = 600
_LOOKS_EVERY_S: Final = 10.0
_NOBODY_DIALS: Final = (
    "This command ends now, and does not dial. The calls are placed by a process that runs the dialer on this data "
    "folder (an MCP client's server, `batchcall-mcp dialer`), or by this command with --until-finished."
)


@click.command(short_help="Run one tool under the same guard as over MCP, for cron and scripts.")
@click.argument("tool")
@click.argument("arguments", nargs=-1)
@click.option(
    "--until-finished",
    is_flag=True,
    help="Wait until the batch call of the result is over. The dialer in this process dials while it waits.",
)
def call(tool: str, arguments: tuple[str, ...], *, until_finished: bool) -> None:
    """Run one TOOL, as an MCP client would call it over stdio.

    ARGUMENTS are NAME=VALUE pairs, such as tasks_file=sample.csv limit=1 task_status=no_answer,busy, or one JSON
    object; - reads that from stdin.

    The result is one line of JSON on stdout; with --until-finished a second line says how the batch call ended. On a
    terminal it is the summary, the people and notes in words; `| cat` shows the JSON. Messages go to stderr. Settings,
    limits, questions and records are those of the server (BATCHCALL_*).

    \b
    Exit code 0  done, now or by an equal call before
              2  wrong usage: the tool, an argument or a setting
              3  waits for a person: `batchcall-mcp approve`, then the same call again
              4  refused, or the backend cannot be reached: nothing was sent
              5  the outcome is unknown: repeat the same call, which looks it up
    """  # noqa: D301 - click reads the escape
    settings = load_settings()
    logging.getLogger("mcp").setLevel(logging.WARNING)  # that a tool failed is said here
    named = _named(arguments)
    given = {} if named is not None else _object(" ".join(arguments))
    from batchcall_mcp.notifications.notifier import CLOSES_WITHIN_S
    from batchcall_mcp.recipients.files.sample import make_first_folder
    from batchcall_mcp.server.app import build_server

    # The page is a listener of this process, which ends before anybody answers.
    unattended = settings.model_copy(update={"approval_page": "off"})
    server = build_server(unattended, transport="stdio", dials=False)
    server.service.notifies_within_s = CLOSES_WITHIN_S  # the next process may run tomorrow night
    if named is not None:
        given = server.arguments_of(tool, named)
    problem = server.problem_with(tool, given)
    if problem is not None:
        _say(problem)
        if tool not in server.tool_names:
            _say("The tools here: " + ", ".join(server.tool_names))
        raise SystemExit(WRONG_USAGE)
    make_first_folder(settings.files)
    raise SystemExit(anyio.run(_Call(server, tool, given, until_finished=until_finished).run))


class _Call:
    """One run of the command. `run` gives its exit code."""

    def __init__(self, server: BatchCallServer, tool: str, given: Mapping[str, Any], *, until_finished: bool) -> None:
        self._server = server
        self._tool = tool
        self._given = given
        self._until_finished = until_finished
        self._code = REFUSED if server.only_reads(tool) else UNKNOWN
        """What it is if nothing more becomes known."""
        self._answered = False

    async def run(self) -> int:
        """Call the tool; a signal cuts it off, and what was sent then is recorded as unknown."""
        from mcp import Client

        with anyio.CancelScope() as cut_off:
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_cut_off_by_a_signal, cut_off)
                    async with Client(self._server) as client:
                        self._code = await self._called(client)
                    tasks.cancel_scope.cancel()
            except Exception:  # the exit code says what is known, whatever fails
                logger.exception("A defect in this command")
        if cut_off.cancelled_caught:
            again = "Repeat the same call: it looks up what came of this one."
            _say(
                "Cut off by a signal while it waited for the end."
                if self._answered
                else f"Cut off by a signal. {again}"
            )
        return self._code

    async def _called(self, client: Client) -> int:
        structured, code = await self._asked(client, self._tool, self._given)
        if structured is None:
            return code
        if structured.get("result") in {"confirmation_required", "waiting_for_person"}:
            return WAITS_FOR_PERSON
        batch_call = structured.get("batch_call") or {}
        batch_call_id, status = batch_call.get("batch_call_id"), batch_call.get("status")
        if self._until_finished and batch_call_id is not None and status not in {None, "draft"}:
            self._answered, self._code = True, UNKNOWN
            return await self._waited(client, batch_call_id)
        is_live = status in {"scheduled", "running"} and (
            not self._server.only_reads(self._tool) or "watch" in self._tool
        )
        if self._server.service.embedded and is_live:
            _say(_NOBODY_DIALS)
        return DONE

    async def _waited(self, client: Client, batch_call_id: str) -> int:
        """Until it is over, or nothing goes on without a person.

        The dialer in this process dials from the second look on: of what is over already, or paused, this command ends
        at once, and would hang up on the people of others.
        """
        watches_s = 0
        while True:
            arguments = {"batch_call_id": batch_call_id, "timeout_seconds": watches_s}
            answer = await client.call_tool("watch_batch_call", arguments)
            if answer.is_error:
                text = _text(answer)
                if _code_of(text) not in _PASSES:
                    _say(f"The end could not be waited for. {text}")
                    return UNKNOWN
            else:
                structured = answer.structured_content or {}
                status = structured["batch_call"]["status"]
                if status in {"completed", "cancelled", "failed"}:
                    _print(structured)
                    return DONE
                if status in {"paused", "draft"} and not structured["batch_call"].get("counts", {}).get("calling"):
                    _print(structured)
                    _say(structured["summary"])
                    return WAITS_FOR_PERSON
            if watches_s:
                await anyio.sleep(_LOOKS_EVERY_S)
            try:
                await self._server.service.begin_to_dial()
            except BatchCallError as error:
                _say(f"The end could not be waited for. [{error.code}] {error}")
                return UNKNOWN
            watches_s = _WATCHES_S

    async def _asked(self, client: Client, tool: str, given: Mapping[str, Any]) -> tuple[dict[str, Any] | None, int]:
        """The result, printed, or the exit code of the error, which was said."""
        answer = await client.call_tool(tool, dict(given))
        if answer.is_error:
            text = _text(answer)
            _say(text)
            code = _code_of(text)
            defect = self._code if code in {None, "internal_error"} else REFUSED
            return None, _CODES.get(code or "", defect)
        structured: dict[str, Any] = answer.structured_content or {}
        _print(structured)
        waits = structured.get("result") in {"confirmation_required", "waiting_for_person"}
        if waits and not _is_read_by_a_person():  # else they have read it
            _say(" ".join([structured["summary"], *structured.get("notes", [])]))
        return structured, DONE


async def _cut_off_by_a_signal(scope: anyio.CancelScope) -> None:
    if sys.platform == "win32":
        return
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


def _code_of(text: str) -> str | None:
    found = _CODE.match(text)
    return None if found is None else found[1]


def _text(answer: CallToolResult) -> str:
    return " ".join(block.text for block in answer.content if block.type == "text")


def _print(structured: Mapping[str, Any]) -> None:
    """As UTF-8, whatever the locale of cron is. The exit code says what came of the call, also on a full disk."""
    if _is_read_by_a_person():
        line = printable_lines("\n".join(in_lines(structured)))
    else:
        line = json.dumps(structured, ensure_ascii=False, separators=(",", ":"))
    try:
        click.echo(line.encode())
    except OSError as error:
        with click.open_file("-", "wb") as stdout:
            _to_nowhere(stdout)
        _say(f"The result could not be written to stdout ({error.strerror}). The exit code says what came of the call.")


def _is_read_by_a_person() -> bool:
    return os.isatty(_STDOUT)


def _say(text: str) -> None:
    try:
        click.echo(f"batchcall-mcp: {text}", err=True)
    except OSError:  # there is no other place to say it, and calls may be in progress
        _to_nowhere(sys.stderr)


def _to_nowhere(stream: IO[Any]) -> None:
    """What could not be written is tried once more when Python ends, which would change the exit code."""
    with suppress(OSError, ValueError):  # where it has no descriptor nothing is tried
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _named(arguments: Sequence[str]) -> dict[str, str] | None:
    """The texts of NAME=VALUE pairs; None: one JSON object is meant."""
    found = [_NAMED.fullmatch(one) for one in arguments]
    if len(arguments) == 1 and found[0] is None:
        return None
    named: dict[str, str] = {}
    for one, pair in zip(arguments, found, strict=True):
        if pair is None:
            _wrong(f"{in_quotes(one)} is not a pair NAME=VALUE; put quotation marks around a value that has blanks.")
        if pair[1] in named:
            _wrong(f"{pair[1]} stands twice in the arguments, and which of them is meant is not clear.")
        named[pair[1]] = pair[2]
    return named


def _object(text: str) -> dict[str, Any]:
    """The arguments: each name once, and only what JSON knows."""
    if text == "-":
        if sys.stdin is None:
            _wrong("The arguments are to come from stdin, which is closed.")
        with click.open_file("-", "rb") as stdin:
            read: bytes = stdin.read(MOST_BYTES + 1)
        if len(read) > MOST_BYTES:
            _wrong(f"The arguments have more than {MOST_BYTES:,} bytes. Give a list as tasks_file.")
        try:
            text = read.decode()
        except UnicodeDecodeError:
            _wrong("The arguments from stdin are not UTF-8.")
    try:
        found = json.loads(text, object_pairs_hook=_each_once, parse_constant=_not_in_json)
        json.dumps(found, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        _wrong(f"The arguments are not a JSON object: {error}.")
    if not isinstance(found, dict):
        _wrong('The arguments are not a JSON object, such as {"batch_call_id": "…"}.')
    return found


def _each_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in it, and which of them is meant is not clear")
    return found


def _not_in_json(name: str) -> NoReturn:
    raise ValueError(f"{name} does not exist in JSON")


def _wrong(text: str) -> NoReturn:
    _say(f"{text} Nothing was sent.")
    raise SystemExit(WRONG_USAGE)
