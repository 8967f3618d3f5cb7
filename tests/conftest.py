"""Fixtures for every test: a clean environment, so that no developer's BATCHCALL_* variable decides a result."""

import os

import pytest
from hypothesis import HealthCheck, settings

# How busy the machine is decides no test.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name in os.environ:
        if name.startswith("BATCHCALL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BATCHCALL_APPROVAL_PAGE", "off")  # no test opens a tab on a developer's screen by accident
    monkeypatch.setenv("BATCHCALL_DATA_DIR", str(tmp_path_factory.mktemp("data")))
