"""What can go wrong, as a caller has to distinguish it. Every error is a `BatchCallError`.

Every message says what happened, what did not ("nothing was sent"), and the next step. None holds a secret, a stack
trace or HTML.

The docstrings are what docs/errors.md says of each code (`python -m documentation`): what it means, whether something
was sent, and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class BatchCallError(Exception):
    """The root of the tree. `code` is stable and stands in front of the text that the model reads."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigurationError(BatchCallError):
    """The operator's settings do not work; the text names the variable.

    Sent: nothing.
    Next: the operator corrects the variable and starts the server again.
    """

    code = "configuration_error"


class InvalidInput(BatchCallError):
    """The request is wrong. The text has one line for each problem, named by field or row.

    Sent: nothing that the backend took.
    Next: correct the fields or rows that the text names, and call again.
    """

    code = "invalid_input"

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join((message, *(f"- {problem}" for problem in self.problems))))


class AuthenticationFailed(BatchCallError):
    """The backend does not know the key or the secret (401).

    Sent: nothing that the backend took.
    Next: the operator checks the key with `batchcall-mcp doctor`; the same call fails until then.
    """

    code = "authentication_failed"


class PermissionDenied(BatchCallError):
    """The key may not do this (403), or BATCHCALL_MODE forbids it.

    Sent: nothing that the backend took.
    Next: ask the owner of the account for the right, or the operator for another mode.
    """

    code = "permission_denied"


class NotFound(BatchCallError):
    """No such batch call in this account (404).

    Sent: nothing that the backend took.
    Next: find the id with `list_batch_calls`.
    """

    code = "not_found"


class IllegalTransition(BatchCallError):
    """The state of the batch call does not allow it (409, or the vendor's 400).

    Sent: nothing that the backend took.
    Next: read the batch call with `get_batch_call`; the text names the tool for its state.
    """

    code = "illegal_transition"


class QuotaExceeded(BatchCallError):
    """A limit of calls, money or size (402, 413).

    Sent: nothing that the backend took.
    Next: send less, wait for the next day, or let the operator raise the limit.
    """

    code = "quota_exceeded"


class RateLimited(BatchCallError):
    """Too many requests (429). The text says how many seconds to wait, where the backend does.

    Sent: nothing that the backend took, in three tries.
    Next: wait as long as the text says, then call again.
    """

    code = "rate_limited"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BackendUnavailable(BatchCallError):
    """The backend could not be asked: refused, time-out, reset or 5xx on a read.

    Sent: a read was tried three times; a write never left.
    Next: try again later. For a write nothing has to be checked first.
    """

    code = "backend_unavailable"


class OutcomeUnknown(BatchCallError):
    """A write was sent and may have taken effect; it is never repeated.

    Sent: a write, once. It was looked up, and what was seen does not prove what came of it.
    Next: do what the text says: look at the batch call later. Make nothing new in its place; the operator settles it
        with `batchcall-mcp ledger`.
    """

    code = "outcome_unknown"

    def __init__(self, message: str, happened: str | None = None) -> None:
        super().__init__(message)
        self.happened = happened or message


class UnexpectedResponse(BatchCallError):
    """The backend answered a read with something its documents do not allow.

    Sent: the read; it changed nothing.
    Next: report it: the backend has changed, or something between answers in its place.
    """

    code = "unexpected_response"


class NotSupported(BatchCallError):
    """This backend cannot do it.

    Sent: nothing that the backend took.
    Next: use what the text names instead; `get_backend` lists what this backend cannot do.
    """

    code = "not_supported"


class NotConfirmed(BatchCallError):
    """A launch that nobody confirmed.

    Sent: nothing.
    Next: ask the person. Do not repeat the call after a "no".
    """

    code = "not_confirmed"
