"""Nothing that dials passes without its one confirmation; what does not dial passes without a question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from batchcall_mcp.backends.base import At, Never, Now, Operation
from batchcall_mcp.errors import ConfigurationError, InvalidInput, NotConfirmed, PermissionDenied
from batchcall_mcp.guard.admission import Admitted, CodeNeeded, Guard, Launch
from batchcall_mcp.guard.audit import Audit, read
from batchcall_mcp.guard.confirmation import Answer, Covers
from batchcall_mcp.guard.entries import Token
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.preflight import Preflight
from batchcall_mcp.model import BatchCallRequest, CallTask
from batchcall_mcp.settings import Confirm, Mode, Settings

LAUNCH = Launch(
    caller="a",
    backend="dialer",
    service="dialer http://dialer",
    tool="start_batch_call",
    operation=Operation.START,
    arguments={"batch_call_id": "bc_1", "trigger_timestamp": "now"},
    request=BatchCallRequest(send_now=True),
    current=None,
    called=(CallTask(to_number="+14155550101"),),
    left_out=(),
    dials=Now(),
    preflight=Preflight(calls=1, max_dials=1, starts="now"),
)


class Person:
    """Somebody who gives the same answer to every question, and remembers what was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[str] = []

    async def ask(self, question: str, binding: str, covers: Covers) -> Answer:
        assert await covers(binding)
        self.asked.append(question)
        return self.answer


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    opened = Ledger.open(Settings(data_dir=tmp_path))
    yield opened
    opened.close()


class Desk:
    """A guard with its ledger; `use` is what recording the launch does with its confirmation."""

    def __init__(self, ledger: Ledger, mode: Mode = "full", confirm: Confirm = "auto") -> None:
        self.ledger = ledger
        self.guard = Guard.of(mode, confirm, 100, Audit(ledger.database.data_dir))

    async def admit(self, launch: Launch, person: Person, code: str | None = None) -> Admitted | CodeNeeded:
        return await self.guard.admit(launch, person, code, self.ledger.codes)

    def use(self, token: Token | None) -> bool:
        assert token is not None
        with self.ledger.database.writing() as tx:
            return self.ledger.codes.use(tx, token)

    def audited(self) -> list[tuple[str, str]]:
        return [(one["event"], one["outcome"]) for one in read(self.guard.audit.path)]


YES = Answer("accepted", 1.0)
NOBODY = Answer("cannot_ask")


async def test_what_does_not_dial_is_not_asked_about(ledger: Ledger) -> None:
    desk, person = Desk(ledger), Person(Answer("declined"))

    assert await desk.admit(replace(LAUNCH, dials=Never()), person) == Admitted()
    assert person.asked == []
    assert not desk.guard.audit.path.exists()


async def test_a_yes_lets_a_launch_pass(ledger: Ledger) -> None:
    desk, person = Desk(ledger), Person(YES)

    assert await desk.admit(LAUNCH, person) == Admitted()
    assert len(person.asked) == 1
    assert person.asked[0].startswith("Call 1 person now, through dialer.")
    assert desk.audited() == [("answer", "accepted")]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer("declined", 0.04), "answered no after 0.0 s"),
        (Answer("cancelled"), "was dismissed"),
        (Answer("unanswered", 300), "Nobody answered the question after 300.0 s"),
    ],
)
async def test_any_other_answer_sends_nothing_and_never_falls_back_to_a_code(
    ledger: Ledger, answer: Answer, words: str
) -> None:
    desk = Desk(ledger)
    with pytest.raises(NotConfirmed, match="Nothing was sent") as caught:
        await desk.admit(LAUNCH, Person(answer))
    assert words in str(caught.value)
    assert "BATCHCALL_CONFIRM=code" in str(caught.value)
    assert desk.audited() == [("answer", answer.outcome)]
    with ledger.database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM codes").scalar() == 0


async def test_an_answer_that_is_sent_twice_is_one_confirmation(ledger: Ledger) -> None:
    desk, person = Desk(ledger), Person(Answer("accepted", 1.0, nonce="n"))
    first, second = await desk.admit(LAUNCH, person), await desk.admit(LAUNCH, person)

    assert isinstance(first, Admitted)
    assert isinstance(second, Admitted)
    assert desk.use(first.token)
    assert not desk.use(second.token)


@pytest.mark.parametrize(("confirm", "asks"), [("auto", 1), ("code", 0)])
async def test_without_a_client_that_can_ask_a_code_is_needed_and_works_once(
    ledger: Ledger, confirm: Confirm, asks: int
) -> None:
    desk, person = Desk(ledger, confirm=confirm), Person(NOBODY)
    needed = await desk.admit(LAUNCH, person)
    assert isinstance(needed, CodeNeeded)
    assert len(person.asked) == asks

    admitted = await desk.admit(LAUNCH, person, needed.code)
    assert isinstance(admitted, Admitted)
    assert desk.use(admitted.token)

    with pytest.raises(NotConfirmed, match="used already"):
        await desk.admit(LAUNCH, person, needed.code)
    assert desk.audited() == [("question", "code"), ("answer", "code")]


async def test_a_list_that_changed_since_the_question_is_asked_about_again(ledger: Ledger) -> None:
    desk = Desk(ledger, confirm="code")
    first = await desk.admit(LAUNCH, Person(NOBODY))
    assert isinstance(first, CodeNeeded)
    changed = replace(LAUNCH, called=(CallTask(to_number="+14155550102"),))

    second = await desk.admit(changed, Person(NOBODY), first.code)

    assert isinstance(second, CodeNeeded)
    assert second.question.startswith("The list or the batch call has changed")
    with pytest.raises(NotConfirmed, match="used already"):
        await desk.admit(LAUNCH, Person(NOBODY), first.code)
    assert isinstance(await desk.admit(changed, Person(NOBODY), second.code), Admitted)


@pytest.mark.parametrize("answer", [NOBODY, Answer("declined", 0.0), Answer("unanswered", 300)])
async def test_where_only_a_person_counts_a_terminal_approves_what_no_tool_can(ledger: Ledger, answer: Answer) -> None:
    desk = Desk(ledger, confirm="person")
    with pytest.raises(NotConfirmed, match="Nothing was sent") as caught:
        await desk.admit(LAUNCH, Person(answer))
    code = str(caught.value).partition("batchcall-mcp approve ")[2].partition("`")[0]

    with pytest.raises(NotConfirmed, match="batchcall-mcp approve"):  # which replaces the first one
        await desk.admit(LAUNCH, Person(answer), code)
    assert not ledger.codes.approve(code)


async def test_an_approval_launches_exactly_what_it_showed_once(ledger: Ledger) -> None:
    desk = Desk(ledger, confirm="person")
    with pytest.raises(NotConfirmed) as caught:
        await desk.admit(LAUNCH, Person(NOBODY))
    code = str(caught.value).partition("batchcall-mcp approve ")[2].partition("`")[0]
    pending = ledger.codes.find(code)
    assert pending is not None
    assert pending.question in str(caught.value)
    assert ledger.codes.approve(code)

    other = replace(LAUNCH, called=(CallTask(to_number="+14155550102"),))
    with pytest.raises(NotConfirmed):
        await desk.admit(other, Person(NOBODY))
    person = Person(NOBODY)
    admitted = await desk.admit(LAUNCH, person)
    assert isinstance(admitted, Admitted)
    assert person.asked == [], "the person has answered already"
    assert desk.use(admitted.token)
    with pytest.raises(NotConfirmed):
        await desk.admit(LAUNCH, Person(NOBODY))


async def test_unattended_a_warning_blocks_and_a_clean_launch_passes(ledger: Ledger) -> None:
    desk = Desk(ledger, confirm="off")
    warned = replace(LAUNCH, preflight=replace(LAUNCH.preflight, warnings=("The time lies in the past.",)))
    noted = replace(LAUNCH, preflight=replace(LAUNCH.preflight, notes=("The time was 40 seconds ago.",)))

    assert await desk.admit(LAUNCH, Person(NOBODY)) == Admitted()
    assert await desk.admit(noted, Person(NOBODY)) == Admitted()
    with pytest.raises(NotConfirmed, match="lies in the past"):
        await desk.admit(warned, Person(NOBODY))
    assert desk.audited() == [("refused", "warnings")]


def test_unattended_needs_a_limit(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="BATCHCALL_MAX_CALLS_PER_LAUNCH"):
        Guard.of("full", "off", None, Audit(tmp_path))


async def test_what_blocks_is_not_asked_about(ledger: Ledger) -> None:
    desk, person = Desk(ledger), Person(YES)
    blocked = replace(LAUNCH, preflight=replace(LAUNCH.preflight, blocks=("no task is left",)))

    with pytest.raises(InvalidInput, match="no task is left"):
        await desk.admit(blocked, person)
    assert person.asked == []
    assert desk.audited() == [("refused", "blocked")]


@pytest.mark.parametrize("operation", list(Operation))
async def test_read_only_lets_reads_through_and_nothing_else(ledger: Ledger, operation: Operation) -> None:
    reads = {Operation.ACCOUNT, Operation.GET, Operation.LIST}
    desk = Desk(ledger, "read-only")

    assert desk.guard.allows(operation) is (operation in reads)
    if operation not in reads:
        with pytest.raises(PermissionDenied, match="BATCHCALL_MODE=read-only"):
            await desk.admit(replace(LAUNCH, operation=operation, dials=Never()), Person(YES))


@pytest.mark.parametrize("dials", [Now(), At(datetime(2027, 1, 1, tzinfo=UTC))])
@pytest.mark.parametrize("operation", [Operation.CREATE, Operation.UPDATE, Operation.START, Operation.RETRY])
async def test_draft_mode_lets_nothing_through_that_dials(
    ledger: Ledger, operation: Operation, dials: Now | At
) -> None:
    person = Person(YES)

    with pytest.raises(PermissionDenied, match="nothing that dials"):
        await Desk(ledger, "draft").admit(replace(LAUNCH, operation=operation, dials=dials), person)
    assert person.asked == []


async def test_draft_mode_lets_a_draft_through(ledger: Ledger) -> None:
    draft = replace(LAUNCH, operation=Operation.CREATE, dials=Never())

    assert await Desk(ledger, "draft").admit(draft, Person(NOBODY)) == Admitted()
