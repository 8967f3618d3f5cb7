"""What can go wrong, as a caller has to distinguish it. Every error is a `BatchCallError`.

Every message says what happened, what did not ("nothing was sent"), and the next step. None holds a secret, a stack
trace or HTML.
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
    """The operator's settings do not work; the text names the variable."""

    code = "configuration_error"


class InvalidInput(BatchCallError):
    """The request is wrong. `problems` are one line each, named by field or row."""

    code = "invalid_input"

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join((message, *(f"- {problem}" for problem in self.problems))))


class AuthenticationFailed(BatchCallError):
    """The backend does not know the key or the secret (401)."""

    code = "authentication_failed"


class PermissionDenied(BatchCallError):
    """The key may not do this (403), or BATCHCALL_MODE forbids it."""

    code = "permission_denied"


class NotFound(BatchCallError):
    """No such batch call in this account (404)."""

    code = "not_found"


class IllegalTransition(BatchCallError):
    """The state of the batch call does not allow it (409, or the vendor's 400)."""

    code = "illegal_transition"


class QuotaExceeded(BatchCallError):
    """A limit of calls, money or size (402, 413)."""

    code = "quota_exceeded"


class RateLimited(BatchCallError):
    """Too many requests (429). `retry_after` in seconds, where the backend says."""

    code = "rate_limited"

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BackendUnavailable(BatchCallError):
    """The backend could not be asked: refused, time-out, reset or 5xx on a read."""

    code = "backend_unavailable"


class OutcomeUnknown(BatchCallError):
    """A write was sent and may have taken effect; it is never repeated. `happened` says it without a next step."""

    code = "outcome_unknown"

    def __init__(self, message: str, happened: str | None = None) -> None:
        super().__init__(message)
        self.happened = happened or message


class UnexpectedResponse(BatchCallError):
    """The backend answered a read with something its documents do not allow."""

    code = "unexpected_response"


class NotSupported(BatchCallError):
    """This backend cannot do it; nothing was sent."""

    code = "not_supported"


class NotConfirmed(BatchCallError):
    """A launch that nobody confirmed; nothing was sent."""

    code = "not_confirmed"
