"""The dialer in this process: the batch-call REST API with our extensions, over ASGI instead of a socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, ClassVar, Final, TypeAlias

import httpx2

from batchcall_mcp.backends.capabilities import LAUNCHING, Capabilities, Operation
from batchcall_mcp.backends.rest_api.batchcall import BatchCallBackend
from batchcall_mcp.backends.rest_api.requests import launch_body
from batchcall_mcp.errors import IllegalTransition
from batchcall_mcp.model import BatchCall, BatchCallRequest
from batchcall_mcp.vendor_http.client import open_client

_Message: TypeAlias = MutableMapping[str, Any]
AsgiApp: TypeAlias = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[None]
]


_WHILE_IT_RUNS: Final = "Calls are placed only while a client is connected or `batchcall-mcp dialer` runs."


class DialerBackend(BatchCallBackend):
    """Our own dialer. Its address is a name only: requests never leave the process."""

    name: ClassVar[str] = "dialer"
    default_url: ClassVar[str] = "http://dialer"
    # A replacement would take back what no tool knows: calls_per_second, expires_timestamp, further retry rules.
    patches_tasks: ClassVar[bool] = True
    capabilities: ClassVar[Capabilities] = replace(
        BatchCallBackend.capabilities,
        operations=BatchCallBackend.capabilities.operations - {Operation.GET_CALL},
        task_page_size=1000,
        results=BatchCallBackend.capabilities.results - {"cost", "summary"},
        prices=False,
        simulated=True,
        in_process=True,
        limitations=(
            "Its carrier is simulated: no phone rings, and the last digit of a number decides how its call goes.",
            _WHILE_IT_RUNS,
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


class RealDialerBackend(DialerBackend):
    """The same dialer, with a carrier that rings real phones."""

    capabilities: ClassVar[Capabilities] = replace(
        DialerBackend.capabilities,
        operations=BatchCallBackend.capabilities.operations,
        results=BatchCallBackend.capabilities.results,
        simulated=False,
        limitations=(
            "Real phones ring: each call is placed by itself, on the voice account of BATCHCALL_CARRIER, which pays.",
            _WHILE_IT_RUNS,
            "A batch call belongs to the carrier with which it was created: another one never dials it.",
        ),
    )

    def check_state(self, operation: Operation, request: BatchCallRequest | None, current: BatchCall | None) -> None:
        """Refuse to ring people for a rehearsal, before a person is asked about it.

        Raises:
            IllegalTransition: the batch call is the simulator's; or as for every server of the dialect.
        """
        if current is not None and current.simulated and operation in LAUNCHING - {Operation.UPDATE}:
            raise IllegalTransition(
                f"Could not {operation.value} batch call {current.batch_call_id}: it was made with the simulated "
                "carrier, and real phones ring here. Nothing was sent. Create it again to call these people."
            )
        super().check_state(operation, request, current)


def open_dialer_client(app: AsgiApp) -> httpx2.AsyncClient:
    """A client for the app of a started dialer (the transport runs no lifespan, so somebody else starts it).

    An error in the app comes back as its 500, as over a socket: a write that failed inside is an unknown
    outcome and not an exception from somewhere.
    """
    return open_client(httpx2.ASGITransport(app, raise_app_exceptions=False))
