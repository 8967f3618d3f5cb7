"""What the account of a real carrier cannot call, refused by field and row before anybody is asked for a launch.

The carrier looks at the same again before each call; an account that cannot be read now refuses nothing here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

from batchcall_mcp.dialer.carriers.base import (
    AccountAtFault,
    Attempt,
    Carrier,
    CarrierAccount,
    CarrierUnavailable,
    HasAccount,
)
from batchcall_mcp.dialer.domain.records import BatchCallRecord, NewTask
from batchcall_mcp.dialer.rest.messages.mapping import Problems
from batchcall_mcp.dialer.storage import queries
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.errors import IllegalTransition, InvalidInput, NotFound
from batchcall_mcp.recipients.phone.destinations import allowed_countries, problem
from batchcall_mcp.recipients.phone.numbers import comparable
from batchcall_mcp.text import quoted

LONGEST_READ_S: Final = 5.0
"""A write must not become one of unknown outcome because a vendor is slow."""
_MOST_NAMED: Final = 10
_FEW: Final = 3
_WHERE: Final = "get_backend (GET /account) lists them"


@dataclass(frozen=True, slots=True)
class AccountRead:
    """What the account at the vendor has, or why that could not be read. Neither: the carrier has no account."""

    account: CarrierAccount | None = None
    unread: str | None = None


async def read_account(carrier: Carrier) -> AccountRead:
    """The account of a carrier, on the event loop on which it lives."""
    if not isinstance(carrier, HasAccount):
        return AccountRead()
    try:
        async with asyncio.timeout(LONGEST_READ_S):
            return AccountRead(await carrier.account())
    except TimeoutError:
        return AccountRead(unread=f"it gave no answer within {LONGEST_READ_S:g} s")
    except (AccountAtFault, CarrierUnavailable) as error:
        return AccountRead(unread=str(error))


NO_ACCOUNT: Final = AccountRead()


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Who calls: what is the same for all rows of a list."""

    from_number: str
    agent_id: str | None
    organization_id: str


@dataclass(slots=True)
class _Alike:
    """The rows that cannot be called for one reason: a list with a thousand of them must not hide the other reasons."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, position: int) -> None:
        """One more row."""
        self.count += 1
        if len(self.first) <= _FEW:
            self.first.append(position)

    def lines(self, why: str) -> Iterator[str]:
        """A line each where they are few; else the first one, and how many more there are."""
        if self.count <= _FEW:
            yield from (f"tasks.{position}{why}" for position in self.first)
            return
        shown = ", ".join(f"tasks.{position}" for position in self.first[1:])
        rest = ", …" if self.count > len(self.first) else ""
        yield f"tasks.{self.first[0]}{why.removesuffix('.')}. The same with {self.count - 1:,} more: {shown}{rest}"


Row: TypeAlias = tuple[int, str, str | None]
"""Where it is in the list, whom it calls, and its variables as compact JSON."""


@dataclass(frozen=True, slots=True)
class Placing:
    """What one process's carrier can place. `countries`: of BATCHCALL_COUNTRIES; None: not set."""

    carrier: Carrier
    countries: frozenset[str] | None

    def refusal(self, read: AccountRead, header: Header, tasks: Iterable[NewTask]) -> InvalidInput | None:
        """Why a list that is to be stored cannot be called; None: nothing stands in the way, or no phone rings.

        To be asked before the transaction: nobody's pause waits for 100,000 rows.
        """
        if not self.carrier.places_real_calls:
            return None
        rows = ((row, task.to_number, task.dynamic_variables) for row, task in enumerate(tasks))
        return self._refusal(read, header, rows)

    def refusal_of_stored(
        self,
        read: AccountRead,
        opened: Store,
        organization_id: str,
        batch_call_id: str,
        changed: Callable[[Header], Header],
        given: Callable[[str], Iterable[NewTask]] | None,
    ) -> InvalidInput | None:
        """The same of a batch call that is there: with a `given` list, else with whom it has still to call.

        One of another carrier is not judged: what would dial it is refused, and its own carrier judges the rest.
        """
        if not self.carrier.places_real_calls:
            return None
        with opened.reading() as tx:
            try:
                record = queries.get(tx, organization_id, batch_call_id)
            except NotFound:
                return None  # the write says so, unless it was carried out before
            if record.carrier != self.carrier.name:
                return None
            stored = Header(from_number=record.from_number, agent_id=record.agent_id, organization_id=organization_id)
            header = changed(stored)
            if given is not None:
                return self.refusal(read, header, given(header.from_number))
            return self._refusal(read, header, queries.waiting(tx, batch_call_id))

    def _refusal(self, read: AccountRead, header: Header, rows: Iterable[Row]) -> InvalidInput | None:
        found = Problems()
        account = read.account
        numbers = None if account is None or account.numbers is None else [one.from_number for one in account.numbers]
        agents = None if account is None or account.agents is None else [one.agent_id for one in account.agents]
        if numbers is not None and comparable(header.from_number) not in {comparable(number) for number in numbers}:
            found.add(f"from_number: {header.from_number} is not a caller number of the account: {_named(numbers)}")
        if agents is not None and header.agent_id is not None and header.agent_id not in agents:
            found.add(f"agent_id: {quoted(header.agent_id)} is not an agent of the account: {_named(agents)}")
        countries = allowed_countries(self.countries, numbers, header.from_number)
        judged = None if found else self._judge(account or _UNREAD, header)
        listed, reasons = 0, dict[str, _Alike]()
        for position, to_number, variables in rows:
            listed += 1
            if (why := problem(to_number, countries)) is not None:
                reasons.setdefault(f".to_number: {why}", _Alike()).add(position)
            elif judged is not None and (why := judged(to_number, variables)) is not None:
                reasons.setdefault(f": {why}", _Alike()).add(position)
        for why, alike in reasons.items():
            for line in [f"every task{why}"] if alike.count == listed > 1 else alike.lines(why):
                found.add(line)
        if not found:
            return None
        return found.error(
            f"This cannot be called through {self.carrier.title}. Nothing was changed. Correct or remove what is named."
        )

    def allowed(self, account: CarrierAccount | None) -> frozenset[str] | None:
        """Which countries may be called, whoever calls; None: no phone rings, or that depends on the caller number."""
        numbers = None if account is None or account.numbers is None else [one.from_number for one in account.numbers]
        if not self.carrier.places_real_calls or (self.countries is None and not numbers):
            return None
        return allowed_countries(self.countries, numbers, "")

    def _judge(self, account: CarrierAccount, header: Header) -> Callable[[str, str | None], str | None] | None:
        """What the carrier itself says of a person with these variables."""
        carrier = self.carrier
        if not isinstance(carrier, HasAccount):
            return None
        asked = partial(
            Attempt,
            task_id="",
            n=1,
            batch_call_id="",
            from_number=header.from_number,
            organization_id=header.organization_id,
            agent_id=header.agent_id,
        )

        def judged(to_number: str, variables: str | None) -> str | None:
            return carrier.problem(account, asked(to_number=to_number, dynamic_variables=variables))

        return judged

    def check_own(self, record: BatchCallRecord) -> None:
        """Go on only with a batch call that this process's carrier dials.

        Raises:
            IllegalTransition: it is another carrier's; no process with this carrier ever dials it.
        """
        if record.carrier != self.carrier.name:
            raise IllegalTransition(
                f"This batch call belongs to the carrier {quoted(record.carrier)}, and this dialer dials through "
                f"{quoted(self.carrier.name)}. Nothing was changed. Start the dialer with "
                f"BATCHCALL_CARRIER={record.carrier}, or create the batch call again here."
            )


_UNREAD: Final = CarrierAccount(numbers=None, agents=None)


def _named(known: list[str]) -> str:
    shown = ", ".join(known[:_MOST_NAMED]) + (", …" if len(known) > _MOST_NAMED else "")
    return f"choose {shown}; {_WHERE}" if known else "it has none"
