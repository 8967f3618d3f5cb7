"""What watch_batch_call says of a batch call: no more than the backend said, and nothing that only hours would show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio
import pytest

from batchcall_mcp.backends.rest_api.dialer import DialerBackend
from batchcall_mcp.batch_calls.next_call import AfterAnswer, AskPerson, Offer
from batchcall_mcp.batch_calls.watch import done, ended, progress_words, waits_until, why_idle
from batchcall_mcp.model import BatchCall, BatchStatus, CallingWindow, Counts, HeldBack, StatusReason
from tests.operator.processes import of_zudu, serving
from tests.vendors.zudu import GENERATIONS, Generation, Zudu
from tests.walks.stage import FROM, NEW_YORK, number

OFFER = Offer(tools=frozenset({"watch_batch_call"}), capabilities=DialerBackend.capabilities, mode="full")
NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SOON, LATER = NOON + timedelta(seconds=45), NOON + timedelta(hours=5)
THREE = Counts(total=3, pending=0, calling=3, sent=3, not_reached=0)


def batch_call(status: BatchStatus = BatchStatus.RUNNING, **values: object) -> BatchCall:
    return BatchCall(batch_call_id="bc_1", status=status, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        (THREE, "running, 0 of 3 done, 3 in a call (bc_1)."),
        (Counts(total=3, pending=1, calling=1, sent=2), "running, 1 of 3 done, 1 in a call (bc_1)."),
        (Counts(total=3, sent=3, completed=1), "running, 3 of 3 dialled (bc_1)."),
        (Counts(total=3, completed=1), "running, 1 of 3 completed (bc_1)."),
        (Counts(total=3, pending=0, calling=0, not_reached=2), "running, 3 of 3 done, 2 not reached so far (bc_1)."),
        (Counts(), "running (bc_1)."),
    ],
)
def test_a_call_in_progress_is_not_done(counts: Counts, words: str) -> None:
    assert progress_words(batch_call(counts=counts)) == words


def test_who_was_dialled_is_not_counted_as_done_where_nobody_says_who_is_still_in_a_call() -> None:
    assert done(Counts(total=3, sent=3, completed=1)) is None
    assert done(THREE) == 0


def test_a_batch_call_whose_people_all_wait_for_hours_is_not_watched() -> None:
    held = (HeldBack(reason="window", calls=2, until=LATER), HeldBack(reason="retry", calls=1, until=LATER))
    waiting = batch_call(counts=Counts(total=3, pending=3, calling=0), held_back=held)

    idle = why_idle(waiting, NOON, SOON, OFFER)
    assert idle is not None
    assert idle.summary == "still running, 0 of 3 done (bc_1). No call starts before 2026-11-24 17:00 UTC."
    assert idle.next is None, "nothing is sensible before that time"


def test_it_says_who_waits_for_the_gate_before_each_dial() -> None:
    held = (HeldBack(reason="predial", calls=2, until=SOON),)
    waiting = batch_call(counts=Counts(total=3, pending=2, calling=0), held_back=held)
    said = ended(waiting, NOON, OFFER, reached=False).summary
    assert said.endswith(
        " 2 wait for the pre-dial gate, which gives no clear answer; it is asked again by itself. No call starts "
        "before 2026-11-24 12:00 UTC."
    )


@pytest.mark.parametrize(
    ("counts", "held"),
    [
        (Counts(total=3, pending=2, calling=1), (HeldBack(reason="window", calls=2, until=LATER),)),
        (Counts(total=3, pending=3, calling=0), (HeldBack(reason="window", calls=2, until=LATER),)),
        (Counts(total=3, pending=3, calling=0), (HeldBack(reason="window", calls=3, until=SOON),)),
        (Counts(total=3, pending=3, calling=0), (HeldBack(reason="window", calls=3),)),
        (Counts(total=3, pending=3, calling=0), ()),
    ],
    ids=["a call in progress", "one may be dialled", "soon", "nobody knows until when", "nobody waits"],
)
def test_a_batch_call_in_which_something_may_happen_is_watched(counts: Counts, held: tuple[HeldBack, ...]) -> None:
    assert why_idle(batch_call(counts=counts, held_back=held), NOON, SOON, OFFER) is None


def test_a_window_in_one_zone_says_when_the_next_call_may_start() -> None:
    night = CallingWindow(start="20:00", end="21:00", timezone="UTC")
    running = batch_call(counts=Counts(total=3, sent=1), window=night)

    assert why_idle(running, NOON, SOON, OFFER) is None, "who is in a call is not known"
    assert "No call starts before 2026-11-24 20:00 UTC." in ended(running, NOON, OFFER, reached=False).summary
    assert waits_until(running, NOON.replace(hour=20, minute=30)) is None
    assert waits_until(batch_call(window=CallingWindow(start="20:00", end="21:00")), NOON) is None


def test_whether_what_goes_on_is_watched_on_is_asked() -> None:
    following = ended(batch_call(counts=THREE), NOON, OFFER, reached=False).next
    assert isinstance(following, AskPerson)
    assert following.then == AfterAnswer(tool="watch_batch_call", arguments={"batch_call_id": "bc_1"})


def test_calls_in_progress_of_a_paused_batch_call_are_watched_to_their_end() -> None:
    late = StatusReason(code="late", text="The dialer was away when calls were due.")
    assert why_idle(batch_call(BatchStatus.PAUSED, counts=THREE, status_reason=late), NOON, SOON, OFFER) is None

    idle = why_idle(batch_call(BatchStatus.PAUSED, counts=Counts(calling=0), status_reason=late), NOON, SOON, OFFER)
    assert idle is not None
    assert idle.summary == "bc_1 is paused; no new call is placed. The dialer was away when calls were due."


@pytest.mark.parametrize("generation", GENERATIONS, ids=str)
async def test_three_calls_in_progress_at_zudu_are_not_three_done(generation: Generation, tmp_path: object) -> None:
    vendor = Zudu(generation)
    people = [{"to_number": number(NEW_YORK, line)} for line in range(3)]
    with anyio.fail_after(30):
        async with (
            vendor.served() as url,
            serving(of_zudu(url, tmp_path, confirm="code", calling_hours="00:00-24:00")) as model,  # type: ignore[arg-type]
        ):
            made = await model.call("create_batch_call", from_number=FROM, tasks=people)
            batch_call_id = made["batch_call"]["batch_call_id"]
            asked = await model.call("start_batch_call", batch_call_id=batch_call_id, trigger_timestamp="now")
            await model.call(
                "start_batch_call",
                batch_call_id=batch_call_id,
                confirmation_code=asked["confirmation_code"],
                trigger_timestamp="now",
            )
            seen = await model.call("watch_batch_call", batch_call_id=batch_call_id, timeout_seconds=0)
    assert len(vendor.dialled) == 3
    assert seen["summary"].startswith("still running")
    assert "done" not in seen["summary"]
    assert seen["next"]["then"]["tool"] == "watch_batch_call"
