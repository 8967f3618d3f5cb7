"""The dialer in this process and the same dialer over HTTP: every tool is there, and answers alike."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal, TypeAlias

import anyio

from batchcall_mcp.dialer.app import EmbeddedDialer
from tests.vendors.serving import listening
from tests.walks.stage import ALWAYS, FROM, Model, Person, number, playing

Way: TypeAlias = Literal["dialer", "batchcall"]
TOOLS = {
    "get_backend",
    "check_batch_call",
    "create_batch_call",
    "update_batch_call",
    "get_batch_call",
    "list_batch_calls",
    "start_batch_call",
    "pause_batch_call",
    "resume_batch_call",
    "cancel_batch_call",
    "retry_batch_call",
    "delete_batch_call",
    "watch_batch_call",
    "export_batch_call",
}
PEOPLE = [{"to_number": number("213", line)} for line in (0, 1, 6, 7, 8, 9)]
LATER = "2099-12-01T18:00:00+00:00"


@asynccontextmanager
async def model(way: Way, folder: Path) -> AsyncIterator[tuple[Model, Person]]:
    person = Person()
    here: dict[str, str | Path] = {"data_dir": folder / "data", "files": folder / "files", "simulated_speed": "2000"}
    (folder / "files").mkdir(parents=True)
    if way == "dialer":
        async with playing("auto", person, **here) as made:
            yield made, person
        return
    dialer = EmbeddedDialer(folder / "dialer", simulated_speed=2000)
    await dialer.start()
    try:
        key, secret = dialer.credentials
        async with listening(dialer.app) as url:
            account = {"backend": "batchcall", "url": url, "api_key": key, "api_secret": secret}
            async with playing("auto", person, **here, **account) as made:
                yield made, person
    finally:
        await dialer.aclose()


async def job(model: Model) -> list[tuple[str, Any]]:
    """Every tool that changes or reads a batch call, and three calls that are refused."""
    told: list[tuple[str, Any]] = []

    async def call(tool: str, **arguments: Any) -> dict[str, Any]:
        answer = await model.call(tool, **arguments)
        if tool in {"check_batch_call", "create_batch_call"}:
            # Known beforehand of the dialer in this process; over HTTP it is said of each batch call that there is.
            answer["preflight"].pop("simulated", None)
        told.append((tool, answer))
        return answer

    async def refused(tool: str, code: str, **arguments: Any) -> None:
        told.append((tool, await model.refused(tool, code, **arguments)))

    await call("check_batch_call", tasks=[*PEOPLE, PEOPLE[0]], from_number=FROM, window=ALWAYS)
    made = await call(
        "create_batch_call", tasks=PEOPLE, from_number=FROM, window=ALWAYS, name="Reminders", max_concurrency=3
    )
    one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
    await call("update_batch_call", **one, name="Reminders again", retry={"max_retries": 0})
    await call("start_batch_call", **one, trigger_timestamp=LATER)
    await call("pause_batch_call", **one)
    await refused("delete_batch_call", "illegal_transition", **one)
    await call("resume_batch_call", **one)
    await call("start_batch_call", **one, trigger_timestamp="now")
    with anyio.fail_after(30):
        while (await model.call("watch_batch_call", **one, timeout_seconds=20))["batch_call"]["status"] != "completed":
            continue
    await call("get_batch_call", **one, limit=50)
    await call("get_batch_call", **one, task_status=["not_reached"], limit=2)
    await refused("start_batch_call", "illegal_transition", **one, trigger_timestamp="now")
    await call("retry_batch_call", **one, task_status=["failed"])
    with anyio.fail_after(30):
        while (await model.call("watch_batch_call", **one, timeout_seconds=20))["batch_call"]["status"] != "completed":
            continue
    await call("list_batch_calls", name_contains="again")
    await call("export_batch_call", **one, format="csv")
    other = await call("create_batch_call", tasks=PEOPLE, from_number=FROM, window=ALWAYS, name="Never")
    never = {"batch_call_id": other["batch_call"]["batch_call_id"]}
    await call("start_batch_call", **never, trigger_timestamp=LATER)
    await call("cancel_batch_call", **never)
    await call("cancel_batch_call", **never)
    await call("delete_batch_call", **never)
    await refused("get_batch_call", "not_found", **never)
    return told


MUST_BE_ON = "This computer must be on then, with its client open."
"""Of the dialer in the server's own process alone."""


def plain(told: Any, folder: Path) -> Any:
    """Without what differs between any two runs (names made at random, moments, folders), and the backend's name."""
    match told:
        case dict():
            return {key: plain(value, folder) for key, value in told.items() if value != [MUST_BE_ON]}
        case list() | tuple():
            return [plain(value, folder) for value in told if value != MUST_BE_ON]
        case str():
            told = told.replace(f" {MUST_BE_ON}", "").replace(str(folder), "FOLDER")
            told = told.replace("through batchcall", "through dialer")
            told = re.sub(r"(batch_call|task)_[0-9a-f]{32}", r"\1_ID", told)
            return re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?", "MOMENT", told)
    return told


async def test_both_ways_list_every_tool_and_answer_alike(tmp_path: Path) -> None:
    seen: dict[str, Any] = {}
    ways: tuple[Way, ...] = ("dialer", "batchcall")
    for way in ways:
        folder = tmp_path / way
        async with model(way, folder) as (made, person):
            listed = {tool.name: tool for tool in (await made.client.list_tools()).tools}
            # A dialer elsewhere may have real phones, with something said in its calls.
            assert listed.keys() == (TOOLS if way == "dialer" else TOOLS | {"get_call"})
            seen[way] = {
                "arguments": {name: sorted(listed[name].input_schema["properties"]) for name in TOOLS},
                "told": plain(await job(made), folder),
                "asked": plain(person.questions, folder),
            }
    assert seen["dialer"]["arguments"] == seen["batchcall"]["arguments"]
    assert len(seen["dialer"]["asked"]) == len(seen["batchcall"]["asked"])
    for ours, theirs in zip(seen["dialer"]["told"], seen["batchcall"]["told"], strict=True):
        assert ours == theirs
    assert seen["dialer"]["asked"] == seen["batchcall"]["asked"]
