"""Nothing that dials passes without its one confirmation; what does not dial passes without a question."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from batchcall_mcp.backends.base import At, Never, Now, Operation
from batchcall_mcp.errors import ConfigurationError, InvalidInput, NotConfirmed, PermissionDenied
from batchcall_mcp.guard.admission import CodeNeeded, Guard, Launch
from batchcall_mcp.guard.confirmation import Answer
from batchcall_mcp.guard.preflight import Preflight
from batchcall_mcp.model import BatchCallRequest, CallTask
from batchcall_mcp.settings import Confirm, Mode

LAUNCH = Launch(
    caller="a",
    backend="dialer",
    tool="start_batch_call",
    operation=Operation.START,
    arguments={"batch_call_id": "bc_1", "trigger_timestamp": "now"},
    request=BatchCallRequest(send_now=True),
    current=None,
    tasks=(CallTask(to_number="+14155550101"),),
    left_out=(),
    dials=Now(),
    preflight=Preflight(calls=1, max_dials=1, starts="now"),
)


class Person:
    """Somebody who gives the same answer to every question, and remembers what was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def ask(self, question: str, binding: str) -> Answer:
        assert binding
        self.asked.append(question)
        return self.answer


def guard(mode: Mode = "full", confirm: Confirm = "auto") -> Guard:
    return Guard.of(mode, confirm, 100)


YES = Answer("accepted", 1.0)
NOBODY = Answer("cannot_ask")


async def test_what_does_not_dial_is_not_asked_about() -> None:
    person = Person(Answer("declined"))

    assert await guard().admit(replace(LAUNCH, dials=Never()), person, None) is None
    assert person.asked == []


async def test_a_yes_lets_a_launch_pass() -> None:
    person = Person(YES)

    assert await guard().admit(LAUNCH, person, None) is None
    assert person.asked == ["Call 1 person from the batch call's number now, through dialer."]


@pytest.mark.parametrize("confirm", ["auto", "person"])
@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer("declined", 0.04), "answered no after 0.0 s"),
        (Answer("cancelled"), "was dismissed"),
        (Answer("unanswered", 300), "Nobody answered the question after 300.0 s"),
    ],
)
async def test_any_other_answer_sends_nothing_and_never_falls_back_to_a_code(
    confirm: Confirm, answer: Answer, words: str
) -> None:
    with pytest.raises(NotConfirmed, match="Nothing was sent") as caught:
        await guard(confirm=confirm).admit(LAUNCH, Person(answer), None)
    assert words in str(caught.value)
    assert "BATCHCALL_CONFIRM=code" in str(caught.value)


async def test_an_answer_that_is_sent_twice_launches_once() -> None:
    one_guard, person = guard(), Person(Answer("accepted", 1.0, nonce="n"))
    assert await one_guard.admit(LAUNCH, person, None) is None

    with pytest.raises(NotConfirmed, match="one answer launches once"):
        await one_guard.admit(LAUNCH, person, None)


@pytest.mark.parametrize(("confirm", "asks"), [("auto", 1), ("code", 0)])
async def test_without_a_client_that_can_ask_a_code_is_needed_and_works_once(confirm: Confirm, asks: int) -> None:
    one_guard, person = guard(confirm=confirm), Person(NOBODY)
    needed = await one_guard.admit(LAUNCH, person, None)
    assert isinstance(needed, CodeNeeded)
    assert len(person.asked) == asks

    assert await one_guard.admit(LAUNCH, person, needed.code) is None

    with pytest.raises(NotConfirmed, match="already used"):
        await one_guard.admit(LAUNCH, person, needed.code)


async def test_a_list_that_changed_since_the_question_is_asked_about_again() -> None:
    one_guard = guard(confirm="code")
    first = await one_guard.admit(LAUNCH, Person(NOBODY), None)
    assert isinstance(first, CodeNeeded)
    changed = replace(LAUNCH, tasks=(CallTask(to_number="+14155550102"),))

    second = await one_guard.admit(changed, Person(NOBODY), first.code)

    assert isinstance(second, CodeNeeded)
    assert second.question.startswith("The list or the batch call has changed")
    assert await one_guard.admit(changed, Person(NOBODY), second.code) is None


async def test_where_only_a_person_counts_no_code_is_given_and_none_is_taken() -> None:
    one_guard = guard(confirm="person")
    code = one_guard.confirmations.issue("a", LAUNCH.tool, "x", {})

    for given in (None, code):
        with pytest.raises(NotConfirmed, match="BATCHCALL_CONFIRM=person"):
            await one_guard.admit(LAUNCH, Person(NOBODY), given)


async def test_unattended_a_warning_blocks_and_a_clean_launch_passes() -> None:
    warned = replace(LAUNCH, preflight=replace(LAUNCH.preflight, warnings=("The time lies in the past.",)))

    assert await guard(confirm="off").admit(LAUNCH, Person(NOBODY), None) is None
    with pytest.raises(NotConfirmed, match="lies in the past"):
        await guard(confirm="off").admit(warned, Person(NOBODY), None)


def test_unattended_needs_a_limit() -> None:
    with pytest.raises(ConfigurationError, match="BATCHCALL_MAX_CALLS_PER_LAUNCH"):
        Guard.of("full", "off", None)


async def test_what_blocks_is_not_asked_about() -> None:
    person = Person(YES)
    blocked = replace(LAUNCH, preflight=replace(LAUNCH.preflight, blocks=("no task is left",)))

    with pytest.raises(InvalidInput, match="no task is left"):
        await guard().admit(blocked, person, None)
    assert person.asked == []


@pytest.mark.parametrize("operation", list(Operation))
async def test_read_only_lets_reads_through_and_nothing_else(operation: Operation) -> None:
    reads = {Operation.ACCOUNT, Operation.GET, Operation.LIST}

    assert guard("read-only").allows(operation) is (operation in reads)
    if operation not in reads:
        with pytest.raises(PermissionDenied, match="BATCHCALL_MODE=read-only"):
            await guard("read-only").admit(replace(LAUNCH, operation=operation, dials=Never()), Person(YES), None)


@pytest.mark.parametrize("dials", [Now(), At(datetime(2027, 1, 1, tzinfo=UTC))])
@pytest.mark.parametrize("operation", [Operation.CREATE, Operation.UPDATE, Operation.START, Operation.RETRY])
async def test_draft_mode_lets_nothing_through_that_dials(operation: Operation, dials: Now | At) -> None:
    person = Person(YES)

    with pytest.raises(PermissionDenied, match="nothing that dials"):
        await guard("draft").admit(replace(LAUNCH, operation=operation, dials=dials), person, None)
    assert person.asked == []


async def test_draft_mode_lets_a_draft_through() -> None:
    draft = replace(LAUNCH, operation=Operation.CREATE, dials=Never())

    assert await guard("draft").admit(draft, Person(NOBODY), None) is None
