"""Putting a question to the person behind an MCP client, in both protocol eras; outside the client where it cannot ask.

A handshake-era client (up to 2025-11-25) is asked while the tool call waits. A 2026-07-28 client gets the question as
the call's result and repeats the call with the answer. What it brings back is sealed by the SDK, but it could be sent
twice, so every question carries a nonce of its own.

A client that shows no form may open a page (URL mode): its "accept" says only that the person agreed to open it, and
the answer is given on the page. Over stdio this server can open that page itself. Both wait for the answer for a while.

In every way the use case begins again with the answer: while a person thinks, the list may change.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal, TypeAlias

import anyio
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.types import (
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitRequestURLParams,
    ElicitResult,
    InputRequiredResult,
)
from mcp.types.version import is_version_at_least
from pydantic import ValidationError

from batchcall_mcp.guard.approval import Approval
from batchcall_mcp.guard.confirmation import Answer, Covers, QuestionPending, Reach
from batchcall_mcp.server.approvals.desk import ApprovalDesk

logger = logging.getLogger(__name__)

LONGEST_WAIT_S = 300
PATIENCE_S = 40
"""How long a tool call waits for an answer outside the client: many clients end a call after 60 s."""
_NEWS_EVERY_S: Final = 5.0
_MODERN = "2026-07-28"
_KEY = "confirm"
_CHANGED = "The list or the batch call has changed since the last question. "
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
_OPEN_THE_PAGE: Final = "Open the approval page of batchcall-mcp: it shows what would be called, and takes your answer."

Way: TypeAlias = Literal["url", "page", "terminal"]

_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {"confirm": {"type": "boolean", "title": "Yes, go ahead", "description": "Do exactly this, once"}},
    "required": ["confirm"],
}


class QuestionToPut(QuestionPending):
    """`put` asks: it gives the result with which the call ends where the client repeats it, else None once answered."""

    def __init__(self, put: Callable[[], Awaitable[InputRequiredResult | None]]) -> None:
        super().__init__("a question is pending")
        self.put = put


class ClientAsker:
    """Asks through one tool call's context; outside of the client through the desk. `local`: over stdio."""

    def __init__(self, context: Context[Any, Any], desk: ApprovalDesk, *, local: bool) -> None:
        self._context = context
        self._desk = desk
        self._local = local
        self._answered: tuple[str, Answer] | None = None
        self.waited_for: str | None = None
        """The id of the question that this tool call has waited for outside the client."""
        self._shown: str | None = None
        self._until: float | None = None
        self._news_at = 0.0
        self._gave_up: Reach | None = None
        self._brought = self._is_modern

    @property
    def shown(self) -> str | None:
        """The binding of the question that this tool call brings an answer to, or has waited for."""
        state = _read_state(self._context.request_state, {"binding", "asked"})
        return self._shown or (state["binding"] if state else None)

    @property
    def _is_modern(self) -> bool:
        version = self._context.protocol_version
        return version is not None and is_version_at_least(version, _MODERN)

    async def ask(self, question: str, binding: str, covers: Covers) -> Answer:
        """Ask as the client's protocol era has it.

        Raises:
            QuestionToPut: the person has to be asked first, or answered another question.
        """
        capabilities = self._context.client_capabilities
        elicitation = capabilities.elicitation if capabilities else None
        if elicitation is None or (elicitation.url is not None and elicitation.form is None):
            return Answer("cannot_ask")
        if self._is_modern:
            return await self._answer_brought_along(question, binding, covers)
        return await self._answer_waited_for(question, binding, covers)

    async def _answer_brought_along(self, question: str, binding: str, covers: Covers) -> Answer:
        state = _read_state(self._context.request_state, {"nonce", "binding", "asked"})
        given = self._given()
        shown = question
        if state is None and given is not None:
            return Answer("malformed")  # an answer without its question
        if state is not None:
            answer = _answer(given, time.time() - state["asked"], state["nonce"])
            if answer.outcome != "accepted" or await covers(state["binding"]):  # a no is for the whole call
                return answer
            shown = _CHANGED + question

        async def put() -> InputRequiredResult:
            fresh = {"nonce": secrets.token_urlsafe(16), "binding": binding, "asked": time.time()}
            form = ElicitRequest(params=ElicitRequestFormParams(message=shown, requested_schema=_FORM))
            return InputRequiredResult(input_requests={_KEY: form}, request_state=json.dumps(fresh))

        raise QuestionToPut(put)

    async def _answer_waited_for(self, question: str, binding: str, covers: Covers) -> Answer:
        answered, self._answered = self._answered, None
        shown = question
        if answered is not None:
            if answered[1].outcome != "accepted" or await covers(answered[0]):
                return answered[1]
            shown = _CHANGED + question

        async def put() -> None:
            self._shown = binding
            ask = partial(self._context.session.elicit_form, shown, _FORM, self._context.request_id)
            given, seconds = await self._elicited(ask)
            self._answered = binding, given if isinstance(given, Answer) else _answer(given, seconds)

        raise QuestionToPut(put)

    async def _elicited(self, ask: Callable[[], Awaitable[ElicitResult]]) -> tuple[ElicitResult | Answer, float]:
        """What a handshake-era client answers, and after how many seconds; an Answer where it is none."""
        began = anyio.current_time()
        with self._desk.one_waits(), anyio.move_on_after(LONGEST_WAIT_S):
            try:
                return await ask(), anyio.current_time() - began
            except MCPError as error:
                # Its text may repeat the address of the approval page.
                logger.warning("The client answered a question with the error %s, which is not a yes", error.code)
            except ValidationError as error:
                logger.warning("The client answered a question with something else: %s problems", error.error_count())
            seconds = anyio.current_time() - began
            return Answer("malformed", seconds), seconds
        return Answer("unanswered", LONGEST_WAIT_S), LONGEST_WAIT_S

    def _given(self) -> ElicitResult | None:
        given = (self._context.input_responses or {}).get(_KEY)
        return given if isinstance(given, ElicitResult) else None

    async def reach(self, asked: Approval) -> Reach:
        """Bring a question before a person outside the client, and wait for the answer for a while.

        Raises:
            QuestionToPut: it has to be shown or waited for first.
        """
        way = self._way()
        if way == "terminal":
            return "terminal"
        self._shown = asked.bound
        if self._gave_up is not None:
            return self._gave_up
        if way == "page":
            raise QuestionToPut(partial(self._on_our_page, asked))
        if self._is_modern:
            raise QuestionToPut(self._by_url_brought_along(asked))
        raise QuestionToPut(partial(self._by_url_waited_for, asked))

    def _way(self) -> Way:
        """How a person outside the client is reached."""
        if not self._desk.enabled:
            return "terminal"
        capabilities = self._context.client_capabilities
        elicitation = capabilities.elicitation if capabilities else None
        if elicitation is not None and elicitation.url is not None and (self._local or self._is_on_this_machine()):
            return "url"
        return "page" if self._local else "terminal"

    def _is_on_this_machine(self) -> bool:
        """Whether the client reaches this server by a loopback name: the page can be reached by no other."""
        host = (self._context.headers or {}).get("host", "").lower()
        return (host if host.endswith("]") else host.rpartition(":")[0] or host) in _LOOPBACK

    async def _on_our_page(self, asked: Approval) -> None:
        self.waited_for = asked.approval_id
        if await self._desk.open(asked.approval_id):
            await self._wait_outside(asked)
        else:
            self._gave_up = "terminal"

    def _by_url_brought_along(self, asked: Approval) -> Callable[[], Awaitable[InputRequiredResult | None]]:
        brought, self._brought = self._brought, False
        state = _read_state(self._context.request_state, {"approval", "asked"})
        if brought and (state is not None or self._given() is not None):
            given = self._given()
            if state is None or given is None or given.action != "accept":
                return partial(self._says_no, asked)
            if state["approval"] == asked.approval_id:
                self._desk.was_opened(asked.approval_id)
                return partial(self._wait_outside, asked)
        if self._desk.is_open(asked.approval_id):
            return partial(self._wait_outside, asked)

        async def put() -> InputRequiredResult:
            fresh = {"approval": asked.approval_id, "binding": asked.bound, "asked": time.time()}
            address = await self._desk.address(asked.approval_id)
            page = ElicitRequest(params=ElicitRequestURLParams(message=_OPEN_THE_PAGE, url=address))
            return InputRequiredResult(input_requests={_KEY: page}, request_state=json.dumps(fresh))

        return put

    async def _by_url_waited_for(self, asked: Approval) -> None:
        if not self._desk.is_open(asked.approval_id):
            session, request_id = self._context.session, self._context.request_id
            address = await self._desk.address(asked.approval_id)
            ask = partial(session.elicit_url, _OPEN_THE_PAGE, address, asked.approval_id, request_id)
            given, _ = await self._elicited(ask)
            if isinstance(given, Answer) or given.action != "accept":
                await self._says_no(asked)
                return
            self._desk.was_opened(asked.approval_id)
        await self._wait_outside(asked)
        if self._gave_up is None:
            await self._context.session.send_elicit_complete(asked.approval_id, self._context.request_id)

    async def _says_no(self, asked: Approval) -> None:
        self.waited_for = asked.approval_id
        await self._desk.answer(asked.approval_id, yes=False, after_a_yes=True)

    async def _wait_outside(self, asked: Approval) -> None:
        """Until the question is answered, or this tool call has waited long enough in all."""
        self.waited_for = asked.approval_id
        if self._until is None:
            self._until = anyio.current_time() + PATIENCE_S
        with self._desk.one_waits():
            in_time = await self._desk.answered(asked.approval_id, self._until, self._still_waiting)
        if not in_time:
            self._gave_up = "page"

    async def _still_waiting(self) -> None:
        """Report to the client from time to time: it must not take the call for dead."""
        now = anyio.current_time()
        if self._until is None or now < self._news_at:
            return
        self._news_at = now + _NEWS_EVERY_S
        waited = PATIENCE_S - (self._until - now)
        await self._context.report_progress(
            max(0.0, waited), None, "Waiting for a person to answer on the approval page"
        )


def _answer(given: ElicitResult | None, seconds: float, nonce: str | None = None) -> Answer:
    """Only an accepted form whose one box is ticked is a yes, not something like it."""
    if given is not None and given.action != "accept":
        return Answer("cancelled" if given.action == "cancel" else "declined", seconds, nonce)
    content = {} if given is None else given.content or {}
    if content.keys() != {_KEY} or not isinstance(content[_KEY], bool):
        return Answer("malformed", seconds, nonce)
    return Answer("accepted" if content[_KEY] else "declined", seconds, nonce)


def _read_state(text: str | None, names: set[str]) -> dict[str, Any] | None:
    """Our own state, already unsealed and checked by the SDK; anything else counts as none."""
    if text is None:
        return None
    try:
        state = json.loads(text)
    except ValueError:
        return None
    return state if isinstance(state, dict) and names <= state.keys() else None


async def readable_answers(context: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Middleware: an answer that a 2026-07-28 client brings along, and that cannot be read, is not a yes.

    The SDK would refuse the whole call with a protocol error, which the model does not see.
    """
    params = context.params
    if context.method == "tools/call" and params is not None and params.get("inputResponses") is not None:
        context = replace(context, params={**params, "inputResponses": {_KEY: _readable(params["inputResponses"])}})
    return await call_next(context)


def _readable(responses: object) -> Mapping[str, Any]:
    given = responses.get(_KEY) if isinstance(responses, Mapping) else None
    try:
        answer = ElicitResult.model_validate(given, by_name=False)
    except ValidationError:
        return {"action": "cancel"}
    return answer.model_dump(by_alias=True, mode="json", exclude_none=True)
