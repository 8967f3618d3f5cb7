"""What a read says: no status is lost, pages end, counts are true or absent, and an id leads nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from typing import Any

from batchcall_mcp.backends.base import GetsWithTasks
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.errors import InvalidInput, NotFound
from batchcall_mcp.model import (
    NOT_REACHED,
    BatchCall,
    BatchStatus,
    CallTask,
    Counts,
    ListQuery,
    TaskQuery,
    TaskStatus,
)
from batchcall_mcp.testing.check import Check, always, offers, reports_tasks
from batchcall_mcp.testing.scene import MINUTE, Scene, expect, refusal_of
from batchcall_mcp.testing.wire import with_value

WORD = "purple_elephant"
MAP_STATUS = "Read words with a StatusMap: one that is not in it is UNKNOWN, with the word in backend_status."
ENDS = (TaskStatus.COMPLETED, TaskStatus.NO_ANSWER, TaskStatus.BUSY, TaskStatus.VOICEMAIL, TaskStatus.FAILED)
ODD: tuple[Any, ...] = ([], {}, -1, 1e308, True, None, 10**400, "", "\x00\u202e", "x" * 5000)
MOST_PAGED = 130
"""Tasks for which a second page of a vendor is read; with larger pages only ours are."""


async def unknown_status_survives(scene: Scene) -> None:
    """A word that nobody knows is passed on, from get and from list."""
    made = await scene.launched()
    scene.fake.say_status(scene.vendors_id(made), WORD)
    read = {"get()": await scene.backend.get(made.batch_call_id)}
    if scene.offers(Operation.LIST):
        read["list()"] = (await scene.backend.list(ListQuery())).batch_calls[0]
    for which, found in read.items():
        said = (found.status, found.backend_status)
        expect(
            said == (BatchStatus.UNKNOWN, WORD),
            f"The vendor says that the batch call is {WORD!r}, and {which} says {said}.",
            MAP_STATUS,
        )


async def unknown_task_status_survives(scene: Scene) -> None:
    """The same for one person; the others are read as usual."""
    made = await scene.launched()
    first, second = (one.to_number for one in scene.people(2))
    scene.fake.say_task_status(scene.vendors_id(made), first, WORD)
    found = {one.to_number: (one.status, one.backend_status) for one in await scene.tasks(made)}
    expect(
        found.get(first) == (TaskStatus.UNKNOWN, WORD),
        f"The vendor says that a task is {WORD!r}, and tasks() says {found.get(first)}.",
        MAP_STATUS,
    )
    expect(
        found.get(second, (None, None))[0] not in {None, TaskStatus.UNKNOWN},
        f"A task in a usual state is read as {found.get(second)}.",
        MAP_STATUS,
    )


async def outcomes_come_back(scene: Scene) -> None:
    """Each outcome that the backend reports is read as it was; one that it does not know is never `completed`."""
    for outcome in ENDS:
        async with scene.again() as fresh:
            done = await fresh.finished(1, p0=outcome)
            (task,) = await fresh.tasks(done)
            known = outcome in fresh.can.outcomes
            cure = "Map the vendor's words (and its reasons) to TaskStatus, and list in `outcomes` what it can report."
            expect(
                not known or task.status is outcome,
                f"A call that ended as {outcome} is read as {task.status} ({task.backend_status}).",
                cure,
            )
            expect(
                known or outcome is TaskStatus.VOICEMAIL or task.status is not TaskStatus.COMPLETED,
                f"A call that ended as {outcome}, which is not among `outcomes`, is read as completed.",
                cure,
            )
            expect(
                task.status in {*fresh.can.outcomes, TaskStatus.UNKNOWN},
                f"A task is {task.status}, which is not among `outcomes`.",
                cure,
            )


async def pages_of_tasks_end(scene: Scene) -> None:
    """Each task comes once, whatever the size of the page, and a page after the last one is never asked for."""
    size = scene.can.task_page_size
    count = size + 5 if size + 5 <= MOST_PAGED else 25
    most = scene.can.limits.tasks
    count = count if most is None else min(count, most)
    made = await scene.launched(count)
    wanted = [one.to_number for one in scene.people(count)]
    for limit in (7, 20, 100):
        found = [one.to_number for one in await scene.tasks(made, limit)]
        expect(
            sorted(found) == sorted(wanted),
            f"{count} tasks were read in pages of {limit}: {len(found)} came, {len(set(found))} different ones, and "
            f"{len(set(wanted) - set(found))} were missing.",
            "Let the cursor stand for the next task in the vendor's order, whatever the vendor's page size is.",
        )
    ids = [one.task_id for one in await scene.tasks(made, 100)]
    expect(
        len(set(ids)) == count if scene.can.task_ids else True,
        f"task_ids is True, and {count} tasks have {len(set(ids))} different ids.",
        "Give each task the vendor's id, or say task_ids=False.",
    )


async def queries_are_answered(scene: Scene) -> None:
    """A query for a number or for states gives those tasks alone."""
    done = await scene.finished(5, p3=TaskStatus.FAILED)
    number = scene.people(4)[3].to_number
    states = {one.to_number: one.status for one in await scene.tasks(done)}
    wanted = states[number]
    asked = {
        f"{number}": (TaskQuery(to_number=number), [number]),
        f"{wanted}": (
            TaskQuery(statuses=frozenset({wanted or TaskStatus.UNKNOWN})),
            [one for one, status in states.items() if status is wanted],
        ),
    }
    for what, (query, right) in asked.items():
        page = await scene.backend.tasks(done.batch_call_id, query)
        found = [one.to_number for one in page.tasks]
        expect(
            sorted(found) == sorted(right),
            f"tasks() was asked for {what} and gave {found}, not {right}.",
            "Filter by query.to_number and query.statuses, in the vendor's query or after it.",
        )


async def foreign_cursor_is_refused(scene: Scene) -> None:
    """A cursor that a model made up is invalid input."""
    made = await scene.launched()
    asked: list[Callable[[], Awaitable[object]]] = [
        lambda: scene.backend.tasks(made.batch_call_id, TaskQuery(cursor="<made up>")),
        lambda: scene.backend.list(ListQuery(cursor="<made up>")),
    ]
    for ask in asked if scene.offers(Operation.LIST) else asked[:1]:
        refused = await refusal_of(ask())
        expect(
            isinstance(refused, InvalidInput),
            f"A cursor that nobody gave is answered with {refused!r}.",
            "Make and read cursors with the pagers of vendor_http.paging.",
        )


async def list_has_each_once(scene: Scene) -> None:
    """Each batch call is listed once, newest first, page after page."""
    ids = [(await _waiting(scene)).batch_call_id for _ in range(5)]
    found: list[BatchCall] = []
    cursor: str | None = None
    for _ in range(10):
        page = await scene.backend.list(ListQuery(limit=2, cursor=cursor))
        found += page.batch_calls
        cursor = page.next_cursor
        if cursor is None:
            break
    expect(
        sorted(one.batch_call_id for one in found) == sorted(ids) and cursor is None,
        f"Five batch calls were made, and list() in pages of two gave {len(found)}"
        f"{'' if cursor is None else ' without an end'}.",
        "Let the cursor stand for the next one in the vendor's order.",
    )
    made_at = [one.created_at for one in found if one.created_at is not None]
    expect(made_at == sorted(made_at, reverse=True), "list() is not newest first.", "Ask the vendor for that order.")


async def _waiting(scene: Scene) -> BatchCall:
    return await (scene.scheduled(scene.soon()) if scene.can.drafts == "none" else scene.created())


async def counts_are_true_or_absent(scene: Scene) -> None:
    """Every count that is reported is the number of tasks in that state, and together they are not more than all."""
    can = scene.can
    outcomes = {f"p{at}": one for at, one in enumerate(one for one in ENDS if one in can.outcomes)}
    size = len(outcomes) + 1
    found = await scene.launched(size)
    for end in (False, True):
        found = await _end(scene, found, outcomes) if end else found
        tasks = await scene.tasks(found)
        _check_counts(found.counts, size, tasks, all_reported=can.tasks_reported == "all")


async def _end(scene: Scene, running: BatchCall, outcomes: dict[str, TaskStatus]) -> BatchCall:
    people = scene.people(len(outcomes) + 1)
    by_number = {people[at].to_number: str(word) for at, word in enumerate(outcomes.values())}
    scene.fake.finish(scene.vendors_id(running), by_number, "completed")
    scene.pass_time(MINUTE)
    return await scene.read(running)


def _check_counts(counts: Counts, size: int, tasks: list[CallTask], *, all_reported: bool) -> None:
    cure = "Take counts from the vendor only where they mean the same, else from the tasks, else leave them None."
    by_status = Counter(str(one.status) for one in tasks)
    expect(counts.total in {None, size}, f"{size} tasks, and counts.total is {counts.total}.", cure)
    parts = {one.name: getattr(counts, one.name) for one in fields(counts)}
    for name, said in parts.items():
        if said is not None and name in set(TaskStatus) and (all_reported or name != TaskStatus.PENDING):
            expect(said == by_status[name], f"counts.{name} is {said}, and {by_status[name]} tasks are {name}.", cure)
    together = sum(said for name, said in parts.items() if said is not None and name in set(TaskStatus))
    expect(together <= size, f"{size} tasks, and the counts add up to {together}.", cure)
    missed = sum(by_status[status] for status in NOT_REACHED)
    expect(
        counts.not_reached in {None, missed}, f"counts.not_reached is {counts.not_reached}, and {missed} were.", cure
    )


async def unknown_id_is_not_found(scene: Scene) -> None:
    """An id that looks like the vendor's is not found, and one with a path in it leads nowhere else."""
    made = await _waiting(scene)
    alike = made.batch_call_id[:-1] + ("0" if made.batch_call_id[-1] != "0" else "1")
    refused = await refusal_of(scene.backend.get(alike))
    expect(
        isinstance(refused, NotFound),
        f"get() of an id that the vendor does not know answers {refused!r}.",
        "Map the vendor's answer for it (its status, or the words of its 400) to NotFound.",
    )
    strange = "../account?from=a#model"
    refused = await refusal_of(scene.backend.get(strange))
    expect(refused is not None, f"get({strange!r}) gave a batch call.", "Compare the id of the answer with as_asked().")
    for sent in scene.wire.sent:
        expect(
            "from" not in sent.url.params and "/../" not in sent.url.raw_path.decode() and not sent.url.fragment,
            f"get({strange!r}) asked {sent}: an id led to another path.",
            "Quote ids in paths: quote(batch_call_id, safe='').",
        )


async def account_names_what_can_be_used(scene: Scene) -> None:
    """Its numbers and agents are those that a user gives; None where the vendor has no such list."""
    account = await scene.backend.account()
    numbers = None if account.numbers is None else [one.from_number for one in account.numbers]
    agents = None if account.agents is None else [one.agent_id for one in account.agents]
    cure = "Read the vendor's lists; from_number is E.164 also where the vendor wants an id in a request."
    expect(numbers is None or scene.fake.from_number in numbers, f"account().numbers are {numbers}.", cure)
    expect(agents is None or scene.fake.agent_id in agents, f"account().agents are {agents}.", cure)


async def odd_values_are_read_or_refused(scene: Scene) -> None:
    """Whatever type a value of an answer has, it is read, or the answer is an error of ours."""
    done = await scene.finished(2)
    for value in ODD:
        scene.wire.change = with_value(value, scene.vendors_id(done))
        asked: dict[str, Callable[[], Awaitable[object]]] = {
            "get()": lambda: scene.backend.get(done.batch_call_id),
            "tasks()": lambda: scene.backend.tasks(done.batch_call_id, TaskQuery()),
            "list()": lambda: scene.backend.list(ListQuery()),
            "account()": scene.backend.account,
        }
        for name, ask in asked.items():
            wrong: Exception | None = None
            try:
                await refusal_of(ask())
            except Exception as error:  # noqa: BLE001 - any other is what is looked for
                wrong = error
            expect(
                wrong is None,
                f"{name} raised {type(wrong).__name__} ({str(wrong)[:80]}) for an answer whose values are all "
                f"{str(value)[:20]!r}.",
                "Read every value with vendor_http.json_values, or with row_reading and its paths.",
            )


async def call_is_read(scene: Scene) -> None:
    """A call is read by the id that its task names; an unknown one is not found."""
    done = await scene.finished(1)
    (task,) = await scene.tasks(done)
    expect(
        task.call_id, "get_call is offered, and a task that was called has no call_id.", "Read the vendor's call id."
    )
    call = await scene.backend.get_call(done.batch_call_id, task.call_id or "")
    expect(
        (call.call_id, call.task.to_number) == (task.call_id, task.to_number),
        f"get_call({task.call_id!r}) is about {call.call_id!r} to {call.task.to_number!r}.",
        "Give the call that was asked for, with its task.",
    )
    refused = await refusal_of(scene.backend.get_call(done.batch_call_id, "no-such-call"))
    expect(isinstance(refused, NotFound), f"get_call() of an unknown call answers {refused!r}.", "Raise NotFound.")


async def one_read_is_as_two(scene: Scene) -> None:
    """A batch call that is read together with its tasks is asked for once, and is what two reads show."""
    done = await scene.finished(3, p1="failed")
    if not isinstance(scene.backend, GetsWithTasks):
        return
    sent = len(scene.wire.sent)
    found, read = await scene.backend.get_with_tasks(done.batch_call_id)
    query = TaskQuery(limit=2, statuses=frozenset({TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.NO_ANSWER}))
    pages = [await read(query)]
    pages.append(await read(replace(query, cursor=pages[0].next_cursor)))
    asked = [one for one in scene.wire.sent[sent:] if one.holds(scene.vendors_id(done))]
    cure = "Cut the tasks out of the answer that the batch call was read from, as backends.inline_tasks does."
    expect(len(asked) == 1, f"get_with_tasks() and two pages of tasks asked {len(asked)} times for it.", cure)
    first = await scene.backend.tasks(done.batch_call_id, query)
    second = await scene.backend.tasks(done.batch_call_id, replace(query, cursor=first.next_cursor))
    apart = (await scene.backend.get(done.batch_call_id), [first, second])
    expect((found, pages) == apart, f"get_with_tasks() shows {found} with {pages}; two reads show {apart}.", cure)
    refused = await refusal_of(read(TaskQuery(cursor="<made up>")))
    expect(isinstance(refused, InvalidInput), f"A made-up cursor gives {refused!r}.", "Raise InvalidInput, as tasks().")


CHECKS: tuple[Check, ...] = (
    Check("an unknown status survives", unknown_status_survives, offers(Operation.GET)),
    Check("an unknown status of a task survives", unknown_task_status_survives, reports_tasks),
    Check("outcomes come back", outcomes_come_back, reports_tasks),
    Check("one read is as two", one_read_is_as_two, reports_tasks),
    Check("pages of tasks end", pages_of_tasks_end, reports_tasks),
    Check("queries are answered", queries_are_answered, reports_tasks),
    Check("a cursor that nobody gave is refused", foreign_cursor_is_refused, reports_tasks),
    Check("the list has each once", list_has_each_once, offers(Operation.LIST)),
    Check("counts add up or are absent", counts_are_true_or_absent, reports_tasks),
    Check("an unknown id is not found", unknown_id_is_not_found, offers(Operation.GET)),
    Check("the account names what can be used", account_names_what_can_be_used, offers(Operation.ACCOUNT)),
    Check("odd values are read or refused", odd_values_are_read_or_refused, always),
    Check("a call is read", call_is_read, lambda can: Operation.GET_CALL in can.operations and reports_tasks(can)),
)
