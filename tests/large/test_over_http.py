"""A list that is too large for one request over HTTP is refused in words that the client passes on."""

from __future__ import annotations

import anyio
import pytest
from mcp import MCPError

from batchcall_mcp.server.app import build_server
from tests.server.transports import HTTP_WAYS, Way, connected

PEOPLE = [{"to_number": f"+1212{2_000_000 + row}", "name": f"Person {row}", "timezone": "UTC"} for row in range(70_000)]


@pytest.mark.sweep
@pytest.mark.parametrize("way", [way for way in HTTP_WAYS if way.transport != "sse"], ids=str)
async def test_a_list_of_more_than_4_mib_is_refused_with_the_way_out(way: Way) -> None:
    """Over SSE the client hears nothing of it: its request is only answered on the stream, and gives up in the end."""
    with anyio.fail_after(30):
        async with connected(way, build=lambda settings: build_server(settings, transport="http")) as client:
            with pytest.raises(MCPError) as caught:
                await client.call_tool("check_batch_call", {"tasks": PEOPLE, "from_number": "+14155550199"})
    assert "4 MiB" in str(caught.value)
    assert "Nothing was sent" in str(caught.value)
    assert "several batch calls" in str(caught.value)
    assert "curl --data-binary @people.csv" in str(caught.value)
