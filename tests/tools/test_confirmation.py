"""Whatever makes a phone ring is confirmed once, for exactly that, by whoever the client can reach."""

from typing import Any

import pytest
from mcp import MCPError
from mcp.types import CallToolResult, ElicitResult, InputRequiredResult

from tests.server.transports import WAYS, Way
from tests.tools.desk import SOME_WAYS, Desk, muted_over_some_ways, over_some_ways, text_of

NOW: dict[str, Any] = {"trigger_timestamp": "now"}

where_questions_can_be_asked = pytest.mark.parametrize(
    "_asked", [way for way in WAYS if way.can_ask], indirect=True, ids=str
)
where_questions_are_results = pytest.mark.parametrize(
    "_asked", [way for way in WAYS if way.mode == "auto"], indirect=True, ids=str
)
"""In the other era a question is waited for, so that its answer cannot be sent twice."""


@pytest.mark.parametrize("_asked", [*SOME_WAYS, Way("stateless", "legacy")], indirect=True, ids=str)
def test_the_question_says_who_when_from_where_what_was_skipped_and_what_can_be_stopped(desk: Desk) -> None:
    """Asked in both eras, and as the summary of a code, where nobody can be asked."""
    tasks = desk.people(3)
    batch_call_id = desk.draft([*tasks, tasks[0]], name="Spring")
    started = desk.call("start_batch_call", batch_call_id=batch_call_id, **NOW)
    question = desk.person.questions[0] if desk.is_asked and desk.person else started["summary"]
    for part in (
        "Call 3 people (United States) now",
        f"First on the list: +1 … {tasks[0]['to_number'][-3:]}.",
        "+1 415 555 0199",
        '"Spring"',
        "through dialer",
        "1 row was skipped: 1 duplicate.",
        "You can stop it.",
        "no real phone rings",
    ):
        assert part in question
    assert [task for task in tasks if task["to_number"] in question] == []


@pytest.mark.sweep
@where_questions_can_be_asked
def test_a_list_that_changes_while_the_person_thinks_is_asked_about_again(desk: Desk) -> None:
    assert desk.person is not None
    batch_call_id, others = desk.draft(desk.people(1)), desk.people(3)
    desk.person.meanwhile = lambda: desk.client.call_tool(
        "update_batch_call", {"batch_call_id": batch_call_id, "tasks": others}
    )
    started = desk.call("start_batch_call", batch_call_id=batch_call_id, **NOW)
    assert started["result"] == "started"
    first, second = desk.person.questions
    assert "Call 1 person" in first
    assert "has changed since the last question" in second
    assert "Call 3 people" in second


@pytest.mark.sweep
@where_questions_can_be_asked
def test_a_no_ends_the_call_whatever_changed_meanwhile(desk: Desk) -> None:
    assert desk.person is not None
    batch_call_id, others = desk.draft(desk.people(1)), desk.people(3)
    desk.person.says = "no"
    desk.person.meanwhile = lambda: desk.client.call_tool(
        "update_batch_call", {"batch_call_id": batch_call_id, "tasks": others}
    )
    text = desk.refused("start_batch_call", batch_call_id=batch_call_id, **NOW)
    assert text.startswith("[not_confirmed] The client answered no")
    assert len(desk.person.questions) == 1
    assert desk.times_dialled(others) == 0


@pytest.mark.sweep
@over_some_ways
@pytest.mark.parametrize("says", ["no", "dismiss", "yes without the tick", "yes in words", "yes without a form"])
def test_without_a_yes_nothing_is_dialled_and_no_code_is_given(desk: Desk, says: Any) -> None:
    assert desk.person is not None
    desk.person.says = says
    tasks = desk.people(2)
    batch_call_id = desk.draft(tasks)
    text = desk.refused("start_batch_call", batch_call_id=batch_call_id, **NOW)
    assert text.startswith("[not_confirmed] ")
    assert "Nothing was sent" in text
    assert "confirmation_code" not in text
    assert desk.status(batch_call_id) == "draft"
    assert desk.times_dialled(tasks) == 0


@pytest.mark.sweep
def test_a_code_launches_once_with_nothing_but_the_id(mute: Desk) -> None:
    tasks = mute.people(2)
    batch_call_id = mute.draft(tasks)
    asked = mute.call("start_batch_call", batch_call_id=batch_call_id, **NOW)
    assert asked["result"] == "confirmation_required"
    assert "next" not in asked
    assert asked["confirmation_code"] not in asked["summary"] + " ".join(asked["notes"])
    assert "2 people" in asked["summary"]
    assert mute.times_dialled(tasks) == 0
    code = {"confirmation_code": asked["confirmation_code"]}
    started = mute.call("start_batch_call", batch_call_id=batch_call_id, **NOW, **code)
    assert started["result"] == "started"
    mute.finished(batch_call_id)
    again = mute.refused("start_batch_call", batch_call_id=batch_call_id, **NOW, **code)
    assert again.startswith("[illegal_transition] ")
    assert "Nothing was sent. An equal call did that at " in again
    assert mute.times_dialled(tasks) == 2


@muted_over_some_ways
def test_a_code_brings_the_arguments_that_were_shown(mute: Desk) -> None:
    tasks = mute.people(1)
    batch_call_id = mute.draft(tasks)
    asked = mute.call(
        "update_batch_call", batch_call_id=batch_call_id, status="scheduled", trigger_timestamp="2036-01-01T09:00Z"
    )
    assert asked["result"] == "confirmation_required"
    done = mute.call("update_batch_call", batch_call_id=batch_call_id, confirmation_code=asked["confirmation_code"])
    assert done["batch_call"]["scheduled_at"] == "2036-01-01T09:00:00Z"
    assert mute.call("cancel_batch_call", batch_call_id=batch_call_id)["result"] == "cancelled"


@muted_over_some_ways
def test_a_code_does_not_confirm_anything_else(mute: Desk) -> None:
    tasks = mute.people(1)
    batch_call_id, other = mute.draft(tasks), mute.draft(mute.people(1))
    code = mute.call("start_batch_call", batch_call_id=batch_call_id, **NOW)["confirmation_code"]
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("start_batch_call", {"batch_call_id": other, "trigger_timestamp": "now"}),
        ("start_batch_call", {"batch_call_id": batch_call_id, "trigger_timestamp": "2036-01-01T09:00Z"}),
        ("resume_batch_call", {"batch_call_id": batch_call_id}),
        ("update_batch_call", {"batch_call_id": batch_call_id, "send_now": True}),
    ]
    for tool, arguments in wrong:
        assert mute.refused(tool, **arguments, confirmation_code=code).startswith("[not_confirmed] ")
    assert mute.refused(
        "start_batch_call", batch_call_id=batch_call_id, **NOW, confirmation_code="ABCDEFGH"
    ).startswith("[not_confirmed] ")
    assert (mute.status(batch_call_id), mute.status(other)) == ("draft", "draft")
    assert mute.times_dialled(tasks) == 0


@muted_over_some_ways
def test_a_list_that_changed_since_the_question_is_asked_about_again(mute: Desk) -> None:
    batch_call_id = mute.draft(mute.people(1))
    code = mute.call("start_batch_call", batch_call_id=batch_call_id, **NOW)["confirmation_code"]
    tasks = mute.people(3)
    mute.call("update_batch_call", batch_call_id=batch_call_id, tasks=tasks)
    again = mute.call("start_batch_call", batch_call_id=batch_call_id, **NOW, confirmation_code=code)
    assert again["result"] == "confirmation_required"
    assert "has changed since the last question" in again["summary"]
    assert "3 people" in again["summary"]
    assert mute.times_dialled(tasks) == 0
    confirmed = {"confirmation_code": again["confirmation_code"]}
    assert mute.call("start_batch_call", batch_call_id=batch_call_id, **NOW, **confirmed)["result"] == "started"


@pytest.mark.sweep
def test_a_code_is_worth_nothing_in_another_callers_hands(shared: Desk) -> None:
    tasks = shared.people(1)
    batch_call_id = shared.draft(tasks)
    code = shared.call("start_batch_call", batch_call_id=batch_call_id, **NOW)["confirmation_code"]
    with shared.another_caller() as thief:
        stolen = thief.refused("start_batch_call", batch_call_id=batch_call_id, **NOW, confirmation_code=code)
        assert stolen.startswith("[not_confirmed] ")
    assert shared.times_dialled(tasks) == 0
    assert (
        shared.call("start_batch_call", batch_call_id=batch_call_id, **NOW, confirmation_code=code)["result"]
        == "started"
    )


@pytest.mark.sweep
@where_questions_are_results
def test_an_answer_that_is_sent_twice_launches_once(desk: Desk) -> None:
    tasks = desk.people(300, digit=5)
    batch_call_id = desk.draft(tasks, max_concurrency=1)
    desk.launch("start_batch_call", batch_call_id=batch_call_id, **NOW)
    desk.call("pause_batch_call", batch_call_id=batch_call_id)
    asked = send(desk, "resume_batch_call", {"batch_call_id": batch_call_id})
    assert isinstance(asked, InputRequiredResult)
    first = send(desk, "resume_batch_call", {"batch_call_id": batch_call_id}, **yes_to(asked))
    assert isinstance(first, CallToolResult)
    assert (first.structured_content or {})["result"] == "resumed"
    desk.call("pause_batch_call", batch_call_id=batch_call_id)  # as it stood when the question was asked
    replayed = send(desk, "resume_batch_call", {"batch_call_id": batch_call_id}, **yes_to(asked))
    assert isinstance(replayed, CallToolResult)
    assert replayed.is_error
    assert text_of(replayed).startswith("[not_confirmed] This answer was used already")
    assert desk.status(batch_call_id) == "paused"
    desk.call("cancel_batch_call", batch_call_id=batch_call_id)


@where_questions_are_results
def test_an_answer_to_one_question_does_not_launch_another(desk: Desk) -> None:
    first, second = desk.draft(desk.people(1)), desk.draft(desk.people(1))
    asked = send(desk, "start_batch_call", {"batch_call_id": first, **NOW})
    assert isinstance(asked, InputRequiredResult)
    for tool, arguments in (
        ("start_batch_call", {"batch_call_id": second, **NOW}),
        ("update_batch_call", {"batch_call_id": first, "send_now": True}),
    ):
        with pytest.raises(MCPError, match="requestState"):
            send(desk, tool, arguments, **yes_to(asked))
    assert (desk.status(first), desk.status(second)) == ("draft", "draft")


@where_questions_are_results
def test_a_forged_answer_is_refused(desk: Desk) -> None:
    batch_call_id = desk.draft(desk.people(1))
    asked = send(desk, "start_batch_call", {"batch_call_id": batch_call_id, **NOW})
    assert isinstance(asked, InputRequiredResult)
    forged = yes_to(asked) | {"request_state": '{"nonce": "1", "binding": "1", "asked": 1}'}
    with pytest.raises(MCPError, match="requestState"):
        send(desk, "start_batch_call", {"batch_call_id": batch_call_id, **NOW}, **forged)
    assert desk.status(batch_call_id) == "draft"


def send(desk: Desk, tool: str, arguments: dict[str, Any], **answer: Any) -> CallToolResult | InputRequiredResult:
    """A call in the test's own hands: a question comes back as it is."""
    session = desk.client.session

    async def sent() -> CallToolResult | InputRequiredResult:
        result: CallToolResult | InputRequiredResult = await session.call_tool(
            tool, arguments, allow_input_required=True, **answer
        )
        return result

    return desk.wait(sent)


def yes_to(asked: InputRequiredResult) -> dict[str, Any]:
    """What a 2026-07-28 client sends along when it repeats the call."""
    yes = ElicitResult(action="accept", content={"confirm": True})
    return {"input_responses": {"confirm": yes}, "request_state": asked.request_state}
