"""Which backend a process serves, and at which address."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from batchcall_mcp.backends.base import Backend
from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.backends.registry import BUILT_IN, backend_class, base_url, select
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.settings import Settings
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials
from tests.backends.recorder import CREDENTIALS, Vendor


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({}, "dialer"),
        ({"BATCHCALL_API_KEY": "k"}, "batchcall"),
        ({"BATCHCALL_URL": "http://x"}, "batchcall"),
        ({"BATCHCALL_API_KEY": "k", "BATCHCALL_BACKEND": "zudu"}, "zudu"),
        ({"BATCHCALL_BACKEND": "mine"}, "mine"),
    ],
)
def test_the_backend_follows_from_what_is_set(
    environment: dict[str, str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    assert select(Settings.load()) == name


@pytest.mark.parametrize("name", BUILT_IN)
async def test_every_backend_of_ours_is_what_it_says(name: str) -> None:
    backend = backend_class(name)
    assert backend.name == name
    assert base_url(Settings(), backend) == backend.default_url
    assert isinstance(backend.capabilities, Capabilities)
    assert set(Operation) >= backend.capabilities.operations >= {Operation.CREATE, Operation.GET}
    assert (Operation.LIST in backend.capabilities.operations) == (name != "retell")  # what the ledger knows is listed
    async with Vendor().http() as http:
        made: Backend = backend(http, CREDENTIALS)
        assert made.name == name


def test_the_dialer_in_this_process_has_no_address() -> None:
    """Whoever names one means a dialer elsewhere, and would get a simulation here."""
    with pytest.raises(ConfigurationError, match="BATCHCALL_BACKEND=batchcall"):
        base_url(Settings(backend="dialer", url="http://dialer.example.com"), backend_class("dialer"))


def test_an_unknown_backend_lists_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="BATCHCALL_BACKEND") as caught:
        backend_class("zuud")
    for name in BUILT_IN:
        assert name in caught.value.message
    assert "Did you mean zudu?" in caught.value.message


class MyBackend:
    """A third party's, as its entry point finds it."""

    name = "mine"
    default_url = "http://mine"
    capabilities = backend_class("zudu").capabilities

    def __init__(self, http: BackendHttp, credentials: Credentials) -> None:
        """As the protocol has it."""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, **entries: str) -> None:
    """A distribution with entry points, as an installer leaves it."""
    info = folder / "mine-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in entries.items()]
    (info / "entry_points.txt").write_text("\n".join(["[batchcall_mcp.backends]", *lines]))
    monkeypatch.syspath_prepend(folder)


def test_a_third_partys_backend_is_found_by_its_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, mine=f"{__name__}:MyBackend", zudu=f"{__name__}:MyBackend")
    assert backend_class("mine").__name__ == "MyBackend"
    assert backend_class("zudu").__name__ == "ZuduBackend"
    with pytest.raises(ConfigurationError, match="mine"):
        backend_class("other")


@pytest.mark.parametrize("target", ["not_there_at_all:X", f"{__name__}:NotThere", "json:dumps", "pathlib:Path"])
def test_a_third_partys_backend_that_is_none_is_the_operators_problem(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, monkeypatch, mine=target)
    with pytest.raises(ConfigurationError, match="Nothing was sent"):
        backend_class("mine")


@pytest.mark.parametrize(
    "url",
    [
        "api.zudu.ai",
        "ftp://x",
        "http://",
        "https://user:hunter2@api.zudu.ai",
        "https://api.zudu.ai/?key=hunter2",
        "https://api.zudu.ai/#hunter2",
        "https://x y",
        " https://x",
        "https://${HOST}",
        "http://[::1",
    ],
)
def test_an_address_that_cannot_be_a_base_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="BATCHCALL_URL") as caught:
        base_url(Settings(url=url), backend_class("zudu"))
    assert "hunter2" not in caught.value.message


def test_a_base_may_have_a_path_and_needs_no_slash() -> None:
    assert base_url(Settings(url="http://10.0.0.1:8080/base/"), backend_class("zudu")) == "http://10.0.0.1:8080/base"


def test_nothing_heavy_is_imported_to_choose_a_backend() -> None:
    code = (
        "import sys\n"
        "from batchcall_mcp.backends.registry import BUILT_IN, backend_class\n"
        "[backend_class(name) for name in BUILT_IN]\n"
        "heavy = {'sqlalchemy', 'fastapi', 'phonenumbers', 'rich', 'python_calamine', 'uvicorn'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.strip() == "[]"
