"""The wire between an adapter and a fake: no socket; every request kept, and an answer changed or lost on demand."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx2

from batchcall_mcp.testing.fake import AsgiApp, Fake

ELSEWHERE = "https://elsewhere.example"
"""An origin that is not the vendor's."""


@dataclass(frozen=True)
class Sent:
    """One request as it left the adapter. `writes`: the fake counts it among those that change something."""

    method: str
    url: httpx2.URL
    headers: httpx2.Headers
    body: bytes
    writes: bool

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return origin_of(self.url)

    def holds(self, secret: str) -> bool:
        """Whether a secret stands anywhere in it."""
        where = [*self.headers.values(), str(self.url), self.body.decode("utf-8", "replace")]
        return any(secret in text for text in where)

    def is_like(self, other: Sent) -> bool:
        """Whether it asks for the same once more; a form is another one each time."""
        asked = (self.method, self.url) == (other.method, other.url)
        return asked and (self.body == other.body or "multipart" in self.headers.get("content-type", ""))

    def __str__(self) -> str:
        return f"{self.method} {self.url}"


Change: TypeAlias = Callable[[Sent, httpx2.Response], httpx2.Response]
"""What comes instead of an answer. It may raise what a broken connection raises."""


class Wire(httpx2.AsyncBaseTransport):
    """`sent` is every request, in order; `change` is asked about each answer before the adapter gets it."""

    def __init__(self, app: AsgiApp, fake: Fake) -> None:
        self._inner = httpx2.ASGITransport(app)
        self._fake = fake
        self.sent: list[Sent] = []
        self.change: Change = unchanged

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Pass it to the fake, and its answer through `change`."""
        body = await request.aread()
        before = len(self._fake.writes)
        try:
            inner = await self._inner.handle_async_request(request)
            answer = httpx2.Response(inner.status_code, headers=inner.headers, content=await inner.aread())
        except Exception:
            if self.change is unchanged:
                raise
            answer = httpx2.Response(500)  # a fake need not stand what follows from an answer that was changed
        writes = len(self._fake.writes) > before
        self.sent.append(Sent(request.method, request.url, request.headers, body, writes))
        return self.change(self.sent[-1], answer)

    @property
    def writes(self) -> list[Sent]:
        """Those that change something."""
        return [one for one in self.sent if one.writes]


def origin_of(url: httpx2.URL | str) -> str:
    """Scheme, host and port of an address."""
    parsed = httpx2.URL(url)
    return f"{parsed.scheme}://{parsed.netloc.decode()}"


def unchanged(_sent: Sent, answer: httpx2.Response) -> httpx2.Response:
    """Nothing goes wrong."""
    return answer


def refuse(status: int, body: Any, *, writes_only: bool = False) -> Change:
    """Every answer, or those to writes alone, is this one."""

    def change(sent: Sent, answer: httpx2.Response) -> httpx2.Response:
        return httpx2.Response(status, json=body) if sent.writes or not writes_only else answer

    return change


def redirect(sent: Sent, _answer: httpx2.Response) -> httpx2.Response:
    """Every answer sends the adapter to another origin."""
    return httpx2.Response(307, headers={"location": ELSEWHERE + sent.url.path})


def link_elsewhere(_sent: Sent, answer: httpx2.Response) -> httpx2.Response:
    """Every address in an answer leads to another origin, and there are more of them than usual."""
    try:
        said = json.loads(answer.content)
    except ValueError:
        return answer
    linked = _linked(said)
    if isinstance(linked, dict):
        more = {name: f"{ELSEWHERE}/{name}" for name in ("next", "next_page_url", "links") if name not in linked}
        linked |= more
    headers = {"link": f'<{ELSEWHERE}/next>; rel="next"'}
    return httpx2.Response(answer.status_code, json=linked, headers=headers)


def with_value(value: Any, kept: str) -> Change:
    """Every value in an answer is this one, but for those that hold the text `kept`, such as an id."""

    def changed(said: Any) -> Any:
        if isinstance(said, dict):
            return {name: changed(inner) for name, inner in said.items()}
        if isinstance(said, list):
            return [changed(inner) for inner in said]
        return said if kept in str(said) else value

    def change(_sent: Sent, answer: httpx2.Response) -> httpx2.Response:
        try:
            said = json.loads(answer.content)
        except ValueError:
            return answer
        return httpx2.Response(answer.status_code, json=changed(said))

    return change


def _linked(said: Any) -> Any:
    if isinstance(said, dict):
        return {name: _linked(value) for name, value in said.items()}
    if isinstance(said, list):
        return [_linked(value) for value in said]
    if isinstance(said, str) and said.startswith(("http://", "https://")):
        url = httpx2.URL(said)
        return ELSEWHERE + url.raw_path.decode()
    return said


def _broken() -> httpx2.Response:
    raise httpx2.ReadError("the connection broke")


def _late() -> httpx2.Response:
    raise httpx2.ReadTimeout("no answer in time")


def _unavailable() -> httpx2.Response:
    return httpx2.Response(503, json={"message": "try again later"})


LOSSES: dict[str, Callable[[], httpx2.Response]] = {
    "the connection broke after the request": _broken,
    "no answer in time": _late,
    "an answer of 503": _unavailable,
}
"""How the answer to a write that has taken effect is lost."""


def lose(number: int, how: str) -> Change:
    """The answer to write number `number` (from 0) is lost; all others arrive."""
    seen = 0

    def change(sent: Sent, answer: httpx2.Response) -> httpx2.Response:
        nonlocal seen
        if not sent.writes:
            return answer
        seen += 1
        return LOSSES[how]() if seen == number + 1 else answer

    return change
