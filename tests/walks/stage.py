"""Plays a job as a model does: one tool call after the other, seeing only what a model sees.

Half of the clients give the model only the structured part of a success and only the text of an error, the others only
the text. So every success is checked to say the same in both, and an error is its text.
"""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias
from unittest import mock

import pytest
from mcp import Client
from mcp.client import ClientRequestContext
from mcp.types import CallToolResult, ElicitRequestParams, ElicitResult, TextContent

from batchcall_mcp.server.app import build_server
from batchcall_mcp.settings import Settings
from tests.server.said import check_same

Era: TypeAlias = Literal["auto", "legacy"]
every_era = pytest.mark.parametrize("era", ["auto", "legacy"], ids=["2026", "2025"])

FROM = "+14155550100"
ALWAYS = {"start": "00:00", "end": "24:00"}
NEW_YORK, CHICAGO, LOS_ANGELES = "212", "312", "213"
# Each has a hundred numbers that are kept for fiction.
_AREAS = (
    *("212", "312", "213", "303", "602", "206", "404", "617", "702", "512"),
    *("503", "305", "215", "216", "313", "314", "615", "816", "919", "801"),
)


def number(area: str, line: int) -> str:
    """A number that is kept for fiction, `line` from 0 to 99; its last digit decides how the simulated call goes."""
    return f"+1{area}55501{line:02d}"


def numbers(count: int) -> list[str]:
    """Up to 2,000 different ones."""
    return [number(_AREAS[at // 100], at % 100) for at in range(count)]


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    """A list as somebody exported it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def tomorrow_at(hour: int) -> datetime:
    """Tomorrow in New York's winter time, far enough from now at any hour of the day."""
    day = datetime.now(UTC) + timedelta(days=2)
    return day.replace(hour=hour + 5, minute=0, second=0, microsecond=0)


def dials(data_dir: Path) -> Counter[str]:
    """How often the dialer's carrier was asked to dial each number: its own record."""
    record = data_dir / "carrier.jsonl"
    lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
    return Counter(json.loads(line)["to_number"] for line in lines)


class Person:
    """Sits behind a client that can ask, and answers every question alike."""

    def __init__(self, answer: Literal["yes", "no", "dismiss"] = "yes") -> None:
        self.answer = answer
        self.questions: list[str] = []

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        """Answer one question."""
        self.questions.append(params.message)
        if self.answer == "yes":
            return ElicitResult(action="accept", content={"confirm": True})
        return ElicitResult(action="decline" if self.answer == "no" else "cancel")


class Thinking(Person):
    """Says yes to every question; something happens, once, while they think about the first one."""

    meanwhile: Callable[[], Awaitable[object]] | None = None

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        answer = await super().__call__(context, params)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return answer


class Model:
    """Calls tools through one client."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """A call that succeeds, as its structured result; its text is checked to be complete alone."""
        return succeeded(await self._called(tool, arguments))

    async def refused(self, tool: str, code: str, **arguments: Any) -> str:
        """A call that fails with this code, as its text."""
        result = await self._called(tool, arguments)
        text = _text(result)
        assert result.is_error, text
        assert text.startswith(f"[{code}] "), text
        return text

    async def _called(self, tool: str, arguments: dict[str, Any]) -> CallToolResult:
        return await self.client.call_tool(tool, arguments)

    async def schema(self, tool: str) -> dict[str, Any]:
        """The input schema's properties."""
        listed: dict[str, dict[str, Any]] = {
            one.name: one.input_schema["properties"] for one in (await self.client.list_tools()).tools
        }
        return listed[tool]

    async def tools(self) -> set[str]:
        """The names of all tools."""
        return {one.name for one in (await self.client.list_tools()).tools}


def succeeded(result: CallToolResult) -> dict[str, Any]:
    """The structured result of a call that succeeded; its text is checked to be complete alone."""
    assert not result.is_error, _text(result)
    assert result.structured_content is not None
    structured: dict[str, Any] = result.structured_content
    check_same(_text(result), structured)
    assert structured["summary"]
    return structured


def _text(result: CallToolResult) -> str:
    return "".join(block.text for block in result.content if isinstance(block, TextContent))


def settings_of(variables: Mapping[str, str]) -> Settings:
    """The settings of a process with these BATCHCALL_* variables, named without the prefix."""
    with mock.patch.dict(os.environ, {f"BATCHCALL_{name}": value for name, value in variables.items()}):
        return Settings.load()


@asynccontextmanager
async def playing(era: Era, person: Person | None = None, **variables: str | Path) -> AsyncIterator[Model]:
    """A model at a client of a fresh server, as over stdio. Without a person the client cannot ask questions."""
    settings = settings_of({name.upper(): str(value) for name, value in variables.items()})
    server = build_server(settings, transport="stdio")
    async with Client(server, mode=era, elicitation_callback=person) as client:
        yield Model(client)
