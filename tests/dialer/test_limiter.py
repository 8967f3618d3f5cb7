"""How many requests a key may send, and what strangers cannot do to others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
from limits.storage import memory

from batchcall_mcp.dialer.rest import rate_limiter
from batchcall_mcp.dialer.rest.rate_limiter import Limiter
from batchcall_mcp.dialer.storage import api_keys
from batchcall_mcp.errors import RateLimited
from batchcall_mcp.settings import Settings
from tests.dialer.conftest import Caller, client_of

HOUR = 3600


@pytest.fixture
def forward(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock, which stands still otherwise."""
    clock = SimpleNamespace(now=1_800_000_000.0)
    for module in (memory, rate_limiter):
        monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: clock.now))

    def move(seconds: float) -> None:
        clock.now += seconds

    return move


def passed(count: Callable[[str], None], name: str, times: int) -> int:
    """How many of so many requests pass."""
    passing = 0
    for _ in range(times):
        try:
            count(name)
        except RateLimited:
            continue
        passing += 1
    return passing


def test_the_window_moves(forward: Callable[[float], None]) -> None:
    """At most so many in any second: not twice as many around a full one."""
    limit = Limiter(10)
    forward(0.6)
    assert passed(limit.known, "key", 4) == 4
    forward(0.5)
    assert passed(limit.known, "key", 20) == 6
    forward(0.51)
    assert passed(limit.known, "key", 20) == 4


def test_it_says_when_to_come_again(forward: Callable[[float], None]) -> None:
    """In whole seconds, and not before."""
    limit = Limiter(1, 10)
    limit.known("key")
    forward(3.5)
    with pytest.raises(RateLimited, match=r"at most 1 in 10 s.*Nothing was changed; send it again in 7 s") as caught:
        limit.known("key")
    assert caught.value.retry_after == 7
    forward(7)
    limit.known("key")


def test_every_key_has_its_own(forward: Callable[[float], None]) -> None:
    limit = Limiter(2)
    assert passed(limit.known, "one", 5) == 2
    assert passed(limit.known, "two", 5) == 2


def test_a_clock_that_jumps_back_locks_nobody_out(forward: Callable[[float], None]) -> None:
    """For as long as it has jumped."""
    limit = Limiter(2)
    assert passed(limit.known, "key", 2) == 2
    forward(-HOUR)
    assert passed(limit.known, "key", 5) == 2


def test_strangers_fill_no_memory() -> None:
    """From however many addresses."""
    limit = Limiter(100, HOUR)
    for number in range(20_000):
        passed(limit.unknown, f"2001:db8::{number:x}", 1)
    held = limit._storage.events
    assert len(held) <= 1024
    assert max(map(len, held.values())) <= 10


async def test_too_much_is_429_in_the_envelope_with_retry_after(desk: Caller) -> None:
    """A window as long as the test, and a write that was refused changed nothing."""
    dependencies = desk.dialer.app.state.dependencies
    desk.dialer.app.state.dependencies = replace(dependencies, limiter=Limiter(3, HOUR))
    for _ in range(3):
        await desk.ask("GET", "/account")
    answer = await desk.http.post("/batch-call", json={})
    assert answer.status_code == 429
    assert answer.json()["code"] == "rate_limited"
    assert answer.json()["status"] == "error"
    assert 1 <= int(answer.headers["Retry-After"]) <= HOUR
    assert (await desk.http.get("/healthz")).status_code == 200


async def test_wrong_pairs_use_up_nobody_s_allowance(desk: Caller) -> None:
    """Not even of the key that they name, from the same address; they are held back themselves."""
    dependencies = desk.dialer.app.state.dependencies
    desk.dialer.app.state.dependencies = replace(dependencies, limiter=Limiter(3, HOUR))
    app, mine = desk.dialer.app, desk.dialer.credentials
    for pair in ((mine.api_key, "s3cr3t_wrong"), api_keys.new_pair()):
        async with client_of(app, *pair) as stranger:
            told = [(await stranger.get("/account")).status_code for _ in range(3)]
            assert set(told) <= {401, 429}
    assert told[-1] == 429
    for _ in range(3):
        await desk.ask("GET", "/account")


async def test_the_user_s_own_process_is_not_limited(desk: Caller) -> None:
    """The in-process dialer has one caller: whoever started it."""
    assert desk.dialer.app.state.dependencies.limiter is None


def test_the_operator_sets_how_many(forward: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """100 a second, if nothing else is said."""
    assert passed(Limiter.of(Settings.load()).known, "key", 150) == 100
    monkeypatch.setenv("BATCHCALL_RATE_LIMIT", "7")
    assert passed(Limiter.of(Settings.load()).known, "key", 150) == 7
