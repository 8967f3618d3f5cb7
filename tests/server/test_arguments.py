"""Arguments are taken as models write them, where nothing is lost by it."""

from __future__ import annotations

import pytest
from mcp import Client
from mcp.types import TextContent

from batchcall_mcp.server.app import build_server
from batchcall_mcp.settings import Settings


@pytest.mark.parametrize(
    ("when", "code"),
    [
        ("now", "[not_found]"),
        (4102444800, "[not_found]"),
        (4102444800000.0, "[not_found]"),
        ("4102444800", "[not_found]"),
        (True, "[invalid_input]"),
        (["now"], "[invalid_input]"),
    ],
)
async def test_a_moment_may_be_a_number_although_it_is_published_as_text(when: object, code: str) -> None:
    """The batch call does not exist, so that what is understood gets as far as looking for it."""
    async with Client(build_server(Settings.load(), transport="stdio")) as client:
        result = await client.call_tool("start_batch_call", {"batch_call_id": "bc_1", "trigger_timestamp": when})

    assert isinstance(result.content[0], TextContent)
    assert result.content[0].text.startswith(code)
