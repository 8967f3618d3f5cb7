"""The batch-call REST API: `batchcall` with our extensions, `zudu` as its documents have it (docs.zudu.ai)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

from batchcall_mcp.backends.base import Dials, as_asked, completed_by, is_same_id
from batchcall_mcp.backends.capabilities import Capabilities, Limits, Operation
from batchcall_mcp.backends.limits import check_create
from batchcall_mcp.backends.rest_api import mapping as words
from batchcall_mcp.backends.rest_api import requests
from batchcall_mcp.backends.rest_api.account import read_account
from batchcall_mcp.backends.rest_backend import RestBackend
from batchcall_mcp.backends.row_reading import unreadable_batch
from batchcall_mcp.errors import (
    BatchCallError,
    IllegalTransition,
    NotFound,
    NotSupported,
    UnexpectedResponse,
)
from batchcall_mcp.model import (
    Account,
    BatchCall,
    BatchCallRequest,
    BatchStatus,
    Call,
    CallTask,
    ListQuery,
    TaskQuery,
    TaskStatus,
)
from batchcall_mcp.text import identifier
from batchcall_mcp.vendor_http.client import BackendHttp, CallerHttp, Credentials
from batchcall_mcp.vendor_http.http_call import HttpCall, Params, given
from batchcall_mcp.vendor_http.http_errors import (
    JsonObject,
    Refusal,
    about_another,
    accepted_about_another,
    accepted_without_words,
)
from batchcall_mcp.vendor_http.json_values import text
from batchcall_mcp.vendor_http.paging import Pages, RawPage, Scanned, offset_of, scan

T = TypeVar("T")
_OF_A_STATE = ("with status", "illegal_transition", "status transition", "cannot change status", "cannot be modified")
"""In a refusal: it is for the state of the batch call."""
PAGE = 100
"""The most that both documents allow a page to have."""

_ALL_FIELDS = frozenset(
    {"from_number", "tasks", "name", "agent_id", "trigger_at", "send_now", "status", "timezone", "window", "retry"}
)


class BatchCallBackend(RestBackend):
    """A server that speaks the batch-call REST API and our extensions; `ZuduBackend` is the same without those."""

    name: ClassVar[str] = "batchcall"
    title: ClassVar[str] = "This server"
    default_url: ClassVar[str] = "http://localhost:8080"
    extended: ClassVar[bool] = True
    patches_tasks: ClassVar[bool] = False
    capabilities: ClassVar[Capabilities] = Capabilities(
        operations=frozenset(Operation),
        drafts="full",
        task_page_size=PAGE,
        outcomes=tuple(status for status in TaskStatus if status not in {TaskStatus.PLACED, TaskStatus.UNKNOWN}),
        results=frozenset({"duration_seconds", "answered_by", "choice", "cost", "summary"}),
        stop="any_time",
        cancel_effect="Calls in progress go on to their end; nothing else of it is dialled.",
        windows="full",
        trigger_dates=True,
        ends="date",
        not_before=True,
        max_concurrency=1000,
        idempotency="key",
        dynamic_variables=True,
        returns_variables=True,
        task_names=True,
        task_timezones=True,
        task_max_retries=True,
        retry_policy=True,
        limits=Limits(name_length=255),
        retry="named",
        first=True,
        prices=True,
        update_fields=_ALL_FIELDS | {"max_concurrency", "trigger_on", "ends_at", "ends_on"},
        limitations=(
            "A server without an extension of ours (pause, resume, cancel, retry, add) refuses it; nothing changes.",
            "Dates, ends and promised call-backs are sent only to a server that says that it keeps them.",
        ),
    )

    instead: ClassVar[Mapping[Operation, str]] = {Operation.GET_CALL: "get_batch_call shows how each call went."}
    batch_member: ClassVar[str] = "batch_call_id"
    refers_in_names: ClassVar[bool] = False  # the mapping reads them, where the dialect has no field

    def __init__(self, http: BackendHttp, credentials: Credentials) -> None:
        headers = {"X-API-KEY": credentials.api_key.get_secret_value()}
        if credentials.api_secret is not None:
            headers["X-API-SECRET"] = credentials.api_secret.get_secret_value()
        self._http = http.caller(credentials, headers, self.recognise)

    def recognise(self, refusal: Refusal) -> type[BatchCallError] | None:
        """Zudu has no error codes and answers 400 for states (execute, update and delete pages)."""
        said = refusal.words.lower()
        if refusal.status not in {200, 400}:
            return None
        if "does not exist" in said or "not found" in said:
            return NotFound
        states = (
            "with status",
            "illegal_transition",
            "status transition",
            "cannot change status",
            "cannot be modified",
        )
        if any(phrase in said for phrase in states):
            return IllegalTransition
        return None

    def check_state(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> None:
        """Refuse what its state forbids. See `requests.check_state`."""
        requests.check_state(operation, request, current, extended=self.extended, patches_tasks=self.patches_tasks)

    def dials(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> Dials:
        """Would this make a phone ring? See `requests.dials`."""
        return requests.dials(operation, request, current)

    async def account(self) -> Account:
        """Caller numbers and agents: from `/account`, an extension, else from Zudu's two lists."""
        return await read_account(self._http, extended=self.extended)

    async def create(self, request: BatchCallRequest, idempotency_key: str | None = None) -> BatchCall:
        """POST /batch-call; says draft, scheduled or now in so many words."""
        check_create(request, self.capabilities, self.name)
        await self._check_dates(request)
        body = requests.create_body(request, extended=self.extended)
        answer = await self._http.write(
            "create the batch call",
            HttpCall("POST", "/batch-call", json=body),
            idempotency_key=self._key(idempotency_key),
        )
        asked = words.batch_status(body["status"])[0]
        known = BatchCall(
            batch_call_id="",
            status=asked,
            name=body.get("name"),
            from_number=request.from_number,
            agent_id=request.agent_id,
            timezone=request.timezone,
            retry_of=request.retry_of,
            test_of=request.test_of,
        )
        made = await self._after_write("create the batch call", answer, known)
        if asked is BatchStatus.DRAFT and made.status is not BatchStatus.DRAFT:
            note = f"A draft was asked for, and the backend says {made.backend_status or made.status}: look at it now."
            return replace(made, notes=(*made.notes, note))
        return made

    async def keeps_keys(self) -> bool:
        """A server whose `/account` is ours has our other extensions; another one may ignore the header."""
        if self.capabilities.idempotency != "key":
            return False
        try:
            answer = await self._http.read("read the account", HttpCall("GET", "/account"))
        except BatchCallError:
            return False
        return isinstance(words.payload(answer).get("places_real_calls"), bool)

    async def _check_dates(self, request: BatchCallRequest) -> None:
        """Send what another server might ignore only to one that keeps it: who ignores a date calls at another time.

        Raises:
            NotSupported: this server does not say that it does; nothing was sent.
        """
        dated = request.trigger_on or request.ends_on or request.ends_at
        if not dated and not any(task.not_before is not None for task in request.tasks or ()):
            return
        if not await self._keeps_dates():
            raise NotSupported(
                "This server does not say that it keeps dates (a trigger_timestamp without a time), ends_at and "
                "not_before. Nothing was sent. Give a time with an offset, and make one batch call a time zone."
            )

    async def _keeps_dates(self) -> bool:
        try:
            answer = await self._http.read("read the account", HttpCall("GET", "/account"))
        except (NotFound, NotSupported):
            return False
        return words.payload(answer).get("keeps_dates") is True

    async def update(
        self, current: BatchCall, request: BatchCallRequest, idempotency_key: str | None = None
    ) -> BatchCall:
        """PATCH with what is given, or PUT where only a full replacement can hold it.

        Raises:
            InvalidInput: contradictions, or a full replacement without the tasks; nothing was sent.
        """
        await self._check_dates(request)
        method, body = requests.update_call(current, request, extended=self.extended, patches_tasks=self.patches_tasks)
        return await self._change("update", current, method, "", body, idempotency_key, current.etag)

    async def append(
        self, current: BatchCall, tasks: tuple[CallTask, ...], idempotency_key: str | None = None
    ) -> BatchCall:
        """POST /tasks, an extension: whose number it has is not added again."""
        await self._check_dates(BatchCallRequest(tasks=tasks))
        body = requests.tasks_body(tasks)
        return await self._extension(Operation.APPEND, current, body, idempotency_key, current.etag, under="/tasks")

    async def get(self, batch_call_id: str) -> BatchCall:
        """GET /batch-call/{id}.

        Raises:
            UnexpectedResponse: a success that tells of no batch call, or of another one than was asked for.
        """
        reply = await self._http.ask(f"read batch call {batch_call_id}", HttpCall("GET", path_of(batch_call_id)))
        data = words.payload(reply.body)
        if not words.has_id(data):
            raise UnexpectedResponse(
                f"Could not read batch call {batch_call_id}: the backend answered success without a batch call. "
                "Nothing was changed. Check BATCHCALL_URL and BATCHCALL_BACKEND, or look it up with list_batch_calls."
            )
        answered = words.batch_call(data, extended=self.extended)
        batch_call = as_asked(answered, batch_call_id)
        if batch_call is None:
            raise about_another(f"read batch call {batch_call_id}", answered.batch_call_id)
        return replace(batch_call, etag=reply.etag) if self.extended else batch_call

    def task_pages(self, batch_call_id: str, query: TaskQuery) -> Pages:
        """GET /batch-call/{id}/tasks. Zudu knows no filter."""
        filters = _filters(query) if self.extended else {}
        size = _page_size(query.is_filtered, query.limit, query.cursor, self.capabilities.task_page_size)
        return _Numbered(f"{path_of(batch_call_id)}/tasks", filters, "tasks", size, batch_call_id)

    def read_task(self, data: Mapping[str, Any]) -> CallTask:
        """A row of `/tasks`."""
        return words.call_task(data)

    def list_pages(self, query: ListQuery) -> Pages:
        """GET /batch-call/list, newest first. Always with a limit: without one Zudu answers everything."""
        order: Params = {"sort_by": "created_at", "sort_order": "descending"}
        filtered = query != ListQuery(limit=query.limit, cursor=query.cursor)
        size = _page_size(filtered, query.limit, query.cursor, PAGE)
        return _Numbered("/batch-call/list", order, "batch_calls", size)

    def read_batch(self, data: Mapping[str, Any]) -> BatchCall:
        """A batch call, if it is one."""
        if not words.has_id(data):
            raise unreadable_batch(self.title)
        return words.batch_call(data, extended=self.extended)

    async def get_call(self, batch_call_id: str, call_id: str) -> Call:
        """GET /tasks/{task_id}/call, an extension: an attempt is named by its task and its number.

        Raises:
            NotFound: it has no such call, or the server has no such extension.
        """
        self.require(Operation.GET_CALL, batch_call_id)
        doing = f"read call {identifier(call_id)} of batch call {batch_call_id}"
        task_id, _, n = call_id.rpartition(":")
        if not task_id.strip(". ") or not (n.isascii() and n.isdecimal()):
            raise NotFound(f"Could not {doing}: it is not one of its calls. get_batch_call shows those.")
        path = f"{path_of(batch_call_id)}/tasks/{quote(task_id, safe='')}/call"
        return words.call(words.payload(await self._http.read(doing, HttpCall("GET", path, query={"n": int(n)}))))

    async def start(self, current: BatchCall, at: datetime | None, idempotency_key: str | None = None) -> BatchCall:
        """POST /execute, or PATCH with the time."""
        if at is None:
            return await self._change("start", current, "POST", "/execute", None, idempotency_key, current.etag)
        body = requests.schedule_body(at)
        return await self._change("start", current, "PATCH", "", body, idempotency_key, current.etag)

    async def start_as(
        self,
        current: BatchCall,
        request: BatchCallRequest,
        skip: Mapping[str, Sequence[str]],
        idempotency_key: str | None = None,
    ) -> BatchCall:
        """PATCH with the time or date, the end, and for how many people first."""
        await self._check_dates(request)
        body = requests.start_body(request)
        if skip:  # our extension too, of the same servers
            body["skip_tasks"] = {reason: list(ids) for reason, ids in skip.items()}
        return await self._change("start", current, "PATCH", "", body, idempotency_key, current.etag)

    async def start_first(
        self, current: BatchCall, at: datetime | None, first: int, idempotency_key: str | None = None
    ) -> BatchCall:
        """PATCH with `first`, an extension: of a server that does not show the field nobody may ask this.

        Not POST /execute, which an older dialer takes whatever its body says.
        """
        body = {**requests.launch_body(at), "first": first}
        return await self._change("start", current, "PATCH", "", body, idempotency_key, current.etag)

    async def pause(self, current: BatchCall) -> BatchCall:
        """POST /pause, an extension. A stop has no condition: it is never held up."""
        return await self._extension(Operation.PAUSE, current)

    async def resume(self, current: BatchCall, idempotency_key: str | None = None) -> BatchCall:
        """POST /resume, an extension."""
        return await self._extension(Operation.RESUME, current, None, idempotency_key, current.etag)

    async def cancel(self, current: BatchCall) -> BatchCall:
        """POST /cancel, an extension; a server without it can take a scheduled one back to draft."""
        try:
            return await self._extension(Operation.CANCEL, current)
        except NotSupported:
            if current.status is not BatchStatus.SCHEDULED:
                raise
            return await self._back_to_draft(current)

    async def _back_to_draft(self, current: BatchCall) -> BatchCall:
        """What the REST API itself has: `draft` is an accepted status of its PATCH."""
        return await self._change("cancel", current, "PATCH", "", {"status": "draft"})

    async def retry(
        self, current: BatchCall, task_ids: tuple[str, ...], idempotency_key: str | None = None
    ) -> BatchCall:
        """POST /retry, an extension: exactly these tasks are dialled again."""
        body = {"task_ids": list(task_ids)}
        return await self._extension(Operation.RETRY, current, body, idempotency_key, current.etag)

    async def delete(self, current: BatchCall) -> None:
        """DELETE /batch-call/{id}."""
        doing, path = f"delete batch call {current.batch_call_id}", path_of(current.batch_call_id)
        await self._http.write(doing, HttpCall("DELETE", path), if_match=current.etag)

    async def _extension(
        self,
        operation: Operation,
        current: BatchCall,
        body: JsonObject | None = None,
        idempotency_key: str | None = None,
        if_match: str | None = None,
        under: str | None = None,
    ) -> BatchCall:
        """Ask for what Zudu's documents do not have, at a path under the batch call that is named like it or `under`.

        Raises:
            NotSupported: the server has no such extension, or knows the batch call, but not the path; nothing changed.
        """
        self.require(operation, current.batch_call_id)
        action = "add people to" if operation is Operation.APPEND else operation.value
        try:
            return await self._change(action, current, "POST", under or f"/{action}", body, idempotency_key, if_match)
        except (NotFound, NotSupported) as refused:
            if isinstance(refused, NotFound):
                # 404 may mean the path or the batch call; if the batch call is there, it was the path.
                await self.get(current.batch_call_id)
            raise NotSupported(
                f"Could not {action} batch call {current.batch_call_id}: this server has no {under or action}. Nothing "
                "changed; nothing was sent that dials. Look at it with get_batch_call."
            ) from None

    async def _change(
        self,
        action: str,
        current: BatchCall,
        method: str,
        under: str,
        body: JsonObject | None,
        idempotency_key: str | None = None,
        if_match: str | None = None,
    ) -> BatchCall:
        """Write to the batch call, or to a path under it, and read what came of it."""
        doing = f"{action} batch call {current.batch_call_id}"
        answer = await self._http.write(
            doing,
            HttpCall(method, path_of(current.batch_call_id) + under, json=body),
            idempotency_key=self._key(idempotency_key),
            if_match=if_match,
        )
        return await self._after_write(doing, answer, current)

    async def _after_write(self, doing: str, answer: JsonObject, known: BatchCall) -> BatchCall:
        """The batch call as a write's answer tells it; looked up where the answer does not tell its status.

        Raises:
            OutcomeUnknown: the answer is about another batch call, and this one could not be read either.
        """
        data = words.payload(answer)
        try:
            made = completed_by(words.batch_call(data, known.batch_call_id or None, extended=self.extended), known)
        except UnexpectedResponse:
            raise accepted_without_words(doing) from None
        replayed = answer.get("replayed") is True  # then the answer is as old as the first request
        own = as_asked(made, known.batch_call_id or made.batch_call_id)
        if own is None:  # the write went to the right one; how that stands, only a read can say
            try:
                found = await self.get(known.batch_call_id)
            except BatchCallError as error:
                raise accepted_about_another(doing, made.batch_call_id) from error
            return replace(completed_by(found, known), replayed=replayed)
        if not replayed and (own.status is not BatchStatus.UNKNOWN or own.backend_status is not None):
            return own
        try:
            found = await self.get(own.batch_call_id)
        except BatchCallError as error:
            note = f"The write was accepted, but it could not be read back: {error.message}"
            return replace(own, notes=(*own.notes, note), replayed=replayed)
        return replace(completed_by(found, known), replayed=replayed)

    def _key(self, idempotency_key: str | None) -> str | None:
        return idempotency_key if self.capabilities.idempotency == "key" else None


def path_of(batch_call_id: str) -> str:
    """The path of a batch call. An id comes from a model: it must not lead anywhere else.

    Raises:
        NotFound: if no batch call can have this id; nothing was sent.
    """
    impossible = not batch_call_id.strip(". ") or batch_call_id == "list"  # other endpoints
    if impossible or len(batch_call_id) > 200:  # noqa: PLR2004 - far over any real id
        raise NotFound("No batch call can have this id. Nothing was sent. Look the id up with list_batch_calls.")
    return f"/batch-call/{quote(batch_call_id, safe='')}"


@dataclass(frozen=True, slots=True)
class _Numbered:
    """A list under `path`, in numbered pages of which each says what it is about."""

    path: str
    filters: Params
    member: str
    size: int
    batch_call_id: str | None = None

    async def scan(
        self,
        http: CallerHttp,
        doing: str,
        keep: Callable[[Mapping[str, Any]], T | None],
        *,
        cursor: str | None,
        limit: int,
    ) -> Scanned[T]:
        """See `Pages`."""

        async def fetch(page: int, size: int) -> RawPage:
            query = {"page": page, "limit": size, **self.filters}
            answer = await http.read(doing, HttpCall("GET", self.path, query=query))
            named = text(words.payload(answer).get("batch_call_id"))
            if self.batch_call_id is not None and named is not None and not is_same_id(named, self.batch_call_id):
                raise about_another(doing, named)
            return words.raw_page(answer, self.member, page, size)

        return await scan(fetch, keep, cursor=cursor, limit=limit, size=self.size)


def _filters(query: TaskQuery) -> Params:
    """An extension; a server that does not know these gives all tasks, which are looked through here."""
    return given(
        status=None if query.statuses is None else sorted(query.statuses),
        to_number=query.to_number,
        choice=query.choice,
        answered_by=query.answered_by,
    )


def _page_size(filtered: bool, limit: int, cursor: str | None, largest: int) -> int:  # noqa: FBT001 - a fact about the query
    """That of the smallest numbered page which holds all that is asked for, wherever the cursor is."""
    if filtered:
        return largest
    first = offset_of(cursor)
    last = first + limit - 1
    return next((size for size in range(max(limit, 1), largest) if first // size == last // size), largest)
