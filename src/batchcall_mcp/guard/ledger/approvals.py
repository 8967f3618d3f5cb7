"""Questions that a person answers on the approval page or in a terminal: rows of `codes` of the kind "approval".

The page, the terminal, repeated calls and every process on the ledger agree on one row. Each step (approve, decline,
use, report) is one compare-and-set, so an answer counts once and launches once. What the person reads is sealed with a
key of the database and not with the id, because `batchcall-mcp approve` must be able to show what waits.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from batchcall_mcp.guard.approval import Approval, Shown, State
from batchcall_mcp.guard.ledger import tables as t
from batchcall_mcp.guard.ledger.code_rows import (
    LIFETIME_MS,
    UNUSED,
    forget_all_of,
    is_valid,
    keep_bounded,
    of_launch,
    random_code,
)
from batchcall_mcp.guard.ledger.database import LedgerDatabase

_ID_LENGTH: Final = 26
"""More than 128 bits, so no two are alike. It approves nothing by itself."""
_NONCE_BYTES: Final = 12
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
        sealed = self._seal(approval_id, shown)
        with self._database.writing() as tx:
            there = tx.execute(sa.select(t.codes).where(_APPROVALS & UNUSED & of_launch(caller, bound))).all()
            if any(is_valid(now, row.issued_at) and row.code_hash != in_place_of for row in there):
                return None
            forget_all_of(tx, caller, bound, now)
            tx.execute(
                t.codes.insert().values(
                    code_hash=approval_id,
                    caller=caller,
                    tool=tool,
                    binding=bound,
                    sealed=sealed,
                    size=len(sealed),
                    kind="approval",
                    issued_at=now,
                )
            )
            keep_bounded(tx, t.codes, caller=caller, newest=approval_id)
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
        issued_at = tx.scalar(sa.select(t.codes.c.issued_at).where(approved))
        if issued_at is None or not is_valid(now, issued_at):
            return False
        return bool(tx.execute(t.codes.update().where(approved).values(used_at=now)).rowcount)

    def _set(self, approval_id: str, expected: sa.ColumnElement[bool], **values: int) -> bool:
        this = (t.codes.c.code_hash == approval_id) & expected
        with self._database.writing() as tx:
            issued_at = tx.scalar(sa.select(t.codes.c.issued_at).where(this))
            if issued_at is None:
                return False
            if not is_valid(self._database.now(), issued_at):
                # For good: a clock that is set back must not bring it to life again.
                tx.execute(t.codes.delete().where(this))
                return False
            return bool(tx.execute(t.codes.update().where(this).values(**values)).rowcount)

    def _read(self, row: sa.Row[Any]) -> Approval | None:
        shown = self._unseal(row.code_hash, row.sealed)
        if shown is None:
            return None
        return Approval(
            approval_id=row.code_hash,
            caller=row.caller,
            tool=row.tool,
            bound=row.binding,
            state=self._state(row),
            asked_at=_moment(row.issued_at),
            expires_at=_moment(row.issued_at + LIFETIME_MS),
            shown=shown,
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

    def _seal(self, approval_id: str, shown: Shown) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher().encrypt(nonce, json.dumps(shown.as_json()).encode(), approval_id.encode())

    def _unseal(self, approval_id: str, sealed: bytes) -> Shown | None:
        try:
            opened = self._cipher().decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], approval_id.encode())
        except InvalidTag:
            return None
        return Shown.read(json.loads(opened))

    def _cipher(self) -> AESGCM:
        return AESGCM(self._database.key("approvals"))


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
