"""Fixtures for every test: a clean environment, so that no developer's BATCHCALL_* variable decides a result."""

import atexit
import gc
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from tests import forked, postgresql
from tests.dealing import dealt
from tests.made_once import made_once
from tests.sampling import EVERYTHING, on_one_database, some_of_each_sweep
from tests.tiers import TIERS, place_of, tier_of

# How busy the machine is decides no test. Nor does chance: the same examples each time, as of `tests/sampling.py`.
settings.register_profile(
    "house",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not EVERYTHING,
    max_examples=int(os.environ.get("EXAMPLES", "25")),  # `make torture` makes up more, and others each time
)
settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    """What workers need, and one of them can use as well as another, is made once: by the process that starts them."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        return
    folder = tempfile.mkdtemp(prefix="batchcall-run-")
    Path(folder).chmod(0o755)  # PostgreSQL is another user
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ[postgresql.SHARED] = folder
    if config.option.markexpr != "fast":
        os.environ[forked.SHARED] = f"{folder}/forks"
        forked.begin(Path(os.environ[forked.SHARED]))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Where only tiers are chosen, the files of others are not even imported, with their clients and judges."""
    chosen = set(config.option.markexpr.split(" or "))
    if not collection_path.name.startswith("test_") or not chosen <= TIERS.keys():
        return None
    tier = place_of(collection_path)
    return True if not chosen & ({tier} if tier else {"fast", "long", "process"}) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is imported and collected stays to the end: nothing of it is garbage, and nobody looks through it again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(10_000)  # as the product does
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
    for item in items:
        item.add_marker(tier_of(item))
    yield  # pytest chooses by marker
    if config.option.markexpr in {"", "fast"} and not (EVERYTHING or config.option.keyword) and _are_all(config):
        items[:] = some_of_each_sweep(on_one_database(items))
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        items[:] = dealt(items, worker["workercount"], tier_of)


def _are_all(config: pytest.Config) -> bool:
    """Whether nobody named a file or a test."""
    named: list[str] = [Path(argument).name for argument in config.args]
    return named == list(config.getini("testpaths"))


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for each test; where pytest numbers them itself, it reads the names of all each time: 20 s of a run."""
    root = tmp_path_factory.mktemp("homes")
    return (root / str(number) for number in itertools.count())


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, _homes: Iterator[Path]) -> None:
    for name in os.environ:
        if name.startswith("BATCHCALL_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BATCHCALL_APPROVAL_PAGE", "off")  # no test opens a tab on a developer's screen by accident
    home = next(_homes)
    for variable, folder in (("BATCHCALL_DATA_DIR", home / "data"), ("BATCHCALL_FILES", home / "lists")):
        folder.mkdir(mode=0o700, parents=True)  # lists too, so that no server makes one in a developer's documents
        monkeypatch.setenv(variable, str(folder))


@pytest.fixture(autouse=True)
def _what_forks_is_there(request: pytest.FixtureRequest) -> None:
    """Before a test counts its seconds: the process that forks needs some to begin, many on a busy machine."""
    if tier_of(request.node) in {"process", "long", "foreign", "kills"}:
        forked.program()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def one_browser() -> AsyncIterator[None]:
    """For `tests.browser.in_one_browser`, whose imports only tests in a browser need."""
    from tests.browser import shared_browser

    async with shared_browser():
        yield


@pytest.fixture(scope="session", autouse=True)
def _what_is_the_same_in_every_test_is_made_once() -> Iterator[None]:
    with made_once():
        yield
