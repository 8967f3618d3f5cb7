"""A walk: a list uploaded by curl. Real servers, real curl: one that is restarted, and two that share a PostgreSQL."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest

from tests.guard.test_replicas import MODERN, ZUDU, serving, two_servers
from tests.server.transports import client_of
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, Model, Person, numbers, write_csv

PEOPLE = numbers(1000)


async def typed(command: str, folder: Path) -> Any:
    """What a person sees who types this line, in a folder, with their own key and secret in it."""
    line = command.replace("'X-API-KEY: KEY'", f"'X-API-KEY: {ZUDU['X-API-KEY']}'")
    line = line.replace("'X-API-SECRET: SECRET'", f"'X-API-SECRET: {ZUDU['X-API-SECRET']}'")
    run = await anyio.to_thread.run_sync(
        lambda: subprocess.run(
            [*shlex.split(line), "--silent", "--noproxy", "*"], cwd=folder, capture_output=True, timeout=60, check=True
        )
    )
    return run.stdout.decode()


@asynccontextmanager
async def before_and_after(database: str, folder: Path, **variables: Any) -> AsyncIterator[list[Any]]:
    """A server that takes the list, and one that is asked to call it: the same after a restart, or a replica."""
    if database == "postgresql":
        async with two_servers(folder, **variables) as (one, two):
            yield [lambda: _open(one), lambda: _open(two)]
    else:
        again = folder / "server"
        yield [lambda: serving(again, **variables), lambda: serving(again, **variables)]


@asynccontextmanager
async def _open(url: str) -> AsyncIterator[str]:
    yield url


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
async def test_a_list_uploaded_by_curl_is_called_and_its_results_are_read_by_curl(
    tmp_path: Path, database: str
) -> None:
    vendor, person = Zudu(), Person("yes")
    write_csv(tmp_path / "people.csv", ["phone", "name"], [(one, f"P{at}") for at, one in enumerate(PEOPLE)])
    async with (
        vendor.served() as zudu_url,
        before_and_after(database, tmp_path, backend="zudu", url=zudu_url, calling_hours="00:00-24:00") as servers,
    ):
        async with servers[0]() as url, client_of(url, MODERN, headers=ZUDU) as client:
            # The model knows only a name on the person's own disk, and learns what the person has to type.
            text = await Model(client).refused("check_batch_call", "invalid_input", tasks_file="people.csv")
            line = re.search(r"curl .*? '[^']+\?name=people\.csv'", text)
            assert line is not None
            told = json.loads(await typed(line[0], tmp_path))
            assert told["rows"] == 1000

        async with servers[1]() as url, client_of(url, MODERN, headers=ZUDU, elicitation_callback=person) as client:
            model = Model(client)
            assert [one["name"] for one in (await model.call("get_backend"))["files"]] == [told["tasks_file"]]
            made = await model.call("create_batch_call", from_number=FROM, tasks_file=told["tasks_file"])
            name = made["batch_call"]["batch_call_id"]
            await model.call("start_batch_call", batch_call_id=name, trigger_timestamp="now")
            assert len(person.questions) == 1
            assert vendor.dialled == PEOPLE

            exported = await model.call("export_batch_call", batch_call_id=name)
            read = f"curl -H 'X-API-KEY: KEY' -H 'X-API-SECRET: SECRET' {exported['file']}"
            rows = (await typed(read, tmp_path)).split()
            assert len(rows) == 1001
            assert rows[1].startswith(PEOPLE[0])
