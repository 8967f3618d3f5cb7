"""A caller that goes away in the middle of a write leaves a line behind: what came of it is not known."""

from __future__ import annotations

import asyncio
import logging

import anyio
import pytest
from pydantic import SecretStr

from batchcall_mcp.backends.rest_api.zudu import ZuduBackend
from batchcall_mcp.model import BatchCall, BatchStatus
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials, open_client
from tests.sockets import accepting


async def test_a_write_that_its_caller_abandons_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    arrived = anyio.Event()

    async def never_answer(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await anyio.sleep_forever()

    pair = Credentials(SecretStr("key-of-the-caller"), SecretStr("secret-of-the-caller"))
    draft = BatchCall(batch_call_id="batch_1", status=BatchStatus.DRAFT)
    with anyio.fail_after(60), caplog.at_level(logging.WARNING):
        async with accepting(never_answer) as port, open_client() as client, anyio.create_task_group() as group:
            http = BackendHttp(client, f"http://127.0.0.1:{port}", 15)
            group.start_soon(ZuduBackend(http, pair).start, draft, None)
            await arrived.wait()
            group.cancel_scope.cancel()

    assert "its outcome is not known: start batch call batch_1" in caplog.text
    assert "of-the-caller" not in caplog.text
