"""What a preflight has to know beside the request: extra reads, each of which may fail without stopping anything."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

from anyio.to_thread import run_sync

from batchcall_mcp.backends.base import At, Dials, Never, Operation
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.errors import BatchCallError, ConfigurationError
from batchcall_mcp.guard.fingerprints import PeopleDigest
from batchcall_mcp.guard.preflight.preflight import Surroundings
from batchcall_mcp.guard.write_record import Entry
from batchcall_mcp.model import Agent, BatchCall, BatchStatus, CallTask, ListQuery, TaskStatus
from batchcall_mcp.recipients.phone.numbers import comparable

_LIVE = frozenset(
    {BatchStatus.SCHEDULED, BatchStatus.RUNNING, BatchStatus.PAUSED, BatchStatus.RECURRING, BatchStatus.UNKNOWN}
)
_STILL_CALLED = frozenset({TaskStatus.PENDING, TaskStatus.CALLING, TaskStatus.UNKNOWN})
_MOST_LIST_PAGES = 20
_MOST_GENERATIONS = 20
_Launches: TypeAlias = Sequence[tuple[Entry, list[str]]]
"""Each with those of the numbers that it calls."""
_MOST_LIVE = 200
_MOST_TASKS = 20_000
"""Of other batch calls, read before a launch: a minute of reading, not more."""


async def surroundings(
    context: CallContext,
    tasks: Sequence[CallTask] | None,
    dials: Dials,
    *,
    current: BatchCall | None,
    agent_id: str | None,
    from_number: str | None,
    simulated: bool = False,
    again: bool = False,
    taken_over: int | None = None,
) -> Surroundings:
    """Find out what the preflight of a launch asks for. What cannot be found out is a sentence, never an error.

    `simulated`: no real phone can ring; only other such launches count. `again`: people are called again, so those whom
    the batch call has called count towards the limits of a day. `taken_over`: the open ledger entry that this very
    launch is.
    """
    found = _Found(context, tasks or ())
    if isinstance(dials, Never):
        # Where the tasks do not come back with their variables, nobody can look for a missing one later.
        if context.backend.capabilities.returns_variables or not tasks:
            return Surroundings()
        agent = await found.agent(agent_id, from_number)
        return Surroundings(variables=agent.variables if agent else None)
    starts_at = max(dials.time, context.clock()) if isinstance(dials, At) else context.clock()
    numbers = await run_sync(_comparable, tasks or ())
    beside = current.batch_call_id if current and not again else None
    around, listed = Surroundings(), tuple[str, ...]()
    try:
        ledger = await context.open_ledger()
        # First of all: what is recorded from here on is compared when this launch is recorded.
        around = replace(around, since=await run_sync(ledger.history.newest))
        launches = await run_sync(partial(ledger.history.launched_lately, numbers, simulated=simulated))
        mine: dict[str, Any] = {"simulated": simulated, "backend": context.backend_address, "beside": beside}
        of_day = partial(ledger.history.calls_on, starts_at, **mine, numbers=numbers)
        attempts = partial(ledger.history.attempts, numbers, starts_at, **mine)
        around = replace(
            around,
            attempts=await run_sync(attempts),
            calls_today=await run_sync(of_day),
            stopped_since=await run_sync(ledger.stops.since),
        )
        if beside:
            made = await run_sync(ledger.history.list_of, context.backend_address, beside)
            people = await run_sync(_digest_of, numbers)
            same = made.people == ledger.hashed(people)
            listed = (made.variables or ()) if same else ()
            around = replace(
                around,
                skipped=made.skipped or {},
                list_entry=await run_sync(ledger.history.list_entry_of, context.backend_address, beside),
            )
        for entry, shared in await run_sync(
            partial(ledger.history.open_launches, context.backend_address, numbers, simulated=simulated)
        ):
            of_this = current is not None and entry.batch_call_id == current.batch_call_id
            if not of_this and entry.write_id != taken_over:
                which = f"{entry.tool} (ledger entry {entry.write_id})"
                found.unchecked.append(f"Whether {which} reached {shared} of the numbers is not known.")
    except ConfigurationError as error:
        launches = []
        found.unchecked.append(f"Earlier calls could not be counted: {error.message}")
    agent = await found.agent(agent_id, from_number)
    if listed and agent and agent.variables:
        held = tuple(name for name in agent.variables if ledger.hashed(f"variable {name}") in listed)
        around = replace(around, listed_variables=held)
    return replace(
        around,
        variables=agent.variables if agent else None,
        agent=agent,
        elsewhere=await found.elsewhere(current, numbers),
        lately=await found.lately(current, launches, taken_over),
        do_not_call=await found.do_not_call(),
        unchecked=tuple(found.unchecked),
        notes=tuple(found.notes),
    )


class _Found:
    """The reads of one preflight. `unchecked`: sentences about what could not be read."""

    def __init__(self, context: CallContext, tasks: Sequence[CallTask]) -> None:
        self._context = context
        self._tasks = tasks
        self.unchecked: list[str] = []
        self.notes: list[str] = []

    async def do_not_call(self) -> frozenset[str]:
        """The operator's list of today."""
        try:
            found = await run_sync(self._context.do_not_call)
        except BatchCallError as error:
            self.unchecked.append(f"The do-not-call list could not be read: {error.message}")
            return frozenset()
        self.notes += found.notes()
        return found.numbers

    async def agent(self, agent_id: str | None, from_number: str | None) -> Agent | None:
        """The agent that speaks, with the variables that it needs, where the backend tells."""
        capabilities = self._context.backend.capabilities
        matters = capabilities.dynamic_variables or capabilities.agent == "caller_number"
        if not matters or Operation.ACCOUNT not in capabilities.operations:
            return None
        try:
            account = await self._context.backend.account()
        except BatchCallError as error:
            self.unchecked.append(f"The agent could not be checked: {error.message}")
            return None
        if agent_id is None or capabilities.agent == "caller_number":  # the number's own agent speaks, if it has one
            number = next((one for one in account.numbers or () if one.from_number == from_number), None)
            agent_id = number.agent_id if number else None
        known = next((one for one in account.agents or () if one.agent_id == agent_id), None)
        return known or (Agent(agent_id=agent_id) if agent_id else None)

    async def lately(self, current: BatchCall | None, launches: _Launches, taken_over: int | None) -> dict[str, str]:
        """Which of these people a launch of the last minutes calls, by any caller to any backend.

        Not this batch call itself, nor one whose unreached people it calls again: who was reached is not in it.
        """
        if not launches:
            return {}
        ledger, service = await self._context.open_ledger(), self._context.backend_address
        own = {(service, one) for one in await self._chain(current)}
        caller = ledger.hashed(self._context.caller)
        found: dict[str, str] = {}
        for entry, shared in launches:
            if (entry.backend, entry.batch_call_id) not in own and entry.write_id != taken_over:
                name = (entry.batch_call_id if entry.caller == caller else None) or f"ledger entry {entry.write_id}"
                found |= {number: name for number in shared if number not in found}
        return found

    async def _chain(self, current: BatchCall | None) -> set[str]:
        """The batch call, and those that it calls the unreached of, as far as the ledger and its own word tell."""
        if current is None:
            return set()
        ledger, chain = await self._context.open_ledger(), {current.batch_call_id}
        newest, known = current.batch_call_id, current.retry_of
        while len(chain) < _MOST_GENERATIONS:
            told = await run_sync(ledger.history.retried, self._context.backend_address, [newest])
            before = known or told.get(newest)
            if before is None or before in chain:
                break
            chain.add(before)
            newest, known = before, None
        return chain

    async def elsewhere(self, current: BatchCall | None, numbers: Collection[str]) -> dict[str, str]:
        """Which of these people another live batch call of the account will call too."""
        if not numbers or Operation.LIST not in self._context.backend.capabilities.operations:
            return {}
        mine, found = set(numbers), dict[str, str]()
        left = _MOST_TASKS
        try:
            live, listed = await _live(self._context)
            compared = live[:_MOST_LIVE]
            for one in compared:
                if current is None or one.batch_call_id != current.batch_call_id:
                    left -= await self._compare(one, mine, found, left)
        except BatchCallError as error:
            self.unchecked.append(f"Other live batch calls could not be compared: {error.message}")
        else:
            if left <= 0 or len(compared) < len(live):
                self.unchecked.append("Not every live batch call of the account could be compared with this list.")
            if not listed and len(live) <= _MOST_LIVE:
                self.notes.append(f"Only the newest {_MOST_LIST_PAGES * 100} batch calls of the account were compared.")
        return found

    async def _compare(self, other: BatchCall, mine: set[str], found: dict[str, str], most: int) -> int:
        """Add to `found` whom the other one will call; how many of its tasks were read."""
        read = 0
        if most > 0:
            async for task in self._context.every_task(other, _STILL_CALLED):
                read += 1
                number = comparable(task.to_number)
                if number in mine:
                    found.setdefault(number, other.batch_call_id)
                if read >= most:
                    break
        return read


def different(tasks: Sequence[CallTask]) -> int:
    """How many tasks these are: pages that move while they are read show one twice, and another one not at all."""
    return len({task.task_id or f"{position}." for position, task in enumerate(tasks)})


def _digest_of(numbers: Sequence[str]) -> str:
    digest = PeopleDigest()
    digest.add(numbers)
    return digest.hex()


def _comparable(tasks: Sequence[CallTask]) -> list[str]:
    return [comparable(task.to_number) for task in tasks]


async def _live(context: CallContext) -> tuple[list[BatchCall], bool]:
    """The newest live batch calls, and whether the list was read to its end."""
    live: list[BatchCall] = []
    cursor: str | None = None
    for _ in range(_MOST_LIST_PAGES):
        page = await context.backend.list(ListQuery(limit=100, cursor=cursor))
        live += [one for one in page.batch_calls if one.status in _LIVE]
        cursor = page.next_cursor
        if cursor is None or len(live) > _MOST_LIVE:
            break
    return live, cursor is None
