"""Every page of docs/how-to is taken step by step, by a client of the real server on the backend that it names.

`tests/documented/pages.py` says what a page is made of. A page that cannot be run fails, and so does a block whose
words the answer does not have.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from batchcall_mcp.dialer.app import EmbeddedDialer
from batchcall_mcp.server.app import build_server
from tests import forked
from tests.documented.pages import (
    Call,
    File,
    Part,
    Setting,
    Shell,
    Step,
    Words,
    filled,
    holds,
    is_part_of,
    steps_of,
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

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
PAGES = sorted(HOW_TO.glob("**/*.md"))
SERVED, DIALER = "http://127.0.0.1:8000", "http://localhost:8080"
STARTS_A_SERVER = re.compile(r"batchcall-mcp (?:serve|dialer)(?:\s+-.*|\s*#.*|\s*)")


@pytest.fixture(params=PAGES, ids=lambda page: page.name)
def page(request: pytest.FixtureRequest) -> str:
    text: str = request.param.read_text(encoding="utf-8")
    return text


async def followed(page: str, home: Path) -> None:
    steps = steps_of(page, datetime.now(UTC).date())
    assert any(isinstance(step, Call | Shell) for step in steps), "a page shows what is called"
    async with AsyncExitStack() as held:
        reader = Reader(home, held)
        for at, step in enumerate(steps):
            await reader.take(step, steps[at + 1 :])


async def test_a_page_can_be_followed_step_by_step(page: str, tmp_path: Path) -> None:
    await followed(page, tmp_path)


OVER_HTTP = """
<!-- run: over=http person=none -->
```sh
batchcall-mcp serve --port 8000   # the server
curl -s http://127.0.0.1:8000/healthz
```
```text
ok
```
```json
{"tool": "create_batch_call", "arguments": {"from_number": "+14155550100", "tasks": [{"to_number": "+14155550101"}]}}
```
```json
{"tool": "start_batch_call", "arguments": {"batch_call_id": "…", "trigger_timestamp": "now"}}
```
```json
{"result": "confirmation_required"}
```
```json
{"tool": "start_batch_call", "arguments": {"batch_call_id": "…", "trigger_timestamp": "now", "confirmation_code": "…"}}
```
```json
{"result": "started"}
```
"""


async def test_a_page_over_http_with_a_shell_and_codes_can_be_followed(tmp_path: Path) -> None:
    await followed(OVER_HTTP, tmp_path)


@pytest.mark.parametrize(
    ("shown", "promised"),
    [('"result": "started"', '"result": "paused"'), ("\nok\n", "\nnot ok\n"), ("/healthz", "/no-such-page -f")],
)
async def test_a_page_that_promises_something_else_is_refused(shown: str, promised: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        await followed(OVER_HTTP.replace(shown, promised), tmp_path)


@pytest.mark.parametrize("backend", ["zudu", "magpipe", "batchcall"])
async def test_a_page_may_name_its_backend(backend: str, tmp_path: Path) -> None:
    page = '```json\n{"tool": "get_backend"}\n```\n```json\n{"backend": "NAME"}\n```\n'.replace("NAME", backend)
    await followed(f"<!-- run: backend={backend} -->\n{page}", tmp_path)


def test_a_page_with_a_block_that_nobody_runs_is_refused() -> None:
    with pytest.raises(ValueError, match="nobody runs a block of python"):
        steps_of("```python\nprint()\n```\n", datetime.now(UTC).date())


def test_the_dates_of_a_page_move_with_today() -> None:
    page = "<!-- run: today=2026-11-26 -->\n> On 2026-11-27, not 2026-11-25.\n"
    assert Words("On 2027-03-02, not 2027-02-28.") in steps_of(page, date(2027, 3, 1))


@pytest.mark.parametrize(("words", "found"), [("Call 3 people … now", True), ("now … Call", False)])
def test_words_of_a_page_stand_in_the_answer_in_their_order(words: str, found: bool) -> None:
    assert holds("Call 3 people\n(3 United States) now", words) is found


def test_every_document_in_the_folder_is_a_page() -> None:
    assert [one.name for one in HOW_TO.glob("**/*") if one.is_file() and one not in PAGES] == []


class Reader:
    """Does what a page says, and knows what came of it."""

    def __init__(self, home: Path, held: AsyncExitStack) -> None:
        self.files = home / "files"
        self.files.mkdir()
        self.commands = home / "bin"
        self.commands.mkdir()
        command = self.commands / "batchcall-mcp"
        command.write_text(f'#!/bin/sh\nexec {shlex.join(forked.program())} "$@"\n')
        command.chmod(0o755)
        self.variables = {
            "BATCHCALL_DATA_DIR": str(home / "data"),
            "BATCHCALL_FILES": str(self.files),
            "BATCHCALL_CALLING_HOURS": "00:00-24:00",
            "BATCHCALL_SIMULATED_SPEED": "2000",
        }
        self.run = {"over": "stdio", "backend": "dialer", "person": "yes"}
        self.person = Person()
        self.client: Client | None = None
        self.urls: dict[str, str] = {}
        self.pair: dict[str, str] = {}
        self.known: dict[str, Any] = {}
        self.answer: Any = None
        self.said = ""
        self.sheets: dict[str, dict[str, list[list[str]]]] = defaultdict(dict)
        self._held = held
        self._server = AsyncExitStack()
        held.push_async_callback(self._close)

    async def _close(self) -> None:
        await self._server.aclose()

    async def take(self, step: Step, rest: list[Step]) -> None:
        """One step; `rest` are those that follow it."""
        match step:
            case Setting(values):
                await self._set(values)
            case File(name, text):
                self._write(name, text)
            case Call(tool, arguments):
                await self._call(tool, filled(arguments, self.known), is_refused=_announces_an_error(rest))
            case Shell(text):
                await self._shell(text)
            case Words(text):
                said = "\n".join([self.said, *self.person.questions])
                assert holds(said, text), f"{text}\n--- is not in ---\n{said}"
            case Part(value):
                assert is_part_of(value, self.answer), f"{value}\n--- is not in ---\n{self.answer}"

    async def _set(self, values: Mapping[str, str]) -> None:
        for name, value in values.items():
            if name.startswith("BATCHCALL_"):
                self.variables[name] = value.replace("/path/to", str(self.files))
            elif name in self.run:
                self.run[name] = value
            elif name != "today":
                raise ValueError(f"the runner has no {name}")
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
        with anyio.fail_after(60):
            result = await client.call_tool(tool, arguments)
        self.said = text_of(result)
        assert result.is_error == is_refused, self.said
        self.answer = result.structured_content
        self._learn(self.answer)
        self.said = "\n".join([self.said, *_texts(self.answer)])

    async def _shell(self, text: str) -> None:
        await self._connected()
        for shown, url in self.urls.items():
            text = text.replace(shown, url)
        lines = [line for line in text.splitlines() if not STARTS_A_SERVER.fullmatch(line)]
        environment = dict(os.environ) | self.variables
        places = (str(self.commands), str(Path(sys.executable).parent), os.environ["PATH"])
        environment |= {"PATH": os.pathsep.join(places), "NO_PROXY": "*"}
        if self.pair:  # a blank one would be refused
            environment |= {"BATCHCALL_API_KEY": self.pair.get("X-API-KEY", "")}
            environment |= {"BATCHCALL_API_SECRET": self.pair.get("X-API-SECRET", "")}
        environment |= {"BATCH_CALL_ID": str(self.known.get("batch_call_id", ""))}
        with anyio.fail_after(60):
            ended = await anyio.run_process(
                ["bash", "-euo", "pipefail", "-c", "\n".join(lines)],
                cwd=self.files,
                env=environment,
                check=False,
            )
        self.said = (ended.stdout + ended.stderr).decode()
        assert ended.returncode == 0, self.said
        self.person.questions.clear()
        try:
            self.answer = json.loads(ended.stdout)
        except ValueError:
            self.answer = None
        self._learn(self.answer)

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
        settings = settings_of(self.variables)
        pair = headers_of(settings)
        self.urls[DIALER] = await self._held.enter_async_context(listening(EmbeddedDialer.of(settings).app))
        return self.urls[DIALER], pair


_OF_A_CALLER = ("BATCHCALL_API_KEY", "BATCHCALL_API_SECRET")


def _announces_an_error(rest: list[Step]) -> bool:
    """Whether the page shows the code of an error before it goes on to another call."""
    for step in rest:
        if isinstance(step, Words) and step.text.startswith("["):
            return True
        if isinstance(step, Call | Shell):
            return False
    return False


def _texts(answer: Any) -> list[str]:
    """Every text in an answer, as a person would read it."""
    if isinstance(answer, dict | list):
        return [text for one in (answer.values() if isinstance(answer, dict) else answer) for text in _texts(one)]
    return [str(answer)]
