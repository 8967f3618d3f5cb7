"""A person is found by any spelling of their number, and a backend that does not answer is said to be so at once."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from batchcall_mcp.server import service
from batchcall_mcp.settings import Settings
from tests.operator.processes import of_magpipe, of_zudu, serving, variables
from tests.vendors.magpipe import Magpipe
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, Model

ANN, BOB = "+12125550124", "+12125550125"


@asynccontextmanager
async def model_of(backend: str, folder: Path) -> AsyncIterator[Model]:
    more = {"default_region": "US", "confirm": "code"}
    if backend == "dialer":
        async with serving(variables(folder, **more)) as model:
            yield model
        return
    vendor: Zudu | Magpipe = Zudu() if backend == "zudu" else Magpipe()
    async with vendor.served() as url:
        of = of_zudu if backend == "zudu" else of_magpipe
        async with serving(of(url, folder, **more)) as model:
            yield model


@pytest.mark.parametrize("backend", ["dialer", "zudu", "magpipe"])
async def test_a_task_is_found_by_any_spelling_of_its_number(backend: str, tmp_path: Path) -> None:
    with anyio.fail_after(30):
        async with model_of(backend, tmp_path) as model:
            people = [{"to_number": ANN}, {"to_number": BOB}]
            made = await model.call("create_batch_call", from_number=FROM, tasks=people, name="Two people")
            this = made["batch_call"]["batch_call_id"]
            for spelling in (ANN, "(212) 555-0124", "001 212 555 0124", "tel:+1-212-555-0124", "212.555.0124"):
                seen = await model.call("get_batch_call", batch_call_id=this, to_number=spelling)
                assert [task["to_number"] for task in seen["tasks"]] == [ANN], spelling
            unknown = await model.call("get_batch_call", batch_call_id=this, to_number="+52 1 55 1234 5678")
            assert "No task matches." in unknown["summary"]
            for no_number in ("Ann", "555-01", "", "+1 212 555 0124 x12"):
                text = await model.refused("get_batch_call", "invalid_input", batch_call_id=this, to_number=no_number)
                assert "to_number" in text


async def test_a_number_is_found_however_the_backend_writes_it(tmp_path: Path) -> None:
    vendor = Zudu()
    with anyio.fail_after(30):
        async with vendor.served() as url, serving(of_zudu(url, tmp_path)) as model:
            made = await model.call("create_batch_call", from_number=FROM, tasks=[{"to_number": ANN}])
            this = made["batch_call"]["batch_call_id"]
            vendor.batches[this].tasks[0].to_number = ANN.removeprefix("+")
            seen = await model.call("get_batch_call", batch_call_id=this, to_number=ANN)
    assert len(seen["tasks"]) == 1


@pytest.mark.parametrize("of", [of_zudu, of_magpipe])
async def test_get_backend_of_a_backend_that_is_away_says_so_first(of: object, tmp_path: Path) -> None:
    environment = of("http://127.0.0.1:9", tmp_path)  # type: ignore[operator]
    with anyio.fail_after(60):
        async with serving(environment) as model:
            facts = await model.call("get_backend")
    assert facts["summary"].startswith(f"The backend {environment['BATCHCALL_BACKEND']} does not answer. ")
    assert "could not be reached" in facts["summary"]
    assert facts["next"]["then"]["tool"] == "get_backend"
    assert "folder" in facts


async def test_get_backend_of_our_own_dialect_that_is_away_is_an_error_that_says_so_first(tmp_path: Path) -> None:
    account = {"backend": "batchcall", "url": "http://127.0.0.1:9", "api_key": "k", "api_secret": "s"}
    with anyio.fail_after(60):
        async with serving(variables(tmp_path, **account)) as model:
            text = await model.refused("get_backend", "backend_unavailable")
    assert text.startswith("[backend_unavailable] Could not read the account: the backend could not be reached")


async def test_lines_of_the_do_not_call_list_that_are_nobody_s_number_are_named_in_the_preflight_and_at_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "dnc.txt"
    listed.write_text(f"{BOB}\n+1 111 555 0100\n+52 1 55 1234 5678\n")
    vendor = Zudu()
    monkeypatch.setattr(service, "_HEAD_START_S", 0)
    with anyio.fail_after(30):
        async with vendor.served() as url:
            environment = of_zudu(url, tmp_path / "data", do_not_call=str(listed), calling_hours="00:00-24:00")
            async with serving(environment) as model:
                people = [{"to_number": ANN}, {"to_number": BOB}, {"to_number": "+525512345678"}]
                checked = await model.call("check_batch_call", from_number=FROM, tasks=people)
            told = str(checked)
            assert "line 2 (+11•••••••00)" in told
            assert "1115550" not in told
            assert checked["summary"].startswith("1 of 3 rows can be called")
            settings = Settings(backend="zudu", url=url, do_not_call=(listed,))
            with caplog.at_level(logging.WARNING):
                async with service.Service(settings, local=True).opened():
                    while "line 2 (+11" not in caplog.text:
                        await anyio.lowlevel.checkpoint()
