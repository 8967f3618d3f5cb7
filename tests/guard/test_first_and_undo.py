"""What a question says of a launch of the first people, and by what an equal write of an older version is known."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.guard.fingerprints import fingerprint
from batchcall_mcp.model import BatchCallRequest, CallTask, RetryPolicy
from tests.guard.questions import NINE_TO_FIVE, REAL, Scene, at, people, stored


def scene(first: int | None, **places: int) -> Scene:
    return Scene(
        title="",
        tasks=people(**places),
        current=stored(window=NINE_TO_FIVE),
        request=BatchCallRequest(send_now=True, first=first),
        now=at(15),
    )


def test_it_is_now_although_those_who_come_first_in_the_list_sleep() -> None:
    """The dialer passes over who sleeps: others ring at once."""
    found = scene(20, los_angeles=130, new_york=170)
    assert found.preflight.when == "now"
    assert "Call 20 of 300 people (United States) now" in found.question
    nobody = scene(20, los_angeles=130)
    assert "now" not in (nobody.preflight.when or "")


@given(first=st.integers(1, 12), listed=st.integers(1, 10))
def test_so_many_are_called_and_dialled_and_not_one_more(first: int, listed: int) -> None:
    tasks = [replace(task, max_retries=nth % 3) for nth, task in enumerate(people(new_york=listed))]
    found = replace(scene(first, new_york=1), tasks=tasks).preflight
    most = sorted((1 + (task.max_retries or 0) for task in tasks), reverse=True)[:first]
    assert found.calls == len(most) == min(first, listed)
    assert found.max_dials == sum(most)
    assert found.is_for_the_first == (first < listed)


def test_a_list_that_cannot_be_read_has_at_most_so_many_calls() -> None:
    found = replace(scene(20, new_york=1), tasks=None)
    assert found.preflight.calls == 20
    assert found.question.startswith(
        "The list of tasks could not be read, so nothing of it was checked. Call 20 of all"
    )
    assert REAL.first


def test_a_write_of_an_older_version_has_the_fingerprint_that_it_had() -> None:
    """Else a create that was sent before an upgrade would be sent again after it."""
    asked = BatchCallRequest(
        from_number="+14155550100",
        name="N",
        tasks=(CallTask(to_number="+12125550140", dynamic_variables={"a": "b"}),),
        retry=RetryPolicy(max_retries=1),
        send_now=True,
    )
    before = "43d7626f6e6de05060104d8a518821f8c0857394838d02a3c106e6e54660e5b6"
    assert fingerprint(Operation.CREATE, asked) == before
    assert fingerprint(Operation.CREATE, replace(asked, test_of="b")) != before
    assert fingerprint(Operation.CREATE, replace(asked, first=1)) != before
