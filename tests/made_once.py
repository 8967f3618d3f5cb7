"""What is the same in every test is made once for a test process: schemas checked, certificates, tools, tables.

A test that is about one of these makes it itself, and is not concerned: what is kept is only what the real code made of
the same arguments before. Nor is a disk waited for, since no test takes the machine's power away.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import httpcore2
import sqlalchemy as sa
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from mcp.server.mcpserver.prompts.base import Prompt
from mcp.server.mcpserver.resources import ResourceTemplate
from mcp.server.mcpserver.tools import Tool
from pydantic import validate_call

from batchcall_mcp import database
from batchcall_mcp.database import Schema
from batchcall_mcp.server.service import Service
from batchcall_mcp.server.tools import registry, schemas, strict_tools
from batchcall_mcp.server.tools.strict_tools import StrictArguments
from batchcall_mcp.server.tools.tool_spec import Surface, ToolSpec

SQLITE = database._SQLITE
"""What a connection begins with in the product."""


@contextmanager
def made_once() -> Iterator[None]:
    """Until this is left, all of them."""
    with ExitStack() as stack:
        for each in (
            _schemas_are_checked,
            _certificates_are_read,
            _tools_are_described,
            _results_are_described,
            _resources_are_described,
            _prompts_are_described,
            _tables_are_migrated,
            _disks_are_not_waited_for,
            _queries_are_compiled,
        ):
            stack.enter_context(each())
        yield


@contextmanager
def _schemas_are_checked() -> Iterator[None]:
    """An MCP client checks the schema of every tool that it calls, in 30 ms; many hundred clients see the same ones."""
    check, checked = Draft202012Validator.check_schema, set()

    def check_once(schema: Any, *arguments: Any, **options: Any) -> None:
        written = json.dumps(schema, sort_keys=True)
        if written not in checked:
            check(schema, *arguments, **options)
            checked.add(written)

    with mock.patch.object(Draft202012Validator, "check_schema", check_once):
        yield


@contextmanager
def _certificates_are_read() -> Iterator[None]:
    """An HTTP client reads the system's certificates, in 20 ms, also for a server without TLS."""
    make, made = httpcore2.default_ssl_context, dict[tuple[object, ...], Any]()

    def make_once(**options: Any) -> Any:
        asked = (*options.items(), os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        if asked not in made:
            made[asked] = make(**options)
        return made[asked]

    with mock.patch.object(httpcore2, "default_ssl_context", make_once):
        yield


@contextmanager
def _tools_are_described() -> Iterator[None]:
    """A server makes the schemas of its tools, in 40 ms; those of one surface are the same, whatever serves them."""
    describe, described = registry._tool, dict[tuple[object, ...], Tool]()

    def describe_once(spec: ToolSpec, service: Service, surface: Surface, output_schema: dict[str, Any]) -> Tool:
        asked = (spec.name, surface, json.dumps(output_schema, sort_keys=True))
        if asked not in described:
            described[asked] = describe(spec, service, surface, output_schema)
        tool = described[asked]
        arguments = tool.fn_metadata.arg_model
        assert issubclass(arguments, StrictArguments)
        served = registry._served(spec, service, arguments, confirmed=spec.is_confirmed(surface.capabilities))
        return tool.model_copy(update={"fn": served})

    with mock.patch.object(registry, "_tool", describe_once):
        yield


@contextmanager
def _results_are_described() -> Iterator[None]:
    """And those of their results, in 8 ms."""
    with (
        mock.patch.object(registry, "result_schema", cache(schemas.result_schema)),
        mock.patch.object(registry, "result_model", cache(strict_tools.result_model)),
    ):
        yield


@contextmanager
def _resources_are_described() -> Iterator[None]:
    """And those of its resources, in 5 ms."""
    describe, described = ResourceTemplate.from_function, dict[tuple[object, ...], ResourceTemplate]()

    def describe_once(fn: Callable[..., Any], uri_template: str, **options: Any) -> ResourceTemplate:
        asked = (uri_template, fn.__code__, repr(sorted(options.items())))
        if asked not in described:
            described[asked] = describe(fn, uri_template, **options)
        return described[asked].model_copy(update={"fn": _checked_when_called(fn)})

    with mock.patch.object(ResourceTemplate, "from_function", describe_once):
        yield


@contextmanager
def _prompts_are_described() -> Iterator[None]:
    """And those of its prompts, in 5 ms."""
    describe, described = Prompt.from_function, dict[tuple[object, ...], Prompt]()

    def describe_once(fn: Callable[..., Any], **options: Any) -> Prompt:
        asked = (fn.__code__, repr(sorted(options.items())))
        if asked not in described:
            described[asked] = describe(fn, **options)
        return described[asked].model_copy(update={"fn": _checked_when_called(fn)})

    with mock.patch.object(Prompt, "from_function", describe_once):
        yield


def _checked_when_called(fn: Callable[..., Any]) -> Callable[..., Any]:
    """What pydantic makes of a function, in 1 ms, when it is called, which few of them are."""
    checked = cache(lambda: validate_call(fn))

    async def call_async(**arguments: Any) -> Any:
        return await checked()(**arguments)

    def call(**arguments: Any) -> Any:
        return checked()(**arguments)

    return call_async if inspect.iscoroutinefunction(fn) else call


@contextmanager
def _tables_are_migrated() -> Iterator[None]:
    """Alembic makes the tables of a new SQLite file in 20 ms; the same statements make them in 1 ms."""
    migrate, made = Schema.migrate, dict[Schema, list[tuple[str, tuple[object, ...]]]]()

    def migrate_once(schema: Schema, tx: sa.Connection) -> None:
        new = tx.dialect.name == "sqlite" and not sa.inspect(tx).get_table_names()
        if new and schema in made:
            for statement, values in made[schema]:
                tx.exec_driver_sql(statement, values)
            return
        migrate(schema, tx)
        if new:
            made[schema] = list(_statements(tx))

    with mock.patch.object(Schema, "migrate", migrate_once):
        yield


@contextmanager
def _disks_are_not_waited_for() -> Iterator[None]:
    """A dialer that starts and ends commits twenty times. A process that is killed loses nothing that it wrote."""
    pragmas = tuple(one.replace("synchronous=FULL", "synchronous=OFF") for one in SQLITE)
    with mock.patch.object(database, "_SQLITE", pragmas):
        yield


@contextmanager
def _queries_are_compiled() -> Iterator[None]:
    """An engine compiles each of its queries, in 40 ms for one launch; those of another file are the same."""
    open_sqlite, first = database.open_sqlite, list[sa.Engine]()

    def open_once(path: Path) -> sa.Engine:
        engine = open_sqlite(path)
        if not first:
            first.append(engine)
        # What was compiled is kept by dialect: all files have that of the first one, which has connected.
        engine.dialect, engine._compiled_cache = first[0].dialect, first[0]._compiled_cache
        return engine

    with mock.patch.object(database, "open_sqlite", open_once):
        yield


def _statements(tx: sa.Connection) -> Iterator[tuple[str, tuple[object, ...]]]:
    """What makes the same database: its tables and indexes as SQLite keeps them, and the few rows in them."""
    for (statement,) in tx.exec_driver_sql("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").all():
        yield statement, ()
    for table in sa.inspect(tx).get_table_names():
        for row in tx.exec_driver_sql(f'SELECT * FROM "{table}"').all():
            yield f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(row))})', tuple(row)
