"""`batchcall-mcp forget`: after it no byte of the installation holds the person, and everybody else is as before.

The installation is filled through the product: a dialer and a server over HTTP in processes of their own, an upload,
calls, exports, a report, webhooks, a batch call that waits, and what a stop has listed.
"""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from tests.erasure.spelt import full_width
from tests.guard.test_replicas import MODERN, serving
from tests.operator.processes import Ended, command, dialling, terminal, variables
from tests.postgresql import postgresql_url
from tests.server.transports import client_of
from tests.walks.stage import ALWAYS, FROM, Model, Person, dials, playing, tomorrow_at

PAIR = {"api_key": "key-of-the-tests", "api_secret": "secret-of-the-tests"}
HEADERS = {"X-API-KEY": PAIR["api_key"], "X-API-SECRET": PAIR["api_secret"]}
ADA, BEN, CLEO = "+442079460010", "+442079460011", "+442079460017"
"""Ada and Ben answer, Cleo's line is busy."""
WRITTEN = full_width("020 7946 0010")
SPELT = (ADA, ADA[1:], WRITTEN, "020 7946 0010", "02079460010", "+44 20 7946 0010", "20 7946 0010", "2079460010")
SAID = "she asked for the blue sledge"
HERS = ("Lovelace", "Rosebud", SAID)
HIS = ("Babbage", "Meadow")
LIST = (
    f'phone,name,street,called\n"{WRITTEN}",Ada Lovelace,Rosebud,{WRITTEN}\n'
    f"{BEN},Ben Babbage,Meadow,no\n{CLEO},Cleo,Hill,no\n"
)


@dataclass
class Installation:
    """A dialer, a server in front of it, their folders, and perhaps their PostgreSQL."""

    folder: Path
    database: str | None
    dialer: str = ""
    server: str = ""

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def files(self) -> Path:
        return self.folder / "files"

    @property
    def settings(self) -> dict[str, str]:
        shared = {"files": str(self.files), "default_region": "GB", "calling_hours": "00:00-24:00"}
        return shared | ({} if self.database is None else {"database_url": self.database})

    def environment(self, **others: str) -> dict[str, str]:
        return variables(self.data, **self.settings | others)

    async def command(self, *arguments: str, **others: str) -> Ended:
        return await command(self.environment(**others), *arguments)

    @asynccontextmanager
    async def model(self) -> AsyncIterator[Model]:
        async with client_of(self.server, MODERN, headers=HEADERS, elicitation_callback=Person("yes")) as client:
            yield Model(client)

    async def tasks(self, batch_call_id: str) -> list[dict[str, Any]]:
        async with httpx2.AsyncClient(base_url=self.dialer, headers=HEADERS, trust_env=False) as http:
            answer = await http.get(f"/batch-call/{batch_call_id}/tasks", params={"limit": 100})
            found: list[dict[str, Any]] = answer.json()["data"]["tasks"]
            return found

    async def counts(self, batch_call_id: str) -> dict[str, Any]:
        async with httpx2.AsyncClient(base_url=self.dialer, headers=HEADERS, trust_env=False) as http:
            data = (await http.get(f"/batch-call/{batch_call_id}")).json()["data"]
            return {name: data[name] for name in ("counts", "total", "sent", "picked_up", "completed")}

    def execute(self, statement: str, *values: str) -> None:
        if self.database is None:
            with closing(sqlite3.connect(self.data / "dialer.db")) as connection, connection:
                connection.execute(statement, values)
            return
        engine = sa.create_engine(sa.make_url(self.database).set(drivername="postgresql+psycopg"))
        with engine.begin() as tx:
            tx.exec_driver_sql(statement.replace("?", "%s"), values)
        engine.dispose()

    def everything(self) -> dict[str, bytes]:
        """Every byte of its folders, and every value of every table of its PostgreSQL, by file and table."""
        found = {
            str(path.relative_to(self.folder)): path.read_bytes() for path in self.folder.rglob("*") if path.is_file()
        }
        return found | (_dumped(self.database) if self.database else {})


def _dumped(url: str) -> dict[str, bytes]:
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    found = {}
    with engine.connect() as tx:
        tables = tx.exec_driver_sql(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).all()
        for schema, table in tables:
            rows = tx.exec_driver_sql(f'SELECT * FROM "{schema}"."{table}"').all()
            found[f"{schema}.{table}"] = b"\n".join(_bytes(value) for row in rows for value in row)
    engine.dispose()
    return found


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False, default=str).encode()


def holding(places: Mapping[str, bytes], texts: Iterable[str]) -> set[str]:
    """The places in which one of the texts is, in UTF-8, UTF-16 or as JSON writes it."""
    forms = [
        form for text in texts for form in (text.encode(), text.encode("utf-16-le"), json.dumps(text)[1:-1].encode())
    ]
    return {place for place, content in places.items() if any(form in content for form in forms)}


@asynccontextmanager
async def running(folder: Path, database: str | None) -> AsyncIterator[Installation]:
    it = Installation(folder, database)
    it.data.mkdir()
    it.files.mkdir()
    fast = {"simulated_speed": "2000", "webhooks_to_private_addresses": "true", "min_gap_minutes": "0"}
    async with (
        dialling(it.environment(**PAIR, **fast)) as it.dialer,
        serving(it.data, sessions=False, backend="batchcall", url=it.dialer, **it.settings) as it.server,
    ):
        yield it


async def finished(model: Model, batch_call_id: str) -> None:
    seen = await model.call("watch_batch_call", batch_call_id=batch_call_id, timeout_seconds=60)
    assert seen["batch_call"]["status"] == "completed", seen


async def filled(it: Installation) -> tuple[str, str]:
    """The batch call that is over, and the one that waits."""
    (it.files / "mine.csv").write_text(LIST, encoding="utf-8")
    async with httpx2.AsyncClient(headers=HEADERS, trust_env=False) as http:
        hook = await http.post(f"{it.dialer}/webhooks", json={"url": "http://127.0.0.1:9/"})
        assert hook.status_code == 200, hook.text
        sent = await http.post(f"{it.server}/files", params={"name": "people.csv"}, content=LIST.encode())
        uploaded = sent.json()["tasks_file"]
    async with it.model() as model:
        made = await model.call(
            "create_batch_call",
            from_number=FROM,
            tasks_file=uploaded,
            name="For Ada Lovelace and others",
            window=ALWAYS,
            retry={"max_retries": 0},
        )
        over = made["batch_call"]["batch_call_id"]
        await model.call("start_batch_call", batch_call_id=over, trigger_timestamp="now")
        await finished(model, over)
        it.execute("UPDATE tasks SET summary = ?, choice = ? WHERE to_number = ?", SAID, "yes", ADA)
        for form in ("csv", "jsonl", "report"):
            await model.call("export_batch_call", batch_call_id=over, format=form)
        waits = (
            await model.call(
                "create_batch_call", from_number=FROM, tasks_file=uploaded, window=ALWAYS, retry={"max_retries": 0}
            )
        )["batch_call"]["batch_call_id"]
        await model.call("start_batch_call", batch_call_id=waits, trigger_timestamp=tomorrow_at(10).isoformat())
    disk = it.settings | {"data_dir": str(it.data)} | PAIR
    async with playing("auto", Person("yes"), backend="batchcall", url=it.dialer, **disk) as model:
        for form in ("csv", "jsonl", "report"):
            await model.call("export_batch_call", batch_call_id=over, format=form)
    stopped = await it.command("stop")
    assert f"paused: {waits}" in stopped.out, stopped
    assert (await it.command("stop", "--clear")).code == 0
    return over, waits


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_a_byte_search_finds_nothing_but_the_do_not_call_list(kind: str, tmp_path: Path) -> None:
    database = postgresql_url() if kind == "postgresql" else None
    async with running(tmp_path, database) as it:
        over, waits = await filled(it)
        before = it.everything()
        assert len(holding(before, SPELT)) >= 7, "it was there before"
        assert holding(before, HERS)
        counts, tasks = await it.counts(over), await it.tasks(over)
        called = dials(it.data)

        dry = await it.command("forget", "--dry-run", ADA)
        assert dry.code == 0, dry
        assert holding(it.everything(), SPELT) == holding(before, SPELT), "nothing was changed"

        done = await it.command("forget", "--yes", "020 7946 0010")
        assert (done.code, done.err) == (0, ""), done
        assert f"skipped in {waits}" in done.out
        assert f"not erased: {it.files / 'mine.csv'} holds the number. It is yours" in done.out

        after = it.everything()
        del after["files/mine.csv"]  # the person's own
        assert holding(after, HERS) == set()
        listed = {"data/dialer.db"} if database is None else {"public.do_not_call"}
        assert holding(after, SPELT) == listed
        # In SQLite the number stands in the row and in the index that keeps it unique.
        (where,) = listed
        assert after[where].count(ADA[1:].encode()) == (2 if database is None else 1)
        reports = {place for place in before if place.endswith((".html", "-wal"))}
        assert holding(after, [BEN]) >= holding(before, [BEN]) - reports - {"files/mine.csv"}
        for one in HIS:
            assert holding(after, [one])

        assert await it.counts(over) == counts
        assert [one for one in await it.tasks(over) if one["to_number"] in (BEN, CLEO)] == [
            one for one in tasks if one["to_number"] in (BEN, CLEO)
        ]
        (hers,) = [one for one in await it.tasks(over) if one["to_number"] not in (BEN, CLEO)]
        assert hers["to_number"].startswith("forgotten-")
        assert not any(hers.get(name) for name in ("name", "dynamic_variables", "summary", "timezone"))

        async with it.model() as model:
            await model.call("resume_batch_call", batch_call_id=waits)
            await model.call("start_batch_call", batch_call_id=waits, trigger_timestamp="now")
            await finished(model, waits)
            await model.call("retry_batch_call", batch_call_id=over)
            again = await model.call(
                "create_batch_call",
                from_number=FROM,
                tasks_from={"batch_call_id": over, "task_status": ["completed"]},
            )
            assert again["batch_call"]["counts"]["total"] == 1
            anew = await model.call(
                "create_batch_call",
                from_number=FROM,
                tasks=[{"to_number": ADA}, {"to_number": BEN}],
            )
            assert anew["batch_call"]["counts"]["total"] == 1
        assert dials(it.data)[BEN] == called[BEN] + 1
        assert sum(dials(it.data).values()) >= sum(called.values()) + 2
        assert ADA not in dials(it.data)
        assert holding({"record": (it.data / "carrier.jsonl").read_bytes()}, SPELT) == set()


async def test_it_asks_before_it_changes_anything(tmp_path: Path) -> None:
    it = Installation(tmp_path, None)
    it.files.mkdir(parents=True)
    list_of_hers = it.files / "mine.csv"
    with list_of_hers.open("w", newline="") as file:
        csv.writer(file).writerows([["phone"], [ADA]])
    refused = await it.command("forget", ADA)
    assert refused.code == 2
    assert "--yes" in refused.err
    wrong = await it.command("forget", "--yes", ADA, "12")
    assert wrong.code == 2
    assert "Nothing was changed" in wrong.err
    assert not (it.data / "ledger.db").exists(), "nor for the number that is one"
    async with terminal(it.environment(), "forget", ADA) as screen:
        await screen.shows("Erase this?")
        assert await screen.types("n") == 1
    assert not (it.data / "ledger.db").exists()
    async with terminal(it.environment(), "forget", ADA) as screen:
        await screen.shows("Erase this?")
        assert await screen.types("y") == 0
    assert ADA in list_of_hers.read_text(encoding="utf-8")
    async with playing("auto", Person("yes"), data_dir=it.data, **it.settings) as model:
        text = await model.refused("create_batch_call", "invalid_input", from_number=FROM, tasks_file="mine.csv")
    assert "do-not-call" in text
