"""The page on which a person approves or declines one launch, in their own browser. HTML without scripts.

It answers only under its own loopback names (no other web page reaches it by a name of its own), only at paths that
cannot be guessed, and takes an answer only from its own form.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from typing import Final, Protocol
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.types import Receive, Scope, Send

from batchcall_mcp.errors import BatchCallError
from batchcall_mcp.guard.approval import LONGEST_READ, Approval
from batchcall_mcp.text import printable

_TOKEN_BYTES: Final = 32
_LARGEST_BODY_BYTES: Final = 2048
_MOST_OTHERS: Final = 20


class Questions(Protocol):
    """Where the page reads its question, and writes the answer down."""

    async def read(self, approval_id: str) -> Approval | None:
        """The question as it stands now; None if it was replaced or has been forgotten."""
        ...

    async def answer(self, approval_id: str, *, yes: bool, after_a_yes: bool = False) -> bool:
        """Write an answer down; False if it does not count any more. `after_a_yes`: a no withdraws a yes too."""
        ...

    async def others(self, approval_id: str) -> Sequence[str]:
        """The paths of the same caller's other questions that wait."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where one question is shown. Anyone who knows both tokens can answer it, so neither is written anywhere."""

    approval_id: str
    path_token: str = field(default_factory=lambda: secrets.token_urlsafe(_TOKEN_BYTES), repr=False)
    form_token: str = field(default_factory=lambda: secrets.token_urlsafe(_TOKEN_BYTES), repr=False)

    @property
    def path(self) -> str:
        return f"/approve/{self.path_token}"


class ApprovalPages:
    """An ASGI app: the page of each question in `places` (by path). `port` is the one it listens on."""

    def __init__(
        self,
        questions: Questions,
        places: Callable[[str], Place | None],
        port: int,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._questions = questions
        self._places = places
        self._hosts = frozenset({f"127.0.0.1:{port}", f"localhost:{port}"})
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is served here")
        response = await self._answered(Request(scope, receive))
        await response(scope, receive, send)

    async def _answered(self, request: Request) -> HTMLResponse:
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            return _page(421, "Not here", "<p>This server does not answer to that Host name.</p>")
        place = self._places(request.url.path)
        if place is None:
            return _page(404, "Not here", "<p>There is no question at this address.</p>")
        if request.method not in {"GET", "HEAD", "POST"}:
            return _page(405, "Not here", "<p>This page is only read and answered.</p>", {"allow": "GET, POST"})
        try:
            return await (self._taken(request, place) if request.method == "POST" else self._now(place))
        except BatchCallError:
            broken = "<p>The database of the server cannot be used. Nothing was sent.</p>"
            return _page(503, "This question cannot be read", broken)

    async def _now(self, place: Place) -> HTMLResponse:
        approval = await self._questions.read(place.approval_id)
        return _of(approval, place, self._clock(), await self._questions.others(place.approval_id))

    async def _taken(self, request: Request, place: Place) -> HTMLResponse:
        if not _is_own_form(request.headers, self._hosts):
            return _refused("it did not come from this page's own form.")
        body = await _read(request)
        given = parse_qs(body.decode("ascii", "replace"), max_num_fields=10) if body is not None else {}
        tokens, answers = given.get("token", []), given.get("answer", [])
        if len(tokens) != 1 or not hmac.compare_digest(tokens[0].encode(), place.form_token.encode()):
            return _refused("it did not come from this page's own form.")
        if answers not in (["approve"], ["decline"], ["withdraw"]):
            return _refused("it is neither Approve nor Decline.")
        asked = await self._questions.read(place.approval_id)
        if answers == ["approve"] and asked is not None and not asked.shown.is_readable:
            return _refused("this question is too long to be shown completely.")
        await self._questions.answer(place.approval_id, yes=answers == ["approve"], after_a_yes=answers == ["withdraw"])
        # Whether this answer or an earlier one counted, the page says what counts.
        return await self._now(place)


def _is_own_form(headers: Headers, hosts: frozenset[str]) -> bool:
    """Browsers say where a request comes from. `Origin: null` is what no-referrer makes of a page's own origin."""
    sites, origins = headers.getlist("sec-fetch-site"), headers.getlist("origin")
    if len(sites) > 1 or len(origins) > 1:
        return False
    from_here = origins in [[f"http://{host}"] for host in hosts]
    if sites:
        return sites == ["same-origin"] and (from_here or origins in ([], ["null"]))
    return from_here


async def _read(request: Request) -> bytes | None:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_BODY_BYTES:
            return None
    return body


def _of(approval: Approval | None, place: Place, now: datetime, others: Sequence[str]) -> HTMLResponse:
    more = _more(others)
    if approval is None:
        return _page(410, "This question is closed", f"<p>It has expired, or a later question replaced it.</p>{more}")
    lines = _lines(approval)
    if approval.state == "waiting":
        left = max(0, round((approval.expires_at - now).total_seconds() / 60))
        may = approval.shown.is_readable
        form = (
            _form(place, *[_APPROVE] * may, _DECLINE)
            + f"<p>Open until {approval.expires_at:%H:%M:%S UTC}: {_minutes(left)} left when this page was loaded. "
            "An answer counts once, for exactly this.</p>"
        )
        title = "Do you approve this?" if may else "This question is too long to be approved"
        return _page(200, title, lines + form + more)
    title, words = _ENDS[approval.state]
    until = f"{approval.expires_at:%H:%M UTC}"
    withdraw = _form(place, _WITHDRAW) if approval.state == "approved" else ""
    return _page(200, title, f'<p role="status">{words.format(until=until)}</p>' + lines + withdraw + more)


_APPROVE: Final = '<button class="yes" name="answer" value="approve">Approve</button>'
_DECLINE: Final = '<button name="answer" value="decline">Decline</button>'
_WITHDRAW: Final = '<button name="answer" value="withdraw">Withdraw</button>'


def _form(place: Place, *buttons: str) -> str:
    return (
        f'<form method="post" action="{place.path}">'
        f'<input type="hidden" name="token" value="{place.form_token}">{"".join(buttons)}</form>'
    )


def _more(others: Sequence[str]) -> str:
    """Links to the questions that have no tab of their own."""
    if not others:
        return ""
    what = "1 more question waits" if len(others) == 1 else f"{len(others)} more questions wait"
    links = " ".join(f'<a href="{path}">Question {at}</a>' for at, path in enumerate(others[:_MOST_OTHERS], 1))
    return f'<p class="more">{what} for your answer: {links}</p>'


_ENDS: Final = {
    "approved": (
        "Approved",
        "It goes ahead when the assistant's request goes on or comes again, until {until}. You can close this page.",
    ),
    "declined": ("Declined", "Nothing was sent. You can close this page."),
    "used": ("Answered: approved", "The launch was sent. This question cannot be answered again."),
    "withdrawn": ("This question is closed", "It was answered in another way, such as in the client."),
    "expired": ("This question has expired", "Nothing was sent. The assistant can ask again."),
}


def _lines(approval: Approval) -> str:
    shown = approval.shown
    if not shown.is_readable:
        return (
            f"<p>It has more than {LONGEST_READ:,} characters, and nobody can say yes to a part of it. Nothing was "
            "sent. Decline it, and have the assistant ask about fewer people or rows at a time.</p>"
        )
    return (
        f'<p class="question">{escape(printable(shown.question))}</p>'
        + _list("Some of the people", shown.samples)
        + _list("Skipped rows", shown.skipped)
        + _list("Please note", shown.concerns)
    )


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    shown = "".join(f"<li>{escape(printable(line))}</li>" for line in lines)
    return f"<h2>{title}</h2><ul>{shown}</ul>"


def _minutes(count: int) -> str:
    return "less than a minute" if count < 1 else "1 minute" if count == 1 else f"{count} minutes"


def _refused(why: str) -> HTMLResponse:
    return _page(403, "This answer does not count", f"<p>Nothing was approved or declined: {why}</p>")


_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1b1f;--paper:#fff;--soft:#53535c;--line:#d4d4da;--yes:#0b5d33}
@media(prefers-color-scheme:dark){:root{--ink:#ececf1;--paper:#17171b;--soft:#b4b4be;--line:#45454f;--yes:#0d6e3d}}
body{margin:0;font:1rem/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
main{max-width:40rem;margin:0 auto;padding:1rem;overflow-wrap:anywhere}
h1{font-size:1.4rem}h2{font-size:1rem;margin-bottom:0}ul{margin-top:.25rem;padding-left:1.25rem}
.question{font-size:1.1rem}form{display:flex;flex-wrap:wrap;gap:.75rem;margin:1.5rem 0 1rem}
button{font:inherit;min-height:2.75rem;padding:.5rem 1.5rem;border:2px solid var(--soft);border-radius:.4rem;
color:var(--ink);background:var(--paper);cursor:pointer}
button.yes{color:#fff;background:var(--yes);border-color:var(--yes)}
button:focus-visible{outline:3px solid #1a6dd9;outline-offset:2px}
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS: Final = {
    "content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


def _page(status: int, title: str, inner: str, more: dict[str, str] | None = None) -> HTMLResponse:
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title} · batchcall-mcp</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{title}</h1>{inner}</main></body></html>"
    )
    return HTMLResponse(text, status, _HEADERS | (more or {}))
