"""`batchcall-mcp dialer keys`, on the database that the dialer's servers use."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import click
import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from batchcall_mcp.cli import cli
from batchcall_mcp.cli.keys import database_url
from batchcall_mcp.cli.keys import keys as keys_group
from batchcall_mcp.dialer.storage import api_keys as keys
from batchcall_mcp.dialer.storage.api_keys import KeyPair
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import api_keys
from batchcall_mcp.errors import ConfigurationError
from tests.dialer.conftest import NewCaller, client_of
from tests.postgresql import postgresql_url


class Command(Protocol):
    def __call__(self, *arguments: str, code: int = 0) -> str: ...


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """`dialer keys …` in this process; the log is given back afterwards."""
    monkeypatch.setenv("BATCHCALL_DATA_DIR", str(tmp_path))
    loggers = [logging.getLogger(name) for name in (None, "batchcall_mcp", "httpx2")]
    levels, handlers = [logger.level for logger in loggers], list(loggers[0].handlers)

    def run(*arguments: str, code: int = 0) -> str:
        result: Result = CliRunner().invoke(cli, ["dialer", "keys", *arguments])
        assert result.exit_code == code, result.output
        return result.output

    yield run
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


def made(output: str) -> KeyPair:
    found = re.fullmatch(r"BATCHCALL_API_KEY=(\S+)\nBATCHCALL_API_SECRET=(\S+)\n", output)
    assert found is not None
    return KeyPair(*found.groups())


def store_of(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "dialer.db")


async def test_a_revoked_key_is_401_at_once_in_every_process(command: Command, new_caller: NewCaller) -> None:
    """Another key of the same organisation goes on."""
    gone, stays = made(command("create", "--organization", "sales")), made(command("create", "--organization", "sales"))
    async with new_caller(start=False) as one, new_caller(start=False) as other:

        async def told(pair: KeyPair) -> list[int]:
            answers = []
            for caller in (one, other):
                async with client_of(caller.dialer.app, *pair) as http:
                    answers.append((await http.get("/account")).status_code)
            return answers

        assert await told(gone) == await told(stays) == [200, 200]
        said = command("revoke", gone.api_key[:11])
        assert said == f"{gone.api_key[:11]} of sales is revoked: requests with it now get 401.\n"
        assert await told(gone) == [401, 401]
        assert await told(stays) == [200, 200]


async def test_a_key_s_organisation_sees_its_own(command: Command, new_caller: NewCaller) -> None:
    pair = made(command("create", "--organization", "  sales "))
    async with new_caller(start=False) as caller:
        await caller.create(["+12132000000"])
        async with client_of(caller.dialer.app, *pair) as http:
            assert (await http.get("/account")).json()["data"]["organization_id"] == "sales"
            assert (await http.get("/batch-call/list")).json()["data"]["pagination"]["total_count"] == 0


def test_the_list_tells_how_keys_begin_and_nothing_more(command: Command) -> None:
    """No hash, no secret; a revoked one is gone."""
    assert command("list") == ""
    first, second = made(command("create")), made(command("create", "--organization", "sales"))
    shown = re.sub(r"\t\d{4}-\d\d-\d\d \d\d:\d\d\t", "\tWHEN\t", command("list"))
    assert set(shown.splitlines()) == {f"{first.api_key[:11]}\tWHEN\tlocal", f"{second.api_key[:11]}\tWHEN\tsales"}
    command("revoke", first.api_key[:11])
    assert [line.split("\t")[0] for line in command("list").splitlines()] == [second.api_key[:11]]


def test_a_short_key_is_not_shown_in_full(command: Command, tmp_path: Path) -> None:
    """Somebody may have chosen it."""
    store = store_of(tmp_path)
    keys.add(store, KeyPair("my-own-key", "s"), "local")
    keys.add(store, KeyPair("k", "s"), "local")
    shown = sorted(key.name for key in keys.in_force(store))
    store.close()
    assert re.fullmatch(r"\(old\) #[0-9a-f]{8}", shown[0])
    assert shown[1:] == ["my-ow"]


def test_a_key_of_the_first_version_can_be_revoked(command: Command, tmp_path: Path) -> None:
    """By the number that the list shows in place of a hint."""
    pair = made(command("create"))
    store = store_of(tmp_path)
    with store.writing() as tx:
        tx.execute(api_keys.update().values(hint=None))
    name = command("list").split("\t")[0]
    assert re.fullmatch(r"\(old\) #[0-9a-f]{8}", name)
    command("revoke", name.removeprefix("(old) "))
    assert keys.organization_of(store, *pair) is None
    store.close()


@pytest.mark.parametrize("part", ["sk_", "", "sk_00000000", "#00000000"])
def test_what_no_key_is_named_is_refused(command: Command, part: str) -> None:
    """Part of a name is no name: the wrong key would be gone."""
    pair = made(command("create"))
    said = command("revoke", part, code=1)
    assert f'No key in force is named "{part}". Nothing was changed. `batchcall-mcp dialer keys list`' in said
    assert command("list").startswith(pair.api_key[:11])


def test_a_name_of_two_keys_is_refused_with_the_number_of_each(command: Command, tmp_path: Path) -> None:
    store = store_of(tmp_path)
    pairs = [KeyPair("sk_12345678" + end * 20, "s") for end in "ab"]
    for pair, organization_id in zip(pairs, ("sales", "support"), strict=True):
        keys.add(store, pair, organization_id)
    said = command("revoke", "sk_12345678", code=1)
    assert '2 keys are named "sk_12345678". Nothing was changed.' in said
    numbers = re.findall(r"'(#[0-9a-f]{8})' of (sales|support)", said)
    assert len(numbers) == 2
    command("revoke", {name: number for number, name in numbers}["sales"])
    assert [keys.organization_of(store, *pair) for pair in pairs] == [None, "support"]
    store.close()


def test_a_revoked_first_pair_does_not_come_back(command: Command, tmp_path: Path) -> None:
    """The server starts again with the same pair in its environment."""
    store, pair = store_of(tmp_path), KeyPair("my-own-key-of-24-letters", "my-own-secret")
    assert keys.first_pair(store, pair) == pair
    command("revoke", keys.in_force(store)[0].name)
    assert keys.first_pair(store, pair) is None
    assert keys.organization_of(store, *pair) is None
    with pytest.raises(sa.exc.IntegrityError):
        keys.add(store, pair, "local")
    store.close()


@pytest.mark.parametrize("how", ["option", "environment", "enclosing"])
def test_the_keys_are_those_of_the_database_that_is_named(
    how: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL, by each of the ways in which a server is told of it: also before `keys`, where `dialer` takes it."""
    url = postgresql_url()
    if how == "environment":
        monkeypatch.setenv("BATCHCALL_DATABASE_URL", url)

    @click.group()
    @database_url
    def dialer(database_url: str | None) -> None:
        pass

    dialer.add_command(keys_group)

    def run(*arguments: str) -> str:
        before = ("--database-url", url) if how == "enclosing" else ()
        after = ("--database-url", url) if how == "option" else ()
        result = CliRunner().invoke(dialer, [*before, "keys", *arguments, *after])
        assert result.exit_code == 0, result.output
        return result.output

    pair = made(run("create"))
    store = Store.open(url)
    assert keys.organization_of(store, *pair) == "local"
    assert run("list").startswith(pair.api_key[:11])
    run("revoke", pair.api_key[:11])
    assert keys.organization_of(store, *pair) is None
    store.close()
    assert not (tmp_path / "dialer.db").exists()


def test_a_database_that_cannot_be_meant_is_refused_and_not_repeated(command: Command) -> None:
    """It may hold a password."""
    said = command("list", "--database-url", "mysql://u:s3cr3t@h/d", code=2)
    assert "must start with postgresql://" in said
    assert "s3cr3t" not in said
    result = CliRunner().invoke(
        cli, ["dialer", "keys", "list", "--database-url", "postgresql://u:s3cr3t@127.0.0.1:9/d"]
    )
    assert isinstance(result.exception, ConfigurationError)
    assert "s3cr3t" not in result.exception.message


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 101])
def test_an_organisation_has_a_name_of_one_line(command: Command, name: str) -> None:
    assert "must be one line of at most 100 characters, not blank" in command("create", "--organization", name, code=2)
