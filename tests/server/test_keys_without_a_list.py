"""Whether a key is accepted can be learned of a backend that lists no batch calls too."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from batchcall_mcp.errors import BackendUnavailable
from batchcall_mcp.server.app import build_server
from batchcall_mcp.settings import Settings
from batchcall_mcp.vendor_http.client import Credentials
from tests.vendors import retell
from tests.vendors.retell import Retell


def pair(key: str) -> Credentials:
    return Credentials(SecretStr(key))


async def test_a_right_key_is_accepted_and_a_wrong_one_is_not(tmp_path: Path) -> None:
    vendor = Retell()
    async with vendor.served() as url:
        settings = Settings(backend="retell", url=url, data_dir=tmp_path)
        async with build_server(settings, transport="http").service.opened() as service:
            assert await service.accepts(pair(retell.KEY)) is True
            assert await service.accepts(pair("key_of_somebody_else")) is False
    assert vendor.writes == []


async def test_a_backend_that_does_not_answer_says_nothing_about_a_key(tmp_path: Path) -> None:
    settings = Settings(backend="retell", url="http://127.0.0.1:9", data_dir=tmp_path)
    async with build_server(settings, transport="http").service.opened() as service:
        with pytest.raises(BackendUnavailable):
            await service.accepts(pair(retell.KEY))
