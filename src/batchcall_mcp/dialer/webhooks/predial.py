"""The operator's gate before each dial: a URL that is asked, signed like a webhook, and what it answers.

It is asked about numbers and ids, never about a task's variables. Only a 200 with a clear yes or no is an answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

import httpx2

from batchcall_mcp.clock import Clock
from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.domain.predial import TIME_LIMIT, Verdict
from batchcall_mcp.settings import Settings
from batchcall_mcp.signed_http.post import Message, Post
from batchcall_mcp.signed_http.url_policy import WebhookAddresses
from batchcall_mcp.text import shortened

LOG = logging.getLogger(__name__)
EVENT: Final = "task.before_dial"
MOST_BYTES: Final = 10_000
"""Of an answer."""
LONGEST_REASON: Final = 200
"""Characters of a reason that are kept."""
_UNCLEAR: Final = 'its answer is not {"dial": true} or {"dial": false}'


@dataclass(frozen=True, slots=True)
class PredialUrl:
    """Where to ask, and the secret that signs the questions (`whsec_` and base64)."""

    url: str
    secret: str
    addresses: WebhookAddresses

    @classmethod
    def of(cls, settings: Settings) -> PredialUrl | None:
        """As the operator's settings have it; None: nobody is asked.

        This machine is allowed: the operator, not a client, chose the URL.
        """
        if settings.predial_url is None or settings.predial_secret is None:
            return None
        private = settings.webhooks_to_private_addresses or settings.predial_on_this_machine
        secret = settings.predial_secret.get_secret_value()
        return cls(settings.predial_url, secret, WebhookAddresses(allow_private=private))


class PredialGate:
    """Asks on an event loop that runs in another thread than the one that asks it."""

    def __init__(
        self, to: PredialUrl, clock: Clock, loop: asyncio.AbstractEventLoop, tls: ssl.SSLContext | None = None
    ) -> None:
        self._to = to
        self._clock = clock
        self._loop = loop
        self._post = Post(to.addresses, tls)
        self._open: set[Future[None]] = set()

    def ask(self, attempts: Sequence[Attempt], answered: Callable[[Attempt, Verdict], None]) -> None:
        """Ask about these calls and return at once; `answered` is called once for each of them, in any thread."""
        for attempt in attempts:
            asked = asyncio.run_coroutine_threadsafe(self._ask(attempt, answered), self._loop)
            self._open.add(asked)
            asked.add_done_callback(self._open.discard)

    def close(self) -> None:
        """Stop asking; nobody waits for the answers any more."""
        for asked in list(self._open):
            asked.cancel()

    async def _ask(self, attempt: Attempt, answered: Callable[[Attempt, Verdict], None]) -> None:
        verdict = Verdict("nothing", "the question was cut off")
        try:
            now = self._clock()
            message = Message(
                f"ask_{secrets.token_hex(16)}", question(attempt, now.isoformat()), self._to.url, self._to.secret
            )
            verdict = await self._post.exchange(
                message, now, TIME_LIMIT, read, lambda reason: Verdict("nothing", reason)
            )
        finally:
            answered(attempt, verdict)


def question(attempt: Attempt, at: str) -> str:
    """What is asked about a call: a body of the Standard Webhooks scheme."""
    data = {
        "batch_call_id": attempt.batch_call_id,
        "task_id": attempt.task_id,
        "attempt": attempt.n,
        "organization_id": attempt.organization_id,
        "to_number": attempt.to_number,
        "from_number": attempt.from_number,
        "agent_id": attempt.agent_id,
    }
    given = {name: value for name, value in data.items() if value is not None}
    return json.dumps({"type": EVENT, "timestamp": at, "data": given}, separators=(",", ":"))


async def read(answer: httpx2.Response) -> Verdict:
    """What an answer means. It is read no further than `MOST_BYTES`."""
    status = answer.status_code
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return Verdict("nothing", f"answered {status}; redirects are not followed")
    if status != HTTPStatus.OK:
        return Verdict("nothing", f"answered {status}")
    if answer.headers.get("content-encoding", "identity").strip().lower() != "identity":
        return Verdict("nothing", "its answer is compressed")
    body = b""
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > MOST_BYTES:
            return Verdict("nothing", f"its answer is longer than {MOST_BYTES:,} bytes")
    return verdict(body)


def verdict(body: bytes) -> Verdict:
    """What a body of a 200 says: one JSON object, in which `dial` is true or false, and `reason`, if any, a text."""
    try:
        said = json.loads(body, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        return Verdict("nothing", _UNCLEAR)
    reason = said.get("reason") if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(said.get("dial"), bool) or not isinstance(reason, str | None):
        return Verdict("nothing", _UNCLEAR)
    return Verdict("yes" if said["dial"] else "no", shortened(reason or "", LONGEST_REASON).strip() or None)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key is there twice: which of them is meant is not clear")
    return found
