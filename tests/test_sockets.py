"""What tests listen with leaves nothing behind, whatever a client still holds."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import anyio

from tests.server.between import between
from tests.sockets import accepting


async def test_a_connection_that_a_client_holds_ends_with_the_test() -> None:
    served = asyncio.Event()

    async def wait_for_ever(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        served.set()
        await asyncio.Event().wait()

    with anyio.fail_after(30):
        async with accepting(wait_for_ever) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await served.wait()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert await _ended(reader)
        writer.close()


async def test_a_proxy_ends_with_both_sides_of_a_connection_that_is_held() -> None:
    ends: list[asyncio.StreamReader] = []
    served = asyncio.Event()

    async def take(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        ends.append(reader)
        served.set()
        await asyncio.Event().wait()

    with anyio.fail_after(30):
        async with accepting(take) as port:
            async with between([f"http://127.0.0.1:{port}"]) as proxy:
                reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(proxy.url).port)
                await served.wait()
            assert await _ended(reader)
            assert await _ended(ends[0])
        assert asyncio.all_tasks() == {asyncio.current_task()}
        writer.close()


async def _ended(reader: asyncio.StreamReader) -> bool:
    """Whether the other side is gone, once it is."""
    try:
        return await reader.read() == b""
    except ConnectionError:
        return True
