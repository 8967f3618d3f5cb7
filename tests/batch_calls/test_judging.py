"""Judging a long list takes seconds; the event loop, and with it every other caller, does not wait for it."""

from __future__ import annotations

import threading
from typing import Any

import anyio
import pytest
from mcp import Client

from batchcall_mcp.batch_calls.writes import write
from batchcall_mcp.guard.preflight.preflight import Preflight, preflight
from batchcall_mcp.server.app import build_server
from batchcall_mcp.settings import Settings

PEOPLE = [{"to_number": "+12125550123"}, {"to_number": "+442071838750"}]


@pytest.mark.parametrize("tool", ["check_batch_call", "create_batch_call"])
async def test_a_list_is_judged_in_a_thread(monkeypatch: pytest.MonkeyPatch, tool: str) -> None:
    judging: list[threading.Thread] = []

    def seen(**asked: Any) -> Preflight:
        judging.append(threading.current_thread())
        return preflight(**asked)

    monkeypatch.setattr(write, "preflight", seen)
    with anyio.fail_after(60):
        async with Client(build_server(Settings.load(), transport="stdio")) as client:
            result = await client.call_tool(tool, {"tasks": PEOPLE, "from_number": "+14155550199"})
    assert not result.is_error, result.content
    assert len(judging) == 1
    assert judging[0] is not threading.main_thread()
