"""The path of a tool call: the modules that its batch call passes through, in the order in which it enters them.

A module is on the path if one of its functions is given the tool call's arguments, the batch call's id as such, or an
object that carries it. Helpers that see only a text, a number, a moment or raw JSON are not.
`python -m tests.paths` writes both paths into docs/architecture.md.
"""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import anyio.to_thread

import batchcall_mcp
from tests.server.transports import ROOT
from tests.vendors import zudu
from tests.walks.stage import ALWAYS, FROM, Model, Person, numbers, playing

PAGE = ROOT / "docs" / "architecture.md"
MOST = {"get_batch_call": 11, "start_batch_call": 25}
"""Modules on the path of each."""
SOURCES = Path(batchcall_mcp.__file__).parent


@contextmanager
def passing_through(batch_call_id: str) -> Iterator[dict[str, None]]:
    """Collects modules while the block runs, in this thread and in those that it hands work to."""
    found: dict[str, None] = {}

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event != "call" or not code.co_filename.startswith(str(SOURCES)) or code.co_name == "<module>":
            return
        given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(_carries(name, frame.f_locals.get(name), batch_call_id) for name in given):
            found[Path(code.co_filename).relative_to(SOURCES).with_suffix("").as_posix()] = None

    async def run_sync(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        def watched() -> Any:
            sys.setprofile(note)
            try:
                return function(*arguments)
            finally:
                sys.setprofile(None)

        return await in_a_thread(watched, **options)

    in_a_thread = anyio.to_thread.run_sync
    sys.setprofile(note)
    try:
        with mock.patch("anyio.to_thread.run_sync", run_sync):
            yield found
    finally:
        sys.setprofile(None)


def _carries(name: str, value: Any, batch_call_id: str) -> bool:
    if isinstance(value, str):
        return value == batch_call_id if name == "batch_call_id" else value.startswith("/") and batch_call_id in value
    if isinstance(value, Mapping):
        return name == "arguments" and value.get("batch_call_id") == batch_call_id
    if isinstance(value, Sequence):
        return any(getattr(one, "batch_call_id", None) == batch_call_id for one in value)
    carried = getattr(value, "batch_call", value)
    return getattr(carried, "batch_call_id", None) == batch_call_id and not isinstance(value, type)


async def paths(folder: Path) -> dict[str, list[str]]:
    """Of a read and of a confirmed start, on a simulated Zudu."""
    async with zudu.Zudu().served() as url:
        account = {"backend": "zudu", "url": url, "api_key": zudu.KEY, "api_secret": zudu.SECRET}
        async with playing("auto", Person(), data_dir=folder, **account) as model:
            # What is imported, opened and cached with the first calls is no part of the path.
            warm = await _draft(model, "Warm up")
            await model.call("get_batch_call", batch_call_id=warm)
            await model.call("start_batch_call", batch_call_id=warm, trigger_timestamp="now")
            made = await _draft(model, "Reminder")
            with passing_through(made) as read:
                await model.call("get_batch_call", batch_call_id=made)
            with passing_through(made) as started:
                result = await model.call("start_batch_call", batch_call_id=made, trigger_timestamp="now")
    assert result["batch_call"]["status"] == "running"
    return {"get_batch_call": list(read), "start_batch_call": list(started)}


async def _draft(model: Model, name: str) -> str:
    made = await model.call(
        "create_batch_call",
        name=name,
        from_number=FROM,
        tasks=[{"to_number": one} for one in numbers(5)],
        window={**ALWAYS, "timezone": "UTC"},
    )
    return str(made["batch_call"]["batch_call_id"])


def written(page: str, found: Mapping[str, Sequence[str]]) -> str:
    """The page with these paths."""
    for tool, modules in found.items():
        lines = "\n".join(f"{at:2} {module}.py" for at, module in enumerate(modules, 1))
        page, times = re.subn(
            rf"(<!-- path of {tool} -->\n```text\n).*?(```)", rf"\g<1>{lines}\n\g<2>", page, flags=re.DOTALL
        )
        assert times == 1, tool
    return page


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as data:
        found = asyncio.run(paths(Path(data)))
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")
    print({tool: len(modules) for tool, modules in found.items()})  # noqa: T201 - a command
