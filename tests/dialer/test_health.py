"""/healthz and /readyz, which need no key and tell no secret."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import NoReturn

import httpx2
import pytest
import sqlalchemy as sa
from fastapi import FastAPI

from batchcall_mcp.dialer.rest import health
from batchcall_mcp.dialer.rest.health import EngineHealth
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.errors import ConfigurationError
from tests.dialer.conftest import NewCaller
from tests.postgresql import postgresql_url


def anonymous(app: FastAPI) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://dialer")


@pytest.mark.parametrize(("start", "engine"), [(True, "running"), (False, "standby")])
async def test_a_process_says_that_it_is_ready_and_whether_it_dials(
    new_caller: NewCaller, start: bool, engine: str
) -> None:
    async with new_caller(start=start) as caller, anonymous(caller.dialer.app) as http:
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()) == (200, {"status": "ok", "engine": engine, "engine_failures": 0})
        assert (await http.get("/healthz")).json() == answer.json()


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_tables_of_another_version_are_not_ready(kind: str, tmp_path: Path) -> None:
    """A newer process has migrated them while this one ran."""
    store = Store.open(tmp_path / "dialer.db" if kind == "sqlite" else postgresql_url())
    app = FastAPI()
    health.install(app, lambda: store, lambda: EngineHealth("running"))
    async with anonymous(app) as http:
        assert (await http.get("/readyz")).status_code == 200
        with store.writing() as tx:
            tx.execute(sa.text("UPDATE dialer_version SET version_num = '9999'"))
        answer = await http.get("/readyz")
        assert answer.status_code == 503
        assert answer.json() == {
            "status": "error",
            "engine": "running",
            "engine_failures": 0,
            "code": "database_version",
            "error": "The database's tables are not of this version: nothing is dialled or launched. "
            "Restart this process on the newest version.",
        }
        assert (await http.get("/healthz")).status_code == 200
    store.close()


async def test_a_database_that_is_away_is_named_by_code_alone() -> None:
    """No host, no user, no path."""

    def nowhere() -> Store:
        return Store.open("postgresql://nobody:s3cr3t@127.0.0.1:9/none")

    app = FastAPI()
    health.install(app, nowhere, lambda: EngineHealth("standby"))
    async with anonymous(app) as http:
        answer = await http.get("/readyz")
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert not [word for word in ("nobody", "s3cr3t", "127", "none", "postgresql") if word in answer.text]
        assert (await http.get("/healthz")).status_code == 200


async def test_a_database_that_hangs_holds_one_thread_and_no_answer() -> None:
    """However often it is asked for; the process itself lives."""
    looks, go_on = [], threading.Event()

    def hanging() -> NoReturn:
        looks.append(threading.get_ident())
        go_on.wait(60)
        raise ConfigurationError("late")

    app = FastAPI()
    health.install(app, hanging, lambda: EngineHealth("standby"), limit_s=0.05)
    try:
        async with anonymous(app) as http:
            for _ in range(5):
                answer = await http.get("/readyz")
                assert (answer.status_code, answer.json()["code"]) == (503, "database_timeout")
            assert (await http.get("/healthz")).status_code == 200
            assert len(looks) == 1
    finally:
        go_on.set()
