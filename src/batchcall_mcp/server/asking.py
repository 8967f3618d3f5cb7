"""Putting a question to the person behind an MCP client, in both protocol eras.

A handshake-era client (up to 2025-11-25) is asked while the tool call waits. A 2026-07-28 client gets the question as
the call's result and repeats the call with the answer. What it brings back is sealed by the SDK, but it could be sent
twice, so that every question carries a nonce of its own.

In both eras the use case begins anew with the answer: while a person thinks, the list may change.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from mcp import MCPError
from mcp.server.mcpserver import Context
from mcp.types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from mcp.types.version import is_version_at_least

from batchcall_mcp.guard.confirmation import Answer, Covers, QuestionPending

logger = logging.getLogger(__name__)

LONGEST_WAIT_S = 300
_MODERN = "2026-07-28"
_KEY = "confirm"
_CHANGED = "The list or the batch call has changed since the last question. "


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
    """Asks through one tool call's context."""

    def __init__(self, context: Context[Any, Any]) -> None:
        self._context = context
        self._answered: tuple[str, Answer] | None = None

    async def ask(self, question: str, binding: str, covers: Covers) -> Answer:
        """Ask as the client's protocol era has it.

        Raises:
            QuestionToPut: the person has to be asked first, or answered another question.
        """
        capabilities = self._context.client_capabilities
        elicitation = capabilities.elicitation if capabilities else None
        if elicitation is None or (elicitation.url is not None and elicitation.form is None):
            return Answer("cannot_ask")
        version = self._context.protocol_version
        if version and is_version_at_least(version, _MODERN):
            return await self._answer_brought_along(question, binding, covers)
        return await self._answer_waited_for(question, binding, covers)

    async def _answer_brought_along(self, question: str, binding: str, covers: Covers) -> Answer:
        state = _read_state(self._context.request_state)
        given = (self._context.input_responses or {}).get(_KEY)
        shown = question
        if state is not None and isinstance(given, ElicitResult):
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
            self._answered = binding, await self._wait(shown)

        raise QuestionToPut(put)

    async def _wait(self, question: str) -> Answer:
        began = anyio.current_time()
        with anyio.move_on_after(LONGEST_WAIT_S):
            try:
                given = await self._context.session.elicit_form(question, _FORM, self._context.request_id)
            except MCPError as error:
                logger.warning("The client answered a question with an error, which is no yes: %s", error)
                return Answer("cancelled", anyio.current_time() - began)
            return _answer(given, anyio.current_time() - began)
        return Answer("unanswered", LONGEST_WAIT_S)


def _answer(given: ElicitResult, seconds: float, nonce: str | None = None) -> Answer:
    """Only an accepted form whose one box is ticked is a yes, not something like it."""
    if given.action == "accept" and (given.content or {}).get(_KEY) is True:
        return Answer("accepted", seconds, nonce)
    return Answer("cancelled" if given.action == "cancel" else "declined", seconds, nonce)


def _read_state(text: str | None) -> dict[str, Any] | None:
    """Our own state, already unsealed and checked by the SDK; anything else counts as none."""
    if text is None:
        return None
    try:
        state = json.loads(text)
    except ValueError:
        return None
    known = isinstance(state, dict) and {"nonce", "binding", "asked"} <= state.keys()
    return state if known else None
