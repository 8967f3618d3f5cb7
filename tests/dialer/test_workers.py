"""Several engines on one PostgreSQL, transaction by transaction: who was taken for dead, and what it left."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.carriers.base import Attempt
from batchcall_mcp.dialer.domain.records import NewTask
from batchcall_mcp.dialer.domain.rules import Action, State
from batchcall_mcp.dialer.engine import heartbeat
from batchcall_mcp.dialer.engine.dispatch import Dispatch
from batchcall_mcp.dialer.engine.outcomes import Ended
from batchcall_mcp.dialer.storage import commands, do_not_call, queries
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import attempts, tasks
from batchcall_mcp.model import TaskStatus
from tests.dialer.conftest import CALLER, Clock, numbers
from tests.postgresql import postgresql_url


class Shared:
    """One PostgreSQL, and engines that dial from it as a test says."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.store = Store.open(postgresql_url(), clock)

    def engine(self, name: str) -> Dispatch:
        """One that has said that it lives."""
        heartbeat.beat(self.store, name, 10)
        return Dispatch(self.store, name, daily_cap=3, retry_delay=timedelta(0), capacity=10)

    def running(self, count: int, **columns: object) -> str:
        window = {"start": "00:00", "end": "24:00", "days": list(range(7)), "timezone": "recipient"}
        asked = {"from_number": CALLER, "status": State.SENT, "max_concurrency": 10, "window": window, **columns}
        with self.store.writing() as tx:
            people = [NewTask(to_number=number) for number in numbers(count)]
            return commands.create(tx, "local", asked, people, self.store.now()).batch_call_id

    def place(self, dispatch: Dispatch, started: list[Attempt]) -> list[Attempt]:
        placed: list[Attempt] = []

        def dial(attempt: Attempt) -> bool:
            placed.append(attempt)
            return True

        dispatch.dial(started, self.clock(), lambda: True, dial)
        return placed

    def outcomes(self) -> list[str | None]:
        with self.store.reading() as tx:
            return list(tx.execute(sa.select(attempts.c.outcome).order_by(attempts.c.task_id)).scalars())


@pytest.fixture
def shared(clock: Clock) -> Iterator[Shared]:
    made = Shared(clock)
    yield made
    made.store.close()


def test_who_was_taken_for_dead_and_claims_again_is_known_again(shared: Shared) -> None:
    """If it then dies before its next sign of life, the others find what it left."""
    batch_call_id = shared.running(4)
    late, other = shared.engine("late"), shared.engine("other")
    heartbeat.forget(shared.store, ["late"])
    assert len(late.record_and_claim([], {batch_call_id: 2}).started) == 2
    assert "late" in heartbeat.beat(shared.store, "other", 10)
    assert other.interrupt_orphans() == 0, "it lives"
    heartbeat.forget(shared.store, ["late"])
    assert other.interrupt_orphans() == 2
    assert shared.outcomes() == ["interrupted"] * 2


def test_what_is_left_by_a_take_over_that_died_itself_is_found(shared: Shared) -> None:
    """It had taken the dead one out of the list, and nothing else."""
    batch_call_id = shared.running(4)
    shared.engine("dead").record_and_claim([], {batch_call_id: 3})
    last = shared.engine("last")
    assert last.record_and_claim([], {batch_call_id: 1}).started
    heartbeat.forget(shared.store, ["dead"])
    assert last.interrupt_orphans() == 3
    assert sorted(shared.outcomes(), key=str) == [None, *["interrupted"] * 3]


def test_a_process_that_was_stopped_places_nothing_that_was_taken_over(shared: Shared) -> None:
    """Nor does its late outcome change anything, whatever has become of the person."""
    batch_call_id = shared.running(
        3,
        retry_rules=[
            {"condition": "interrupted", "enabled": True, "retry_timing": {"type": "AFTER", "duration_minutes": 0}}
        ],
    )
    late, other = shared.engine("late"), shared.engine("other")
    started = late.record_and_claim([], {batch_call_id: 3}).started
    heartbeat.forget(shared.store, ["late"])
    assert other.interrupt_orphans() == 3
    again = other.record_and_claim([], {batch_call_id: 3}).started
    assert [attempt.n for attempt in again] == [2, 2, 2]
    assert shared.place(late, started) == []
    assert shared.place(other, again) == again
    late.record_and_claim([Ended(one.task_id, 1, batch_call_id, TaskStatus.COMPLETED) for one in started], {})
    assert shared.outcomes().count("completed") == 0
    with shared.store.reading() as tx:
        assert queries.counts(tx, [batch_call_id])[batch_call_id].of(TaskStatus.CALLING) == 3


def test_an_attempt_that_another_engine_has_begun_again_is_not_placed(shared: Shared) -> None:
    """Its claim was taken back, and nobody heard of it; the same person is another engine's call by now."""
    batch_call_id = shared.running(1)
    late, other = shared.engine("late"), shared.engine("other")
    started = late.record_and_claim([], {batch_call_id: 1}).started
    late.dial(started, shared.clock(), lambda: False, lambda _: True)
    again = other.record_and_claim([], {batch_call_id: 1}).started
    assert [one.attempt_id for one in again] == [one.attempt_id for one in started]
    assert shared.place(late, started) == []
    assert shared.place(other, again) == again


def test_a_claim_whose_answer_was_lost_is_withdrawn(shared: Shared) -> None:
    """And nothing else: not what is on the line, nor what is another engine's."""
    batch_call_id = shared.running(6)
    ours, other = shared.engine("ours"), shared.engine("other")
    on_the_line = ours.record_and_claim([], {batch_call_id: 2}).started
    other.record_and_claim([], {batch_call_id: 1})
    ours.record_and_claim([], {batch_call_id: 2})
    ours.withdraw_unknown({(one.task_id, one.n) for one in on_the_line})
    with shared.store.reading() as tx:
        assert queries.counts(tx, [batch_call_id])[batch_call_id].of(TaskStatus.CALLING) == 3
        begun = tx.execute(sa.select(attempts.c.task_id).where(attempts.c.worker_id == "ours")).scalars()
        assert set(begun) == {one.task_id for one in on_the_line}


def test_what_may_have_been_dialled_before_a_crash_counts_for_the_pace(shared: Shared) -> None:
    """Its carrier was asked, and the process died before it could commit that."""
    batch_call_id = shared.running(6, calls_per_second=2.0)
    dead, other = shared.engine("dead"), shared.engine("other")
    assert len(dead.record_and_claim([], {batch_call_id: 2}).started) == 2
    heartbeat.forget(shared.store, ["dead"])
    other.interrupt_orphans()
    turn = other.record_and_claim([], {batch_call_id: 2})
    assert turn.started == []
    assert batch_call_id in turn.paced
    shared.clock.forward(seconds=1)
    assert len(other.record_and_claim([], {batch_call_id: 2}).started) == 2


def test_a_cancelled_batch_call_keeps_what_a_lost_claim_never_dialled(shared: Shared) -> None:
    """Cancelled in between: nobody is left on a line that does not exist."""
    batch_call_id = shared.running(2)
    ours = shared.engine("ours")
    ours.record_and_claim([], {batch_call_id: 2})
    with shared.store.writing() as tx:
        commands.move(tx, queries.get(tx, "local", batch_call_id, lock=True), Action.CANCEL, shared.store.now())
    ours.withdraw_unknown(set())
    with shared.store.reading() as tx:
        assert set(tx.execute(sa.select(tasks.c.status)).scalars()) == {"cancelled"}


def test_nobody_joins_the_do_not_call_list_while_a_process_dials_and_then_nobody_is_dialled(shared: Shared) -> None:
    """Once the list has answered, the last dial that did not know of it is over, whichever process dials."""
    batch_call_id = shared.running(2)
    one, other = shared.engine("one"), shared.engine("other")
    first = one.record_and_claim([], {batch_call_id: 1}).started
    second = other.record_and_claim([], {batch_call_id: 1}).started
    listed = {attempt.to_number: None for attempt in (*first, *second)}

    def join() -> None:
        with shared.store.writing() as tx:
            tx.execute(sa.text("SET LOCAL lock_timeout = '50ms'"))
            do_not_call.hold(tx)
            do_not_call.add(tx, "local", "api", listed, shared.store.now())

    def dial(_attempt: Attempt) -> bool:
        with pytest.raises(sa.exc.OperationalError):
            join()
        return True

    one.dial(first, shared.clock(), lambda: True, dial)
    join()
    assert shared.place(other, second) == []
    [refused] = second
    with shared.store.reading() as tx:
        task = tx.execute(sa.select(tasks.c.status, tasks.c.attempts).where(tasks.c.task_id == refused.task_id)).one()
    assert tuple(task) == ("pending", 0)


def test_an_opt_out_is_written_with_the_outcome_also_of_an_attempt_that_another_process_took_over(
    shared: Shared,
) -> None:
    batch_call_id = shared.running(1)
    late, other = shared.engine("late"), shared.engine("other")
    [attempt] = shared.place(late, late.record_and_claim([], {batch_call_id: 1}).started)
    other.interrupt(["late"])
    ended = Ended(attempt.task_id, attempt.n, batch_call_id, TaskStatus.COMPLETED, opted_out=True)
    late.record_and_claim([ended], {})
    late.record_and_claim([ended], {})
    with shared.store.reading() as tx:
        assert do_not_call.listed(tx, [attempt.to_number], "local", "simulated") == {attempt.to_number}
        assert do_not_call.listed(tx, [attempt.to_number], "sales", "simulated") == set()
