"""Where one answer has a batch call and all its people, a tool call that wants both asks for it once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from batchcall_mcp.backends.base import GetsWithTasks
from batchcall_mcp.backends.registry import BUILT_IN, backend_class
from tests.vendors.cartesia import Cartesia
from tests.vendors.elevenlabs import ElevenLabs
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import Recorded
from tests.walks.stage import Model, Person, Thinking, numbers, playing

Vendor: TypeAlias = Magpipe | ElevenLabs | Cartesia
VENDORS: dict[str, type[Vendor]] = {"magpipe": Magpipe, "elevenlabs": ElevenLabs, "cartesia": Cartesia}
every_vendor = pytest.mark.parametrize("name", VENDORS)
PEOPLE = numbers(4)


@dataclass
class Account:
    """A model at one vendor, with a batch call whose people were called."""

    model: Model
    vendor: Vendor
    done: str

    async def reads(self, tool: str, **arguments: Any) -> int:
        """How often a tool call asks for one batch call."""
        before = len(self.vendor.requests)
        await self.model.call(tool, **arguments)
        return sum(asks_for_one(one) for one in self.vendor.requests[before:])


def asks_for_one(one: Recorded) -> bool:
    if one.path == "/batch-calls":
        return bool(one.json["action"] == "get")
    folder, _, last = one.path.rpartition("/")
    return one.method == "GET" and last != "workspace" and folder.endswith(("/batch-calling", "/batches"))


@asynccontextmanager
async def account(name: str, home: Path, person: Person) -> AsyncIterator[Account]:
    vendor = VENDORS[name]()
    variables: dict[str, str | Path] = {
        "backend": name,
        "api_key": vendor.key,
        "data_dir": home,
        "files": home,
        "calling_hours": "00:00-24:00",
    }
    async with vendor.served() as url, playing("auto", person, **variables, url=url) as model:
        account = Account(model, vendor, await made(model, vendor, trigger_timestamp="now"))
        vendor.finish(account.done, {PEOPLE[0]: "no_answer"})
        yield account


async def made(model: Model, vendor: Vendor, **more: Any) -> str:
    agent = {} if isinstance(vendor, Magpipe) else {"agent_id": vendor.agent_id}
    tasks = [{"to_number": one} for one in PEOPLE]
    answer = await model.call("create_batch_call", from_number=vendor.from_number, tasks=tasks, **agent, **more)
    return str(answer["batch_call"]["batch_call_id"])


def test_these_are_all_of_them() -> None:
    assert {one for one in BUILT_IN if issubclass(backend_class(one), GetsWithTasks)} == set(VENDORS)


@every_vendor
async def test_a_tool_call_that_shows_a_batch_call_and_its_people_asks_once(name: str, tmp_path: Path) -> None:
    async with account(name, tmp_path, Person()) as its:
        one = {"batch_call_id": its.done}
        asked = {
            "a page": await its.reads("get_batch_call", **one),
            "a page of some, all summed up": await its.reads("get_batch_call", **one, task_status=["completed"]),
            "no page": await its.reads("get_batch_call", **one, limit=0),
            "a check": await its.reads("check_batch_call", **one),
            "a watch": await its.reads("watch_batch_call", **one),
            "an export": await its.reads("export_batch_call", **one),
        }
        assert asked == dict.fromkeys(asked, 1)


async def test_a_launch_asks_once_before_the_question_once_after_it_and_around_the_write(tmp_path: Path) -> None:
    """Each look was two requests. A start is checked just before it is sent, and read back."""
    person = Person()
    async with account("magpipe", tmp_path, person) as its:
        draft = await made(its.model, its.vendor)
        asked = await its.reads("start_batch_call", batch_call_id=draft, trigger_timestamp="now")
    assert (len(person.questions), asked) == (2, 2 + 1 + 1)


@pytest.mark.parametrize("name", ["elevenlabs", "cartesia"])
async def test_a_retry_of_everybody_asks_once_for_each_look_and_around_the_write(name: str, tmp_path: Path) -> None:
    person = Person()
    async with account(name, tmp_path, person) as its:
        asked = await its.reads("retry_batch_call", batch_call_id=its.done)
    assert (len(person.questions), asked) == (2, 2 + 1 + 1)


async def test_people_who_are_added_during_the_question_are_seen_after_it(tmp_path: Path) -> None:
    """Neither half of a look is older than the look: the longer list has a question of its own."""
    person = Thinking()
    async with account("magpipe", tmp_path, person) as its:
        vendor = its.vendor
        assert isinstance(vendor, Magpipe)
        draft = await made(its.model, vendor)
        before = len(person.questions)
        added = {**vendor.recipients[draft][0], "id": "added", "phone_number": numbers(5)[-1]}

        async def add() -> None:
            vendor.recipients[draft].append(added)

        person.meanwhile = add
        await its.model.call("start_batch_call", batch_call_id=draft, trigger_timestamp="now")
        first, second = person.questions[before:]
    assert "4 " in first
    assert "5 " in second
    assert len(vendor.dialled) == len(PEOPLE) + 5
