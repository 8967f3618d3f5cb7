"""Fixtures for every test: a clean environment, so that no developer's BATCHCALL_* variable decides a result."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from tests.tiers import TIERS, place_of, tier_of

# How busy the machine is decides no test.
settings.register_profile(
    "house",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    max_examples=int(os.environ.get("EXAMPLES", "40")),  # `make torture` makes up more
)
settings.load_profile("house")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where only tiers are chosen, the files of others are not even imported, with their clients and judges."""
    chosen = set(config.option.markexpr.split(" or "))
    if not collection_path.name.startswith("test_") or not chosen <= TIERS.keys():
        return None
    tier = place_of(collection_path)
    return True if not chosen & ({tier} if tier else {"fast", "process"}) else None


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(tier_of(item))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in os.environ:
        if name.startswith("BATCHCALL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BATCHCALL_APPROVAL_PAGE", "off")  # no test opens a tab on a developer's screen by accident
    monkeypatch.setenv("BATCHCALL_DATA_DIR", str(tmp_path_factory.mktemp("data")))
    lists = tmp_path_factory.mktemp("lists")  # it exists, so that no server makes one in a developer's documents
    monkeypatch.setenv("BATCHCALL_FILES", str(lists))


@pytest.fixture(scope="session", autouse=True)
def _each_schema_is_checked_once() -> Iterator[None]:
    """An MCP client checks the schema of every tool that it calls, in 30 ms; many hundred clients see the same ones."""
    check, checked = Draft202012Validator.check_schema, set()

    def check_once(schema: Any, *arguments: Any, **options: Any) -> None:
        written = json.dumps(schema, sort_keys=True)
        if written not in checked:
            check(schema, *arguments, **options)
            checked.add(written)

    with mock.patch.object(Draft202012Validator, "check_schema", check_once):
        yield
