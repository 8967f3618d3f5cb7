"""Questions that a person answers on the approval page or in a terminal: rows of `codes` of the kind "approval".

The page, the terminal, repeated calls and every process on the ledger agree on one row. Each step (approve, decline,
use, report) is one compare-and-set, so an answer counts once and launches once. What the person reads is sealed with a
key of the database and not with the id, because `batchcall-mcp approve` must be able to show what waits.
"""

from __future__ import annotations

import json
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp.clock import from_ms
from batchcall_mcp.guard.approval import Approval, Shown, State
from batchcall_mcp.guard.ledger import tables as t
from batchcall_mcp.guard.ledger.code_rows import (
    LIFETIME_MS,
    UNUSED,
    change,
    is_valid,
    of_launch,
    random_code,
    seal,
    unseal,
    write_down,
)
from batchcall_mcp.guard.ledger.database import LedgerDatabase

_ID_LENGTH: Final = 26
"""More than 128 bits, so no two are alike. It approves nothing by itself."""
_APPROVALS: Final = t.codes.c.kind == "approval"
_OPEN: Final = _APPROVALS & UNUSED & t.codes.c.declined_at.is_(None)
_WAITING: Final = _OPEN & t.codes.c.approved_at.is_(None)


class Approvals:
    """All of a ledger. Of one launch only the last question counts. Every method blocks."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    def ask(
        self, *, caller: str, tool: str, bound: str, shown: Shown, in_place_of: str | None = None
    ) -> Approval | None:
        """Write a question down; None if another one of this launch was asked meanwhile: look again.

        `in_place_of` is the launch's question that this one replaces.
        """
        approval_id, now = random_code(_ID_LENGTH), self._database.now()
        sealed = seal(self._database.key("approvals"), json.dumps(shown.as_json()).encode(), approval_id)
        with self._database.writing() as tx:
            there = tx.execute(sa.select(t.codes).where(_APPROVALS & UNUSED & of_launch(caller, bound))).all()
            if any(is_valid(now, row.issued_at) and row.code_hash != in_place_of for row in there):
                return None
            write_down(tx, "approval", approval_id, caller=caller, tool=tool, binding=bound, sealed=sealed, now=now)
        return self.find(approval_id)

    def find(self, approval_id: str) -> Approval | None:
        """A question as it stands now; None if it was replaced or has been forgotten."""
        with self._database.reading() as connection:
            known = t.codes.c.kind.in_(["approval", "withdrawn"]) & (t.codes.c.code_hash == approval_id)
            row = connection.execute(sa.select(t.codes).where(known)).one_or_none()
        return None if row is None else self._read(row)

    def of_launch(self, caller: str, bound: str) -> Approval | None:
        """The question of a launch whose answer has been neither used nor reported."""
        with self._database.reading() as connection:
            rows = connection.execute(
                sa.select(t.codes)
                .where(_APPROVALS & UNUSED & of_launch(caller, bound))
                .order_by(t.codes.c.issued_at.desc())
            ).all()
        found = [approval for row in rows if (approval := self._read(row)) is not None and approval.state != "expired"]
        return found[0] if found else None

    def waiting(self) -> list[Approval]:
        """Every question that waits for an answer, the oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(sa.select(t.codes).where(_WAITING).order_by(t.codes.c.issued_at)).all()
        found = [self._read(row) for row in rows]
        return [approval for approval in found if approval is not None and approval.state == "waiting"]

    def approve(self, approval_id: str) -> bool:
        """Write a person's yes down; False if the question no longer waits."""
        return self._set(approval_id, _WAITING, approved_at=self._database.now())

    def decline(self, approval_id: str, *, after_a_yes: bool = False) -> bool:
        """Write a person's no down; False if the question no longer waits.

        `after_a_yes`: a yes that has not launched yet ends too.
        """
        return self._set(approval_id, _OPEN if after_a_yes else _WAITING, declined_at=self._database.now())

    def report(self, approval_id: str) -> bool:
        """Claim a no, to report it to a tool call, once."""
        declined = _APPROVALS & UNUSED & t.codes.c.declined_at.is_not(None)
        return self._set(approval_id, declined, used_at=self._database.now())

    def withdraw(self, caller: str, bound: str) -> None:
        """End every question, yes and code of a launch: it was answered in another way."""
        with self._database.writing() as tx:
            tx.execute(t.codes.update().where(of_launch(caller, bound) & UNUSED).values(kind="withdrawn"))

    def use(self, tx: sa.Connection, approval_id: str) -> bool:
        """Use a yes up, in the launch's own transaction; False if there is none that is unused and not too old."""
        now = self._database.now()
        approved = _OPEN & t.codes.c.approved_at.is_not(None) & (t.codes.c.code_hash == approval_id)
        return change(tx, approved, now, used_at=now)

    def _set(self, approval_id: str, expected: sa.ColumnElement[bool], **values: int) -> bool:
        this = (t.codes.c.code_hash == approval_id) & expected
        with self._database.writing() as tx:
            done = change(tx, this, self._database.now(), **values)
            if not done:  # for good: a clock that is set back must not bring it to life again
                tx.execute(t.codes.delete().where(this))
            return done

    def _read(self, row: sa.Row[Any]) -> Approval | None:
        opened = unseal(self._database.key("approvals"), row.sealed, row.code_hash)
        if opened is None:
            return None
        return Approval(
            approval_id=row.code_hash,
            caller=row.caller,
            tool=row.tool,
            bound=row.binding,
            state=self._state(row),
            asked_at=from_ms(row.issued_at),
            expires_at=from_ms(row.issued_at + LIFETIME_MS),
            shown=Shown.read(json.loads(opened)),
            is_reported=row.declined_at is not None and row.used_at is not None,
        )

    def _state(self, row: sa.Row[Any]) -> State:
        if row.kind == "withdrawn":
            return "withdrawn"
        if row.declined_at is not None:
            return "declined"
        if row.used_at is not None:
            return "used"
        if not is_valid(self._database.now(), row.issued_at):
            return "expired"
        return "waiting" if row.approved_at is None else "approved"
