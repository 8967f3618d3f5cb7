"""The contract suite finds an adapter that breaks a promise, and says what is wrong: the example, spoilt once each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from acme_backend import CAMPAIGN, CONTACT, WORDS, AcmeBackend
from acme_fake import AcmeFake

from batchcall_mcp.backends.base import Dials, Never, ReadTasks
from batchcall_mcp.backends.capabilities import Limits, Operation
from batchcall_mcp.backends.row_reading import batch_from, task_from
from batchcall_mcp.errors import BatchCallError, IllegalTransition, InvalidInput, OutcomeUnknown
from batchcall_mcp.model import (
    BatchCall,
    BatchCallPage,
    BatchCallRequest,
    BatchStatus,
    CallerNumber,
    CallTask,
    Counts,
    ListQuery,
    TaskPage,
    TaskQuery,
    TaskStatus,
)
from batchcall_mcp.testing import Case, contract
from batchcall_mcp.testing.contract import CHECKS, play
from batchcall_mcp.testing.scene import Broken
from batchcall_mcp.testing.wire import ELSEWHERE
from batchcall_mcp.vendor_http.http_call import HttpCall
from batchcall_mcp.vendor_http.http_errors import Exchange, Refusal
from batchcall_mcp.vendor_http.paging import OffsetPages, Pages
from batchcall_mcp.vendor_http.status_map import StatusMap


class DraftDials(AcmeBackend):
    async def create_call(self, request: BatchCallRequest) -> HttpCall:
        call = await super().create_call(request)
        return replace(call, json={name: value for name, value in call.json.items() if name != "hold"})


class SaysNever(AcmeBackend):
    def dials(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> Dials:
        return Never()


class HalfAnHourEarly(AcmeBackend):
    async def create_call(self, request: BatchCallRequest) -> HttpCall:
        at = request.trigger_at and request.trigger_at - timedelta(minutes=30)
        return await super().create_call(replace(request, trigger_at=at))


class LosesSomebody(AcmeBackend):
    async def create_call(self, request: BatchCallRequest) -> HttpCall:
        return await super().create_call(replace(request, tasks=(request.tasks or ())[:-1]))


class TooManyLines(AcmeBackend):
    async def create_call(self, request: BatchCallRequest) -> HttpCall:
        lines = request.max_concurrency and request.max_concurrency + 1
        return await super().create_call(replace(request, max_concurrency=lines))


class KnowsEveryWord(AcmeBackend):
    def read_task(self, data: Mapping[str, Any]) -> CallTask:
        return task_from(data, CONTACT, StatusMap(WORDS, TaskStatus.COMPLETED))


class MissedIsCompleted(AcmeBackend):
    def read_task(self, data: Mapping[str, Any]) -> CallTask:
        words = {**WORDS, "missed": TaskStatus.COMPLETED}
        return task_from(data, CONTACT, StatusMap(words, TaskStatus.UNKNOWN))


class AsksTwice(AcmeBackend):
    async def get_with_tasks(self, batch_call_id: str) -> tuple[BatchCall, ReadTasks]:
        return await self.get(batch_call_id), partial(self.tasks, batch_call_id)


class PagesFromZero(AcmeBackend):
    def task_pages(self, batch_call_id: str, query: TaskQuery) -> Pages:
        path = f"/campaigns/{batch_call_id}/contacts"

        def call(page: int, size: int) -> HttpCall:
            return HttpCall("GET", path, query={"page": max(page, 1), "per_page": size})

        return OffsetPages(call, "contacts", 50)


class PagesWithoutAnEnd(AcmeBackend):
    async def tasks(self, batch_call_id: str, query: TaskQuery) -> TaskPage:
        return TaskPage((await super().tasks(batch_call_id, replace(query, cursor=None))).tasks, "0")


class FinishedIsCompleted(AcmeBackend):
    def read_batch(self, data: Mapping[str, Any]) -> BatchCall:
        return replace(super().read_batch(data), counts=Counts(total=data["size"], completed=data["size"]))


class StopsNothing(AcmeBackend):
    async def cancel(self, current: BatchCall) -> BatchCall:
        return replace(current, status=BatchStatus.CANCELLED)


class EveryErrorIsInput(AcmeBackend):
    async def get(self, batch_call_id: str) -> BatchCall:
        try:
            return await super().get(batch_call_id)
        except BatchCallError as error:
            raise InvalidInput(error.message) from error


class SendsAgain(AcmeBackend):
    async def create(self, request: BatchCallRequest, idempotency_key: str | None = None) -> BatchCall:
        try:
            return await super().create(request, idempotency_key)
        except OutcomeUnknown:
            return await super().create(request, idempotency_key)


class SaysItWorked(AcmeBackend):
    async def create(self, request: BatchCallRequest, idempotency_key: str | None = None) -> BatchCall:
        try:
            return await super().create(request, idempotency_key)
        except OutcomeUnknown:
            return BatchCall(batch_call_id="cmp_made_up", status=BatchStatus.DRAFT)


class FollowsLinks(AcmeBackend):
    async def list(self, query: ListQuery) -> BatchCallPage:
        http = self._http
        call, exchange = HttpCall("GET", ""), Exchange(doing="list", writes=False)
        await http._http.exchange(exchange, call, http._headers, f"{ELSEWHERE}/next")
        return await super().list(query)


class ClaimsMore(AcmeBackend):
    capabilities = replace(AcmeBackend.capabilities, limits=Limits(tasks=400))


class QuotesNothing(AcmeBackend):
    async def get(self, batch_call_id: str) -> BatchCall:
        return self.read_batch(await self._http.read("read it", HttpCall("GET", f"/campaigns/{batch_call_id}")))


class TrustsANumber(AcmeBackend):
    def read_batch(self, data: Mapping[str, Any]) -> BatchCall:
        return replace(super().read_batch(data), counts=Counts(total=int(data["size"])))


class DeletesNothing(AcmeBackend):
    async def delete(self, current: BatchCall) -> None:
        pass


class AddsPeople(AcmeBackend):
    async def append(
        self, current: BatchCall, tasks: tuple[CallTask, ...], idempotency_key: str | None = None
    ) -> BatchCall:
        return current


class EveryWordIsRunning(AcmeBackend):
    def read_batch(self, data: Mapping[str, Any]) -> BatchCall:
        return batch_from(data, CAMPAIGN, StatusMap({}, BatchStatus.RUNNING), self.title)


class AsksForAll(AcmeBackend):
    async def tasks(self, batch_call_id: str, query: TaskQuery) -> TaskPage:
        return await super().tasks(batch_call_id, TaskQuery(limit=query.limit, cursor=query.cursor))


class BeginsAgain(AcmeBackend):
    async def tasks(self, batch_call_id: str, query: TaskQuery) -> TaskPage:
        return await super().tasks(batch_call_id, replace(query, cursor=None))

    async def list(self, query: ListQuery) -> BatchCallPage:
        return await super().list(replace(query, cursor=None))


class NamesNumbersById(AcmeBackend):
    async def numbers(self) -> tuple[CallerNumber, ...]:
        return tuple(replace(one, from_number=one.number_id or "") for one in await super().numbers())


class WrongKeyIsInput(AcmeBackend):
    def recognise(self, refusal: Refusal) -> type[BatchCallError] | None:
        return InvalidInput if refusal.status == 401 else super().recognise(refusal)


class StopsNoLiveOne(AcmeBackend):
    async def cancel(self, current: BatchCall) -> BatchCall:
        if current.status is BatchStatus.RUNNING:
            raise IllegalTransition("It dials.")
        return await super().cancel(current)


class ForgetsTheTime(AcmeBackend):
    async def start(self, current: BatchCall, at: datetime | None, idempotency_key: str | None = None) -> BatchCall:
        return await super().start(current, None, idempotency_key)


SPOILT = (
    (DraftDials, "a draft never dials", "called"),
    (SaysNever, "dials() says before what happens after", "had not said so"),
    (SaysNever, "a time is kept to the minute", "dials() says Never()"),
    (HalfAnHourEarly, "a time is kept to the minute", "was asked for, and the answer says"),
    (ForgetsTheTime, "a draft is started at a time", "running"),
    (LosesSomebody, "a launch calls everybody once", "it was for"),
    (TooManyLines, "settings come back in the same units", "max_concurrency: 3 was asked for"),
    (KnowsEveryWord, "an unknown status of a task survives", "purple_elephant"),
    (MissedIsCompleted, "outcomes come back", "no_answer"),
    (AsksTwice, "one read is as two", "asked 3 times for it"),
    (PagesFromZero, "pages of tasks end", "same page again and again"),
    (PagesWithoutAnEnd, "pages of tasks end", "do not end"),
    (FinishedIsCompleted, "counts add up or are absent", "counts.completed"),
    (StopsNothing, "cancel before the start calls nobody", "called somebody"),
    (EveryErrorIsInput, "errors map", "means AuthenticationFailed"),
    (SendsAgain, "a lost answer is never sent again", "it was sent again"),
    (SaysItWorked, "a lost answer is never sent again", "cmp_made_up"),
    (FollowsLinks, "credentials go to the vendor alone", "to another origin"),
    (ClaimsMore, "limits are checked before sending", "the limits say that it takes 400"),
    (DeletesNothing, "what is deleted is gone", "that was deleted answers None"),
    (AddsPeople, "what it cannot do is refused", "append is not among the operations"),
    (EveryWordIsRunning, "an unknown status survives", "purple_elephant"),
    (AsksForAll, "queries are answered", "was asked for"),
    (BeginsAgain, "a cursor that nobody gave is refused", "is answered with None"),
    (BeginsAgain, "the list has each once", "without an end"),
    (NamesNumbersById, "the account names what can be used", "num_1"),
    (WrongKeyIsInput, "a wrong key is named", "with a wrong key answers"),
    (StopsNoLiveOne, "cancel says what happens to live calls", "It dials."),
    (TrustsANumber, "odd values are read or refused", "get() raised"),
    (QuotesNothing, "an unknown id is not found", "led to another path"),
)


@pytest.mark.parametrize(("adapter", "name", "said"), SPOILT, ids=lambda value: getattr(value, "__name__", None))
async def test_a_spoilt_adapter_fails_the_check_that_is_about_it(
    adapter: type[AcmeBackend], name: str, said: str
) -> None:
    (check,) = [one for one in CHECKS if one.name == name]
    with pytest.raises(Broken) as caught:
        await play(Case(backend=adapter, fake=AcmeFake, url=adapter.default_url), check)
    wrong, _, cure = str(caught.value).partition("\nWhat to do: ")
    assert said in wrong
    assert cure


def test_every_check_of_the_example_has_an_adapter_that_fails_it() -> None:
    applying = {check.name for check in CHECKS if check.applies(AcmeBackend.capabilities)}
    assert applying == {name for _, name, _ in SPOILT}


def test_a_case_cannot_skip_what_is_not_checked() -> None:
    with pytest.raises(ValueError, match="no such check"):
        contract(Case(backend=AcmeBackend, fake=AcmeFake, skip={"a draft dials": "why not"}))
