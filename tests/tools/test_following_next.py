"""A client that does nothing but follow `next` is never refused, launches nothing, and ends within ten calls.

It sets out from many calls. Where those of one kind differ in their files or filters only, one of them is followed in
every mode and one in four of the others in one mode; by `make torture` all of them in every mode.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

import anyio
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from batchcall_mcp.backends.capabilities import Limits
from batchcall_mcp.backends.rest_api.zudu import ZuduBackend
from batchcall_mcp.backends.vendors.magpipe import MagpipeBackend
from batchcall_mcp.batch_calls import watch
from batchcall_mcp.dialer.app import EmbeddedDialer
from tests.sampling import spread
from tests.vendors import magpipe, talking, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.talking import HOSTILE_CALL, NO_ANSWER, Talking, found
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, Model, Person, dials, number, numbers, playing, succeeded, write_csv

Place: TypeAlias = Literal["dialer", "batchcall", "zudu", "magpipe", "without drafts", "talking"]
MODES = ("full", "draft", "read-only")
MOST_CALLS = 10
MOST_TASKS = 5
"""Of one batch call, where the vendor has such a limit."""
LATER = "2099-01-01T09:00Z"
ANN, BOB = number("212", 0), number("212", 7)
"""At the simulated carrier Ann answers, and Bob does not."""


@dataclass
class House:
    """One backend with batch calls in many states, and servers on it in any mode."""

    place: Place
    settings: dict[str, Any]
    dialled: Callable[[], object]
    finish: Callable[[str, bool], object] | None = None
    ids: dict[str, str] = field(default_factory=dict)

    @asynccontextmanager
    async def model(self, mode: str = "full") -> AsyncIterator[Model]:
        async with playing("auto", Person(), mode=mode, **self.settings) as model:
            yield model


@asynccontextmanager
async def house(place: Place, folder: Path) -> AsyncIterator[House]:
    (folder / "files").mkdir()
    lists = {
        "good": [ANN, BOB],
        "local": ["212 555 0100", "212 555 0107", ANN],
        "bad": ["n/a", "none"],
        "long": numbers(3 * MOST_TASKS),
        "poor start": [*["n/a"] * MOST_TASKS, *numbers(MOST_TASKS + 1)],
    }
    for name, rows in lists.items():
        write_csv(folder / "files" / f"{name}.csv", ["phone", "name"], [[row, "Ann"] for row in rows])
    common = {"data_dir": folder / "data", "files": folder / "files", "calling_hours": "00:00-24:00"}
    if place in {"zudu", "magpipe", "without drafts"}:
        vendor: Zudu | Magpipe = Zudu() if place == "zudu" else Magpipe()
        account = {"api_key": zudu.KEY, "api_secret": zudu.SECRET} if place == "zudu" else {"api_key": magpipe.KEY}

        def finish(batch_call_id: str, misses: bool) -> None:
            if isinstance(vendor, Zudu):
                vendor.finish(batch_call_id, {BOB: "failed"} if misses else {})
            else:
                vendor.finish(batch_call_id, {BOB: "no_answer"} if misses else {})

        async with vendor.served() as url:
            backend = "zudu" if place == "zudu" else "magpipe"
            made = House(
                place, {**common, "backend": backend, "url": url, **account}, lambda: list(vendor.dialled), finish
            )
            yield made
        return
    if place == "talking":
        talks = Talking()

        def end(batch_call_id: str, misses: bool) -> None:
            talks.finish(batch_call_id, {ANN: HOSTILE_CALL} | ({BOB: NO_ANSWER} if misses else {}))

        account = {"api_key": talking.KEY, "api_secret": talking.SECRET}
        async with talks.served() as url:
            with found():
                settings = {**common, "backend": "talking", "url": url, **account}
                yield House(place, settings, lambda: list(talks.dialled), end)
        return
    fast = {"test_numbers": number("312", 0), "simulated_speed": "2000"}
    if place == "dialer":
        yield House(place, {**common, **fast}, lambda: dials(folder / "data"))
        return
    dialer = EmbeddedDialer(folder / "dialer", simulated_speed=2000)
    await dialer.start()
    key, secret = dialer.credentials
    try:
        async with listening(dialer.app) as url:
            account = {"backend": "batchcall", "url": url, "api_key": key, "api_secret": secret}
            yield House(place, {**common, **account}, lambda: dials(folder / "dialer"))
    finally:
        await dialer.aclose()


async def fill(there: House) -> None:
    """Batch calls in every state that the backend has."""
    states = ["draft", "scheduled", "running", "missed", "reached", "cancelled"]
    states += ["paused"] if there.finish is None else []
    async with there.model() as model:
        for state in states[there.place == "without drafts" :]:
            await _one(there, model, state)
        if there.place == "dialer":
            one = {"batch_call_id": there.ids["draft"]}
            heard = await model.call("start_batch_call", **one, test_number=number("312", 0))
            there.ids["heard"] = heard["batch_call"]["batch_call_id"]
            await model.call("watch_batch_call", batch_call_id=there.ids["heard"], timeout_seconds=20)


async def _one(there: House, model: Model, state: str) -> None:
    people = [{"to_number": one} for one in ((ANN,) if state == "reached" else (ANN, BOB))]
    request: dict[str, Any] = {"from_number": FROM, "tasks": people, "name": state}
    if there.finish is None and state in {"running", "paused"}:
        at = datetime.now(UTC) + timedelta(hours=6)
        request["window"] = {"start": f"{at:%H}:00", "end": f"{at + timedelta(hours=1):%H}:00", "timezone": "UTC"}
    when = {} if state == "draft" else {"trigger_timestamp": LATER if state in {"scheduled", "cancelled"} else "now"}
    at_once = there.settings.get("backend") == "magpipe"
    made = await model.call("create_batch_call", **request, **(when if at_once else {}))
    one = {"batch_call_id": made["batch_call"]["batch_call_id"]}
    there.ids[state] = one["batch_call_id"]
    if when and not at_once:
        await model.call("start_batch_call", **one, **when)
    if state in {"cancelled", "paused"}:
        await model.call("cancel_batch_call" if state == "cancelled" else "pause_batch_call", **one)
    if state in {"missed", "reached"} and there.finish is not None:
        there.finish(one["batch_call_id"], state == "missed")
    elif state in {"missed", "reached"}:
        await model.call("watch_batch_call", **one, timeout_seconds=20)


def beginnings(there: House, offered: set[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Calls from whose answers the client sets out."""
    yield "get_backend", {}
    yield "list_batch_calls", {}
    yield "list_batch_calls", {"name_contains": "missed"}
    yield "list_batch_calls", {"name_contains": "nobody has this name"}
    for name in ("good", "local", "bad", "long", "poor start"):
        yield "check_batch_call", {"tasks_file": f"{name}.csv", "from_number": FROM}
        yield "check_batch_call", {"tasks_file": f"{name}.csv"}
    file = {"tasks_file": "good.csv", "from_number": FROM}
    yield "check_batch_call", {**file, "from_number": "12"}
    yield "check_batch_call", {**file, "trigger_timestamp": LATER}
    yield "check_batch_call", {**file, "trigger_timestamp": "2001-01-01T09:00Z", "timezone": "UTC"}
    yield "check_batch_call", {**file, "window": {"start": "09:00", "end": "17:00", "timezone": "Europe/Berlin"}}
    yield "check_batch_call", {**file, "window": {"start": "09:00", "end": "17:00"}}
    yield "check_batch_call", {**file, "agent_id": magpipe.OTHER_AGENT, "rows": "1-1"}
    for rows in ([ANN, BOB], ["212 555 0100"], ["n/a"], numbers(2 * MOST_TASKS)):
        yield "check_batch_call", {"tasks": [{"to_number": row} for row in rows], "from_number": FROM}
    for batch_call_id in there.ids.values():
        one = {"batch_call_id": batch_call_id}
        yield "get_batch_call", one
        yield "get_batch_call", {**one, "task_status": ["not_reached"]}
        yield "get_batch_call", {**one, "task_status": ["failed"], "limit": 0}
        yield "check_batch_call", one
        yield "check_batch_call", {**one, "trigger_timestamp": LATER}
        yield "watch_batch_call", one
        yield "watch_batch_call", {**one, "until": "started"}
        if "get_call" in offered:
            yield "get_call", {**one, "to_number": ANN}
        if there.place == "talking":
            yield "get_batch_call", {**one, "extracted": {"wants_callback": "yes"}}
            if "create_batch_call" in offered:
                from_there = {**one, "extracted": {"wants_callback": "yes"}}
                yield (
                    "create_batch_call",
                    {"from_number": FROM, "tasks_from": from_there, "name": f"from {batch_call_id}"},
                )
    if "create_batch_call" in offered and there.place != "without drafts":
        people = [{"to_number": number("206", 0)}, {"to_number": "n/a"}]
        yield "create_batch_call", {"from_number": FROM, "tasks": people, "name": "made"}
        yield "create_batch_call", {"from_number": FROM, "tasks": people, "name": "made"}
        yield "update_batch_call", {"batch_call_id": there.ids["draft"], "name": "draft too"}
    if "cancel_batch_call" in offered:
        yield "cancel_batch_call", {"batch_call_id": there.ids["cancelled"]}


@dataclass
class Follower:
    """Follows `next`, and nothing else."""

    model: Model
    schemas: Mapping[str, Any]

    async def from_answer(self, tool: str, arguments: dict[str, Any]) -> list[str]:
        """The calls that were made, and the question at the end if there is one."""
        made = [tool]
        first = await self.model.client.call_tool(tool, arguments)
        if first.is_error:
            return made  # where it sets out is not advised by anybody
        answer = succeeded(first)
        while (following := answer.get("next")) is not None:
            if "ask_person" in following:
                self._check_question(following)
                return [*made, "a question"]
            assert following["tool"] not in {"start_batch_call", "resume_batch_call", "retry_batch_call"}, following
            assert "tasks" not in following["arguments"]
            Draft202012Validator(self.schemas[following["tool"]]).validate(following["arguments"])
            assert (following["tool"], following["arguments"]) != (tool, arguments), "the call that was just made"
            tool, arguments = following["tool"], following["arguments"]
            made.append(tool)
            assert len(made) <= MOST_CALLS, made
            answer = await self.model.call(tool, **arguments)  # fails if it is refused
            assert answer.get("result") in {None, "created"}, answer
            assert "confirmation_code" not in answer
            if "result" in answer:
                assert answer["batch_call"]["status"] == "draft"
        return made

    def _check_question(self, following: Mapping[str, Any]) -> None:
        after = following.get("then")
        if after is not None:
            schema = {**self.schemas[after["tool"]], "required": []}
            Draft202012Validator(schema).validate(after["arguments"])
            assert not {"tasks", "trigger_timestamp", "confirmation_code", "send_now"} & after["arguments"].keys()


@pytest.mark.sweep
@pytest.mark.parametrize("place", ["dialer", "batchcall", "zudu", "magpipe", "without drafts", "talking"])
async def test_a_client_that_only_follows_next_is_never_refused_launches_nothing_and_ends(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = watch.watch

    async def ran_out(context: Any, batch_call_id: str, until: Any, _timeout_s: float, progress: Any) -> watch.Watched:
        return await really(context, batch_call_id, until, 0, progress)

    drafts: Any = "none" if place == "without drafts" else MagpipeBackend.capabilities.drafts
    at_magpipe = replace(MagpipeBackend.capabilities, drafts=drafts, limits=Limits(tasks=MOST_TASKS))
    monkeypatch.setattr(MagpipeBackend, "capabilities", at_magpipe)
    monkeypatch.setattr(ZuduBackend, "capabilities", replace(ZuduBackend.capabilities, limits=Limits(tasks=MOST_TASKS)))
    with anyio.fail_after(110):
        async with house(place, tmp_path) as there:
            await fill(there)
            monkeypatch.setattr(watch, "watch", ran_out)
            before, ended = there.dialled(), []
            async with there.model() as model:
                calls = list(beginnings(there, await model.tools()))
            for mode, some in spread(calls, MODES, kind_of, one_in=4):
                async with there.model(mode) as model:
                    schemas = {one.name: one.input_schema for one in (await model.client.list_tools()).tools}
                    follower = Follower(model, schemas)
                    for tool, arguments in some:
                        if tool in schemas:
                            ended.append((mode, await follower.from_answer(tool, arguments)))
            assert there.dialled() == before
    assert any(len(made) > 2 for _, made in ended)


def kind_of(call: tuple[str, dict[str, Any]]) -> tuple[object, ...]:
    """Its tool and what it gives; of those that give an id alone, which differ in the state that is found, each."""
    tool, arguments = call
    return (tool, *arguments, arguments["batch_call_id"] if arguments.keys() == {"batch_call_id"} else None)
