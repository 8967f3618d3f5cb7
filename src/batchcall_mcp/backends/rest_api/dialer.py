"""The dialer in this process: the batch-call REST API with our extensions, over ASGI instead of a socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, TypeAlias

import httpx2

from batchcall_mcp.backends.capabilities import Capabilities
from batchcall_mcp.backends.rest_api.batchcall import BatchCallBackend
from batchcall_mcp.backends.rest_api.requests import launch_body
from batchcall_mcp.model import BatchCall
from batchcall_mcp.vendor_http.client import open_client

_Message: TypeAlias = MutableMapping[str, Any]
AsgiApp: TypeAlias = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[None]
]


class DialerBackend(BatchCallBackend):
    """Our own dialer. Its address is a name only: requests never leave the process."""

    name: ClassVar[str] = "dialer"
    default_url: ClassVar[str] = "http://dialer"
    # A replacement would take back what no tool knows: calls_per_second, expires_timestamp, further retry rules.
    patches_tasks: ClassVar[bool] = True
    capabilities: ClassVar[Capabilities] = replace(
        BatchCallBackend.capabilities,
        task_page_size=1000,
        prices=False,
        simulated=True,
        in_process=True,
        limitations=(
            "Its carrier is simulated: no phone rings, and the last digit of a number decides how its call goes.",
            "Calls are placed only while a client is connected or `batchcall-mcp dialer` runs.",
            "It keeps no list of caller numbers or agents: any from_number and agent_id may be given.",
        ),
    )

    async def _keeps_dates(self) -> bool:
        """It is of this very version."""
        return True

    async def start_without(
        self,
        current: BatchCall,
        at: datetime | None,
        skip: Mapping[str, Sequence[str]],
        idempotency_key: str | None = None,
        *,
        first: int | None = None,
    ) -> BatchCall:
        """PATCH with the time and `skip_tasks`.

        Only here: another server of the dialect may not know the field, and would call them.
        """
        body = {**launch_body(at), "skip_tasks": {reason: list(ids) for reason, ids in skip.items()}}
        body |= {} if first is None else {"first": first}
        return await self._change("start", current, "PATCH", "", body, idempotency_key, current.etag)


def open_dialer_client(app: AsgiApp) -> httpx2.AsyncClient:
    """A client for the app of a started dialer (the transport runs no lifespan, so somebody else starts it).

    An error in the app comes back as its 500, as over a socket: a write that failed inside is an unknown
    outcome and not an exception from somewhere.
    """
    return open_client(httpx2.ASGITransport(app, raise_app_exceptions=False))
