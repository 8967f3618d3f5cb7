"""Nothing that dials passes without its one confirmation; what does not dial passes without a question."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from batchcall_mcp.backends.base import At, Never, Now
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.errors import ConfigurationError, InvalidInput, NotConfirmed, PermissionDenied
from batchcall_mcp.guard.admission import Admitted, CodeNeeded, Guard, Launch, Needed, PersonNeeded, allowed_in
from batchcall_mcp.guard.approval import Approval
from batchcall_mcp.guard.audit import Audit, Reading
from batchcall_mcp.guard.confirmation import Answer, Covers, Reach
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.preflight.preflight import Preflight
from batchcall_mcp.guard.preflight.recipient_warnings import Concern
from batchcall_mcp.guard.write_record import Token
from batchcall_mcp.model import BatchCall, BatchCallRequest, BatchStatus, CallTask, Counts
from batchcall_mcp.settings import Confirm, Mode, Settings

LAUNCH = Launch(
    caller="a",
    backend="dialer",
    backend_address="dialer http://dialer",
    tool="start_batch_call",
    operation=Operation.START,
    arguments={"batch_call_id": "bc_1", "trigger_timestamp": "now"},
    request=BatchCallRequest(send_now=True),
    current=None,
    called=(CallTask(to_number="+14155550101"),),
    skipped_rows=(),
    dials=Now(),
    preflight=Preflight(calls=1, max_dials=1, starts="now"),
)
SIMULATED = replace(LAUNCH, preflight=replace(LAUNCH.preflight, simulated=True))


class Person:
    """Somebody who gives the same answer to every question, and remembers what was asked.

    `reached` are the questions that were brought before them outside the client.
    """

    def __init__(self, answer: Answer, waited_for: str | None = None) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.reached: list[Approval] = []
        self._waited_for = waited_for

    async def reach(self, asked: Approval) -> Reach:
        self.reached.append(asked)
        return "terminal"

    @property
    def waited_for(self) -> str | None:
        return self._waited_for

    @property
    def shown(self) -> str | None:
        return None

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
        self.guard = Guard(mode, confirm, 100, Audit(ledger.database.data_dir))

    async def admit(self, launch: Launch, person: Person, code: str | None = None) -> Admitted | Needed:
        return await self.guard.admit(launch, person, code, self.ledger.codes)

    def use(self, token: Token | None) -> bool:
        assert token is not None
        with self.ledger.database.writing() as tx:
            return self.ledger.codes.use(tx, token)

    def audited(self) -> list[tuple[str, str]]:
        return [(one["event"], one["outcome"]) for one in Reading(self.guard.audit.path)]


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
    assert "the operator has to use another client" in str(caught.value)
    assert "BATCHCALL_CONFIRM" not in str(caught.value), "a model is not taught how to switch the question off"
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


@pytest.mark.parametrize(("confirm", "launch", "asks"), [("auto", SIMULATED, 1), ("code", LAUNCH, 0)])
async def test_where_no_phone_rings_or_the_operator_chose_it_a_code_is_needed_and_works_once(
    ledger: Ledger, confirm: Confirm, launch: Launch, asks: int
) -> None:
    desk, person = Desk(ledger, confirm=confirm), Person(NOBODY)
    needed = await desk.admit(launch, person)
    assert isinstance(needed, CodeNeeded)
    assert len(person.asked) == asks
    assert person.reached == []

    admitted = await desk.admit(launch, person, needed.code)
    assert isinstance(admitted, Admitted)
    assert desk.use(admitted.token)

    with pytest.raises(NotConfirmed, match="used already"):
        await desk.admit(launch, person, needed.code)
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


PATHS = pytest.mark.parametrize(("confirm", "launch"), [("auto", LAUNCH), ("person", LAUNCH), ("person", SIMULATED)])


@PATHS
async def test_where_the_client_cannot_ask_a_person_is_reached_outside_of_it_and_no_code_helps(
    ledger: Ledger, confirm: Confirm, launch: Launch
) -> None:
    desk, person = Desk(ledger, confirm=confirm), Person(NOBODY)
    needed = await desk.admit(launch, person)
    assert isinstance(needed, PersonNeeded)
    (asked,) = person.reached
    assert (needed.question, needed.reach) == (asked.shown.question, "terminal")
    assert asked.shown.word == "1"
    assert asked.shown.samples == ("+1 … 101",)

    for code in (None, "AAAAAAAA", asked.approval_id, asked.short_id):  # the same question goes on waiting
        assert isinstance(await desk.admit(launch, person, code), PersonNeeded)
    assert {one.approval_id for one in person.reached} == {asked.approval_id}
    assert desk.audited() == [("question", "approval")]


async def test_a_code_of_a_server_that_takes_codes_confirms_nothing_here(ledger: Ledger) -> None:
    needed = await Desk(ledger, confirm="code").admit(LAUNCH, Person(NOBODY))
    assert isinstance(needed, CodeNeeded)

    for confirm in ("auto", "person"):
        desk = Desk(ledger, confirm=confirm)
        assert isinstance(await desk.admit(LAUNCH, Person(NOBODY), needed.code), PersonNeeded)


@PATHS
async def test_an_approval_launches_exactly_what_it_showed_once(
    ledger: Ledger, confirm: Confirm, launch: Launch
) -> None:
    desk, person = Desk(ledger, confirm=confirm), Person(NOBODY)
    await desk.admit(launch, person)
    assert ledger.codes.approvals.approve(person.reached[0].approval_id)

    later = replace(launch, request=BatchCallRequest(trigger_at=datetime(2027, 1, 1, tzinfo=UTC)))
    assert isinstance(await desk.admit(later, Person(NOBODY)), PersonNeeded)
    asking = Person(YES)
    admitted = await desk.admit(launch, asking)
    assert isinstance(admitted, Admitted)
    assert asking.asked == [], "the person has answered already"
    again = await desk.admit(launch, asking)
    assert isinstance(again, Admitted)
    assert desk.use(admitted.token)
    assert not desk.use(again.token)
    assert isinstance(await desk.admit(launch, Person(NOBODY)), PersonNeeded)


async def test_a_yes_to_fewer_people_is_not_one_to_more(ledger: Ledger) -> None:
    current = BatchCall(batch_call_id="bc_1", status=BatchStatus.DRAFT, counts=Counts(total=2))
    people = tuple(CallTask(to_number=f"+1415555010{digit}") for digit in (1, 2, 3))
    two = replace(LAUNCH, current=current, called=people[:2])
    desk, person = Desk(ledger), Person(NOBODY)
    await desk.admit(two, person)
    ledger.codes.approvals.approve(person.reached[0].approval_id)

    assert isinstance(await desk.admit(replace(two, called=people[:1]), Person(NOBODY)), Admitted)
    others = Person(NOBODY)
    needed = await desk.admit(replace(two, called=people), others)
    assert isinstance(needed, PersonNeeded)
    assert needed.question.startswith("The list or the batch call has changed since the last question.")
    assert others.reached[0].approval_id != person.reached[0].approval_id
    assert ledger.codes.approvals.find(person.reached[0].approval_id) is None, "replaced"


async def test_a_no_outside_the_client_is_reported_once_and_a_later_call_asks_again(ledger: Ledger) -> None:
    desk, person = Desk(ledger), Person(NOBODY)
    await desk.admit(LAUNCH, person)
    declined = person.reached[0].approval_id
    assert ledger.codes.approvals.decline(declined)
    assert not ledger.codes.approvals.approve(declined)

    with pytest.raises(NotConfirmed, match="Nothing was sent"):
        await desk.admit(LAUNCH, Person(YES))
    with pytest.raises(NotConfirmed, match="the answer was no"):  # another call that waited for the same answer
        await desk.admit(LAUNCH, Person(NOBODY, waited_for=declined))
    later = Person(NOBODY)
    assert isinstance(await desk.admit(LAUNCH, later), PersonNeeded)
    assert later.reached[0].approval_id != declined
    assert desk.audited() == [("question", "approval"), ("answer", "declined"), ("question", "approval")]


@pytest.mark.parametrize("answer", [Answer("declined", 0.0), Answer("cancelled"), Answer("malformed", 0.1)])
async def test_a_no_in_the_client_ends_every_question_and_yes_of_the_same_launch(
    ledger: Ledger, answer: Answer
) -> None:
    desk, waiting, person = Desk(ledger), Person(NOBODY), Person(answer)
    await desk.admit(LAUNCH, waiting)
    asked = waiting.reached[0]
    with pytest.raises(NotConfirmed, match="Nothing was sent"):
        await desk.admit(LAUNCH, person)
    assert person.reached == [], "it never falls back to another way"
    assert not ledger.codes.approvals.approve(asked.approval_id)
    assert not desk.use(asked.token)
    with pytest.raises(NotConfirmed, match="closed by an answer elsewhere"):
        await desk.admit(LAUNCH, Person(NOBODY, waited_for=asked.approval_id))


async def test_a_yes_in_the_client_leaves_no_second_yes_outside_of_it(ledger: Ledger) -> None:
    desk, waiting = Desk(ledger), Person(NOBODY)
    await desk.admit(LAUNCH, waiting)
    assert await desk.admit(LAUNCH, Person(YES)) == Admitted()
    assert not ledger.codes.approvals.approve(waiting.reached[0].approval_id)


async def test_what_loses_results_is_asked_about_although_nothing_dials(ledger: Ledger) -> None:
    deletion = replace(LAUNCH, operation=Operation.DELETE, dials=Never(), question="Delete bc_1?")
    person = Person(NOBODY)
    needed = await Desk(ledger).admit(deletion, person)
    assert isinstance(needed, PersonNeeded)
    assert needed.question == "Delete bc_1?"
    assert person.reached[0].shown.word == "delete"
    simulated = replace(deletion, preflight=replace(deletion.preflight, simulated=True))
    assert isinstance(await Desk(ledger).admit(simulated, Person(NOBODY)), CodeNeeded)
    with pytest.raises(NotConfirmed, match="Delete bc_1"):
        await Desk(ledger, confirm="off").admit(deletion, Person(NOBODY))


async def test_unattended_a_warning_blocks_and_a_clean_launch_passes(ledger: Ledger) -> None:
    desk = Desk(ledger, confirm="off")
    late = (Concern("time", "The time lies in the past."),)
    warned = replace(LAUNCH, preflight=replace(LAUNCH.preflight, concerns=late))
    noted = replace(LAUNCH, preflight=replace(LAUNCH.preflight, notes=("The time was 40 seconds ago.",)))

    assert await desk.admit(LAUNCH, Person(NOBODY)) == Admitted()
    assert await desk.admit(noted, Person(NOBODY)) == Admitted()
    with pytest.raises(NotConfirmed, match="lies in the past"):
        await desk.admit(warned, Person(NOBODY))
    assert desk.audited() == [("refused", "warnings")]


def test_unattended_needs_a_limit(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="BATCHCALL_MAX_CALLS_PER_LAUNCH"):
        Guard("full", "off", None, Audit(tmp_path))


async def test_what_blocks_is_not_asked_about(ledger: Ledger) -> None:
    desk, person = Desk(ledger), Person(YES)
    blocked = replace(LAUNCH, preflight=replace(LAUNCH.preflight, blocks=("no task is left",)))

    with pytest.raises(InvalidInput, match="no task is left"):
        await desk.admit(blocked, person)
    assert person.asked == []
    assert desk.audited() == [("refused", "blocked")]


@pytest.mark.parametrize("operation", list(Operation))
async def test_read_only_lets_reads_through_and_nothing_else(ledger: Ledger, operation: Operation) -> None:
    reads = {Operation.ACCOUNT, Operation.GET, Operation.GET_CALL, Operation.LIST}
    desk = Desk(ledger, "read-only")

    assert allowed_in(desk.guard.mode, operation) is (operation in reads)
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
