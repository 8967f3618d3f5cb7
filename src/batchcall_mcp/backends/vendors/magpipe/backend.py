"""Magpipe (https://docs.magpipe.ai): one address, one POST, an `action` in the body, the key as a bearer token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar

from batchcall_mcp.backends.base import Dials, as_asked, completed_by, is_same_id, is_unread, matches
from batchcall_mcp.backends.capabilities import Capabilities, Limits, Operation
from batchcall_mcp.backends.vendors.magpipe import mapping as words
from batchcall_mcp.backends.vendors.magpipe.account import check_agent, own_number, read_account
from batchcall_mcp.backends.vendors.magpipe.mapping import list_in, object_in
from batchcall_mcp.errors import (
    BatchCallError,
    IllegalTransition,
    NotFound,
    NotSupported,
    UnexpectedResponse,
)
from batchcall_mcp.model import (
    FINISHED,
    Account,
    BatchCall,
    BatchCallPage,
    BatchCallRequest,
    BatchStatus,
    Call,
    CallTask,
    ListQuery,
    TaskPage,
    TaskQuery,
    TaskStatus,
)
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.text import identifier
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials
from batchcall_mcp.vendor_http.http_errors import (
    JsonObject,
    Refusal,
    about_another,
    accepted_about_another,
    accepted_without_words,
)
from batchcall_mcp.vendor_http.json_values import text, whole
from batchcall_mcp.vendor_http.paging import RawPage, offset_of, scan

PATH = "/batch-calls"
LIST_PAGE = 50


class MagpipeBackend:
    """Magpipe's service: drafts that can only be started now, no variables, no redials, windows in UTC."""

    name: ClassVar[str] = "magpipe"
    default_url: ClassVar[str] = "https://api.magpipe.ai/functions/v1"
    capabilities: ClassVar[Capabilities] = Capabilities(
        operations=frozenset(Operation) - {Operation.APPEND, Operation.RETRY, Operation.DELETE, Operation.GET_CALL},
        drafts="start_now_only",
        limits=Limits(tasks=words.MAX_RECIPIENTS),
        task_page_size=words.MAX_RECIPIENTS,
        outcomes=(
            TaskStatus.PENDING,
            TaskStatus.CALLING,
            TaskStatus.COMPLETED,
            TaskStatus.NO_ANSWER,
            TaskStatus.BUSY,
            TaskStatus.FAILED,
            TaskStatus.SKIPPED,
        ),
        stop="pending_only",
        cancel_effect="People who were not dialled yet are skipped; calls in progress go on to their end.",
        pause_stops=False,
        windows="utc",
        over_midnight=False,
        max_concurrency=words.MAX_CONCURRENCY,
        idempotency="none",
        task_names=True,
        agent="caller_number",
        update_fields=frozenset({"name", "from_number", "agent_id", "window"}),
        needs_secret=False,
        limitations=(
            "A stored draft can be started now, not scheduled; say the time when it is made.",
            "Only a recurring series can be paused and resumed.",
            "The agent assigned to from_number speaks, whatever agent_id says.",
            "A window is in UTC and its last minute is included; outside it a batch call waits and stays running.",
            words.VOICEMAIL_NOTE,
            "Its own restart calls everybody again, those already reached too, and is never used.",
        ),
    )

    def __init__(self, http: BackendHttp, credentials: Credentials) -> None:
        bearer = {"Authorization": f"Bearer {credentials.api_key.get_secret_value()}"}
        self._http = http.caller(credentials, bearer, _recognise)

    def dials(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> Dials:
        """Would this make a phone ring? See `mapping.dials`."""
        return words.dials(operation, request, current)

    def check_state(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> None:
        """Refuse what its state forbids; and a start from a later state, for which Magpipe calls everybody again."""
        if operation is Operation.CREATE and request is not None:
            words.create_body(request)
        if current is None:
            return
        if operation is Operation.START:
            _check_startable(current)
        elif operation is Operation.RESUME and current.status is not BatchStatus.PAUSED:
            raise NotSupported(
                f"Could not resume batch call {current.batch_call_id}: it is {current.status}, and Magpipe resumes "
                "only paused recurring series. Nothing was sent."
            )
        elif operation is Operation.UPDATE and request is not None:
            if current.status not in {BatchStatus.DRAFT, BatchStatus.RECURRING}:
                raise IllegalTransition(
                    f"Could not update batch call {current.batch_call_id}: it is {current.status}, and Magpipe changes "
                    "only drafts and recurring series. Nothing was sent. Cancel it and make a new one."
                )
            words.update_body(current, request)

    async def account(self) -> Account:
        """list-phone-numbers and list-agents."""
        return await read_account(self._http)

    async def create(self, request: BatchCallRequest, idempotency_key: str | None = None) -> BatchCall:  # noqa: ARG002 - the protocol's
        """Make a batch call: a draft, one for a time, or one that dials now."""
        body = words.create_body(request)
        if request.agent_id is not None and request.from_number is not None:
            await check_agent(self._http, request.from_number, request.agent_id)
        answer = await self._http.write("create the batch call", "POST", PATH, json=body)
        asked = BatchStatus(body["status"])
        known = BatchCall(batch_call_id="", status=asked, name=body["name"], from_number=request.from_number)
        made = completed_by(_written(answer, "create the batch call"), known)
        if made.status is BatchStatus.UNKNOWN and made.backend_status is None:
            made = replace(made, status=asked)
        if made.status is not asked:
            note = f"Status {asked} was asked for, and Magpipe says {made.backend_status or made.status}."
            return replace(made, notes=(*made.notes, note))
        return made

    async def keeps_keys(self) -> bool:
        """Magpipe has none."""
        return False

    async def update(
        self,
        current: BatchCall,
        request: BatchCallRequest,
        idempotency_key: str | None = None,  # noqa: ARG002 - the protocol's
    ) -> BatchCall:
        """Change name, from_number or window of a draft or of a recurring series.

        Raises:
            InvalidInput: a from_number that is not the account's, which Magpipe itself does not check here.
        """
        from_number = request.from_number or current.from_number
        if request.from_number is not None:
            await own_number(self._http, request.from_number)
        if request.agent_id is not None:
            await check_agent(self._http, from_number or "", request.agent_id)
        doing = f"update batch call {current.batch_call_id}"
        answer = await self._http.write(doing, "POST", PATH, json=words.update_body(current, request))
        changed = completed_by(_written(answer, doing), current)
        own = as_asked(changed, current.batch_call_id)
        if own is not None:
            return own
        try:
            return await self.get(current.batch_call_id)
        except BatchCallError as error:
            raise accepted_about_another(doing, changed.batch_call_id) from error

    async def get(self, batch_call_id: str) -> BatchCall:
        """`get`: it answers with every recipient, and the counts are taken from them."""
        batch_call, _, unreadable = await self._read(batch_call_id)
        notes = list(batch_call.notes)
        if unreadable:
            notes.append(f"{unreadable} recipients in Magpipe's answer could not be read and are not shown.")
        if batch_call.counts.completed:
            notes.append(words.VOICEMAIL_NOTE)
        return replace(batch_call, notes=tuple(notes))

    async def tasks(self, batch_call_id: str, query: TaskQuery) -> TaskPage:
        """The same `get`; the page is cut out of the recipients here.

        Raises:
            UnexpectedResponse: an answer without a list of recipients.
        """
        _, recipients, _ = await self._read(batch_call_id)
        if recipients is None:
            raise UnexpectedResponse(
                f"Could not read the tasks of batch call {batch_call_id}: Magpipe answered without a list of "
                "recipients. Nothing was changed. Try again later."
            )
        return _page(recipients, query)

    async def _read(self, batch_call_id: str) -> tuple[BatchCall, list[Mapping[str, Any]] | None, int]:
        """The batch call, its recipients (None: the answer has no list of them) and how many could not be read."""
        doing = f"read batch call {batch_call_id}"
        answer = await self._http.read(doing, "POST", PATH, json={"action": "get", "batch_id": batch_call_id})
        recipients, unreadable = words.recipients_of(answer)
        try:
            answered = words.batch_call(object_in(answer, "batch"), recipients)
        except UnexpectedResponse as odd:
            raise UnexpectedResponse(f"Could not {doing}, and nothing was changed. {odd.message}") from None
        batch_call = as_asked(answered, batch_call_id)
        if batch_call is None:
            raise about_another(doing, answered.batch_call_id)
        for named in {text(row.get("batch_id")) for row in recipients or ()} - {None}:
            if named is not None and not is_same_id(named, batch_call_id):
                raise about_another(doing, named)
        return words.with_runs(batch_call, answer.get("runs")), recipients, unreadable

    async def list(self, query: ListQuery) -> BatchCallPage:
        """`list`, newest first; runs of recurring series are not in it. Magpipe tells no total."""
        body: JsonObject = {"action": "list"}
        if query.status is not None and query.status is not BatchStatus.UNKNOWN:
            body["status"] = query.status.value

        async def fetch(page: int, size: int) -> RawPage:
            asked = {**body, "limit": size, "offset": page * size}
            answer = await self._http.read("list batch calls", "POST", PATH, json=asked)
            found = list_in(answer, "batches")
            items = tuple(item if isinstance(item, dict) else None for item in found)
            return RawPage(items, None, has_more=len(items) >= size)

        def keep(data: Mapping[str, Any]) -> BatchCall | None:
            if not data.get("id"):
                return None
            found = words.batch_call(data)
            return found if matches(found, query) else None

        scanned = await scan(fetch, keep, cursor=query.cursor, limit=query.limit, size=LIST_PAGE)
        return BatchCallPage(scanned.found, scanned.next_cursor, scanned.notes("batch calls"))

    async def start(self, current: BatchCall, at: datetime | None, idempotency_key: str | None = None) -> BatchCall:  # noqa: ARG002 - the protocol's
        """`start`, from draft and scheduled only: from any later state Magpipe calls everybody again.

        The state is read once more just before, because what was a draft a minute ago may be finished by now.

        Raises:
            NotSupported: a time was given; nothing was sent.
            IllegalTransition: by now it is neither draft nor scheduled; nothing was sent.
        """
        doing = f"start batch call {current.batch_call_id}"
        if at is not None:
            raise NotSupported(
                f"Could not {doing} at a time: Magpipe starts a stored batch call only now. Nothing was sent. Start it "
                'with trigger_timestamp "now" at that time, or create a new one with trigger_timestamp.'
            )
        _check_startable(await self.get(current.batch_call_id))
        answer = await self._act("start", doing, current)
        started = await self._read_back(doing, current, BatchStatus.RUNNING)
        if "re-start" in str(answer.get("message")).lower():
            note = "Magpipe says that it was started AGAIN: it calls everybody once more. Cancel it if that is wrong."
            return replace(started, notes=(*started.notes, note))
        return started

    async def pause(self, current: BatchCall) -> BatchCall:
        """`pause_series`: no new run of a recurring series. Ordinary batch calls have no pause."""
        if current.status is not BatchStatus.RECURRING and not is_unread(current):
            raise NotSupported(
                f"Could not pause batch call {current.batch_call_id}: Magpipe pauses only recurring series. Nothing "
                "was sent. cancel_batch_call skips everybody who was not dialled yet, permanently."
            )
        return await self._series("pause", current, BatchStatus.PAUSED)

    async def resume(self, current: BatchCall, idempotency_key: str | None = None) -> BatchCall:  # noqa: ARG002 - the protocol's
        """`resume_series`, of a paused recurring series; `start` would dial the series' own list at once."""
        return await self._series("resume", current, BatchStatus.RECURRING)

    async def cancel(self, current: BatchCall) -> BatchCall:
        """`cancel`: pending recipients are skipped, calls in progress go on; of a series the runs are cancelled too."""
        doing = f"cancel batch call {current.batch_call_id}"
        answer = await self._act("cancel", doing, current)
        after = await self._read_back(doing, current, BatchStatus.CANCELLED)
        children = whole(answer.get("cancelled_children"))
        if children:
            after = replace(after, notes=(*after.notes, f"{children} runs of the series were cancelled with it."))
        if after.status is not BatchStatus.CANCELLED:
            note = f"Magpipe took the request, but the batch call is {after.status}."
            return replace(after, notes=(*after.notes, note))
        return after

    async def retry(
        self,
        current: BatchCall,
        task_ids: tuple[str, ...],  # noqa: ARG002 - the protocol's
        idempotency_key: str | None = None,  # noqa: ARG002 - the protocol's
    ) -> BatchCall:
        """Not there: Magpipe's restart calls everybody."""
        raise NotSupported(
            f"Could not retry tasks of batch call {current.batch_call_id}: Magpipe can only call everybody again. "
            "Nothing was sent. retry_batch_call makes a new draft of those who were not reached."
        )

    async def get_call(self, batch_call_id: str, call_id: str) -> Call:
        """Not there: batch-calls has recipients, and no calls."""
        raise NotSupported(
            f"Could not read call {identifier(call_id)} of batch call {batch_call_id}: Magpipe does not give what "
            "was said in a call. Nothing was sent. get_batch_call shows how each call went."
        )

    async def append(
        self,
        current: BatchCall,
        tasks: tuple[CallTask, ...],  # noqa: ARG002 - the protocol's
        idempotency_key: str | None = None,  # noqa: ARG002 - the protocol's
    ) -> BatchCall:
        """Not there: its recipients can only be replaced."""
        raise NotSupported(
            f"Could not add people to batch call {current.batch_call_id}: Magpipe has no such action. Nothing was sent."
        )

    async def delete(self, current: BatchCall) -> None:
        """Not there."""
        raise NotSupported(
            f"Could not delete batch call {current.batch_call_id}: Magpipe has no delete. Nothing was sent."
        )

    async def _series(self, action: str, current: BatchCall, wanted: BatchStatus) -> BatchCall:
        """Pause or resume, and look: both answer success even where nothing matched.

        Raises:
            IllegalTransition: nothing changed.
            OutcomeUnknown: it could not be read back, so nothing says that it matched.
        """
        doing = f"{action} batch call {current.batch_call_id}"
        await self._act(f"{action}_series", doing, current)
        try:
            after = await self.get(current.batch_call_id)
        except BatchCallError as error:
            raise accepted_without_words(doing) from error
        if after.status is not wanted:
            raise IllegalTransition(
                f"Could not {doing}: Magpipe answered success, but it is still {after.status}. Nothing was changed. "
                "Read it with get_batch_call."
            )
        return after

    async def _act(self, action: str, doing: str, current: BatchCall) -> JsonObject:
        return await self._http.write(doing, "POST", PATH, json={"action": action, "batch_id": current.batch_call_id})

    async def _read_back(self, doing: str, current: BatchCall, expected: BatchStatus) -> BatchCall:
        """The batch call after a write whose answer says only "success".

        Raises:
            OutcomeUnknown: it was read back as something else.
        """
        try:
            return await self.get(current.batch_call_id)
        except UnexpectedResponse as odd:
            raise accepted_without_words(doing) from odd
        except BatchCallError as error:
            note = f"Magpipe took the request, but the batch call could not be read back: {error.message}"
            return replace(current, status=expected, backend_status=None, notes=(*current.notes, note))


def _check_startable(current: BatchCall) -> None:
    if current.status in {BatchStatus.DRAFT, BatchStatus.SCHEDULED}:
        return
    following = "Look at it with get_batch_call."
    if current.status in FINISHED:
        following = "To call those who were not reached, use retry_batch_call."
    if current.status is BatchStatus.PAUSED:
        following = "A paused series goes on with resume_batch_call."
    raise IllegalTransition(
        f"Could not start batch call {current.batch_call_id}: it is {current.backend_status or current.status}, and "
        f"starting it now would make Magpipe call everybody again. Nothing was sent. {following}"
    )


def _written(answer: JsonObject, doing: str) -> BatchCall:
    try:
        return words.batch_call(object_in(answer, "batch"))
    except UnexpectedResponse:
        raise accepted_without_words(doing) from None


def _page(recipients: Sequence[Mapping[str, Any]], query: TaskQuery) -> TaskPage:
    begin = offset_of(query.cursor)
    wanted = [
        row
        for row in recipients
        if (query.statuses is None or words.task_status(row) in query.statuses)
        and (query.to_number is None or comparable(words.task(row).to_number) == query.to_number)
    ]
    end = begin + max(query.limit, 0)
    return TaskPage(tuple(words.task(row) for row in wanted[begin:end]), str(end) if end < len(wanted) else None)


def _recognise(refusal: Refusal) -> type[BatchCallError] | None:
    """Magpipe answers 400 with a sentence for a state that does not allow it, and for what it does not know."""
    said = refusal.words.lower()
    if refusal.status not in {200, 400}:
        return None
    if "cannot start batch" in said or "can only update" in said or "cannot cancel" in said:
        return IllegalTransition
    if "unknown action" in said:
        return NotSupported
    return NotFound if "not found" in said and "batch" in said else None
