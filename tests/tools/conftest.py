"""Desks that live as long as the tests of one way need them; see `desk`."""

from collections.abc import Iterator

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.server.transports import HTTP_WAYS, WAYS
from tests.tools.desk import SOME_WAYS, Desk, Person, opened


@pytest.fixture(scope="session")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(scope="session", params=WAYS, ids=str)
def _asked(
    request: pytest.FixtureRequest, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    with opened(portal, request.param, tmp_path_factory.mktemp("asked"), Person()) as desk:
        yield desk


@pytest.fixture
def desk(_asked: Desk) -> Desk:
    """A client that can show questions, over each way in turn; the person says yes unless a test says otherwise."""
    assert _asked.person is not None
    _asked.person.says = "yes"
    _asked.person.questions.clear()
    return _asked


@pytest.fixture(scope="session", params=WAYS, ids=str)
def mute(
    request: pytest.FixtureRequest, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    """A client that cannot show questions, over each way in turn: it gets codes."""
    with opened(portal, request.param, tmp_path_factory.mktemp("mute")) as desk:
        yield desk


@pytest.fixture(params=HTTP_WAYS, ids=str)
def shared(
    request: pytest.FixtureRequest, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    """A client that cannot show questions, of a server that others may connect to."""
    with opened(portal, request.param, tmp_path_factory.mktemp("shared")) as desk:
        yield desk


@pytest.fixture(scope="session", params=SOME_WAYS, ids=str)
def either(
    request: pytest.FixtureRequest, portal: BlockingPortal, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Desk]:
    """One desk on the caller's disk and one that is not, for what no transport has a part in."""
    with opened(portal, request.param, tmp_path_factory.mktemp("either"), Person()) as desk:
        yield desk
