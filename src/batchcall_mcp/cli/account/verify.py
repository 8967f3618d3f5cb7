"""`batchcall-mcp verify`: one confirmed call through the backend, and a report of what was seen that names nobody.

It is a client of the same server that speaks MCP: the call goes through the same guard, and the question is put to the
person at this terminal.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import anyio
import anyio.to_thread
import click

import batchcall_mcp
from batchcall_mcp.backends.registry import EMBEDDED
from batchcall_mcp.clock import utc_now
from batchcall_mcp.server.startup import load_settings_of_init
from batchcall_mcp.settings import Settings

if TYPE_CHECKING:
    from mcp import Client
    from mcp.client import ClientRequestContext
    from mcp.types import ElicitRequestParams, ElicitResult

REFUSED, UNFINISHED = 4, 5
_WATCHES_S: Final = 60
_LOOKS_EVERY_S: Final = 10.0
"""A watch ends at once where nothing can happen soon, or nothing is known: the service is not asked without a pause."""
_LONGEST_S: Final = 15 * 60
"""How long the call is followed."""
_OVER: Final = frozenset({"completed", "cancelled", "failed"})
_SAID_NO: Final = "Nobody was called: the question was not answered with yes."
_WAITS: Final = frozenset({"confirmation_required", "waiting_for_person"})
_RESULTS: Final = ("duration_seconds", "answered_by", "choice", "cost", "summary", "extracted")


@click.command(short_help="Call your own number once through the backend, and report what was seen.")
@click.option("--to", required=True, metavar="+NUMBER", help="Your own number, as E.164. It rings, once.")
@click.option("--from", "from_number", metavar="+NUMBER", help="The caller number, if the account has several.")
@click.option("--agent", "agent_id", help="The id of the agent, if the account has several.")
@click.option("--variable", "variables", multiple=True, metavar="NAME=VALUE", help="What the agent knows; repeatable.")
def verify(to: str, from_number: str | None, agent_id: str | None, variables: tuple[str, ...]) -> None:
    """Call your own number once through the backend, follow the call, and print a report for docs/verified.md.

    With BATCHCALL_CARRIER the built-in dialer calls it, on the account of that carrier. To call through a
    `batchcall-mcp dialer` that runs, set BATCHCALL_URL and its key pair instead.

    You are asked in this terminal before anything rings. The report names no number, no id, no name and no word that
    was said.

    \b
    Exit code 0  the call was followed to its end
              2  wrong usage: an option, or a setting
              4  refused, or you said no: nobody was called
              5  it was launched, and its end was not seen
    """  # noqa: D301 - click reads the escape
    settings = load_settings_of_init()
    if not sys.stdin.isatty():
        raise click.UsageError("A person has to answer here before the phone rings, and stdin is not a terminal.")
    unclear = [one for one in variables if not one.partition("=")[0] or "=" not in one]
    if unclear:
        raise click.UsageError(f"--variable {unclear[0]}: write NAME=VALUE. Nothing was sent.")
    given = dict(one.partition("=")[::2] for one in variables)
    from batchcall_mcp.server.app import build_server

    server = build_server(settings.model_copy(update={"approval_page": "off", "confirm": "auto"}), transport="stdio")
    task = {"to_number": to, **({"dynamic_variables": given} if given else {})}
    run = Verification(server.tool_names, task, from_number, agent_id)

    async def run_it() -> int:
        from mcp import Client

        async with Client(server, elicitation_callback=ask) as client:
            return await run.run(client)

    code = anyio.run(run_it)
    if run.seen:
        click.echo(run.report(through(settings, server.service.backend_type.name)))
    raise SystemExit(code)


def through(settings: Settings, backend: str) -> str:
    """What the call went through, as the report's title has it: the dialer is none without its carrier."""
    return f"{backend} through {settings.carrier or 'simulated'}" if backend == EMBEDDED else backend


async def ask(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:  # noqa: ARG001 - the protocol's
    """Put the server's question to the person at this terminal; only a yes is a yes."""
    from mcp.types import ElicitResult

    click.echo(params.message)
    said = await anyio.to_thread.run_sync(lambda: click.confirm("Call now?", default=False))
    if not said:
        return ElicitResult(action="decline")
    wanted = (getattr(params, "requested_schema", None) or {}).get("properties", {})
    return ElicitResult(action="accept", content=dict.fromkeys(wanted, True))


class Verification:
    """One call, and what was seen of it. Nothing here keeps a number, an id or a word of the call."""

    def __init__(
        self,
        tools: tuple[str, ...],
        task: Mapping[str, Any],
        from_number: str | None,
        agent_id: str | None,
    ) -> None:
        self._tools = tools
        self._task = task
        self._from_number = from_number
        self._agent_id = agent_id
        self.seen: list[str] = []

    async def run(self, client: Client) -> int:
        """Make it, launch it, follow it. The exit code."""
        try:
            batch_call_id = await self._launched(client)
        except Refused as refused:
            click.echo(f"batchcall-mcp: {refused}", err=True)
            return REFUSED
        try:
            with anyio.move_on_after(_LONGEST_S):
                await self._followed(client, batch_call_id)
                return 0
        except Refused as refused:
            click.echo(f"batchcall-mcp: {refused}", err=True)
        self.seen.append("the end was not seen")
        return UNFINISHED

    async def _launched(self, client: Client) -> str:
        about = await _called(client, "get_backend", {})
        whole = {"from_number": self._only(about, "numbers", "from_number", self._from_number, "--from")}
        agent = self._only(about, "agents", "agent_id", self._agent_id, "--agent")
        if agent is not None:
            whole["agent_id"] = agent
        for part in ("numbers", "agents"):
            found = about.get(part)
            self.seen.append(f"{part}: {'not reported' if found is None else f'{len(found)} read'}")
        create = {**whole, "tasks": [self._task], "name": "Verification of batchcall-mcp"}
        create["idempotency_key"] = f"verify-{uuid4().hex}"  # who verifies again wants to be called again
        creating_dials = "start_batch_call" not in self._tools
        when = {"trigger_timestamp": "now"} if creating_dials else {}
        try:
            made = await _called(client, "create_batch_call", create | when)
        except Refused as refused:
            if whole["from_number"] is None and "from_number" in str(refused):
                raise Refused(f"{refused} Name the caller number with --from.") from None
            raise
        batch_call_id = str(made["batch_call"]["batch_call_id"])
        self.seen.append(f"create: accepted as {_status(made['batch_call'])}")
        if not creating_dials:
            start = {"batch_call_id": batch_call_id, "trigger_timestamp": "now"}
            started = await _called(client, "start_batch_call", start)
            self.seen.append(f"start: accepted as {_status(started['batch_call'])}")
        return batch_call_id

    def _only(self, about: Mapping[str, Any], part: str, field: str, given: str | None, option: str) -> str | None:
        """What was given, or the only one that the account has."""
        found = [str(one[field]) for one in about.get(part) or ()]
        if given is not None or not found:
            return given
        if len(found) > 1:
            raise Refused(f"The account has several {part}: name one with {option}. It has {', '.join(found[:20])}.")
        return found[0]

    async def _followed(self, client: Client, batch_call_id: str) -> None:
        began, before, task_before = utc_now(), "", ""
        while True:
            looked = await _called(
                client, "watch_batch_call", {"batch_call_id": batch_call_id, "timeout_seconds": _WATCHES_S}
            )
            page = await _called(client, "get_batch_call", {"batch_call_id": batch_call_id})
            status, tasks = _status(looked["batch_call"]), page.get("tasks") or []
            task = _status(tasks[0]) if tasks else "not listed"
            if (status, task) != (before, task_before):
                after = round((utc_now() - began).total_seconds())
                self.seen.append(f"after {after} s: the batch call is {status}, its task {task}")
                before, task_before = status, task
            if looked["batch_call"]["status"] in _OVER:
                break
            await anyio.sleep(_LOOKS_EVERY_S)
        if tasks:
            reported = [name for name in _RESULTS if tasks[0].get(name) not in (None, {}, "")]
            self.seen.append(f"results of the task: {', '.join(reported) or 'its state alone'}")
        if "get_call" in self._tools and tasks and tasks[0].get("call_id"):
            said = await _called(client, "get_call", {"batch_call_id": batch_call_id, "call_id": tasks[0]["call_id"]})
            turns = said.get("turns")
            self.seen.append(f"get_call: {'no transcript' if turns is None else f'{turns} turns'}")

    def report(self, backend: str) -> str:
        """What was seen, as a chapter of docs/verified.md."""
        at = datetime.now(UTC).date().isoformat()
        lines = [f"### {backend}, {at}", "", f"batchcall-mcp {batchcall_mcp.__version__}, one call.", ""]
        return "\n".join([*lines, *(f"- {line}" for line in self.seen), ""])


class Refused(Exception):
    """Nothing went on: what was said instead."""


async def _called(client: Client, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    answer = await client.call_tool(tool, dict(arguments))
    text = " ".join(block.text for block in answer.content if block.type == "text")
    if answer.is_error:
        raise Refused(_SAID_NO if text.startswith("[not_confirmed]") else text)
    structured: dict[str, Any] = answer.structured_content or {}
    if structured.get("result") in _WAITS:
        raise Refused(_SAID_NO)
    return structured


def _status(one: Mapping[str, Any]) -> str:
    word = one.get("backend_status")
    return f"{one['status']} ({word})" if word else str(one["status"])
