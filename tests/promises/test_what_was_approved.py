"""A yes covers exactly the people who are called: not others, not more, not those that somebody else calls meanwhile.

Two servers, each with a connection of its own to one ledger, on SQLite and on PostgreSQL.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from tests.postgresql import postgresql_url
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Model, number, playing

PEOPLE = [number(NEW_YORK, line) for line in range(9)]
KEYS = (zudu.KEY, zudu.SECRET), (zudu.OTHER_KEY, zudu.OTHER_SECRET)
ALWAYS = {"backend": "zudu", "calling_hours": "00:00-24:00", "confirm": "code"}


class Between:
    """A backend at which something happens once, after it has carried out a request and before it answers."""

    def __init__(self, vendor: Zudu | Magpipe) -> None:
        self._app = vendor.recording
        self._when: Callable[[str, str, bytes], bool] | None = None
        self._happens: Callable[[], Awaitable[object]] | None = None

    def after(self, when: Callable[[str, str, bytes], bool], happens: Callable[[], Awaitable[object]]) -> None:
        """Next time that a request of this method, path and API key is carried out."""
        self._when, self._happens = when, happens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on; what happens is done before the answer leaves."""
        if scope["type"] != "http" or self._when is None:
            await self._app(scope, receive, send)
            return
        key = dict(scope["headers"]).get(b"x-api-key", b"")
        if self._when(scope["method"], scope["path"], key) and self._happens is not None:
            happens, self._when, self._happens = self._happens, None, None
            answer: list[Any] = []

            async def keep(message: Any) -> None:
                answer.append(message)

            await self._app(scope, receive, keep)
            await happens()
            for message in answer:
                await send(message)
            return
        await self._app(scope, receive, send)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The settings with which two servers share a ledger."""
    shared = {"data_dir": str(tmp_path)}
    return shared if request.param == "sqlite" else shared | {"database_url": postgresql_url()}


@asynccontextmanager
async def two_callers(url: str, **settings: str) -> AsyncIterator[tuple[Model, Model]]:
    """Two servers of two callers on one ledger."""
    one, other = ({"url": url, "api_key": key, "api_secret": secret} | ALWAYS | settings for key, secret in KEYS)
    async with playing("auto", None, **one) as first, playing("auto", None, **other) as second:
        yield first, second


@asynccontextmanager
async def two_servers(url: str, **settings: str) -> AsyncIterator[tuple[Model, Model]]:
    """Two servers of one caller on one ledger."""
    of_one = {"url": url, "api_key": zudu.KEY, "api_secret": zudu.SECRET} | ALWAYS | settings
    async with playing("auto", None, **of_one) as first, playing("auto", None, **of_one) as second:
        yield first, second


async def draft(model: Model, people: list[str]) -> dict[str, str]:
    """The arguments that start a new draft now."""
    made = await model.call(
        "create_batch_call", from_number=FROM, tasks=[{"to_number": one} for one in people], name=f"{people[0]} …"
    )
    return {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}


async def confirmed(model: Model, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """A call with the code that it gave."""
    asked = await model.call(tool, **arguments)
    assert asked["result"] == "confirmation_required", asked
    return await model.call(tool, **arguments, confirmation_code=asked["confirmation_code"])


async def test_a_list_that_was_put_on_a_draft_does_not_land_on_what_was_launched_meanwhile(
    ledger: dict[str, str],
) -> None:
    """The start of one person is confirmed; the update was judged on the draft, and would call everybody."""
    vendor = Zudu()
    between = Between(vendor)
    async with listening(between) as url, two_servers(url, **ledger) as (a, b):
        start = await draft(a, PEOPLE[:1])
        launched = start | {"trigger_timestamp": "2030-01-01T10:00:00Z"}
        path = f"/batch-call/{start['batch_call_id']}"
        between.after(
            lambda method, at, _key: (method, at) == ("GET", path),
            lambda: confirmed(a, "start_batch_call", launched),
        )
        everybody = [{"to_number": one} for one in PEOPLE]
        text = await b.refused(
            "update_batch_call", "illegal_transition", batch_call_id=start["batch_call_id"], tasks=everybody
        )
    assert "Nothing was sent" in text
    assert [task.to_number for task in vendor.batches[start["batch_call_id"]].tasks] == PEOPLE[:1]


async def test_two_launches_that_share_a_person_do_not_pass_in_parallel(ledger: dict[str, str]) -> None:
    """Two accounts: neither sees the other's batch call, and both were asked before either was launched."""
    vendor = Zudu()
    between = Between(vendor)
    async with listening(between) as url, two_callers(url, **ledger) as (a, b):
        mine, theirs = await draft(a, PEOPLE[:3]), await draft(b, PEOPLE[2:5])
        codes = [(await model.call("start_batch_call", **one))["confirmation_code"] for model, one in
                 ((a, mine), (b, theirs))]  # fmt: skip
        between.after(
            lambda method, path, key: method == "GET" and key == zudu.OTHER_KEY.encode() and path.endswith("/agents"),
            lambda: a.call("start_batch_call", **mine, confirmation_code=codes[0]),
        )
        told = await b.call("start_batch_call", **theirs, confirmation_code=codes[1])
        assert told["result"] == "confirmation_required"
        assert "1 of the numbers is in another launch of the last minutes (" in told["summary"]
        assert mine["batch_call_id"] not in str(told), "another caller's"
        assert Counter(vendor.dialled) == Counter(PEOPLE[:3])
        started = await b.call("start_batch_call", **theirs, confirmation_code=told["confirmation_code"])
    assert started["result"] == "started"


async def test_a_launch_of_another_caller_since_the_question_is_asked_about(ledger: dict[str, str]) -> None:
    """The other launch is over before the code comes: only the ledger knows of it."""
    vendor = Zudu()
    async with vendor.served() as url, two_callers(url, **ledger) as (a, b):
        mine, theirs = await draft(a, PEOPLE[:3]), await draft(b, PEOPLE[2:5])
        asked = await b.call("start_batch_call", **theirs)
        await confirmed(a, "start_batch_call", mine)
        told = await b.call("start_batch_call", **theirs, confirmation_code=asked["confirmation_code"])
    assert told["result"] == "confirmation_required"
    assert Counter(vendor.dialled) == Counter(PEOPLE[:3])


@pytest.mark.parametrize("spelling", ["{digits}", "+1 {area} {exchange} {line}", "00{digits}", "tel:+{digits}"])
async def test_a_number_in_another_spelling_is_the_same_number(spelling: str, tmp_path: Path) -> None:
    """Stored by the vendor's own web application: on the do-not-call list, twice, and in another live batch call."""
    plain = PEOPLE[0]
    written = spelling.format(digits=plain[1:], area=plain[2:5], exchange=plain[5:8], line=plain[8:])
    never = tmp_path / "never.txt"
    never.write_text(f"{plain}\n")
    vendor = Zudu()
    for name, status, numbers in (("bc_1", "DRAFT", [written, plain]), ("bc_2", "SCHEDULED", [plain])):
        tasks = [zudu.Task(f"task_{at}", one, {}) for at, one in enumerate(numbers)]
        late = zudu._ms(vendor.now) + 10**9
        vendor.batches[name] = zudu.Batch(name, "org_first", vendor.now, {"from_number": FROM}, status, late, tasks)
    settings = {"data_dir": str(tmp_path), "do_not_call": str(never)}
    async with vendor.served() as url, two_servers(url, **settings) as (model, _):
        told = await model.call("start_batch_call", batch_call_id="bc_1", trigger_timestamp="now")
        warnings = " ".join(told["preflight"]["warnings"])
        await model.call(
            "start_batch_call", batch_call_id="bc_1", trigger_timestamp="now",
            confirmation_code=told["confirmation_code"],
        )  # fmt: skip
    assert "2 of the numbers are now on the do-not-call list" in warnings
    assert "2 of the numbers are in another live batch call (bc_2)" in warnings
    assert "in the list more than once" in warnings
    assert vendor.dialled == [written, plain], "what is sent is not changed"


async def test_what_is_not_written_as_a_number_is_a_concern(tmp_path: Path) -> None:
    vendor = Zudu()
    tasks = [zudu.Task("task_0", "the office", {}), zudu.Task("task_1", PEOPLE[0], {})]
    vendor.batches["bc_1"] = zudu.Batch("bc_1", "org_first", vendor.now, {"from_number": FROM}, "DRAFT", None, tasks)
    async with vendor.served() as url, two_servers(url, data_dir=str(tmp_path)) as (model, _):
        told = await model.call("start_batch_call", batch_call_id="bc_1", trigger_timestamp="now")
    assert "1 number cannot be read as a phone number" in told["summary"]


async def test_another_person_on_the_do_not_call_list_is_another_question(tmp_path: Path) -> None:
    """As many as before, and not the same."""
    never = tmp_path / "never.txt"
    vendor = Zudu()
    settings = {"data_dir": str(tmp_path), "do_not_call": str(never)}
    never.write_text("")
    async with vendor.served() as url, two_servers(url, **settings) as (model, _):
        start = await draft(model, PEOPLE[:3])
        never.write_text(f"{PEOPLE[0]}\n")
        asked = await model.call("start_batch_call", **start)
        assert "1 of the numbers is now on the do-not-call list" in asked["summary"]
        never.write_text(f"{PEOPLE[1]}\n")
        told = await model.call("start_batch_call", **start, confirmation_code=asked["confirmation_code"])
        assert told["result"] == "confirmation_required"
        never.unlink()
        told = await model.call("start_batch_call", **start, confirmation_code=told["confirmation_code"])
        assert told["result"] == "confirmation_required", "nobody knows whom it names now"
        assert vendor.dialled == []
        never.write_text("")
        told = await model.call("start_batch_call", **start, confirmation_code=told["confirmation_code"])
    assert told["result"] == "started", "a concern that is gone needs no new question"


async def test_a_yes_to_people_is_one_to_fewer_of_them_and_not_to_more(tmp_path: Path) -> None:
    """Who was called meanwhile needs no new question; who is to be called again does."""
    vendor = Magpipe()
    settings = {"backend": "magpipe", "api_key": magpipe.KEY, "calling_hours": "00:00-24:00", "confirm": "code"}
    series = vendor.series(PEOPLE[:3], status="paused")
    async with vendor.served() as url, playing("auto", None, url=url, data_dir=tmp_path, **settings) as model:
        asked = await model.call("resume_batch_call", batch_call_id=series)
        assert asked["result"] == "confirmation_required"
        recipients = vendor.recipients[series]
        recipients[0]["status"] = "completed"
        resumed = await model.call(
            "resume_batch_call", batch_call_id=series, confirmation_code=asked["confirmation_code"]
        )
        assert resumed["result"] == "resumed"
        await model.call("pause_batch_call", batch_call_id=series)
        recipients[1]["status"] = "completed"
        asked = await model.call("resume_batch_call", batch_call_id=series)
        recipients[1]["status"] = recipients[0]["status"] = "pending"
        told = await model.call("resume_batch_call", batch_call_id=series, confirmation_code=asked["confirmation_code"])
    assert told["result"] == "confirmation_required", "a yes to one person is none to three"
