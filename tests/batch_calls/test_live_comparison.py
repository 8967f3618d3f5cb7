"""Who is called by another live batch call too: compared within a limit, and what was not compared is named."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import anyio
from mcp.client import ClientRequestContext
from mcp.types import ElicitRequestParams, ElicitResult
from starlette.requests import Request
from starlette.responses import Response

from batchcall_mcp.backends.capabilities import Capabilities
from batchcall_mcp.backends.rest_api.zudu import ZuduBackend
from batchcall_mcp.backends.task_reading import every_task
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.writes.live_comparison import AT_ONCE, LONGEST_S, LiveComparison, compare_with_live
from batchcall_mcp.errors import PermissionDenied
from batchcall_mcp.guard.fingerprints import member
from batchcall_mcp.guard.preflight.preflight import NotCompared
from batchcall_mcp.guard.preflight.recipient_warnings import not_compared
from batchcall_mcp.model import (
    BatchCall,
    BatchCallPage,
    BatchStatus,
    CallTask,
    Counts,
    ListQuery,
    TaskPage,
    TaskQuery,
    TaskStatus,
)
from tests.vendors import zudu
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Model, Person, every_era, number, playing, tomorrow_at

MINE = "+12125550100"
NOT_MINE = "+12125550199"


@dataclass
class Account:
    """A backend with live batch calls, and a clock that stands still but where `at_read` moves it."""

    others: Mapping[str, list[str]]
    at_list: Callable[[], None] = lambda: None
    at_read: Callable[[str], None] = lambda _one: None
    open_gate: bool = True
    now: float = 100.0
    capabilities: Capabilities = ZuduBackend.capabilities
    read: list[str] = field(default_factory=list)
    reading: int = 0
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self.gate = anyio.Event()

    async def list(self, _query: ListQuery) -> BatchCallPage:
        self.at_list()
        await anyio.lowlevel.checkpoint()
        status, counts = BatchStatus.SCHEDULED, Counts(total=1)
        return BatchCallPage(tuple(BatchCall(batch_call_id=one, status=status, counts=counts) for one in self.others))

    async def get(self, batch_call_id: str) -> BatchCall:
        raise AssertionError(f"{batch_call_id} was listed a moment ago")

    async def tasks(self, batch_call_id: str, _query: TaskQuery) -> TaskPage:
        self.reading += 1
        self.most_at_once = max(self.most_at_once, self.reading)
        try:
            if not self.open_gate:
                await self.gate.wait()
            await anyio.lowlevel.checkpoint()
        finally:
            self.reading -= 1
        self.read.append(batch_call_id)
        self.at_read(batch_call_id)
        found = tuple(CallTask(to_number=one, status=TaskStatus.PENDING) for one in self.others[batch_call_id])
        return TaskPage(found)

    def monotonic(self) -> float:
        return self.now

    async def compared(self, *named: str, current: BatchCall | None = None) -> LiveComparison:
        """What a list of one number is found to share with the others."""

        @dataclass
        class Context:
            backend: Account
            monotonic: Callable[[], float]

            def every_task(self, other: BatchCall, **how: Any) -> Any:
                return every_task(cast("Any", self.backend), other, clock=self.monotonic, **how)

        context = cast("CallContext", Context(self, self.monotonic))
        return await compare_with_live(context, [MINE], current, {member(one) for one in named})


def others(count: int, people: str = NOT_MINE) -> dict[str, list[str]]:
    return {f"other_{at}": [people] for at in range(count)}


async def test_everybody_whom_another_live_batch_call_calls_is_found_under_the_newest_of_them() -> None:
    account = Account({"a": [NOT_MINE], "b": ["12125550100"], "c": [MINE]})
    found = await account.compared()
    assert (found.elsewhere, found.not_compared) == ({MINE: "b"}, None)


async def test_the_batch_call_itself_is_no_other_one() -> None:
    account = Account({"a": [MINE]})
    own = BatchCall(batch_call_id="a", status=BatchStatus.SCHEDULED)
    assert await account.compared(current=own) == LiveComparison()
    assert account.read == []


async def test_four_are_read_at_a_time() -> None:
    account = Account(others(10), open_gate=False)
    async with anyio.create_task_group() as group:
        group.start_soon(account.compared)
        await anyio.wait_all_tasks_blocked()
        assert account.reading == AT_ONCE == 4
        account.gate.set()
    assert (len(account.read), account.most_at_once) == (10, AT_ONCE)


async def test_what_twenty_seconds_are_not_enough_for_is_not_compared() -> None:
    account = Account({**others(8), "last": [MINE]})

    def seven_seconds(_one: str) -> None:
        account.now += 7

    account.at_read = seven_seconds
    found = await account.compared()
    missing = found.not_compared
    assert missing is not None
    assert sorted({*account.read, *missing.ids}) == sorted(account.others)
    assert (missing.ids[-1], missing.live, missing.why) == ("last", 9, "20 s were not enough.")
    # Those four whose reading had begun in time were read.
    assert len(account.read) <= 4
    assert found.elsewhere == {}


async def test_a_read_that_hangs_is_given_up_when_the_time_is_over_and_what_was_found_counts() -> None:
    account = Account({"a": [MINE], "hangs": [MINE]})
    read = account.tasks

    async def tasks(batch_call_id: str, query: TaskQuery) -> TaskPage:
        if batch_call_id == "hangs":
            try:
                await anyio.Event().wait()
            finally:
                account.now += 1
        return await read(batch_call_id, query)

    account.tasks = tasks  # type: ignore[method-assign,assignment]
    account.at_list = lambda: setattr(account, "now", account.now + LONGEST_S - 1)
    with anyio.fail_after(10):
        found = await account.compared()
    assert found.elsewhere == {MINE: "a"}
    assert found.not_compared == NotCompared(("hangs",), 2, "20 s were not enough.")


async def test_one_that_cannot_be_read_keeps_none_of_the_others_from_being_compared() -> None:
    def refuses(one: str) -> None:
        if one == "b":
            raise PermissionDenied("Not yours.")

    account = Account({"a": [NOT_MINE], "b": [MINE], "c": [MINE]}, at_read=refuses)
    found = await account.compared()
    assert found.elsewhere == {MINE: "c"}
    assert found.not_compared == NotCompared(("b",), 3, "Not yours.")


async def test_what_the_question_named_is_not_tried_again_and_what_is_new_is_compared() -> None:
    account = Account({"new": [MINE], "a": [NOT_MINE], "b": [MINE]})
    found = await account.compared("b")
    assert account.read == ["new", "a"]
    assert found.elsewhere == {MINE: "new"}
    assert found.not_compared is not None
    assert found.not_compared.ids == ("b",)


async def test_more_than_two_hundred_are_not_compared_and_each_is_named() -> None:
    account = Account(others(203))
    found = await account.compared()
    assert found.not_compared is not None
    assert found.not_compared.ids == ("other_200", "other_201", "other_202")
    assert len(account.read) == 200


async def test_a_list_that_takes_too_long_is_one_sentence() -> None:
    account = Account(others(2))
    pages = account.list

    async def late(query: ListQuery) -> BatchCallPage:
        account.now += LONGEST_S
        page = await pages(query)
        return BatchCallPage(page.batch_calls, next_cursor="1")

    account.list = late  # type: ignore[method-assign,assignment]
    found = await account.compared()
    assert found.unchecked == ("Other live batch calls could not be compared: 20 s were not enough.",)
    assert account.read == []


def test_what_was_not_compared_is_one_sentence_about_each_of_them() -> None:
    ids = tuple(f"other_{at}" for at in range(12))
    concern = not_compared(ids, 20, "20 s were not enough.")
    assert concern.sentence.startswith("12 of 20 other live batch calls could not be compared with this list (other_0,")
    assert concern.sentence.endswith("other_9 and 2 more): 20 s were not enough.")
    assert concern.about == frozenset(ids)


class BusyZudu(Zudu):
    """A draft of two people; three others are scheduled. The tasks of those in `closed` cannot be read."""

    def __init__(self) -> None:
        super().__init__()
        self.closed: set[str] = set()
        self.put("draft", "DRAFT", [number(NEW_YORK, line) for line in (0, 1)])
        for at in range(3):
            self.put(f"other_{at}", "SCHEDULED", [number(NEW_YORK, 10 + at)])

    def put(self, name: str, status: str, people: list[str]) -> None:
        """Store a batch call; one that is scheduled is for tomorrow."""
        stored = [zudu.Task(f"{name}_{at}", one, {}) for at, one in enumerate(people)]
        trigger = int(tomorrow_at(9).timestamp() * 1000) if status == "SCHEDULED" else None
        body = {"from_number": FROM, "name": name}
        self.batches[name] = zudu.Batch(name, "org_first", self.now, body, status, trigger, stored)

    async def _tasks(self, request: Request) -> Response:
        if request.path_params["id"] in self.closed:
            raise zudu.Refused(403, "Forbidden", "closed")
        return await super()._tasks(request)

    def reads_of(self, name: str) -> int:
        """How often the tasks of a batch call were asked for."""
        return sum(one.path == f"/batch-call/{name}/tasks" for one in self.requests)


class Meanwhile(Person):
    """Says yes to each question; while they think about the first, something happens."""

    def __init__(self, happens: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.happens = happens

    async def __call__(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        if not self.questions:
            self.happens()
        return await super().__call__(context, params)


def at(vendor: str, home: Path, **options: Any) -> dict[str, Any]:
    account = {"backend": "zudu", "api_key": zudu.KEY, "api_secret": zudu.SECRET, "calling_hours": "00:00-24:00"}
    return {"url": vendor, "data_dir": home, **account, **options}


async def start(model: Model, **arguments: Any) -> dict[str, Any]:
    return await model.call("start_batch_call", batch_call_id="draft", trigger_timestamp="now", **arguments)


@every_era
async def test_a_yes_to_a_question_that_names_it_launches_without_another_try(era: Any, tmp_path: Path) -> None:
    vendor = BusyZudu()
    vendor.closed = {"other_1"}
    person = Meanwhile(vendor.closed.clear)
    async with vendor.served() as url, playing(era, **at(url, tmp_path, person=person)) as model:
        await start(model)
    (asked,) = person.questions
    assert "1 of 3 other live batch calls could not be compared with this list (other_1): Could not read" in asked
    assert (vendor.reads_of("other_0"), vendor.reads_of("other_1"), len(vendor.dialled)) == (2, 1, 2)


@every_era
async def test_another_one_that_cannot_be_compared_after_the_yes_is_asked_about(era: Any, tmp_path: Path) -> None:
    vendor = BusyZudu()
    vendor.closed = {"other_1"}

    def happens() -> None:
        vendor.closed = {"other_2"}
        assert vendor.dialled == []

    person = Meanwhile(happens)
    async with vendor.served() as url, playing(era, **at(url, tmp_path, person=person)) as model:
        await start(model)
    first, second = person.questions
    assert "(other_1):" in first
    assert second.startswith("The list or the batch call has changed since the last question.")
    assert "2 of 3 other live batch calls could not be compared with this list (other_1, other_2):" in second
    assert len(vendor.dialled) == 2


@every_era
async def test_somebody_whom_a_new_batch_call_calls_is_asked_about_after_the_yes(era: Any, tmp_path: Path) -> None:
    vendor = BusyZudu()
    vendor.closed = {"other_1"}
    person = Meanwhile(lambda: vendor.put("new", "SCHEDULED", [number(NEW_YORK, 1)]))
    async with vendor.served() as url, playing(era, **at(url, tmp_path, person=person)) as model:
        await start(model)
    assert len(person.questions) == 2
    assert "1 of the numbers is in another live batch call (new)." in person.questions[1]


async def test_a_code_covers_what_its_question_named_as_not_compared_and_nothing_else(tmp_path: Path) -> None:
    vendor = BusyZudu()
    vendor.closed = {"other_1"}
    async with vendor.served() as url, playing("auto", **at(url, tmp_path, confirm="code")) as model:
        asked = await start(model)
        vendor.closed = {"other_2"}
        again = await start(model, confirmation_code=asked["confirmation_code"])
        assert again["result"] == "confirmation_required"
        assert "2 of 3 other live batch calls" in again["summary"]
        assert vendor.dialled == []
        reads = vendor.reads_of("other_0"), vendor.reads_of("other_1"), vendor.reads_of("other_2")
        assert reads == (2, 1, 2)
        await start(model, confirmation_code=again["confirmation_code"])
        assert (vendor.reads_of("other_0"), vendor.reads_of("other_1"), vendor.reads_of("other_2")) == (3, 1, 2)
    assert len(vendor.dialled) == 2


async def test_where_nobody_is_asked_a_list_that_was_not_compared_is_not_launched(tmp_path: Path) -> None:
    vendor = BusyZudu()
    vendor.closed = {"other_1"}
    unattended = {"confirm": "off", "max_calls_per_launch": "10", "accept_no_stop": "true"}
    async with vendor.served() as url, playing("auto", **at(url, tmp_path, **unattended)) as model:
        said = await model.refused("start_batch_call", "not_confirmed", batch_call_id="draft", trigger_timestamp="now")
    assert "1 of 3 other live batch calls could not be compared" in said
    assert vendor.dialled == []
