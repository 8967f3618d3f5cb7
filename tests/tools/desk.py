"""A client at work: connected to the real server on the real dialer, over one way, with a person behind it.

Everything asynchronous runs in one event loop in a thread, so that tests read as what a model does, one call after the
other, and a connection may outlive the test that opened it.
"""

from __future__ import annotations

import itertools
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar
from unittest import mock

import anyio
import pytest
from anyio.from_thread import BlockingPortal
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from mcp import Client
from mcp.client import ClientRequestContext
from mcp.types import CallToolResult, ElicitRequestParams, ElicitResult, TextContent

from batchcall_mcp.dialer.storage import api_keys
from batchcall_mcp.dialer.storage.store import Store, database_location
from batchcall_mcp.server.app import build_server
from batchcall_mcp.settings import Settings
from tests.server.said import check_same
from tests.server.transports import Way, client_of, served, spawned

SOME_WAYS = (Way("stdio", "auto"), Way("http", "legacy"))
over_some_ways = pytest.mark.parametrize("_asked", SOME_WAYS, indirect=True, ids=str)
muted_over_some_ways = pytest.mark.parametrize("mute", SOME_WAYS, indirect=True, ids=str)
"""For what the way has no part in; `desk` and `mute` without it are over every way, for what it may have a part in."""
FROM_NUMBER = "+14155550199"
LONGEST_S = 30
ALWAYS_OPEN = {"BATCHCALL_CALLING_HOURS": "00:00-24:00", "BATCHCALL_SIMULATED_SPEED": "2000"}

_T = TypeVar("_T")


@dataclass
class Person:
    """Answers the client's questions and remembers them."""

    says: Literal["yes", "no", "dismiss", "yes without the tick", "yes in words", "yes without a form"] = "yes"
    questions: list[str] = field(default_factory=list)
    meanwhile: Callable[[], Awaitable[object]] | None = None
    """What happens, once, while the person thinks."""

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        self.questions.append(params.message)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        if self.says == "no":
            return ElicitResult(action="decline")
        if self.says == "dismiss":
            return ElicitResult(action="cancel")
        if self.says == "yes without a form":
            return ElicitResult(action="accept")
        return ElicitResult(action="accept", content={"confirm": "yes" if "words" in self.says else self.says == "yes"})


@dataclass
class Desk:
    """One connected client. Every answer that passes through it is checked for what all answers have in common."""

    way: Way
    portal: BlockingPortal
    client: Client
    person: Person | None
    home: Path
    url: str | None
    _schemas: dict[str, Any] = field(default_factory=dict)
    _fresh: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def is_asked(self) -> bool:
        """Whether a launch here is confirmed by the person's answer, not by a code."""
        return self.person is not None and self.way.can_ask

    def wait(self, asynchronous: Callable[[], Awaitable[_T]]) -> _T:
        """Run something in the client's event loop."""

        async def limited() -> _T:
            with anyio.fail_after(LONGEST_S):
                return await asynchronous()

        return self.portal.call(limited)

    def raw(self, tool: str, arguments: Mapping[str, Any], **options: Any) -> CallToolResult:
        """The result of a tool call, as the client has it."""
        return self.wait(lambda: self.client.call_tool(tool, dict(arguments), **options))

    def call(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """The structured answer of a call that works."""
        result = self.raw(tool, arguments)
        text = text_of(result)
        assert not result.is_error, text
        answer: dict[str, Any] = result.structured_content or {}
        check_same(text, answer)
        Draft202012Validator(self.schemas()[tool]).validate(answer)
        told = {name: value for name, value in answer.items() if name != "changed"}  # a pair may begin with nothing
        assert None not in list(_leaves(told)), "nulls are left out"
        return answer

    def refused(self, tool: str, /, **arguments: Any) -> str:
        """The text of a call that fails."""
        result = self.raw(tool, arguments)
        assert result.is_error, text_of(result)
        return text_of(result)

    def launch(self, tool: str, /, **arguments: Any) -> dict[str, Any]:
        """A call that dials, confirmed as this client can: asked by the server, or with the code and the id alone."""
        answer = self.call(tool, **arguments)
        if self.is_asked:
            assert answer["result"] != "confirmation_required"
            return answer
        assert answer["result"] == "confirmation_required"
        kept = {name: value for name, value in arguments.items() if name in {"batch_call_id", "trigger_timestamp"}}
        return self.call(tool, **kept, confirmation_code=answer["confirmation_code"])

    def schemas(self) -> dict[str, Any]:
        """The published output schema of each tool."""
        if not self._schemas:
            listed = self.wait(self.client.list_tools)
            self._schemas = {tool.name: tool.output_schema for tool in listed.tools}
        return self._schemas

    def people(self, count: int, digit: int = 0) -> list[dict[str, Any]]:
        """Tasks of people nobody has called yet; the last digit decides how the simulated call goes."""
        return [{"to_number": f"+1415{3_000_000 + next(self._fresh) * 10 + digit}"} for _ in range(count)]

    def draft(self, tasks: list[dict[str, Any]], **more: Any) -> str:
        """The id of a new draft."""
        made = self.call("create_batch_call", from_number=FROM_NUMBER, tasks=tasks, **more)
        batch_call_id: str = made["batch_call"]["batch_call_id"]
        return batch_call_id

    def status(self, batch_call_id: str) -> str:
        """The state of a batch call."""
        status: str = self.call("get_batch_call", batch_call_id=batch_call_id, limit=0)["batch_call"]["status"]
        return status

    def counts(self, batch_call_id: str) -> dict[str, int]:
        """The counts of a batch call."""
        answer = self.call("get_batch_call", batch_call_id=batch_call_id, limit=0)
        counts: dict[str, int] = answer["batch_call"]["counts"]
        return counts

    def until(self, true: Callable[[], bool]) -> None:
        """Ask again and again, but not for ever."""
        began = time.monotonic()
        while not true():
            assert time.monotonic() < began + LONGEST_S
            self.portal.call(anyio.sleep, 0.02)

    def finished(self, batch_call_id: str) -> dict[str, Any]:
        """The counts of a batch call, watched to its end."""
        watched = self.call("watch_batch_call", batch_call_id=batch_call_id, timeout_seconds=LONGEST_S - 5)
        assert watched["batch_call"]["status"] == "completed", watched["summary"]
        counts: dict[str, Any] = watched["batch_call"]["counts"]
        return counts

    def dialled(self) -> list[str]:
        """The numbers of all dials so far, in the carrier's own record."""
        record = self.home / "data" / "carrier.jsonl"
        lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
        return [json.loads(line)["to_number"] for line in lines]

    def times_dialled(self, tasks: list[dict[str, Any]]) -> int:
        """How often any of these people was dialled."""
        numbers = {task["to_number"] for task in tasks}
        return sum(number in numbers for number in self.dialled())

    def known(self) -> list[str]:
        """The ids of the newest batch calls: unchanged if nothing was made."""
        listed = self.call("list_batch_calls", limit=100)
        return [one["batch_call_id"] for one in listed.get("batch_calls", [])]

    @contextmanager
    def another_caller(self) -> Iterator[Desk]:
        """A second client of the same server with a key pair of its own, in the same organisation."""
        assert self.url is not None, "stdio has one caller"
        settings = settings_of(environment_of(self.home))
        with self.portal.wrap_async_context_manager(
            client_of(self.url, self.way, headers=headers_of(settings), elicitation_callback=self.person)
        ) as client:
            yield Desk(self.way, self.portal, client, self.person, self.home, self.url)


@contextmanager
def opened(
    portal: BlockingPortal,
    way: Way,
    home: Path,
    person: Person | None = None,
    settings: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Iterator[Desk]:
    """A desk with a server, a data folder and a files folder of its own.

    `settings` are further BATCHCALL_* values; `headers` are the caller's over HTTP (default: a new pair of the dialer).
    """
    (home / "files").mkdir(parents=True, exist_ok=True)
    environment = environment_of(home) | dict(settings or {})
    with portal.wrap_async_context_manager(_connected(way, environment, person, headers)) as (client, url):
        yield Desk(way, portal, client, person, home, url)


def environment_of(home: Path) -> dict[str, str]:
    """The environment of a server that works in this folder; its calling hours never end."""
    return ALWAYS_OPEN | {"BATCHCALL_DATA_DIR": str(home / "data"), "BATCHCALL_FILES": str(home / "files")}


def settings_of(environment: Mapping[str, str]) -> Settings:
    """The settings that a process with this environment would have."""
    with mock.patch.dict(os.environ, environment):
        return Settings.load()


def text_of(result: CallToolResult) -> str:
    """The text part of a result."""
    return "".join(block.text for block in result.content if isinstance(block, TextContent))


@asynccontextmanager
async def _connected(
    way: Way, environment: Mapping[str, str], person: Person | None, headers: Mapping[str, str] | None
) -> AsyncIterator[tuple[Client, str | None]]:
    if way.transport == "stdio":
        command = ("-m", "batchcall_mcp")
        async with spawned(command, environment, mode=way.mode, elicitation_callback=person) as client:
            yield client, None
        return
    settings = settings_of(environment)
    server = build_server(settings, transport="http")
    headers = headers or headers_of(settings)
    async with (
        served(server, settings, way=way, authenticate=server.authenticate) as url,
        client_of(url, way, headers=headers, elicitation_callback=person) as client,
    ):
        yield client, url


def headers_of(settings: Settings) -> dict[str, str]:
    """The headers of a new pair of the dialer that these settings describe."""
    store = Store.open(database_location(settings))
    api_keys.add(store, pair := api_keys.new_pair(), api_keys.LOCAL)
    store.close()
    return {"X-API-KEY": pair.api_key, "X-API-SECRET": pair.api_secret}


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _leaves(inner)
    else:
        yield value
