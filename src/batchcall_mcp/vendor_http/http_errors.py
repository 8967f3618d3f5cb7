"""What an HTTP answer means: status, headers and body to a JSON object or to our error tree. Pure.

Whatever a backend says is untrusted. Its words are quoted as its words, cut, without control characters, tags, stack
traces, or the caller's key and secret, which some servers echo.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from typing import Any, Literal, TypeAlias, cast

from batchcall_mcp.clock import retry_after
from batchcall_mcp.errors import (
    AuthenticationFailed,
    BackendUnavailable,
    BatchCallError,
    ConfigurationError,
    IllegalTransition,
    InvalidInput,
    NotFound,
    NotSupported,
    OutcomeUnknown,
    PermissionDenied,
    QuotaExceeded,
    RateLimited,
    UnexpectedResponse,
)
from batchcall_mcp.text import quoted

JsonObject: TypeAlias = dict[str, Any]

WORDS_LIMIT = 300
"""Characters of a backend's own words that are passed on."""
_WORDS_DEPTH = 8
_STATUS_NAMES = frozenset(status.phrase.lower() for status in HTTPStatus)
_STACK_TRACE = re.compile(
    r"Traceback \(most recent call last\)|\s+File \"[^\"\n]+\", line \d+|\s+at [^\n(]*\([^)\n]*:\d+|\s+at \S*/\S*:\d+"
    r"|\s#0 \S|goroutine \d+ \["
)
"""Where a stack trace begins, as Python, Java, JavaScript, PHP and Go write it."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is a no: HTTP status and the backend's words, for an adapter to recognise."""

    status: int
    words: str


Recognise: TypeAlias = Callable[[Refusal], type[BatchCallError] | None]
"""Names the error that a vendor's words mean, where its HTTP status does not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A request as its error has to speak of it. `doing` completes "could not …"; `shape`: what an answer has to be;
    `has_error`: see `HttpCall`.
    """

    doing: str
    writes: bool
    secrets: tuple[str, ...] = ()
    recognise: Recognise = lambda _refusal: None
    shape: Literal["object", "object or nothing", "array", "object or array", "anything"] = "object"
    has_error: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: status, headers in lower case, the decoded body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


_STRONG_TAG = re.compile(r'"[\x21\x23-\x7e]{1,200}"')


@dataclass(frozen=True, slots=True)
class Reply:
    """A success: its JSON object or array, and its strong entity tag, if it has one that can stand in an If-Match."""

    body: JsonObject
    etag: str | None = None
    array: list[Any] = field(default_factory=list)


def reply(exchange: Exchange, answer: Answer, now: datetime) -> Reply:
    """What a success says; raises as `read_answer`."""
    etag = answer.headers.get("etag", "")
    tag = etag if _STRONG_TAG.fullmatch(etag) else None
    body = read_answer(exchange, answer, now)
    return Reply({}, tag, body) if isinstance(body, list) else Reply(body, tag)


_SHAPES: dict[str, type | tuple[type, ...]] = {"array": list, "object or array": (dict, list)}


def read_answer(exchange: Exchange, answer: Answer, now: datetime) -> JsonObject | list[Any]:
    """The JSON object of an answer, or the array, where that is what it has to be.

    Raises:
        BatchCallError: what the status or the body means.
    """
    if not 200 <= answer.status < 300:  # noqa: PLR2004 - HTTP
        raise _not_success(exchange, answer, now)
    is_empty = exchange.shape == "object or nothing" and not answer.body.strip()
    is_empty = is_empty or (exchange.shape != "array" and answer.status in {204, 205})
    if is_empty or exchange.shape == "anything":
        return {}
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise unreadable(exchange, "it answered with something that is not JSON") from None
    if isinstance(body, dict) and not exchange.has_error and _says_error(body):
        raise _error_in_success(exchange, answer.status, body)
    if not isinstance(body, _SHAPES.get(exchange.shape, dict)):
        raise unreadable(exchange, "it answered with JSON of another shape than its documents show")
    return cast("JsonObject | list[Any]", body)


def backend_words(body: Any, depth: int = _WORDS_DEPTH) -> str:
    """The text of an error body, in any of the shapes that backends use, or "".

    `error` may be a string or `{code, message}`; `detail` a string or a list of `{loc, msg}`. An `error` that only
    names the HTTP status ("Bad Request") says less than a `message` next to it. Nobody's words are deeper in a body
    than `depth`.
    """
    if isinstance(body, str):
        return body
    if depth == 0:
        return ""
    if isinstance(body, list):
        return "; ".join(words for words in (backend_words(item, depth - 1) for item in body[:5]) if words)
    if not isinstance(body, dict):
        return ""
    detail = backend_words(body.get("error") or body.get("detail") or body.get("errors"), depth - 1)
    said = (backend_words(body.get(key), depth - 1) for key in ("code", "message", "msg"))
    message = ": ".join(words for words in said if words)
    return message if not detail or (message and detail.lower() in _STATUS_NAMES) else detail


def backend_said(text: str, secrets: tuple[str, ...], who: str = "The backend") -> str:
    """The backend's words as a sentence of ours, or "" if it said nothing that can be shown."""
    shown = harmless(text, secrets)
    return f' {who} said: "{shown}"' if shown else ""


def unreadable(exchange: Exchange, why: str) -> BatchCallError:
    """The error for an answer that cannot be understood."""
    if exchange.writes:
        return outcome_unknown(exchange, why)
    return UnexpectedResponse(
        f"Could not {exchange.doing}: the backend was asked, and {why}. Nothing was changed. Check BATCHCALL_URL and "
        "BATCHCALL_BACKEND, or try again later."
    )


def unavailable(exchange: Exchange, why: str) -> BatchCallError:
    """The error for a request whose answer never came."""
    if exchange.writes:
        return outcome_unknown(exchange, why)
    return BackendUnavailable(f"Could not {exchange.doing}: {why}. Nothing was changed. Try again later.")


def not_sent(exchange: Exchange, why: str) -> BatchCallError:
    """The error for a request that cannot have reached the backend."""
    return BackendUnavailable(
        f"Could not {exchange.doing}: {why}. Nothing was sent. Check BATCHCALL_BACKEND, BATCHCALL_URL and the "
        "network, then try again."
    )


def misconfigured(exchange: Exchange, why: str) -> BatchCallError:
    """The error for an address that no request can be made to."""
    return ConfigurationError(f"Could not {exchange.doing}: {why}. Nothing was sent. Correct BATCHCALL_URL.")


def outcome_unknown(exchange: Exchange, why: str, words: str = "") -> BatchCallError:
    """The error for a write that was sent and whose effect nobody knows."""
    happened = (
        f"The outcome is unknown: the request to {exchange.doing} was sent, and {why}.{words} It may or may not have "
        "taken effect. It was not sent again."
    )
    return OutcomeUnknown(
        f"{happened} Look it up with get_batch_call (list_batch_calls for a new one), report what is there, and do not "
        "repeat it.",
        happened,
    )


def accepted_without_words(doing: str) -> BatchCallError:
    """The error for a write that was accepted in an answer that does not show what came of it."""
    return outcome_unknown(Exchange(doing=doing, writes=True), "it answered success without saying what it made")


def about_another(doing: str, named: str, what: str = "batch call") -> UnexpectedResponse:
    """The error for a read whose answer names another batch call, or another `what`, than was asked for."""
    return UnexpectedResponse(
        f"Could not {doing}: the backend {_about(named, what)}. Nothing was sent that changes either of them. Check "
        "the id with list_batch_calls, and BATCHCALL_URL and BATCHCALL_BACKEND."
    )


def accepted_about_another(doing: str, named: str) -> BatchCallError:
    """The error for a write whose answer names another batch call, and whose effect could not be read."""
    return outcome_unknown(Exchange(doing=doing, writes=True), f"the backend {_about(named)}")


def _about(named: str, what: str = "batch call") -> str:
    return f"answered about another {what}, {quoted(named, 100)}"


_REFUSED: dict[int, tuple[type[BatchCallError], str, str]] = {
    400: (InvalidInput, "the backend refuses the request", "Correct what it names and try again."),
    401: (
        AuthenticationFailed,
        "the backend does not accept the API key or secret",
        "Check BATCHCALL_API_KEY and BATCHCALL_API_SECRET (over HTTP: the headers X-API-KEY and X-API-SECRET).",
    ),
    402: (QuotaExceeded, "the backend asks for credit or payment", "Check the account's balance at the backend."),
    403: (PermissionDenied, "the backend does not let this key do that", "Use a key that may."),
    404: (NotFound, "the backend knows no such thing", "Look the id up with list_batch_calls."),
    405: (NotSupported, "the backend does not know this request", "get_backend says what it can do."),
    412: (  # before 409: a refusal in words goes on as that one does
        IllegalTransition,
        "it was changed meanwhile",
        "Read it with get_batch_call and decide again.",
    ),
    409: (
        IllegalTransition,
        "its state does not allow that",
        "Read it with get_batch_call and go on from what is there.",
    ),
    410: (NotFound, "it is gone", "Look for others with list_batch_calls."),
    413: (QuotaExceeded, "the request is too large for the backend", "Send fewer tasks in one batch call."),
    422: (InvalidInput, "the backend refuses the request", "Correct what it names and try again."),
}
_RECOGNISED_NEXT: dict[type[BatchCallError], str] = {error: following for error, _, following in _REFUSED.values()}

# 408 and 425 say that the backend gave up on the request, not that it refused it.
_NO_ANSWER = frozenset({408, 425})


def _not_success(exchange: Exchange, answer: Answer, now: datetime) -> BatchCallError:
    status = answer.status
    if status < 400:  # noqa: PLR2004 - HTTP
        return unreadable(
            exchange,
            f"it answered with a redirect (HTTP {status}), which is not followed because the key would go with it",
        )
    words = backend_words(error_body(answer))
    said = backend_said(words, exchange.secrets)
    if status >= 500 or status in _NO_ANSWER:  # noqa: PLR2004 - HTTP
        if exchange.writes:
            return outcome_unknown(exchange, f"it answered with an error of its own (HTTP {status})", said)
        return BackendUnavailable(
            f"Could not {exchange.doing}: the backend has an error of its own (HTTP {status}). Nothing was changed."
            f"{said} Try again later."
        )
    if status == 429:  # noqa: PLR2004 - HTTP
        wait = retry_after(answer.headers.get("retry-after"), now)
        when = f"in {wait:.0f} s" if wait is not None else "in a minute"
        return RateLimited(
            f"Could not {exchange.doing}: the backend takes no more requests for the moment (HTTP 429). Nothing was "
            f"changed.{said} Try again {when}.",
            wait,
        )
    return _refused(exchange, Refusal(status, words), said)


def _refused(exchange: Exchange, refusal: Refusal, said: str) -> BatchCallError:
    kind, what, following = _REFUSED.get(refusal.status, _REFUSED[400])
    recognised = exchange.recognise(refusal)
    if recognised is OutcomeUnknown:  # such as an idempotency key whose first request is still worked on
        return outcome_unknown(exchange, f"the backend cannot say yet what came of it (HTTP {refusal.status})", said)
    if recognised is not None and recognised is not kind:
        kind, what, following = recognised, "the backend refuses it", _RECOGNISED_NEXT.get(recognised, following)
    return kind(f"Could not {exchange.doing}: {what} (HTTP {refusal.status}). Nothing was changed.{said} {following}")


def _says_error(body: JsonObject) -> bool:
    """Whether a 2xx answer is an error in an envelope; a batch call may well have a status of its own at the top."""
    status = body.get("status")
    if isinstance(status, str) and status.lower() == "error":
        return True
    return bool(body.get("error") or body.get("errors")) and not body.get("data")


def _error_in_success(exchange: Exchange, status: int, body: JsonObject) -> BatchCallError:
    """A yes and a no in one: only words that an adapter knows make it a refusal; else a write's outcome is unknown."""
    words = backend_words(body)
    said = backend_said(words, exchange.secrets)
    refusal = Refusal(status, words)
    if exchange.recognise(refusal) is not None:
        return _refused(exchange, refusal, said)
    if exchange.writes:
        return outcome_unknown(exchange, f"it answered with an error inside a success (HTTP {status})", said)
    return UnexpectedResponse(
        f"Could not {exchange.doing}: the backend answered with an error inside a success (HTTP {status}).{said} "
        "Nothing was changed. Try again later."
    )


def error_body(answer: Answer) -> Any:
    """What an answer that is a no says: its JSON, or its text if that is no page."""
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        pass
    text = answer.body[: 4 * WORDS_LIMIT].decode("utf-8", "replace")
    is_page = "html" in answer.headers.get("content-type", "").lower() or text.lstrip().startswith("<")
    return "" if is_page else text


def harmless(text: str, secrets: tuple[str, ...]) -> str:
    """Somebody else's words, as they can be quoted: what stands in quotation marks has none."""
    return plain(text.replace('"', "'"), secrets)


def plain(text: str, secrets: tuple[str, ...]) -> str:
    """Words, cut, without secrets, stack traces, tags and what does not print."""
    # Redacted before and after: taking tags or control characters out may put a broken-up secret together.
    shown = _redacted(_STACK_TRACE.split(text, maxsplit=1)[0], secrets)
    shown = re.sub(r"<[^<>]*>|<(?=[A-Za-z/!?])", " ", shown)
    # Invisible ones go without a trace, and no secret can hide in between; the rest become spaces.
    shown = "".join(" " if character.isspace() else character for character in shown)
    shown = "".join(character for character in shown if unicodedata.category(character)[0] != "C")
    shown = _redacted(" ".join(shown.split()), secrets)
    return shown if len(shown) <= WORDS_LIMIT else shown[: WORDS_LIMIT - 1].rstrip() + "…"


def _redacted(text: str, secrets: tuple[str, ...]) -> str:
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "[redacted]")
    return text
