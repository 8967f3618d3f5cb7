"""`batchcall-mcp demo`: the whole story, by a real MCP client over stdio on the embedded dialer. No phone rings."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, TextIO

import anyio
from mcp import Client, StdioServerParameters
from mcp.client import ClientRequestContext
from mcp.client.stdio import stdio_client
from mcp.types import CallToolResult, ElicitRequestParams, ElicitResult
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.settings import plain_environment

_FROM_NUMBER = "+14155550199"
_SPEED = "60"
_WATCH_S = 120
_ALWAYS = {"start": "00:00", "end": "24:00"}
_FILES = ("customers.csv", "do-not-call.txt")


def main() -> None:
    play(Console())


def play(console: Console) -> None:
    """Play it on `console`, to the end; the picture in the README records it from there."""
    with tempfile.TemporaryDirectory(prefix="batchcall-demo-") as name:
        folder = Path(name)
        # What the server logs belongs to a file of its own, not between the lines of the story.
        with (folder / "server.log").open("w", encoding="utf-8") as log:
            anyio.run(_play, console, folder, log)


class Stage:
    """One client, one screen: each tool call and its short answer."""

    def __init__(self, client: Client, console: Console) -> None:
        self._client = client
        self._console = console

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        self.show_call(tool, arguments)
        return self._shown(tool, await self._client.call_tool(tool, arguments))

    async def watch(self, batch_call_id: str, title: str) -> dict[str, Any]:
        """Watch to the end, with a progress bar that the server's progress notices move."""
        arguments = {"batch_call_id": batch_call_id, "timeout_seconds": _WATCH_S}
        self.show_call("watch_batch_call", arguments)
        columns = (TextColumn("  " + title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console) as bar:
            line = bar.add_task(title, total=None)

            async def move(progress: float, total: float | None, message: str | None) -> None:
                bar.update(line, completed=progress, total=total, description=message or title)

            result = await self._client.call_tool("watch_batch_call", arguments, progress_callback=move)
            counts = (result.structured_content or {}).get("batch_call", {}).get("counts", {})
            bar.update(line, completed=counts.get("total"), total=counts.get("total"))
        return self._shown("watch_batch_call", result)

    def show_call(self, tool: str, arguments: dict[str, Any]) -> None:
        self._console.print(f"\n[bold cyan]{tool}[/] [dim]{json.dumps(arguments)}[/]", highlight=False)

    def note(self, text: str) -> None:
        self._console.print(f"    {text}", highlight=False, markup=False)

    def _shown(self, tool: str, result: CallToolResult) -> dict[str, Any]:
        if result.is_error or result.structured_content is None:
            text = " ".join(getattr(block, "text", "") for block in result.content)
            self._console.print(f"  [red]{tool} failed:[/] {text}")
            raise SystemExit(1)
        self._console.print(f"  {result.structured_content['summary']}", highlight=False, markup=False)
        answer: dict[str, Any] = result.structured_content
        return answer


async def _play(console: Console, folder: Path, log: TextIO) -> None:
    console.print("[bold]batchcall-mcp demo[/]: an MCP client calls 200 customers with the built-in dialer.")
    console.print(
        "The carrier is simulated and faster than real calls; no phone rings and nothing leaves this machine."
    )
    for name in _FILES:
        shutil.copy(_example(name), folder)

    async def yes(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        del context
        console.print(Panel(params.message, title="The client asks you", border_style="yellow"))
        console.print("  The demo answers for you: [bold green]yes[/]")
        return ElicitResult(action="accept", content={"confirm": True})

    server = StdioServerParameters(command=sys.executable, args=["-m", "batchcall_mcp"], env=_environment(folder))
    async with Client(stdio_client(server, errlog=log), elicitation_callback=yes) as client:
        await _story(Stage(client, console), folder)
    console.print(
        f"\n[bold]Next:[/] run `{_init_command()}`, and say in your MCP client: call the people in sample.csv."
    )


def _init_command() -> str:
    """`init` as this shell can type it: `make demo` installs into a folder that is not in PATH."""
    if shutil.which("batchcall-mcp") is not None:
        return "batchcall-mcp init"
    program, here = Path(sys.executable).with_name("batchcall-mcp"), Path.cwd()
    near = program.relative_to(here) if program.is_relative_to(here) else program
    return shlex.join([str(near), "init"])


async def _story(stage: Stage, folder: Path) -> None:
    facts = await stage.call("get_backend")
    stage.note(f"files: {', '.join(file['name'] for file in facts['files'])}")
    checked = await stage.call("check_batch_call", tasks_file="customers.csv", from_number=_FROM_NUMBER, limit=3)
    for row in checked["skipped_rows"]:
        stage.note(f"line {row['line']} skipped: {row['reason']}")
    made = await stage.call(
        "create_batch_call",
        from_number=_FROM_NUMBER,
        tasks_file="customers.csv",
        name="Appointment reminders",
        window=_ALWAYS,
        max_concurrency=20,
    )
    batch_call_id = made["batch_call"]["batch_call_id"]
    changed = await stage.call("update_batch_call", batch_call_id=batch_call_id, name="Reminders for December")
    stage.note(f"changed: {json.dumps(changed['changed'])}")
    await stage.call("start_batch_call", batch_call_id=batch_call_id, trigger_timestamp="now")
    await stage.watch(batch_call_id, "calling")
    missed = await stage.call("get_batch_call", batch_call_id=batch_call_id, task_status=["not_reached"], limit=3)
    for task in missed["tasks"]:
        stage.note(f"{task['to_number']} {task.get('name', '')}: {task['status']}")
    await stage.call("retry_batch_call", batch_call_id=batch_call_id, task_status=["no_answer", "busy"])
    await stage.watch(batch_call_id, "again  ")
    exported = await stage.call("export_batch_call", batch_call_id=batch_call_id)
    for line in _lines(exported["file"])[:3]:
        stage.note(line)
    dials = len(_lines(folder / "data" / "carrier.jsonl"))
    stage.note(f"{dials} dials in the carrier's own record (carrier.jsonl)")


def _lines(path: str | Path) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


def _environment(folder: Path) -> dict[str, str]:
    """A fresh data folder, and none of the operator's own settings."""
    return plain_environment() | {
        "BATCHCALL_DATA_DIR": str(folder / "data"),
        "BATCHCALL_FILES": str(folder),
        "BATCHCALL_DO_NOT_CALL": str(folder / "do-not-call.txt"),
        "BATCHCALL_SIMULATED_SPEED": _SPEED,
    }


def _example(name: str) -> Path:
    here = Path(__file__).parents[1]
    for folder in (here / "examples", here.parents[1] / "examples"):  # installed; or in a checkout
        if (folder / name).is_file():
            return folder / name
    raise ConfigurationError(f"The demo's example file {name} is missing from this installation; install it again.")
