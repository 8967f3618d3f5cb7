"""What is recorded before it is sent, and what that stands in the way of."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.errors import ConfigurationError, InvalidInput, NotConfirmed, PermissionDenied
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.write_record import Entry, Evidence, Intent, Overtaken, Shared, WriteState
from batchcall_mcp.settings import STOP_FILE, Settings
from tests.guard.ledger.conftest import BEGIN, Clock

CREATE = Intent(
    caller="a",
    backend="zudu https://api.zudu.ai",
    tool="create_batch_call",
    operation=Operation.CREATE,
    fingerprint="f" * 64,
    evidence=Evidence(name="Batch call 2026-11-24 ffffff", total=2),
)
START = replace(
    CREATE,
    tool="start_batch_call",
    operation=Operation.START,
    batch_call_id="bc_1",
    fingerprint="s" * 64,
    dials=True,
    starts_at=BEGIN,
    calls=2,
    numbers=(("+14155550101", 1), ("+14155550102", 3)),
)


def begun(ledger: Ledger, intent: Intent, **options: Any) -> Entry:
    entry = ledger.writes.begin(intent, **options)
    assert isinstance(entry, Entry)
    return entry


def done(ledger: Ledger, intent: Intent, batch_call_id: str = "bc_1") -> Entry:
    return ledger.writes.finish(
        begun(ledger, intent).write_id, WriteState.DONE, batch_call_id=batch_call_id, status="draft"
    )


def test_an_equal_create_within_a_day_is_the_same_and_later_a_new_one(ledger: Ledger, clock: Clock) -> None:
    first = done(ledger, CREATE)

    assert ledger.writes.first(CREATE) == first
    clock.move(hours=23, minutes=59)
    assert ledger.writes.begin(CREATE) == Overtaken(first)
    clock.move(minutes=1)
    assert ledger.writes.first(CREATE) is None


@pytest.mark.parametrize("changed", [{"caller": "b"}, {"backend": "zudu https://b"}, {"fingerprint": "g" * 64}])
def test_what_is_not_equal_is_meant_anew(ledger: Ledger, changed: dict[str, Any]) -> None:
    done(ledger, CREATE)

    assert ledger.writes.first(replace(CREATE, **changed)) is None


def test_the_same_key_is_the_same_write_for_ever_and_a_new_one_is_meant_anew(ledger: Ledger, clock: Clock) -> None:
    first = done(ledger, replace(CREATE, key="monday"))

    clock.move(days=400)
    assert ledger.writes.first(replace(CREATE, key="monday")) == first
    assert ledger.writes.first(replace(CREATE, key="tuesday")) is None
    with pytest.raises(InvalidInput, match=r"idempotency_key: .* for bc_1 with another request"):
        ledger.writes.begin(replace(CREATE, key="monday", fingerprint="g" * 64))


def test_a_daily_job_with_a_key_a_day_calls_every_day(ledger: Ledger, clock: Clock) -> None:
    made = set()
    for day in range(3):
        key = f"reminders-{day}"
        first = done(ledger, replace(CREATE, key=key), f"bc_{day}")
        assert ledger.writes.begin(replace(CREATE, key=key)) == Overtaken(first)
        made.add(first.batch_call_id)
        clock.move(hours=23, minutes=59, seconds=58)  # cron is never quite on time
    assert made == {"bc_0", "bc_1", "bc_2"}


def test_what_was_refused_stands_in_nobodys_way(ledger: Ledger) -> None:
    entry = begun(ledger, replace(CREATE, key="k"))
    ledger.writes.finish(entry.write_id, WriteState.REFUSED)

    assert ledger.writes.first(replace(CREATE, key="k")) is None
    assert ledger.writes.first(CREATE) is None


def test_a_draft_that_was_deleted_is_made_anew_by_the_same_call(ledger: Ledger) -> None:
    done(ledger, CREATE)
    done(ledger, replace(START, operation=Operation.DELETE, dials=False, numbers=()))

    assert ledger.writes.first(CREATE) is None


def test_an_open_launch_stands_in_the_way_of_every_other_launch_of_it(ledger: Ledger) -> None:
    entry = begun(ledger, START)
    other = replace(START, caller="b", fingerprint="t" * 64, seen=entry.write_id)

    assert ledger.writes.begin(other) == Overtaken(entry)
    unknown = ledger.writes.finish(entry.write_id, WriteState.UNKNOWN)
    assert ledger.writes.begin(other) == Overtaken(unknown)
    assert isinstance(ledger.writes.begin(replace(other, operation=Operation.PAUSE, dials=False)), Entry), (
        "nothing holds up a stop"
    )


def test_a_launch_that_was_decided_on_an_older_look_is_overtaken(ledger: Ledger) -> None:
    seen = done(ledger, CREATE).write_id
    paused = done(ledger, replace(START, operation=Operation.PAUSE, dials=False))

    assert ledger.writes.begin(replace(START, seen=seen)) == Overtaken(paused)
    assert isinstance(ledger.writes.begin(replace(START, seen=paused.write_id)), Entry)


def test_of_equal_writes_at_once_one_is_recorded(ledger: Ledger, settings: Settings, clock: Clock) -> None:
    ledgers = [ledger, *(Ledger.open(settings, clock) for _ in range(3))]
    gate = threading.Barrier(16)

    def race(number: int) -> Entry | Overtaken | Shared:
        gate.wait(20)
        return ledgers[number % 4].writes.begin(START)

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(race, range(16)))
    entries = [one for one in results if isinstance(one, Entry)]
    assert len(entries) == 1
    assert {one.by for one in results if isinstance(one, Overtaken)} == set(entries)
    for other in ledgers[1:]:
        other.close()


def test_a_write_is_in_hand_until_its_process_is_gone(ledger: Ledger, settings: Settings, clock: Clock) -> None:
    other = Ledger.open(settings, clock)
    entry = begun(other, START)

    assert ledger.writes.is_in_hand(entry)
    assert other.writes.is_in_hand(entry)
    other.writes.let_go(entry)
    assert not other.writes.is_in_hand(entry)
    other.close()
    assert not ledger.writes.is_in_hand(entry)
    assert not ledger.writes.is_in_hand(entry), "and it stays so"


def test_a_write_is_in_hand_as_soon_as_others_can_see_it(
    ledger: Ledger, settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Ledger.open(settings, clock)
    seen: list[bool] = []

    @contextmanager
    def looked_at(*given: Any) -> Iterator[sa.Connection]:
        with writing(*given) as tx:
            yield tx
        entry = other.writes.first(START)
        assert entry is not None
        seen.append(ledger.writes.is_in_hand(entry))

    writing = ledger.database.writing
    monkeypatch.setattr(ledger.database, "writing", looked_at)
    begun(ledger, START)
    assert seen == [True]
    other.close()


def test_a_write_that_could_not_be_recorded_is_in_nobodys_hand(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that is taken over: the entry is there, and its first request got no answer."""
    entry = begun(ledger, START)
    ledger.writes.let_go(entry)

    @contextmanager
    def fails(*given: Any) -> Iterator[sa.Connection]:
        with writing(*given) as tx:
            yield tx
            raise ConfigurationError("the disk is full")

    writing = ledger.database.writing
    monkeypatch.setattr(ledger.database, "writing", fails)
    with pytest.raises(ConfigurationError):
        ledger.writes.take_over(entry, START)
    assert not ledger.writes.is_in_hand(entry)


def test_files_of_processes_that_died_long_ago_do_not_pile_up(tmp_path: Path, clock: Clock) -> None:
    folder = tmp_path / "owners"
    folder.mkdir()
    old, young = folder / "old.lock", folder / "young.lock"
    for path in (old, young):
        path.touch()
    os.utime(old, (0, 0))
    ledger = Ledger.open(Settings(data_dir=tmp_path), clock)
    ledger.writes.begin(START)
    mine = [path for path in folder.iterdir() if path != young]
    assert (old.exists(), young.exists(), len(mine)) == (False, True, 1)
    os.utime(mine[0], (0, 0))
    other = Ledger.open(Settings(data_dir=tmp_path), clock)
    other.writes.begin(CREATE)
    assert mine[0].exists(), "a process that has run for days is alive all the same"
    other.close()
    ledger.close()


def test_only_one_takes_an_open_write_over(ledger: Ledger, settings: Settings, clock: Clock) -> None:
    entry = begun(ledger, CREATE)
    unknown = ledger.writes.finish(entry.write_id, WriteState.UNKNOWN)
    other = Ledger.open(settings, clock)

    clock.move(minutes=2)
    taken = other.writes.take_over(unknown, CREATE)
    assert isinstance(taken, Entry)
    assert (taken.state, taken.at, taken.sent_at - taken.at) == (WriteState.SENDING, entry.at, 120_000)
    assert ledger.writes.take_over(unknown, CREATE) == Overtaken(taken)
    other.close()


def test_a_confirmation_is_used_up_with_the_record_or_not_at_all(ledger: Ledger) -> None:
    token = ledger.codes.answer("nonce")
    first = begun(ledger, START, token=token)

    assert ledger.writes.begin(START, token=ledger.codes.answer("other")) == Overtaken(first)
    ledger.writes.finish(first.write_id, WriteState.REFUSED)
    with pytest.raises(NotConfirmed, match="one answer launches once"):
        ledger.writes.begin(START, token=token)
    assert isinstance(ledger.writes.begin(START, token=ledger.codes.answer("other")), Entry), "it was not used up"


@pytest.mark.parametrize("by_file", [False, True], ids=["in the database", "as a file"])
def test_the_emergency_stop_refuses_launches_and_nothing_else(ledger: Ledger, *, by_file: bool) -> None:
    token = ledger.codes.answer("nonce")
    if by_file:
        (ledger.database.data_dir / STOP_FILE).touch()
    else:
        ledger.stops.stop(1)
    with pytest.raises(PermissionDenied, match="emergency stop is on"):
        ledger.writes.begin(START, token=token)
    assert isinstance(ledger.writes.begin(CREATE), Entry)
    assert isinstance(ledger.writes.begin(replace(START, operation=Operation.CANCEL, dials=False)), Entry)

    ledger.stops.clear()
    newest = ledger.history.newest_of(START.backend, "bc_1")
    assert newest is not None
    assert isinstance(ledger.writes.begin(replace(START, seen=newest.write_id), token=token), Entry)


def test_the_limit_of_a_day_counts_each_person_of_a_batch_call_once(ledger: Ledger) -> None:
    first = done(ledger, START)
    again = replace(START, operation=Operation.RESUME, seen=first.write_id)

    assert isinstance(ledger.writes.begin(again, max_calls_per_day=2), Entry), "the same people"
    other = replace(START, batch_call_id="bc_2", caller="b", since=ledger.history.newest())
    with pytest.raises(InvalidInput, match=r"2 calls are launched already .* BATCHCALL_MAX_CALLS_PER_DAY=3"):
        ledger.writes.begin(other, max_calls_per_day=3)
    assert isinstance(ledger.writes.begin(other, max_calls_per_day=4), Entry)
    assert ledger.history.calls_on(BEGIN) == 4
    people = [number for number, _ in START.numbers]
    assert ledger.history.calls_on(BEGIN, backend=START.backend, own_id="bc_2", numbers=people) == 2
    assert ledger.history.calls_on(BEGIN + timedelta(days=1)) == 0


def test_a_retry_calls_them_again_and_counts_again(ledger: Ledger) -> None:
    first = done(ledger, START)
    retry = replace(START, operation=Operation.RETRY, seen=first.write_id)

    with pytest.raises(InvalidInput, match="BATCHCALL_MAX_CALLS_PER_DAY=3"):
        ledger.writes.begin(retry, max_calls_per_day=3)
    assert isinstance(ledger.writes.begin(retry, max_calls_per_day=4), Entry)


def test_a_launch_of_an_unknown_number_of_people_is_over_every_limit(ledger: Ledger) -> None:
    with pytest.raises(InvalidInput, match="BATCHCALL_MAX_CALLS_PER_DAY=1000000"):
        ledger.writes.begin(replace(START, calls=None), max_calls_per_day=1_000_000)


def test_attempts_of_a_number_add_up_over_batch_calls_and_end_after_a_day(ledger: Ledger, clock: Clock) -> None:
    numbers = [number for number, _ in START.numbers]
    assert ledger.history.attempts(numbers, BEGIN) == {}
    done(ledger, START)
    refused = begun(ledger, replace(START, batch_call_id="bc_2", since=ledger.history.newest()))
    assert ledger.history.attempts(numbers, BEGIN) == {numbers[0]: 2, numbers[1]: 6}

    ledger.writes.finish(refused.write_id, WriteState.REFUSED)
    assert ledger.history.attempts([*numbers, "+14155550199"], BEGIN) == {numbers[0]: 1, numbers[1]: 3}
    assert ledger.history.attempts(numbers, BEGIN + timedelta(hours=24)) == {}


def test_the_database_names_nobody(ledger: Ledger) -> None:
    done(ledger, replace(START, key="Ann's key"))
    with ledger.database.reading() as connection:
        held = repr([tuple(row) for name in ("writes", "dialled") for row in connection.exec_driver_sql(
            f"SELECT * FROM {name}"
        )])  # fmt: skip
    assert [text for text in ("4155550101", "Ann") if text in held] == []


def test_what_is_settled_stays_settled(ledger: Ledger) -> None:
    entry = done(ledger, START)

    assert ledger.writes.finish(entry.write_id, WriteState.UNKNOWN).state is WriteState.DONE
    assert ledger.history.unsettled() == []


def test_how_long_ago_it_was_sent_is_not_a_matter_of_the_wall_clock(ledger: Ledger, clock: Clock) -> None:
    entry = begun(ledger, CREATE)

    clock.move(hours=1)
    assert ledger.writes.seconds_since_sent(entry) < 600, "this process sent it, and knows better"


def test_only_ids_that_are_settled_are_known(ledger: Ledger) -> None:
    done(ledger, CREATE, "bc_1")
    begun(ledger, replace(START, batch_call_id="bc_2"))

    assert ledger.history.known_ids(CREATE.backend, ["bc_1", "bc_2", "bc_3"]) == {"bc_1"}
    assert ledger.history.known_ids("elsewhere", ["bc_1"]) == set()


def test_a_moment_of_utc_is_a_day_of_utc(ledger: Ledger) -> None:
    begun(ledger, replace(START, starts_at=datetime(2026, 11, 24, 23, 59, 59, tzinfo=UTC)))

    assert ledger.history.calls_on(datetime(2026, 11, 24, 0, 0, tzinfo=UTC)) == 2
    assert ledger.history.calls_on(datetime(2026, 11, 25, 0, 0, tzinfo=UTC)) == 0


UPDATE = replace(
    START,
    tool="update_batch_call",
    operation=Operation.UPDATE,
    fingerprint="u" * 64,
    dials=False,
    numbers=(),
    calls=None,
)


@pytest.mark.parametrize("operation", [Operation.UPDATE, Operation.DELETE])
@pytest.mark.parametrize("state", [WriteState.SENDING, WriteState.UNKNOWN, WriteState.DONE])
def test_a_change_that_was_judged_before_a_launch_is_not_sent_after_it(
    ledger: Ledger, state: WriteState, operation: Operation
) -> None:
    """A list of 60,000 rows, judged on a draft, must not land on the batch call that somebody launched meanwhile."""
    change = replace(UPDATE, operation=operation, seen=ledger.history.newest().write_id)
    launch = begun(ledger, START)
    if state is not WriteState.SENDING:
        launch = ledger.writes.finish(launch.write_id, state, status="running")

    assert ledger.writes.begin(change) == Overtaken(launch)


@pytest.mark.parametrize("state", [WriteState.SENDING, WriteState.UNKNOWN])
def test_nothing_but_a_stop_and_a_rename_is_sent_while_a_launch_is_open(ledger: Ledger, state: WriteState) -> None:
    launch = begun(ledger, START)
    if state is WriteState.UNKNOWN:
        launch = ledger.writes.finish(launch.write_id, state)
    looked = replace(UPDATE, seen=launch.write_id)

    assert ledger.writes.begin(looked) == Overtaken(launch)
    begun(ledger, replace(looked, renames=True))
    for stop in (Operation.PAUSE, Operation.CANCEL):
        begun(ledger, replace(looked, operation=stop))


def test_a_change_that_was_judged_after_the_launch_is_sent(ledger: Ledger) -> None:
    launch = done(ledger, START)

    begun(ledger, replace(UPDATE, seen=launch.write_id))


@pytest.mark.parametrize("state", [WriteState.SENDING, WriteState.UNKNOWN])
def test_no_launch_is_sent_while_a_change_may_still_arrive(ledger: Ledger, clock: Clock, state: WriteState) -> None:
    """It was judged on the list that the backend showed, and would call the list that is on its way."""
    change = begun(ledger, UPDATE)
    if state is WriteState.UNKNOWN:
        change = ledger.writes.finish(change.write_id, state)
    launch = replace(START, seen=change.write_id)

    assert ledger.writes.begin(launch) == Overtaken(change)
    clock.move(seconds=61)
    if state is WriteState.SENDING:  # by a process that lives: however long it takes
        assert ledger.writes.begin(launch) == Overtaken(change)
        change = ledger.writes.finish(change.write_id, WriteState.DONE)
        launch = replace(launch, seen=change.write_id)
    begun(ledger, launch)


def test_a_launch_of_people_whom_another_one_calls_since_they_were_compared_is_not_recorded(ledger: Ledger) -> None:
    since = ledger.history.newest()
    first = done(ledger, START)
    other = replace(START, caller="b", backend="magpipe https://x", batch_call_id="bc_2", fingerprint="o" * 64)

    assert ledger.writes.begin(replace(other, since=since)) == Shared(first, 2)
    named = frozenset({"+14155550101"})
    assert ledger.writes.begin(replace(other, since=since, named=named)) == Shared(first, 1)
    begun(ledger, replace(other, since=since, named=frozenset(number for number, _ in START.numbers)))


def test_a_launch_of_other_people_or_a_simulated_one_does_not_stand_in_the_way(ledger: Ledger) -> None:
    done(ledger, START)

    others = (("+14155550103", 1),)
    begun(ledger, replace(START, batch_call_id="bc_2", fingerprint="o" * 64, numbers=others))
    begun(ledger, replace(START, batch_call_id="bc_3", fingerprint="p" * 64, simulated=True))


def test_simulated_launches_count_only_for_simulated_ones(ledger: Ledger) -> None:
    begun(ledger, replace(START, simulated=True))
    numbers = [number for number, _ in START.numbers]

    assert ledger.history.calls_on(BEGIN) == 0
    assert ledger.history.calls_on(BEGIN, simulated=True) == 2
    assert ledger.history.attempts(numbers, BEGIN) == {}
    assert ledger.history.attempts(numbers, BEGIN, simulated=True) == {numbers[0]: 1, numbers[1]: 3}
    assert ledger.history.launched_lately(numbers, simulated=False) == []
    assert [sorted(shared) for _, shared in ledger.history.launched_lately(numbers, simulated=True)] == [numbers]


def test_the_limit_of_a_day_counts_the_people_with_whom_a_batch_call_was_filled_again(ledger: Ledger) -> None:
    first = done(ledger, START)
    others = (("+14155550102", 1), ("+14155550103", 1))
    refilled = replace(START, operation=Operation.RESUME, seen=first.write_id, numbers=others)

    with pytest.raises(InvalidInput, match="1 calls are launched already"):
        ledger.writes.begin(refilled, max_calls_per_day=2)
    begun(ledger, refilled, max_calls_per_day=3)
    assert ledger.history.calls_on(BEGIN) == 3
    assert ledger.history.calls_on(BEGIN, backend=START.backend, own_id="bc_1", numbers=["+14155550101"]) == 2


class TestRowsThatWereSkipped:
    """Kept for the question of the launch, which may come days later from another process."""

    MADE = replace(CREATE, evidence=Evidence(total=2, skipped={"invalid": 5}))
    CHANGED = replace(
        CREATE, tool="update_batch_call", operation=Operation.UPDATE, batch_call_id="bc_1", fingerprint="u" * 64
    )
    REPLACED = replace(CHANGED, evidence=Evidence(total=9, skipped={"duplicate": 1}))

    def of(self, ledger: Ledger, batch_call_id: str = "bc_1") -> dict[str, int]:
        return dict(ledger.history.list_of(CREATE.backend, batch_call_id)[1].skipped or {})

    def test_those_of_the_list_that_was_made(self, ledger: Ledger) -> None:
        done(ledger, self.MADE)

        assert self.of(ledger) == {"invalid": 5}
        assert self.of(ledger, "bc_2") == {}

    def test_a_change_of_something_else_leaves_them(self, ledger: Ledger) -> None:
        done(ledger, self.MADE)
        done(ledger, replace(self.CHANGED, evidence=Evidence()))

        assert self.of(ledger) == {"invalid": 5}

    @pytest.mark.parametrize("skipped", [{"duplicate": 1}, None])
    def test_a_list_that_replaces_it_brings_its_own(self, ledger: Ledger, skipped: dict[str, int] | None) -> None:
        done(ledger, self.MADE)
        done(ledger, replace(self.REPLACED, evidence=Evidence(total=9, skipped=skipped)))

        assert self.of(ledger) == (skipped or {})

    def test_of_a_list_that_may_have_been_replaced_nothing_is_said(self, ledger: Ledger) -> None:
        done(ledger, self.MADE)
        entry = begun(ledger, self.REPLACED)
        assert self.of(ledger) == {}

        ledger.writes.finish(entry.write_id, WriteState.REFUSED)
        assert self.of(ledger) == {"invalid": 5}


def test_a_launch_that_is_sent_again_is_compared_too(ledger: Ledger) -> None:
    """Its first try got no answer; meanwhile another caller launched some of the same people."""
    lost = ledger.writes.finish(begun(ledger, START).write_id, WriteState.UNKNOWN)
    since = ledger.history.newest()
    named = frozenset(number for number, _ in START.numbers)
    other = done(ledger, replace(START, caller="b", batch_call_id="bc_2", since=since, named=named), "bc_2")

    assert ledger.writes.take_over(lost, replace(START, since=since)) == Shared(other, 2)
    assert isinstance(ledger.writes.take_over(lost, replace(START, since=ledger.history.newest())), Entry)


def test_what_became_of_an_earlier_request_is_no_word_about_a_later_one(
    settings: Settings, ledger: Ledger, clock: Clock
) -> None:
    """A process that was taken for dead hears no, while another one has sent the launch again: it may be made."""
    other = Ledger.open(settings, clock)
    first = begun(ledger, START)
    lost = ledger.writes.finish(first.write_id, WriteState.UNKNOWN)
    clock.move(seconds=90)
    again = other.writes.take_over(lost, START)
    assert isinstance(again, Entry)

    for state in (WriteState.REFUSED, WriteState.UNKNOWN):
        assert ledger.writes.finish(first.write_id, state, sent=first) == again
    assert ledger.history.attempts([number for number, _ in START.numbers], BEGIN) == dict(START.numbers)
    assert other.writes.finish(again.write_id, WriteState.REFUSED, sent=again).state is WriteState.REFUSED
    assert ledger.history.attempts([number for number, _ in START.numbers], BEGIN) == {}
    other.close()


def test_what_the_sender_knows_to_be_made_is_made_whatever_was_said_before_it_knew(ledger: Ledger) -> None:
    """And a settled entry loses no number by a word that changes nothing."""
    sent = begun(ledger, START)
    assert ledger.writes.settle(sent, WriteState.REFUSED)
    assert ledger.writes.finish(sent.write_id, WriteState.DONE, sent=sent).state is WriteState.DONE

    made = done(ledger, replace(START, batch_call_id="bc_2", numbers=(("+14155550103", 2),)), "bc_2")
    assert not ledger.writes.settle(made, WriteState.REFUSED)
    assert ledger.writes.finish(made.write_id, WriteState.REFUSED) == made
    assert ledger.history.attempts(["+14155550103"], BEGIN) == {"+14155550103": 2}


def test_who_is_forgotten_while_a_launch_is_prepared_is_not_called(ledger: Ledger, clock: Clock) -> None:
    prepared = replace(START, since=ledger.history.newest())
    clock.move(minutes=5)  # a person thinks
    ledger.forgotten.add("+1 415 555 0102")
    with pytest.raises(InvalidInput, match=r"1 of the people to be called were just forgotten .* Nothing was sent"):
        ledger.writes.begin(prepared)
    assert isinstance(ledger.writes.begin(replace(prepared, numbers=(("+14155550101", 1),))), Entry)
    clock.move(minutes=2)  # a list that a backend keeps, of which the question said so
    begun(
        ledger, replace(START, batch_call_id="bc_2", since=ledger.history.newest(), named=frozenset({"+14155550101"}))
    )


def test_what_is_live_elsewhere_with_a_number_is_known(ledger: Ledger) -> None:
    assert ledger.forgotten.add("+14155550101")
    assert not ledger.forgotten.add("+14155550101"), "it is there"
    assert ledger.forgotten.launches_of("+14155550103") == []
    done(ledger, CREATE, "bc_2")
    draft = replace(CREATE, fingerprint="d" * 64, numbers=(("+14155550103", 0),))
    done(ledger, draft, "bc_3")
    entry = done(ledger, replace(START, numbers=(("+14155550103", 1),)))
    assert [one.batch_call_id for one in ledger.forgotten.launches_of("+1 (415) 555-0103")] == [entry.batch_call_id]
    (sent,) = ledger.forgotten.sent_to()
    assert (sent.backend, sent.batch_calls, list(sent.latest)) == (CREATE.backend, 3, ["bc_1", "bc_3", "bc_2"])
