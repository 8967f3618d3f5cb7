"""What most batch-call services have in common. An adapter gives its capabilities, its requests and its readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, NoReturn

from batchcall_mcp.backends.account_reading import AccountReader
from batchcall_mcp.backends.base import (
    At,
    Dials,
    Never,
    Now,
    as_asked,
    completed_by,
    is_asked_for,
    is_same_id,
    is_unread,
    matches,
    name_with_references,
    unread,
    with_references_in_name,
)
from batchcall_mcp.backends.capabilities import LAUNCHING, Operation
from batchcall_mcp.backends.limits import check_create, check_variables
from batchcall_mcp.backends.task_reading import every_task
from batchcall_mcp.clock import utc_now
from batchcall_mcp.errors import (
    BatchCallError,
    IllegalTransition,
    NotFound,
    NotSupported,
    UnexpectedResponse,
)
from batchcall_mcp.model import (
    BatchCall,
    BatchCallPage,
    BatchCallRequest,
    BatchStatus,
    Call,
    CallTask,
    Counts,
    ListQuery,
    TaskPage,
    TaskQuery,
)
from batchcall_mcp.text import identifier
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials
from batchcall_mcp.vendor_http.http_call import HttpCall
from batchcall_mcp.vendor_http.http_errors import (
    JsonObject,
    Refusal,
    about_another,
    accepted_about_another,
    accepted_without_words,
)
from batchcall_mcp.vendor_http.json_values import inside, text
from batchcall_mcp.vendor_http.paging import Pages

_CREATE = "create the batch call"
_VERBS: Mapping[Operation, str] = {
    Operation.APPEND: "add people to",
    Operation.GET_CALL: "read a call of",
}
_STOPS: Mapping[Operation, BatchStatus] = {
    Operation.CANCEL: BatchStatus.CANCELLED,
    Operation.PAUSE: BatchStatus.PAUSED,
}
"""What a stop that was taken should lead to."""


class RestBackend(AccountReader):
    """A batch-call service over HTTP and JSON, as the protocol `Backend` wants it.

    What an adapter has to give is marked "of the adapter"; it overrides a method of the protocol only where its service
    has a trap. Everything refuses what `capabilities` do not have, with a sentence, before anything is sent.
    """

    name: ClassVar[str]
    default_url: ClassVar[str]
    key_header: ClassVar[str] = "Authorization"
    key_prefix: ClassVar[str] = "Bearer "
    headers: ClassVar[Mapping[str, str]] = {}
    """What goes along with every request, besides the key."""
    calls: ClassVar[Mapping[Operation, HttpCall]] = {}
    """Of the adapter: requests of operations that need no more than `{id}` (GET_CALL: `{call_id}`) in their path."""
    allowed: ClassVar[Mapping[Operation, frozenset[BatchStatus]]] = {}
    """Of the adapter: the states from which the service takes an operation; from all, if it is not here."""
    instead: ClassVar[Mapping[Operation, str]] = {}
    """Of the adapter: a sentence on what to do instead, where an operation is missing or its state forbids it."""
    refusals: ClassVar[Mapping[str, type[BatchCallError]]] = {}
    """Of the adapter: what parts of its sentences mean that refuse something; see `recognise`."""
    refers_in_names: ClassVar[bool] = True
    """Whether the name is the only place for the batch call that another one is a retry or a test of."""
    own_variables: ClassVar[frozenset[str]] = frozenset()
    """Of the adapter: names of variables that the service fills itself, drops, or takes for something else."""
    batch_member: ClassVar[str] = "batch_id"
    """Of the adapter: where a task's row names its batch call, if it does."""
    lists_others: ClassVar[bool] = False
    """Of the adapter: whether its pages of tasks may also have rows of other batch calls, or of none."""
    batch_of_call: ClassVar[str | None] = None
    """Of the adapter: the path in the answer to GET_CALL to the batch call of that call; None: it never says. Where it
    leads to nothing, the call has to be one of the tasks'."""

    def __init__(self, http: BackendHttp, credentials: Credentials) -> None:
        key = {self.key_header: f"{self.key_prefix}{credentials.api_key.get_secret_value()}"}
        self._http = http.caller(credentials, {**self.headers, **key}, self.recognise)
        self._numbers: Mapping[str | None, str] = {}

    # --- of the adapter

    async def create_call(self, request: BatchCallRequest) -> HttpCall:
        """The request that makes a batch call; ids that it needs are looked up here.

        Raises:
            BatchCallError: nothing was sent that changes anything.
        """
        raise NotImplementedError

    def read_batch(self, data: Mapping[str, Any]) -> BatchCall:
        """A batch call, out of an answer or a row of a list.

        Raises:
            UnexpectedResponse: it has no id.
        """
        raise NotImplementedError

    def read_created(self, data: Mapping[str, Any], request: BatchCallRequest) -> BatchCall:  # noqa: ARG002 - for those whose answer is another one
        """The same, out of the answer to `create_call`."""
        return self.read_batch(data)

    def read_task(self, data: Mapping[str, Any]) -> CallTask | None:
        """A task; None for a row that is none."""
        raise NotImplementedError

    async def call_at(self, batch_call_id: str, call_id: str) -> HttpCall:  # noqa: ARG002 - for those that need it
        """The request that reads one call of a batch call."""
        return self.calls[Operation.GET_CALL].at(call_id=call_id)

    def read_call(self, data: Mapping[str, Any]) -> Call:
        """One call with what was said in it."""
        raise NotImplementedError

    def task_pages(self, batch_call_id: str, query: TaskQuery) -> Pages:
        """Where the tasks are read; what the service cannot filter by is filtered here."""
        raise NotImplementedError

    def list_pages(self, query: ListQuery) -> Pages:
        """Where the batch calls are read, newest first."""
        raise NotImplementedError

    def update_call(self, current: BatchCall, request: BatchCallRequest) -> HttpCall:
        """The request that changes what is given in `request`, and nothing else."""
        raise NotImplementedError

    def recognise(self, refusal: Refusal) -> type[BatchCallError] | None:
        """The error that the service's words mean, where its HTTP status does not say it."""
        return next((error for words, error in self.refusals.items() if words in refusal.words), None)

    # --- what may be asked

    def check_state(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> None:
        """Refuse what its state forbids, and a request that contradicts itself."""
        if operation is Operation.CREATE and request is not None:
            check_create(request, self.capabilities, self.title)
            check_variables(request, self.own_variables, self.title)
        states = self.allowed.get(operation)
        if current is None or states is None or current.status in states or is_unread(current):
            return
        if operation in _STOPS and current.status is BatchStatus.UNKNOWN:
            return  # a stop is never held up by a word that nobody knows
        words = " or ".join(sorted(states))
        raise IllegalTransition(
            f"Could not {self.doing(operation, current.batch_call_id)}: it is "
            f"{current.backend_status or current.status}, and {self.title} does that only from {words}. Nothing was "
            f"sent. {self.instead.get(operation, 'Read it with get_batch_call and decide again.')}"
        )

    def dials(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> Dials:
        """Would this make a phone ring? Unsure means Now."""
        can = self.capabilities
        if operation not in LAUNCHING or (operation is Operation.RETRY and can.retry == "child_draft"):
            return Never()
        is_draft = current is not None and current.status is BatchStatus.DRAFT
        if operation in {Operation.UPDATE, Operation.APPEND}:
            return Never() if is_draft or (current is not None and _only_renames(request)) else Now()
        if request is None or request.send_now:
            return Now()
        if operation is Operation.CREATE and request.trigger_at is None:
            return Now() if can.drafts == "none" else Never()
        holds_time = operation is Operation.CREATE or (operation is Operation.START and can.drafts == "full")
        return At(request.trigger_at) if holds_time and request.trigger_at is not None else Now()

    async def keeps_keys(self) -> bool:
        """As its capabilities say."""
        return self.capabilities.idempotency == "key"

    # --- reads

    async def get(self, batch_call_id: str) -> BatchCall:
        """Ask for it, and make sure that the answer is about it."""
        doing = self.doing(Operation.GET, batch_call_id)
        return await self.found_in(await self._http.read(doing, self.call(Operation.GET, batch_call_id)), batch_call_id)

    async def found_in(self, answer: JsonObject, batch_call_id: str) -> BatchCall:
        """The batch call in an answer to GET.

        Raises:
            UnexpectedResponse: it is about another one, or has none.
        """
        doing = self.doing(Operation.GET, batch_call_id)
        try:
            found = self._read(answer)
        except UnexpectedResponse as odd:
            raise UnexpectedResponse(f"Could not {doing}, and nothing was changed. {odd.message}") from None
        own = as_asked(found, batch_call_id)
        if own is None:
            raise about_another(doing, found.batch_call_id)
        return (await self.with_numbers(own))[0]

    async def tasks(self, batch_call_id: str, query: TaskQuery) -> TaskPage:
        """A page of what `task_pages` says, without what was not asked for."""
        doing, keep = self.keeps_tasks(batch_call_id, query)
        pages = self.task_pages(batch_call_id, query)
        scanned = await pages.scan(self._http, doing, keep, cursor=query.cursor, limit=query.limit)
        return TaskPage(scanned.found, scanned.next_cursor, scanned.notes("tasks"))

    def keeps_tasks(
        self, batch_call_id: str, query: TaskQuery
    ) -> tuple[str, Callable[[Mapping[str, Any]], CallTask | None]]:
        """What is done, in words, and which rows are tasks that a query asks for."""
        doing = f"read the tasks of batch call {batch_call_id}"

        def keep(data: Mapping[str, Any]) -> CallTask | None:
            named = text(inside(data, self.batch_member))
            if self.lists_others and (named is None or not _is_its(named, batch_call_id)):
                return None
            if named is not None and not _is_its(named, batch_call_id):
                raise about_another(doing, named)
            task = self.read_task(data)
            return task if task is not None and is_asked_for(task, query) else None

        return doing, keep

    async def list(self, query: ListQuery) -> BatchCallPage:
        """A page of what `list_pages` says, without what was not asked for."""
        self.require(Operation.LIST)

        def keep(data: Mapping[str, Any]) -> BatchCall | None:
            try:
                found = self._read(data)
            except UnexpectedResponse:
                return None  # a row without an id is no batch call that anybody could ask for
            return found if matches(found, query) else None

        pages = self.list_pages(query)
        scanned = await pages.scan(self._http, "list batch calls", keep, cursor=query.cursor, limit=query.limit)
        found = await self.with_numbers(*scanned.found)
        return BatchCallPage(found, scanned.next_cursor, scanned.notes("batch calls"))

    async def get_call(self, batch_call_id: str, call_id: str) -> Call:
        """One call, if it belongs to that batch call."""
        self.require(Operation.GET_CALL, batch_call_id)
        doing = f"read call {identifier(call_id)} of batch call {batch_call_id}"
        answer = await self._http.read(doing, await self.call_at(batch_call_id, call_id))
        if self.batch_of_call is not None:
            named = text(inside(answer, self.batch_of_call))
            if not (_is_its(named, batch_call_id) if named else await self._has_call(batch_call_id, call_id)):
                raise NotFound(f"Could not {doing}: it is not one of its calls. get_batch_call shows those.")
        found = self.read_call(answer)
        if found.call_id and not _is_its(found.call_id, call_id):
            raise about_another(doing, found.call_id, "call")
        return found

    async def _has_call(self, batch_call_id: str, call_id: str) -> bool:
        async for task in every_task(self, unread(batch_call_id)):
            if task.call_id == call_id:
                return True
        return False

    # --- writes

    async def create(self, request: BatchCallRequest, idempotency_key: str | None = None) -> BatchCall:
        """Send what `create_call` says, once; what the answer does not say is as it was asked for."""
        self.check_state(Operation.CREATE, request, None)
        if self.capabilities.drafts == "none" and request.trigger_at is not None and request.trigger_at <= utc_now():
            # A time that is past means now, and no vendor says what it makes of one.
            request = replace(request, trigger_at=None, status=None, send_now=True)
        call = await self.create_call(request)
        key = idempotency_key if self.capabilities.idempotency == "key" else None
        answer = await self._http.write(_CREATE, call, idempotency_key=key)
        return self.created(answer, request)

    def created(self, answer: JsonObject, request: BatchCallRequest) -> BatchCall:
        """The batch call that an answer to a create is about.

        Raises:
            OutcomeUnknown: the answer has no id.
        """
        try:
            made = self.with_references(self.read_created(answer, request))
        except UnexpectedResponse:
            raise accepted_without_words(_CREATE) from None
        known = BatchCall(
            batch_call_id=made.batch_call_id,
            status=BatchStatus.UNKNOWN,
            name=request.name,
            from_number=request.from_number,
            agent_id=request.agent_id,
            scheduled_at=request.trigger_at,
            window=request.window,
            max_concurrency=request.max_concurrency,
            retry=request.retry,
            retry_of=request.retry_of,
            test_of=request.test_of,
            counts=Counts(total=len(request.tasks or ())),
        )
        if self.capabilities.caller == "id":
            made = replace(made, from_number=request.from_number)
        made = completed_by(made, known)
        asked = self._asked_for(request)
        if made.status is BatchStatus.UNKNOWN and made.backend_status is None:
            return replace(made, status=asked)
        if asked is not BatchStatus.UNKNOWN and made.status is not asked:
            note = f"Status {asked} was asked for, and {self.title} says {made.backend_status or made.status}."
            return replace(made, notes=(*made.notes, note))
        return made

    def _asked_for(self, request: BatchCallRequest) -> BatchStatus:
        """The state of which an accepted request speaks. What may dial now may be anything by the time it is read."""
        dials = self.dials(Operation.CREATE, request, None)
        if isinstance(dials, Never):
            return BatchStatus.DRAFT
        is_to_come = isinstance(dials, At) and dials.time > utc_now()
        return BatchStatus.SCHEDULED if is_to_come else BatchStatus.UNKNOWN

    async def update(
        self,
        current: BatchCall,
        request: BatchCallRequest,
        idempotency_key: str | None = None,  # noqa: ARG002 - the protocol's
    ) -> BatchCall:
        """Send what `update_call` says; its answer is the batch call.

        Raises:
            OutcomeUnknown: the answer is about another batch call, and this one could not be read either.
        """
        self.require(Operation.UPDATE, current.batch_call_id)
        doing = self.doing(Operation.UPDATE, current.batch_call_id)
        answer = await self._http.write(doing, self.update_call(current, request))
        # An answer without the policy that was turned off says that there is none.
        is_off = request.retry is not None and not request.retry.max_retries
        try:
            changed = completed_by(self._read(answer), replace(current, retry=request.retry) if is_off else current)
        except UnexpectedResponse:
            raise accepted_without_words(doing) from None
        own = as_asked(changed, current.batch_call_id)
        if own is not None:
            return own
        try:
            return await self.get(current.batch_call_id)
        except BatchCallError as error:
            raise accepted_about_another(doing, changed.batch_call_id) from error

    async def append(
        self,
        current: BatchCall,
        tasks: tuple[CallTask, ...],  # noqa: ARG002 - the protocol's
        idempotency_key: str | None = None,  # noqa: ARG002 - the protocol's
    ) -> BatchCall:
        """Overridden by an adapter whose service can add people."""
        self._refuse(Operation.APPEND, current.batch_call_id)

    async def start(self, current: BatchCall, at: datetime | None, idempotency_key: str | None = None) -> BatchCall:  # noqa: ARG002 - the protocol's
        """Launch a draft now; a service that can hold a time overrides this.

        Raises:
            NotSupported: a time was given; nothing was sent.
        """
        if at is not None:
            raise NotSupported(
                f"Could not start batch call {current.batch_call_id} at a time: {self.title} starts a stored batch "
                'call only now. Nothing was sent. Start it with trigger_timestamp "now" at that time, or create a new '
                "one with trigger_timestamp."
            )
        return await self.act(Operation.START, current)

    async def pause(self, current: BatchCall) -> BatchCall:
        """No new dial."""
        return await self.act(Operation.PAUSE, current)

    async def resume(self, current: BatchCall, idempotency_key: str | None = None) -> BatchCall:  # noqa: ARG002 - the protocol's
        """Dial on."""
        return await self.act(Operation.RESUME, current)

    async def cancel(self, current: BatchCall) -> BatchCall:
        """Withdraw what was not dialled; see `Capabilities.cancel_effect`."""
        return await self.act(Operation.CANCEL, current)

    async def retry(
        self,
        current: BatchCall,
        task_ids: tuple[str, ...],  # noqa: ARG002 - the protocol's
        idempotency_key: str | None = None,  # noqa: ARG002 - the protocol's
    ) -> BatchCall:
        """Where the service calls everybody not reached, there or in a new draft; where it takes ids: overridden.

        Raises:
            IllegalTransition: everybody would be called in the same batch call, and by now its state does not allow
                that, or a call is in progress; nothing was sent.
        """
        call = self.retry_call(current)
        if self.capabilities.retry == "all_unreached":
            await self._check_all_over(current.batch_call_id)
        if self.capabilities.retry != "child_draft":
            return await self.act(Operation.RETRY, current, call)
        answer = await self._http.write(self.doing(Operation.RETRY, current.batch_call_id), call)
        return self.created(answer, BatchCallRequest(retry_of=current.batch_call_id))

    async def _check_all_over(self, batch_call_id: str) -> None:
        """Its state is read once more just before: a second retry of everybody calls people twice."""
        now = await self.get(batch_call_id)
        self.check_state(Operation.RETRY, None, now)
        if now.counts.calling:  # whatever it says of itself
            calls = f"{now.counts.calling} of its calls {'is' if now.counts.calling == 1 else 'are'} in progress"
            following = self.instead.get(Operation.RETRY, "Wait until they are over.")
            raise IllegalTransition(
                f"Could not {self.doing(Operation.RETRY, batch_call_id)}: {calls}. Nothing was sent. {following}"
            )

    def retry_call(self, current: BatchCall) -> HttpCall:
        """The request of a retry."""
        return self.call(Operation.RETRY, current.batch_call_id)

    async def delete(self, current: BatchCall) -> None:
        """Remove it for good."""
        call = replace(self.call(Operation.DELETE, current.batch_call_id), may_be_empty=True)
        await self._http.write(self.doing(Operation.DELETE, current.batch_call_id), call)

    async def act(self, operation: Operation, current: BatchCall, call: HttpCall | None = None) -> BatchCall:
        """Send a write about one batch call, once, and read it back: an answer to an action says little of its state.

        Raises:
            NotSupported: the service has no such operation; nothing was sent.
            OutcomeUnknown: nobody can say what came of it.
        """
        doing, call = self.doing(operation, current.batch_call_id), call or self.call(operation, current.batch_call_id)
        answer = await self._http.write(doing, replace(call, may_be_empty=True))
        after = await self.read_back(doing, current)
        wanted = _STOPS.get(operation)
        if wanted is not None and after.status not in {wanted, BatchStatus.UNKNOWN}:
            note = f"{self.title} took the request, but the batch call is {after.backend_status or after.status}."
            after = replace(after, notes=(*after.notes, note))
        return replace(after, notes=(*after.notes, *self.notes_on(operation, answer)))

    def notes_on(self, operation: Operation, answer: JsonObject) -> tuple[str, ...]:  # noqa: ARG002 - for those whose answers say more
        """Of the adapter: what the answer to an action says beyond the state of the batch call."""
        return ()

    async def read_back(self, doing: str, current: BatchCall) -> BatchCall:
        """The batch call after a write that was accepted; its state is unknown if it cannot be read.

        Raises:
            OutcomeUnknown: it was read back as something else.
        """
        try:
            return await self.get(current.batch_call_id)
        except UnexpectedResponse as odd:
            raise accepted_without_words(doing) from odd
        except BatchCallError as error:
            note = f"{self.title} took the request, but the batch call could not be read back: {error.message}"
            return replace(current, status=BatchStatus.UNKNOWN, backend_status=None, notes=(*current.notes, note))

    # --- helpers of adapters

    def call(self, operation: Operation, batch_call_id: str) -> HttpCall:
        """The request of an operation on a batch call.

        Raises:
            NotSupported: the service has none; nothing was sent.
        """
        self.require(operation, batch_call_id)
        return self.calls[operation].at(id=batch_call_id)

    def name_of(self, request: BatchCallRequest) -> str:
        """A name for a service that requires one, with the batch call that it belongs to."""
        name = request.name or f"Batch call of {len(request.tasks or ())} tasks"
        return name_with_references(name, request, self.capabilities.limits.name_length)

    def _read(self, data: Mapping[str, Any]) -> BatchCall:
        return self.with_references(self.read_batch(data))

    def with_references(self, found: BatchCall) -> BatchCall:
        return with_references_in_name(found) if self.refers_in_names else found

    def doing(self, operation: Operation, batch_call_id: str) -> str:
        verb = "read" if operation is Operation.GET else _VERBS.get(operation, operation.value)
        return f"{verb} batch call {batch_call_id}"

    def require(self, operation: Operation, batch_call_id: str = "") -> None:
        if operation not in self.capabilities.operations:
            self._refuse(operation, batch_call_id)

    def _refuse(self, operation: Operation, batch_call_id: str) -> NoReturn:
        what = self.doing(operation, batch_call_id) if batch_call_id else f"{operation.value} batch calls"
        following = self.instead.get(operation, "get_backend says what it can do.")
        raise NotSupported(f"Could not {what}: {self.title} cannot do that. Nothing was sent. {following}")

    def is_about(self, batch_call_id: str) -> Callable[[Mapping[str, Any]], None]:
        """A check that an answer is about the batch call that was asked for; one without an id may be.

        Raises:
            UnexpectedResponse: when called with an answer about another one.
        """

        def check(answer: Mapping[str, Any]) -> None:
            alone = {name: value for name, value in answer.items() if not isinstance(value, list)}
            try:
                named = self.read_batch(alone).batch_call_id  # without its people, whom nobody counts here
            except UnexpectedResponse:
                return
            if not is_same_id(named, batch_call_id):
                raise about_another(f"read batch call {batch_call_id}", named)

        return check


def _is_its(named: str, batch_call_id: str) -> bool:
    """Whether a task's row names this batch call: some vendors write one id with hyphens and without."""
    return is_same_id(named.replace("-", ""), batch_call_id.replace("-", ""))


def _only_renames(request: BatchCallRequest | None) -> bool:
    return request is not None and replace(request, name=None, retry_of=None) == BatchCallRequest()
