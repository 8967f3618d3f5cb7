"""What a preflight has to know in addition to the request: extra reads, each of which may fail and stops nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from anyio.to_thread import run_sync

from batchcall_mcp.backends.base import At, Dials, Never, unread
from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.batch_calls.call_context import CallContext
from batchcall_mcp.batch_calls.writes.live_comparison import LiveComparison, compare_with_live
from batchcall_mcp.errors import BatchCallError, ConfigurationError
from batchcall_mcp.guard.fingerprints import people_digest
from batchcall_mcp.guard.preflight.listing import Places, Recorded
from batchcall_mcp.guard.preflight.preflight import Surroundings, hides_retries, places_of
from batchcall_mcp.guard.spending import Spent
from batchcall_mcp.guard.write_record import Entry
from batchcall_mcp.model import Account, Agent, BatchCall, CallTask
from batchcall_mcp.money import Money
from batchcall_mcp.recipients.do_not_call import DoNotCall
from batchcall_mcp.recipients.phone.numbers import comparable

if TYPE_CHECKING:
    from batchcall_mcp.guard.ledger.ledger import Ledger

_MOST_GENERATIONS = 20
_Launches: TypeAlias = Sequence[tuple[Entry, list[str]]]
"""Each with those of the numbers that it calls."""


async def surroundings(
    context: CallContext,
    tasks: Sequence[CallTask] | None,
    dials: Dials,
    *,
    listed: Sequence[CallTask] | None = None,
    current: BatchCall | None,
    agent_id: str | None,
    from_number: str | None,
    simulated: bool = False,
    again: bool = False,
    test: bool = False,
    taken_over: int | None = None,
    retry_of: str | None = None,
    moved: datetime | None = None,
) -> Surroundings:
    """Find out what the preflight of a launch asks for. What cannot be found out is a sentence, never an error.

    `tasks` are called, of `listed`, which are all. `simulated`: no real phone can ring; only other such launches count.
    `again`: people are called again, so those whom the batch call has called count towards the limits of a day. `test`:
    the operator's own number may ring as often as somebody asks for it; who else calls it does not matter.
    `taken_over`: the open ledger entry that this very launch is. `retry_of`: whose people a new batch call calls again.
    `moved`: when the backend really starts it, where that is another moment.
    """
    found = _Found(context)
    if isinstance(dials, Never):
        # Where the tasks do not come back with their variables, nobody can look for a missing one later.
        if context.backend.capabilities.returns_variables or not tasks:
            return Surroundings()
        agent = await found.agent(agent_id, from_number)
        return Surroundings(variables=agent.variables if agent else None)
    starts_at = moved or (dials.counts_at(context.clock()) if isinstance(dials, At) else context.clock())
    numbers = await run_sync(_comparable, tasks or ())
    try:
        same = len(listed or ()) == len(numbers)  # those who are called are of the list
        everybody = numbers if same else await run_sync(_comparable, listed or ())
        own = None if again else current
        recorded = await _recorded(context, numbers, everybody, listed or (), starts_at, own, simulated=simulated)
        named = await _named_before(context, recorded.ledger, current)
        found.unchecked += [] if test else _not_known(recorded.open_launches, current, taken_over)
    except ConfigurationError as error:
        recorded, named = None, frozenset[bytes]()
        found.unchecked.append(f"Earlier calls could not be counted: {error.message}")
    agent = await found.agent(agent_id, from_number)
    price = None if simulated else await found.price()
    payer = None if simulated else found.payer()
    found.notes += [] if payer is None else [payer]
    around = recorded.around if recorded else Surroundings()
    launches = recorded.launches if recorded and not test else ()
    hidden = recorded.hidden if recorded else frozenset[bytes]()
    live = LiveComparison() if test else await compare_with_live(context, numbers, current, named, hidden)
    return replace(
        replace(around, attempts={}) if test else around,
        listed_variables=recorded.listed_of(agent) if recorded else None,
        variables=agent.variables if agent else None,
        agent=agent,
        reported_price=price,
        elsewhere=live.elsewhere,
        recorded=replace(around.recorded, elsewhere=live.hidden),
        not_compared=live.not_compared,
        lately=await found.lately(current or (unread(retry_of) if retry_of else None), launches, taken_over),
        do_not_call=await found.do_not_call(),
        unchecked=(*found.unchecked, *live.unchecked),
        notes=tuple(found.notes),
        payer=payer,
        calls_at_once=None if simulated or found.read is None else found.read.calls_at_once,
        may_be_called=None if simulated or found.read is None else found.read.countries,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorded:
    """What the ledger knows. `listed`: hashed variables that all tasks of this very list had when it was sent.

    `hidden`: people of it whom the backend does not show, hashed.
    """

    ledger: Ledger
    around: Surroundings
    launches: _Launches
    open_launches: Sequence[tuple[Entry, int]]
    listed: Sequence[str]
    hidden: frozenset[bytes]

    def listed_of(self, agent: Agent | None) -> tuple[str, ...] | None:
        """Those of the agent's variables that the list had; None: not known here."""
        if not self.listed or agent is None or not agent.variables:
            return None
        return tuple(name for name in agent.variables if self.ledger.hashed(f"variable {name}") in self.listed)


async def _recorded(
    context: CallContext,
    numbers: Sequence[str],
    everybody: Sequence[str],
    tasks: Sequence[CallTask],
    starts_at: datetime,
    current: BatchCall | None,
    *,
    simulated: bool,
) -> _Recorded:
    """`numbers` are called, of `everybody`, who are those of the `tasks` that the backend shows."""
    ledger, address = await context.open_ledger(), context.backend_address
    own_id = current.batch_call_id if current else None
    history = ledger.history
    # First of all: what is recorded from here on is compared when this launch is recorded.
    since = await run_sync(history.newest)
    listed: Sequence[str] = ()
    recorded, hidden = Recorded(), frozenset[bytes]()
    if current is not None:
        shown = _Shown(everybody, tasks)
        recorded, hidden = await _of_those_hidden(context, ledger, current, shown, starts_at, simulated=simulated)
    mine: dict[str, Any] = {"simulated": simulated, "backend": address, "own_id": own_id}
    own: dict[str, Any] = {"backend": address, "own_id": own_id, "numbers": numbers, "hidden": hidden}
    counts_cost = context.settings.max_cost_per_day is not None and not simulated
    around = Surroundings(
        since=since,
        spent=await run_sync(partial(history.spent_on, starts_at, **own)) if counts_cost else Spent(),
        attempts=await run_sync(partial(history.attempts, numbers, starts_at, **mine)),
        calls_today=await run_sync(partial(history.calls_on, starts_at, simulated=simulated, **own)),
        stopped_since=await run_sync(ledger.stops.since),
    )
    if current is not None:
        list_entry, made = await run_sync(history.list_of, address, current.batch_call_id)
        in_part = recorded.total is not None and recorded.total == made.total == len(hidden) + len(set(everybody))
        is_whole = in_part or (recorded.total is not None and recorded.total == made.total and not everybody)
        is_this_list = is_whole or made.people == ledger.hashed(await run_sync(people_digest, everybody))
        listed = (made.variables or ()) if is_this_list else ()
        known = is_this_list and hides_retries(current, context.backend.capabilities)
        around = replace(
            around,
            skipped=made.skipped or {},
            recorded=recorded,
            list_entry=list_entry,
            listed_dials=made.dials_each if known else None,
        )
    return _Recorded(
        ledger=ledger,
        around=around,
        launches=await run_sync(partial(history.launched_lately, numbers, simulated=simulated)),
        open_launches=await run_sync(partial(history.open_launches, address, numbers, hidden, simulated=simulated)),
        listed=listed,
        hidden=hidden,
    )


class _Shown(NamedTuple):
    """Whom the backend shows of a list: their numbers as `comparable` has them, and the tasks."""

    numbers: Sequence[str]
    tasks: Sequence[CallTask]


async def _of_those_hidden(
    context: CallContext, ledger: Ledger, current: BatchCall, shown: _Shown, starts_at: datetime, *, simulated: bool
) -> tuple[Recorded, frozenset[bytes]]:
    """What is known here of the people of a list whom the backend does not show, and these, hashed.

    How many the list has, where they are, and who of them is called elsewhere or must not be called: by their hashes,
    because nobody can read their numbers.
    """
    history, own = ledger.history, {"backend": context.backend_address, "own_id": current.batch_call_id}
    if context.backend.capabilities.tasks_reported == "all":
        return Recorded(), frozenset()
    entries = await run_sync(history.list_entries, context.backend_address, current.batch_call_id)
    if not entries:
        return Recorded(), frozenset()
    total = sum(entry.evidence.total or 0 for entry in entries)
    people = await run_sync(history.people_of, entries)
    if len(people) < total:
        return Recorded(total=total), frozenset()
    found = await run_sync(history.found_in, people, shown.numbers)
    hidden = people - {bytes.fromhex(name) for name in found.values()}
    try:
        never = await context.do_not_call()
    except BatchCallError:
        never = DoNotCall()  # that it cannot be read is said elsewhere
    dialled = await run_sync(partial(history.attempts_of_all, starts_at, simulated=simulated, **own))
    lately = await run_sync(partial(history.called_lately, simulated=simulated))
    mine = (context.backend_address, current.batch_call_id)
    recorded = Recorded(
        total=total,
        places=await run_sync(_places_left, entries, shown.tasks, current.timezone),
        do_not_call=frozenset(
            {
                *(await run_sync(history.found_in, hidden, never.numbers)).values(),
                *(digest.hex() for digest in hidden & never.forgotten),
            }
        ),
        attempts={digest.hex(): dialled[digest] for digest in hidden & dialled.keys()},
        lately={
            digest.hex(): f"ledger entry {entry.write_id}"
            for entry, called in lately
            if (entry.backend, entry.batch_call_id) != mine
            for digest in hidden & called
        },
        entries=tuple(entry.write_id for entry in entries),
    )
    return recorded, hidden


def _places_left(entries: Sequence[Entry], shown: Sequence[CallTask], batch_zone: str | None) -> Places | None:
    """Where those are who are not shown; None: that was not recorded of all of them. Pure."""
    countries, zones = Counter[str](), Counter[tuple[str, ...]]()
    there = places_of(shown, batch_zone)
    for entry in entries:
        if entry.evidence.zones is None:
            return None
        sent = Places(countries=entry.evidence.countries or {}, zones=entry.evidence.zones).counted()
        countries, zones = countries + sent[0], zones + sent[1]
    return Places.of(countries - there[0], zones - there[1])


async def _named_before(context: CallContext, ledger: Ledger, current: BatchCall | None) -> frozenset[bytes]:
    """The batch calls that a question about this one named as not compared, where an answer to it may be here."""
    caller, codes = ledger.hashed(context.caller), ledger.codes
    about = current.batch_call_id if current else None
    shown = {one.bound for one in await run_sync(codes.approvals.open_about, caller, context.tool, about)}
    if context.asker.shown is not None:
        shown.add(context.asker.shown)
    if context.confirmation_code is not None:
        pending = await run_sync(codes.find, context.confirmation_code)
        if pending is not None and pending.caller == caller:
            shown.add(pending.binding)
    return frozenset().union(*[await run_sync(codes.set_of, one, "not_compared") for one in shown])


def _not_known(launches: Sequence[tuple[Entry, int]], current: BatchCall | None, taken_over: int | None) -> list[str]:
    return [
        f"It is not known whether {entry.tool} (ledger entry {entry.write_id}) reached {shared} of the numbers."
        for entry, shared in launches
        if entry.write_id != taken_over and (current is None or entry.batch_call_id != current.batch_call_id)
    ]


class _Found:
    """The other reads of one preflight. `unchecked`: sentences about what could not be read."""

    def __init__(self, context: CallContext) -> None:
        self._context = context
        self.unchecked: list[str] = []
        self.notes: list[str] = []
        self._account: Account | BatchCallError | None = None

    async def do_not_call(self) -> DoNotCall:
        """Who is not called today."""
        try:
            found = await self._context.do_not_call()
        except BatchCallError as error:
            self.unchecked.append(f"The do-not-call list could not be read: {error.message}")
            return DoNotCall()
        self.notes += found.notes()
        return found

    async def agent(self, agent_id: str | None, from_number: str | None) -> Agent | None:
        """The agent that speaks, with the variables that it needs, where the backend reports them."""
        capabilities = self._context.backend.capabilities
        matters = capabilities.dynamic_variables or capabilities.agent == "caller_number"
        if not matters or Operation.ACCOUNT not in capabilities.operations:
            return None
        try:
            account = await self._read_account()
        except BatchCallError as error:
            self.unchecked.append(f"The agent could not be checked: {error.message}")
            return None
        if agent_id is None or capabilities.agent == "caller_number":  # the number's own agent speaks, if it has one
            number = next((one for one in account.numbers or () if one.from_number == from_number), None)
            agent_id = number.agent_id if number else None
        known = next((one for one in account.agents or () if one.agent_id == agent_id), None)
        return known or (Agent(agent_id=agent_id) if agent_id else None)

    async def price(self) -> Money | None:
        """What a minute costs, where the backend reports it."""
        if not self._context.backend.capabilities.prices:
            return None
        try:
            price = (await self._read_account()).cost_per_minute
        except BatchCallError as error:
            self.notes.append(f"The price of a minute could not be read: {error.message}")
            return None
        return price if price is not None and price.is_sound else None

    @property
    def read(self) -> Account | None:
        """The account, where somebody has asked for it and it could be read."""
        return None if isinstance(self._account, BatchCallError) else self._account

    def payer(self) -> str | None:
        """That real phones ring, and at whose expense, where the account that was read says so.

        The dialer in this process always says the first: another process of it may have a simulated carrier.
        """
        payer = None if self.read is None else self.read.payer
        if payer is not None:
            return f"Real phones ring, and {payer} pays."
        return "Real phones ring." if self._context.backend.capabilities.in_process else None

    async def _read_account(self) -> Account:
        """Asked for once in each look, whatever comes of it."""
        if self._account is None:
            try:
                self._account = await self._context.backend.account()
            except BatchCallError as error:
                self._account = error
        if isinstance(self._account, BatchCallError):
            raise self._account
        return self._account

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
        """The batch call, and those that it calls the unreached of, as far as it and the ledger show."""
        if current is None:
            return set()
        ledger, chain = await self._context.open_ledger(), {current.batch_call_id}
        newest, known = current.batch_call_id, current.retry_of
        while len(chain) < _MOST_GENERATIONS:
            known_here = await run_sync(ledger.history.retried, self._context.backend_address, [newest])
            before = known or known_here.get(newest)
            if before is None or before in chain:
                break
            chain.add(before)
            newest, known = before, None
        return chain


def different(tasks: Sequence[CallTask]) -> int:
    """How many tasks these are: pages that move while they are read show one twice, and another one not at all."""
    named = [task.task_id for task in tasks if task.task_id]
    return len(set(named)) + len(tasks) - len(named)


def _comparable(tasks: Sequence[CallTask]) -> list[str]:
    return [comparable(task.to_number) for task in tasks]
