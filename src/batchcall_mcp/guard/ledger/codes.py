"""Confirmation codes and answers, hashed, each good for one launch.

What a code stands for is sealed with the code itself, so that nobody reads in passing whom it would call. It is
gone ten minutes later, because anyone who has the whole database has the time to guess.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp.guard.fingerprints import MEMBER_BYTES, Bound, covers
from batchcall_mcp.guard.ledger import tables as t
from batchcall_mcp.guard.ledger.approvals import Approvals
from batchcall_mcp.guard.ledger.code_rows import (
    LIFETIME_MS,
    UNUSED,
    change,
    is_valid,
    keep_bounded,
    random_code,
    seal,
    unseal,
    write_down,
)
from batchcall_mcp.guard.ledger.database import LedgerDatabase
from batchcall_mcp.guard.write_record import Token

_DAY_MS: Final = 24 * 60 * 60 * 1000
_CODE_LENGTH: Final = 8
_CODES: Final = t.codes.c.kind == "code"
MOST_MEMBERS: Final = 5000
"""Of a set that is remembered. Of larger ones any difference asks again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A launch that waits for its code. `arguments` are the tool call's, so that they need not be repeated."""

    caller: str
    tool: str
    binding: str
    arguments: Mapping[str, Any]
    question: str
    is_used: bool
    token: Token


class Codes:
    """All codes of a ledger. Bounded for each caller; the oldest go first. Of one launch only the last code counts."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database
        self.approvals: Final = Approvals(database)

    def forget_old(self) -> None:
        """What has expired is kept no longer than until the ledger is opened again, or the next code is made."""
        with self._database.writing(wait_s=1) as tx:
            tx.execute(t.codes.delete().where(t.codes.c.issued_at < self._database.now() - LIFETIME_MS))
            _forget_sets(tx, self._database.now())

    def remember(self, shown: Bound, caller: str) -> None:
        """Keep the sets of a caller's question while it can be answered, so that a yes to it is one to fewer people."""
        if all(len(members) > MOST_MEMBERS for members in shown.sets.values() if members):
            return
        name, now = self._database.hashed(f"question {shown.text}"), self._database.now()
        rows = [
            {
                "question": name,
                "caller": caller,
                "kind": kind,
                "at": now,
                "members": seal(self._database.key("question sets"), b"".join(sorted(members))),
            }
            for kind, members in shown.sets.items()
            if 0 < len(members) <= MOST_MEMBERS
        ]
        with self._database.writing() as tx:
            _forget_sets(tx, now)
            tx.execute(t.question_sets.delete().where(t.question_sets.c.question == name))
            tx.execute(t.question_sets.insert(), rows)
            keep_bounded(tx, t.question_sets, caller=caller, newest=name)

    def covers(self, shown: str, now: Bound) -> bool:
        """Whether a yes to the question of the text `shown` is a yes to what would be done now."""
        return covers(shown, None, now) or covers(shown, self._sets_of(shown), now)

    def set_of(self, shown: str, kind: str) -> frozenset[bytes]:
        """What a concern of the question of the text `shown` was about, while the question can be answered."""
        return (self._sets_of(shown) or {}).get(kind, frozenset())

    def _sets_of(self, shown: str) -> dict[str, frozenset[bytes]] | None:
        of_it = t.question_sets.c.question == self._database.hashed(f"question {shown}")
        young = t.question_sets.c.at >= self._database.now() - LIFETIME_MS
        with self._database.reading() as connection:
            rows = connection.execute(
                sa.select(t.question_sets.c.kind, t.question_sets.c.members).where(of_it, young)
            ).all()
        if not rows:
            return None
        key = self._database.key("question sets")
        return {row.kind: _members_of(unseal(key, row.members) or b"") for row in rows}

    def issue(self, *, caller: str, tool: str, binding: str, arguments: Mapping[str, Any], question: str) -> str:
        """Make a code for this launch; one that was made for it before is worth nothing any more."""
        code = random_code(_CODE_LENGTH)
        sealed = seal(self._key(code), json.dumps({"arguments": arguments, "question": question}).encode())
        name, now = self._hash(code), self._database.now()
        with self._database.writing() as tx:
            write_down(tx, "code", name, caller=caller, tool=tool, binding=binding, sealed=sealed, now=now)
        return code

    def find(self, code: str) -> Pending | None:
        """What a code stands for, used or not; None if there is none, or its ten minutes are over."""
        code = code.strip().upper()
        digest = self._hash(code)
        with self._database.writing() as tx:
            row = tx.execute(sa.select(t.codes).where(_CODES & (t.codes.c.code_hash == digest))).one_or_none()
            if row is None:
                return None
            if not is_valid(self._database.now(), row.issued_at):
                # For good: a clock that is set back must not bring it to life again.
                tx.execute(t.codes.delete().where(t.codes.c.code_hash == digest))
                return None
        opened = unseal(self._key(code), row.sealed)
        if opened is None:
            return None
        held = json.loads(opened)
        return Pending(
            caller=row.caller,
            tool=row.tool,
            binding=row.binding,
            arguments=held["arguments"],
            question=held["question"],
            is_used=row.used_at is not None,
            token=Token(kind="code", digest=digest),
        )

    def use(self, tx: sa.Connection, token: Token) -> bool:
        """Use a confirmation up; False if it was used or is too old. To be called in the launch's own transaction."""
        now = self._database.now()
        if token.kind == "answer":
            tx.execute(t.used_answers.delete().where(t.used_answers.c.at < now - _DAY_MS))
            known = tx.scalar(sa.select(t.used_answers.c.at).where(t.used_answers.c.answer_hash == token.digest))
            if known is None:
                tx.execute(t.used_answers.insert().values(answer_hash=token.digest, at=now))
            return known is None
        if token.kind == "approval":
            return self.approvals.use(tx, token.digest)
        return change(tx, _CODES & UNUSED & (t.codes.c.code_hash == token.digest), now, used_at=now)

    def answer(self, nonce: str) -> Token:
        """The token of an answer to one question."""
        return Token(kind="answer", digest=self._database.hashed(f"answer {nonce}"))

    def close(self, caller: str, launch: Bound) -> None:
        """Write down that a person said no: no earlier question about this launch takes a yes any more."""
        digest, now = self._no_to(caller, launch), self._database.now()
        with self._database.writing() as tx:
            tx.execute(t.used_answers.delete().where(t.used_answers.c.answer_hash == digest))
            tx.execute(t.used_answers.insert().values(answer_hash=digest, at=now))

    def is_closed(self, caller: str, launch: Bound, seconds: float) -> bool:
        """Whether a question of so many seconds ago was closed since, by a no or by an emergency stop."""
        asked_at = self._database.now() - round(seconds * 1000)
        no = sa.select(t.used_answers.c.at).where(t.used_answers.c.answer_hash == self._no_to(caller, launch))
        with self._database.reading() as connection:
            closed = (connection.scalar(no), connection.scalar(sa.select(sa.func.max(t.stops.c.at))))
        return any(at is not None and at >= asked_at for at in closed)

    def _no_to(self, caller: str, launch: Bound) -> str:
        return self._database.hashed(f"no {caller} {launch.launch}")

    def discard(self, token: Token) -> None:
        """Make a code worthless that was given for something else than what would be sent now."""
        with self._database.writing() as tx:
            self.use(tx, token)

    def _hash(self, code: str) -> str:
        return self._database.hashed(f"code {code}")

    def _key(self, code: str) -> bytes:
        return hashlib.sha256(self._database.hashed(f"seal {code}").encode()).digest()


def _forget_sets(tx: sa.Connection, now: int) -> None:
    tx.execute(t.question_sets.delete().where(t.question_sets.c.at < now - LIFETIME_MS))


def _members_of(packed: bytes) -> frozenset[bytes]:
    return frozenset(packed[at : at + MEMBER_BYTES] for at in range(0, len(packed), MEMBER_BYTES))
