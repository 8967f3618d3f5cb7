"""A vendor played by a table of answers, which remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
import httpx2
from pydantic import SecretStr

from batchcall_mcp.vendor_http.client import BackendHttp, Credentials, open_client

CREDENTIALS = Credentials(SecretStr("sk_test"), SecretStr("s3cr3t_test"))


@dataclass(frozen=True)
class Asked:
    """One request as the vendor saw it."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: Any
    headers: httpx2.Headers


@dataclass(frozen=True)
class Status:
    """An answer other than 200, or with headers of its own."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


Reply: TypeAlias = Any | Callable[[Asked], Any]


@dataclass
class Vendor:
    """`answers` by "METHOD /path"; a list is used up one by one, its last stays; what is not there is a bare 404."""

    answers: dict[str, Reply] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        query: dict[str, list[str]] = {}
        for name, value in request.url.params.multi_items():
            query.setdefault(name, []).append(value)
        raw_path = request.url.raw_path.decode().partition("?")[0]
        body = json.loads(request.content) if request.content else None
        asked = Asked(request.method, raw_path, query, body, request.headers)
        self.asked.append(asked)
        reply = self.answers.get(f"{request.method} {raw_path}", Status(404, {"detail": "Not Found"}))
        if isinstance(reply, list):
            reply = reply.pop(0) if len(reply) > 1 else reply[0]
        if callable(reply):
            reply = reply(asked)
        full = reply if isinstance(reply, Status) else Status(200, reply)
        return httpx2.Response(full.status, json=full.body, headers=full.headers)

    @asynccontextmanager
    async def http(self, url: str = "http://vendor") -> AsyncIterator[BackendHttp]:
        async with open_client(httpx2.MockTransport(self.handle)) as client:
            yield BackendHttp(client, url, 5, sleep=lambda _seconds: anyio.lowlevel.checkpoint(), jitter=lambda: 0.0)

    @property
    def writes(self) -> list[Asked]:
        """Requests of the batch-call REST API that are not reads."""
        return [asked for asked in self.asked if asked.method != "GET"]


def envelope(data: Any, message: str = "OK") -> dict[str, Any]:
    return {"message": message, "status": "success", "error": None, "data": data}


def refused(status: int, error: str) -> Status:
    return Status(status, {"message": "Validation error", "status": "error", "error": error})
