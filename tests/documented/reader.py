"""Takes the steps of a page as its reader would: with a client of the real server, a shell, and the backend it names.

`await follow(page, home)` plays one page from top to bottom, in a folder of its own; `pages.py` says what a page is
made of. It raises at the first step that does not do what the page says, with the page and the line in its message.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.server.app import build_server
from tests import forked
from tests.documented import events, not_run
from tests.documented.judges import Around, judge, said_by_nobody
from tests.documented.pages import (
    GAP,
    Call,
    Console,
    Entry,
    File,
    Judged,
    Part,
    Posted,
    Setting,
    Shell,
    Step,
    Words,
    filled,
    holds,
    is_part_of,
    prints,
    steps_of,
    typed,
    values_in,
)
from tests.recipients.workbooks import write_workbook
from tests.server.transports import Way, client_of, served
from tests.tools.desk import Person, headers_of, settings_of, text_of
from tests.vendors import magpipe, talking, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.talking import Talking
from tests.vendors.zudu import Zudu

SERVED, DIALER, DIALER_TOO = "http://127.0.0.1:8000", "http://127.0.0.1:8080", "http://localhost:8080"
LONGEST_S = 60


async def follow(text: str, home: Path, *, name: str = "page", before: str = "") -> None:
    """Take the text of a page step by step. `before` is such a text too: what is there before its reader begins.

    Raises:
        NobodyJudges: a block of it is nothing that is run or judged.
        AssertionError: something is not as the page says.
    """
    today = datetime.now(UTC).date()
    try:
        steps = [(f"before {name}, line {line}", step) for line, step in steps_of(before, today)]
        steps += [(f"{name}, line {line}", step) for line, step in steps_of(text, today, before)]
    except ValueError as error:
        error.add_note(f"--- {name}")
        raise
    async with AsyncExitStack() as held:
        reader = Reader(home, held)
        for at, (where, step) in enumerate(steps):
            try:
                await reader.take(step, [step for _, step in steps[at + 1 :]])
            except Exception as error:
                error.add_note(f"--- {where}: {type(step).__name__}")
                raise


class Reader:
    """Does what a page says, and knows what came of it."""

    def __init__(self, home: Path, held: AsyncExitStack) -> None:
        self.files, self.home = home / "files", home / "me"
        self.commands = home / "bin"
        for folder in (self.files, self.home, self.commands):
            folder.mkdir()
        command = self.commands / "batchcall-mcp"
        command.write_text(f'#!/bin/sh\nexec {shlex.join(forked.program())} "$@"\n')
        command.chmod(0o755)
        self.variables = {
            "BATCHCALL_DATA_DIR": str(home / "data"),
            "BATCHCALL_FILES": str(self.files),
            "BATCHCALL_CALLING_HOURS": "00:00-24:00",
            "BATCHCALL_SIMULATED_SPEED": "2000",
        }
        self.given = tuple(self.variables)
        self.run = {"over": "stdio", "backend": "dialer", "person": "yes"}
        self.person = Person()
        self.client: Client | None = None
        self.urls: dict[str, str] = {}
        self.pair: dict[str, str] = {}
        self.known: dict[str, Any] = {}
        self.answer: Any = None
        self.said = ""
        self.printed = ""
        self.sheets: dict[str, dict[str, list[list[str]]]] = defaultdict(dict)
        self._folder = self.files
        self._exported: dict[str, str] = {}
        self._held = held
        self._server = AsyncExitStack()
        held.push_async_callback(self._close)

    async def _close(self) -> None:
        await self._server.aclose()

    async def take(self, step: Step, rest: list[Step]) -> None:
        """One step; `rest` are those that follow it."""
        match step:
            case Setting(values):
                self._set(values)
            case File(name, text):
                self._write(name, text)
            case Call(tool, arguments):
                await self._call(tool, filled(arguments, self.known), is_refused=_announces_an_error(rest))
            case Shell(text):
                await self._shell(text)
            case Console(commands):
                await self._console(commands)
            case Entry(servers):
                for server in servers.values():
                    await self._enter(server)
            case _:
                await self._compare(step)

    async def _compare(self, step: Step) -> None:
        """What the page says, and what is so."""
        match step:
            case Words(text) if not self.said:
                await said_by_nobody(text)
            case Words(text):
                said = "\n".join([self.said, *self.person.questions])
                assert holds(said, text), f"{text}\n--- is not in ---\n{said}"
            case Part(value):
                assert is_part_of(value, self.answer), f"{value}\n--- is not in ---\n{self.answer}"
            case Posted(body):
                posted = await events.posted(body["type"])
                assert events.is_like(body, posted), f"{body}\n--- is not what is posted ---\n{posted}"
            case Judged(language, text):
                await self._judge(language, text)

    def _set(self, values: Mapping[str, str]) -> None:
        for name, value in values.items():
            if name.startswith("BATCHCALL_"):
                self.variables[name] = value.replace("/path/to", str(self.files)).replace(GAP, "0")
            elif name in self.run:
                self.run[name] = value
            elif name != "today":
                raise ValueError(f"the runner has no {name}")
        settings_of(self.variables)
        if self.run["person"] in ("yes", "no"):
            self.person.says = self.run["person"]  # type: ignore[assignment]
        # The next call is made by a client of a server with these settings.
        self.client = None

    def _write(self, name: str, text: str) -> None:
        book, is_sheet, sheet = name.partition("#")
        if is_sheet:
            self.sheets[book][sheet.replace("_", " ")] = list(csv.reader(io.StringIO(text)))
            write_workbook(self.files / book, self.sheets[book])
        else:
            (self.files / name).write_text(text, encoding="utf-8")

    async def _call(self, tool: str, arguments: Any, *, is_refused: bool) -> None:
        client = await self._connected()
        self.person.questions.clear()
        with anyio.fail_after(LONGEST_S):
            result = await client.call_tool(tool, arguments)
        self.said = text_of(result)
        assert result.is_error == is_refused, self.said
        self.answer = result.structured_content
        self._learn(self.answer)
        self.said = "\n".join([self.said, *_texts(self.answer)])

    async def _console(self, commands: tuple[tuple[str, str], ...]) -> None:
        for command, shown in commands:
            if not_run.reason_for(command) is not None:
                assert not shown.strip(), f"`{command}` is not run here (not_run.py): show nothing under it"
            await self._shell(typed(command, self.printed))
            assert not shown.strip() or prints(self.said, shown), f"{shown}\n--- is not what it says ---\n{self.said}"

    async def _shell(self, text: str) -> None:
        lines = []
        for line in text.splitlines():
            if not_run.reason_for(line) is None:
                lines.append(line)
            else:
                not_run.check(line)
        if not any(line.partition("#")[0].strip() for line in lines):
            return
        await self._connected()
        after = self.home / ".after"
        keeps = f"{{ pwd; env -0; }} >{shlex.quote(str(after))}"
        with anyio.fail_after(LONGEST_S):
            ended = await anyio.run_process(
                ["bash", "-euo", "pipefail", "-c", "\n".join([self._here("\n".join(lines)), keeps])],
                cwd=self._folder,
                env=self._environment() | self._exported,
                check=False,
            )
        self.said = (ended.stdout + ended.stderr).decode()
        self.printed += self.said
        assert ended.returncode == 0, f"{text}\n--- ended with {ended.returncode} ---\n{self.said}"
        self._stays(after)
        self.person.questions.clear()
        try:
            self.answer = json.loads(ended.stdout)
        except ValueError:
            self.answer = None
        self._learn(self.answer)

    def _stays(self, after: Path) -> None:
        """The next block is typed in the same terminal."""
        folder, _, variables = after.read_text(encoding="utf-8").partition("\n")
        self._folder = Path(folder)
        given = self._environment()
        pairs = (one.partition("=") for one in variables.split("\0") if one)
        self._exported = {name: value for name, _, value in pairs if name not in _OF_BASH and given.get(name) != value}

    def _here(self, text: str) -> str:
        for shown in (SERVED, DIALER, DIALER_TOO):
            text = text.replace(shown, self.urls.get(shown, shown))
        # Names of hosts cannot be looked up here; backend=batchcall allows the address.
        return text.replace("https://example.com/", "https://127.0.0.1/")

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
        environment |= self.variables
        places = (str(self.commands), str(Path(sys.executable).parent), os.environ["PATH"])
        environment |= {"PATH": os.pathsep.join(places), "NO_PROXY": "*", "HOME": str(self.home)}
        if self.pair:  # a blank one would be refused
            environment |= {"BATCHCALL_API_KEY": self.pair.get("X-API-KEY", "")}
            environment |= {"BATCHCALL_API_SECRET": self.pair.get("X-API-SECRET", "")}
        return environment | {"BATCH_CALL_ID": str(self.known.get("batch_call_id", ""))}

    async def _enter(self, server: Mapping[str, Any]) -> None:
        """As a client that has this entry in its file."""
        connecting: AbstractAsyncContextManager[Client]
        async with AsyncExitStack() as held:
            if "url" in server:
                await self._connected()
                assert server["headers"].keys() == self.pair.keys(), "give `<!-- run: over=http -->` before this entry"
                url = self._here(server["url"])
                assert server["url"] == f"{SERVED}/mcp", f"what is served is {SERVED}/mcp"
                connecting = client_of(url.removesuffix("/mcp"), Way("http", "auto"), headers=self.pair)
            else:
                assert [server["command"], *server["args"]][:2] == ["uvx", "batchcall-mcp"], server
                command = StdioServerParameters(
                    command=str(self.commands / "batchcall-mcp"),
                    args=server["args"][1:],
                    env=self._environment() | server.get("env", {}),
                )
                connecting = Client(stdio_client(command))
            client: Client = await held.enter_async_context(connecting)
            with anyio.fail_after(LONGEST_S):
                assert "get_backend" in [tool.name for tool in (await client.list_tools()).tools]

    async def _judge(self, language: str, text: str) -> None:
        given = {name: self.variables[name] for name in self.given}
        around = Around(self.files, self.commands, given, self.urls.get(DIALER, ""), self.pair)
        await anyio.to_thread.run_sync(judge, language, text, around)

    def _learn(self, answer: Any) -> None:
        self.known.update(values_in(answer))

    async def _connected(self) -> Client:
        if self.client is not None:
            return self.client
        await self._server.aclose()
        self._server = AsyncExitStack()
        variables = self.variables | await self._backend()
        person = None if self.run["person"] == "none" else self.person
        if self.run["over"] == "stdio":
            server = build_server(settings_of(variables), transport="stdio")
            self.client = await self._server.enter_async_context(Client(server, elicitation_callback=person))
            return self.client
        settings = settings_of({name: value for name, value in variables.items() if name not in _OF_A_CALLER})
        server = build_server(settings, transport="http")
        if self.run["backend"] == "dialer":
            self.pair = self.pair or headers_of(settings)
        way = Way("http", "auto")
        url = await self._server.enter_async_context(
            served(server, settings, way=way, authenticate=server.authenticate)
        )
        self.urls[SERVED] = url
        self.client = await self._server.enter_async_context(
            client_of(url, way, headers=self.pair, elicitation_callback=person)
        )
        return self.client

    async def _backend(self) -> dict[str, str]:
        """The variables that name the backend, which lives as long as the page."""
        name = self.run["backend"]
        if name == "dialer":
            return {}
        if name not in self.urls:
            self.urls[name], self.pair = await self._serve(name)
        account = {"BATCHCALL_BACKEND": name, "BATCHCALL_URL": self.urls[name]}
        account["BATCHCALL_API_KEY"] = self.pair.get("X-API-KEY", "")
        if "X-API-SECRET" in self.pair:
            account["BATCHCALL_API_SECRET"] = self.pair["X-API-SECRET"]
        return account

    async def _serve(self, name: str) -> tuple[str, dict[str, str]]:
        if name == "zudu":
            pair = {"X-API-KEY": zudu.KEY, "X-API-SECRET": zudu.SECRET}
            return await self._held.enter_async_context(Zudu().served()), pair
        if name == "magpipe":
            return await self._held.enter_async_context(Magpipe().served()), {"X-API-KEY": magpipe.KEY}
        if name == "talking":
            self._held.enter_context(talking.found())
            pair = {"X-API-KEY": talking.KEY, "X-API-SECRET": talking.SECRET}
            return await self._held.enter_async_context(Talking(at_once=True).served()), pair
        assert name == "batchcall"
        settings = settings_of(self.variables | {"BATCHCALL_WEBHOOKS_TO_PRIVATE_ADDRESSES": "true"})
        pair = headers_of(settings)
        url = await self._held.enter_async_context(listening(EmbeddedDialer.of(settings).app))
        self.urls[DIALER] = self.urls[DIALER_TOO] = url
        return url, pair


_OF_A_CALLER = ("BATCHCALL_API_KEY", "BATCHCALL_API_SECRET")
_OF_BASH = ("PWD", "OLDPWD", "SHLVL", "_", "BATCH_CALL_ID")


def _announces_an_error(rest: list[Step]) -> bool:
    """Whether the page shows the code of an error before it goes on to another call."""
    for step in rest:
        if isinstance(step, Words) and step.text.startswith("["):
            return True
        if isinstance(step, Call | Shell | Console):
            return False
    return False


def _texts(answer: Any) -> list[str]:
    """Every text in an answer, as a person would read it."""
    if isinstance(answer, dict | list):
        return [text for one in (answer.values() if isinstance(answer, dict) else answer) for text in _texts(one)]
    return [str(answer)]
