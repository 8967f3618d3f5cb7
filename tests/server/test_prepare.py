"""A server over stdio that nobody has asked anything gets ready, so that a first call waits for nothing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from batchcall_mcp.server import app, service
from batchcall_mcp.server.app import build_server
from batchcall_mcp.server.tools import registry
from batchcall_mcp.settings import Settings
from tests.vendors import zudu
from tests.vendors.zudu import Zudu


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "_UNASKED_S", 0)


async def test_afterwards_a_first_call_builds_and_opens_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened_late(*_: Any, **__: Any) -> None:
        raise AssertionError("a call waited for this")

    async with Zudu().served() as url:
        settings = Settings(backend="zudu", url=url, api_key=zudu.KEY, api_secret=zudu.SECRET, data_dir=tmp_path)
        server = build_server(settings, transport="stdio")
        async with server.service.opened():
            await server.prepare()
            monkeypatch.setattr(registry, "_tool", opened_late)
            monkeypatch.setattr(service, "open_client", opened_late)
            async with Client(server) as client:
                assert {tool.name for tool in (await client.list_tools()).tools} == set(server.tool_names)
                result = await client.call_tool("list_batch_calls", {})
                assert not result.is_error, result.content


@pytest.mark.parametrize("backend", ["zudu", "dialer"])
async def test_it_begins_by_itself_and_with_the_dialer_after_that_one(tmp_path: Path, backend: Any) -> None:
    account: dict[str, Any] = {}
    if backend == "zudu":
        account = {"url": "http://127.0.0.1:9", "api_key": "key", "api_secret": "secret"}
    server = build_server(Settings(backend=backend, data_dir=tmp_path, **account), transport="stdio")
    server.service.head_start_s = 0
    begun = anyio.Event()

    async def prepare() -> None:
        assert (server.service._dialer is not None) == server.service.embedded
        begun.set()

    server.service.prepare = prepare
    with anyio.fail_after(60):
        async with server.service.opened():
            await begun.wait()


async def test_what_cannot_be_prepared_ends_no_server(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A dialer's database that cannot be opened: each call says so, as it did before."""
    server = build_server(Settings(backend="dialer", data_dir=tmp_path), transport="stdio")
    (tmp_path / "dialer.db").write_bytes(b"no database" * 1000)
    server.service.prepare = server.prepare
    with caplog.at_level(logging.DEBUG, app.__name__):
        async with Client(server) as client:
            await server.prepare()
            result = await client.call_tool("list_batch_calls", {})
    assert result.is_error
    assert "Not all could be prepared" in caplog.text
