"""The same tools over every transport and in both protocol eras."""

import anyio
import pytest

from batchcall_mcp.settings import Settings
from tests.server.echo import Opened, echo_server
from tests.server.transports import PAIR, Way, client_of, connected, every_way, served

ECHO = ("-m", "tests.server.echo")
ENVIRONMENT = {"BATCHCALL_API_KEY": PAIR["X-API-KEY"], "BATCHCALL_API_SECRET": PAIR["X-API-SECRET"]}


@pytest.mark.sweep
@every_way
async def test_a_tool_is_called_in_the_era_that_the_client_speaks(way: Way) -> None:
    with anyio.fail_after(60):
        async with connected(way, ENVIRONMENT, build=echo_server, command=ECHO) as client:
            result = await client.call_tool("who_am_i", {"word": "hello"})
            assert client.protocol_version == way.version
            assert result.structured_content is not None
            assert result.structured_content["word"] == "hello"


@pytest.mark.sweep
@every_way
async def test_an_error_of_the_tree_reaches_the_model_with_its_code(way: Way) -> None:
    with anyio.fail_after(60):
        async with connected(way, ENVIRONMENT, build=echo_server, command=ECHO) as client:
            result = await client.call_tool("find", {"number": "b-1"})
            assert result.is_error
            assert [block.text for block in result.content if block.type == "text"] == [
                "[not_found] No batch call has the number b-1. Nothing was changed."
            ]


async def test_what_the_server_needs_is_opened_once_for_all_sse_connections() -> None:
    opened = Opened(None)
    settings = Settings.load()
    way = Way("sse", "legacy")
    with anyio.fail_after(60):
        async with served(echo_server(settings, opened), settings, transport="both") as url:
            for _ in range(2):
                async with client_of(url, way) as client:
                    await client.call_tool("who_am_i", {"word": "x"})
            assert (opened.count, opened.closed) == (1, 0)
        assert (opened.count, opened.closed) == (1, 1)
