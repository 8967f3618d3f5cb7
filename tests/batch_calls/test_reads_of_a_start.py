"""How often a start reads the backend: what is compared before a yes and after it is paid for in requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.vendors import zudu
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, Era, Model, Person, every_era, numbers, playing, tomorrow_at

PAGES = 10
OTHERS = 20
DRAFT = "draft_of_1000"
READS = 2 * (1 + PAGES + 2 + 1 + OTHERS)


def busy_account() -> Zudu:
    """A draft of 1,000 people, and 20 scheduled batch calls of others."""
    vendor = Zudu()
    people = numbers(PAGES * 100 + 3 * OTHERS)

    def put(name: str, status: str, tasks: list[str]) -> None:
        stored = [zudu.Task(f"{name}_{at}", one, {}) for at, one in enumerate(tasks)]
        body = {"from_number": FROM, "name": name}
        trigger = int(tomorrow_at(9).timestamp() * 1000) if status == "SCHEDULED" else None
        vendor.batches[name] = zudu.Batch(name, "org_first", vendor.now, body, status, trigger, stored)

    put(DRAFT, "DRAFT", people[: PAGES * 100])
    for at in range(OTHERS):
        begin = PAGES * 100 + 3 * at
        put(f"other_{at}", "SCHEDULED", people[begin : begin + 3])
    return vendor


@asynccontextmanager
async def at_a_busy_account(home: Path, era: Era, **options: Any) -> AsyncIterator[tuple[Model, Callable[[], int]]]:
    """A model, and how many reads its calls have cost so far."""
    vendor = busy_account()
    account: dict[str, Any] = {
        "backend": "zudu",
        "api_key": zudu.KEY,
        "api_secret": zudu.SECRET,
        "calling_hours": "00:00-24:00",
    }
    async with vendor.served() as url, playing(era, url=url, data_dir=home, **account, **options) as model:
        yield model, lambda: len(vendor.requests) - len(vendor.writes)
    assert len(vendor.dialled) == PAGES * 100


@every_era
async def test_a_start_that_asks_and_is_confirmed_reads_half_as_often_as_before(era: Era, tmp_path: Path) -> None:
    """Commit 5134a55 read 128 times: 2 x (2 x 10 pages + 2 x 20 other batch calls + 4).

    Now each of the two looks reads the batch call, 10 pages, the two lists of the account, the list of batch calls, and
    one page of each of the 20 others.
    """
    person = Person()
    async with at_a_busy_account(tmp_path, era, person=person) as (model, reads):
        await model.call("start_batch_call", batch_call_id=DRAFT, trigger_timestamp="now")
        counted = reads()
    assert len(person.questions) == 1
    assert counted == READS <= 0.55 * 128


async def test_a_start_that_is_confirmed_by_a_code_reads_half_as_often_as_before(tmp_path: Path) -> None:
    """The same 128 before: the call that asks is one look, the call with the code the other."""
    async with at_a_busy_account(tmp_path, "auto", confirm="code") as (model, reads):
        asked = await model.call("start_batch_call", batch_call_id=DRAFT, trigger_timestamp="now")
        code = asked["confirmation_code"]
        await model.call("start_batch_call", batch_call_id=DRAFT, trigger_timestamp="now", confirmation_code=code)
        counted = reads()
    assert counted == READS <= 0.55 * 128
