"""A task list that is shorter than the backend's own total is not believed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, Model, Person, number, numbers, playing

PEOPLE = numbers(300)
TASKS = [{"to_number": one} for one in PEOPLE]


class ShortZudu(Zudu):
    """Once `short`, its task list shows the first one only; the batch call is counted in whole."""

    short = False

    async def _tasks(self, request: Request) -> Response:
        if not self.short:
            return await super()._tasks(request)
        batch = self._batch(request)
        batch.tasks, whole = batch.tasks[:1], batch.tasks
        try:
            return await super()._tasks(request)
        finally:
            batch.tasks = whole


class ShortMagpipe(Magpipe):
    """The same."""

    short = False

    def _get(self, body: dict[str, Any]) -> dict[str, Any]:
        answer = super()._get(body)
        return answer | {"recipients": answer["recipients"][:1]} if self.short else answer


@asynccontextmanager
async def drafted(vendor: ShortZudu | ShortMagpipe, home: Path, **more: Any) -> AsyncIterator[tuple[Model, str]]:
    """A model and a draft of 300 people, whose list shows one from now on."""
    zudus = {"backend": "zudu", "api_key": zudu.KEY, "api_secret": zudu.SECRET}
    account = zudus if isinstance(vendor, Zudu) else {"backend": "magpipe", "api_key": magpipe.KEY}
    more = account | {"calling_hours": "00:00-24:00"} | more
    async with vendor.served() as url, playing("auto", url=url, data_dir=home, **more) as model:
        made = await model.call("create_batch_call", from_number=FROM, tasks=TASKS)
        vendor.short = True
        yield model, made["batch_call"]["batch_call_id"]


BOTH = pytest.mark.parametrize("kind", [ShortZudu, ShortMagpipe])


@BOTH
async def test_the_question_of_a_list_that_is_cut_off_names_the_backends_own_total(
    kind: type[ShortZudu | ShortMagpipe], tmp_path: Path
) -> None:
    vendor, person = kind(), Person("no")
    async with drafted(vendor, tmp_path, person=person) as (model, draft):
        await model.refused("start_batch_call", "not_confirmed", batch_call_id=draft, trigger_timestamp="now")
    (question,) = person.questions
    assert "The backend says that this batch call has 300 tasks, but its list shows 1." in question
    assert "300 people" in question
    assert vendor.dialled == []


@BOTH
async def test_a_limit_of_calls_counts_the_backends_own_total(
    kind: type[ShortZudu | ShortMagpipe], tmp_path: Path
) -> None:
    vendor = kind()
    async with drafted(vendor, tmp_path, person=Person(), max_calls_per_launch="10") as (model, draft):
        text = await model.refused("start_batch_call", "invalid_input", batch_call_id=draft, trigger_timestamp="now")
    assert "300 calls are more than BATCHCALL_MAX_CALLS_PER_LAUNCH=10" in text
    assert vendor.dialled == []


async def test_a_day_counts_the_backends_own_total_against_later_launches(tmp_path: Path) -> None:
    vendor = ShortMagpipe()
    async with drafted(vendor, tmp_path, person=Person(), max_calls_per_day="301") as (model, draft):
        await model.call("start_batch_call", batch_call_id=draft, trigger_timestamp="now")
        others = [{"to_number": number("914", line)} for line in (0, 1)]
        vendor.short = False
        text = await model.refused(
            "create_batch_call", "invalid_input", from_number=FROM, tasks=others, trigger_timestamp="now"
        )
    assert "2 calls and 300 of other launches" in text
