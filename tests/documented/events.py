"""What the product posts to an operator's own service, for the bodies that pages show."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from batchcall_mcp.server.app import build_server
from tests.documented.pages import GAP, holds
from tests.tools.desk import settings_of
from tests.vendors.serving import listening

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo="
LIST = {
    "from_number": "+14155550100",
    "agent_id": "agent_1",
    "max_concurrency": 1,  # so that the first is dialled first
    "tasks": [{"to_number": "+12135550101"}, {"to_number": "+12135550102"}],
}


class Receiver:
    """Takes everything, and lets every call be placed."""

    def __init__(self) -> None:
        self.sends, self.received = anyio.create_memory_object_stream[dict[str, Any]](100)
        self.app = Starlette(routes=[Route("/", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> JSONResponse:
        await self.sends.send(json.loads(await request.body()))
        return JSONResponse({"dial": True})

    async def first(self, kind: str) -> dict[str, Any]:
        """The first body of a type."""
        async for body in self.received:
            if body["type"] == kind:
                return body
        raise AssertionError("the receiver is closed")


async def posted(kind: str) -> dict[str, Any]:
    """The body of this type, of a launch of two people on the built-in dialer."""
    receiver = Receiver()
    with tempfile.TemporaryDirectory() as folder, receiver.sends, receiver.received:
        async with listening(receiver.app) as url:
            settings = settings_of(
                {
                    "BATCHCALL_DATA_DIR": str(Path(folder) / "data"),
                    "BATCHCALL_CALLING_HOURS": "00:00-24:00",
                    "BATCHCALL_SIMULATED_SPEED": "2000",
                    "BATCHCALL_CONFIRM": "off",
                    "BATCHCALL_MAX_CALLS_PER_LAUNCH": "2",
                    "BATCHCALL_PREDIAL_URL": url,
                    "BATCHCALL_PREDIAL_SECRET": SECRET,
                    "BATCHCALL_NOTIFY_URL": url,
                    "BATCHCALL_NOTIFY_SECRET": SECRET,
                }
            )
            async with Client(build_server(settings, transport="stdio")) as client:
                made = await client.call_tool("create_batch_call", LIST)
                assert made.structured_content is not None
                launch = {"batch_call_id": made.structured_content["batch_call"]["batch_call_id"]}
                await client.call_tool("start_batch_call", launch | {"trigger_timestamp": "now"})
                with anyio.fail_after(60):
                    return await receiver.first(kind)


def is_like(shown: Any, body: Any) -> bool:
    """Whether a page shows all of a body and nothing else; "…" is any words, and a time any other time."""
    if isinstance(shown, Mapping):
        return (
            isinstance(body, Mapping)
            and shown.keys() == body.keys()
            and all(map(is_like, shown.values(), (body[name] for name in shown)))
        )
    if isinstance(shown, str) and isinstance(body, str):
        return (GAP in shown and holds(body, shown)) or shown == body or (_is_time(shown) and _is_time(body))
    return bool(shown == body)


def _is_time(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False
