"""What confirms a launch: codes, answers in the client, and answers on the approval page or in a terminal.

Each is good for one launch and for ten minutes. Codes and approvals are rows of one table, of two kinds.

What a code stands for is sealed with the code itself, so that nobody reads in passing whom it would call. It is
gone ten minutes later, because anyone who has the whole database has the time to guess.

The page, the terminal, repeated calls and every process on the ledger agree on one row for an approval. Each step
(approve, decline, use, report) is one compare-and-set, so an answer counts once and launches once. What the person
reads is sealed with a key of the database and not with the id, because `batchcall-mcp approve` must be able to show
what waits.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from batchcall_mcp.clock import from_ms
from batchcall_mcp.guard.approval import Approval, Shown, State
from batchcall_mcp.guard.fingerprints import MEMBER_BYTES, Bound, covers, launch_of
from batchcall_mcp.guard.ledger import tables as t
from batchcall_mcp.guard.ledger.database import LedgerDatabase
from batchcall_mcp.guard.write_record import Token

LIFETIME_MS: Final = 600_000
MOST_OF_CALLER: Final = 200
MOST_BYTES_OF_CALLER: Final = 32 * 1024 * 1024
"""Of one caller's that waits: arguments may be as large as a request."""
MOST: Final = 10_000
MOST_BYTES: Final = 256 * 1024 * 1024
"""Of all callers' together, of each table."""
MOST_MEMBERS: Final = 5000
"""Of a set that is remembered. Of larger ones any difference asks again."""
_DAY_MS: Final = 24 * 60 * 60 * 1000
_CLOCKS_APART_MS: Final = 60_000
"""Several machines may share a ledger. A row from further in the future is one of a clock that was set back."""
_NONCE_BYTES: Final = 12
_ALPHABET: Final = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # nothing that a person misreads over the telephone
_CODE_LENGTH: Final = 8
_ID_LENGTH: Final = 26
"""More than 128 bits, so no two are alike. It approves nothing by itself."""

_UNUSED: Final = t.codes.c.used_at.is_(None)
_CODES: Final = t.codes.c.kind == "code"
_APPROVALS: Final = t.codes.c.kind == "approval"
_OPEN: Final = _APPROVALS & _UNUSED & t.codes.c.declined_at.is_(None)
_WAITING: Final = _OPEN & t.codes.c.approved_at.is_(None)


class Approvals:
    """All questions to a person outside the client. Of one launch only the last one counts. Every method blocks."""

    def __init__(self, database: LedgerDatabase) -> None:
        self._database = database

    def ask(
        self, *, caller: str, tool: str, bound: str, shown: Shown, in_place_of: str | None = None
    ) -> Approval | None:
        """Write a question down; None if another one of this launch was asked meanwhile: look again.

        `in_place_of` is the launch's question that this one replaces.
        """
        approval_id, now = _random_code(_ID_LENGTH), self._database.now()
        sealed = _seal(self._database.key("approvals"), json.dumps(shown.as_json()).encode(), approval_id)
        with self._database.writing() as tx:
            there = tx.execute(sa.select(t.codes).where(_APPROVALS & _UNUSED & _of_launch(caller, bound))).all()
            if any(_is_valid(now, row.issued_at) and row.code_hash != in_place_of for row in there):
                return None
            _write_down(tx, "approval", approval_id, caller=caller, tool=tool, binding=bound, sealed=sealed, now=now)
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
                .where(_APPROVALS & _UNUSED & _of_launch(caller, bound))
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

    def open_about(self, caller: str, tool: str, batch_call_id: str | None) -> list[Approval]:
        """The questions of a caller's tool about one batch call that can still let a launch pass."""
        mine = _OPEN & (t.codes.c.caller == caller) & (t.codes.c.tool == tool)
        with self._database.reading() as connection:
            found = [self._read(row) for row in connection.execute(sa.select(t.codes).where(mine)).all()]
        return [
            one
            for one in found
            if one and one.state in {"waiting", "approved"} and one.shown.batch_call_id == batch_call_id
        ]

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
        declined = _APPROVALS & _UNUSED & t.codes.c.declined_at.is_not(None)
        return self._set(approval_id, declined, used_at=self._database.now())

    def withdraw(self, caller: str, bound: str) -> None:
        """End every question, yes and code of a launch: it was answered in another way."""
        with self._database.writing() as tx:
            tx.execute(t.codes.update().where(_of_launch(caller, bound) & _UNUSED).values(kind="withdrawn"))

    def use(self, tx: sa.Connection, approval_id: str) -> bool:
        """Use a yes up, in the launch's own transaction; False if there is none that is unused and not too old."""
        now = self._database.now()
        approved = _OPEN & t.codes.c.approved_at.is_not(None) & (t.codes.c.code_hash == approval_id)
        return _change(tx, approved, now, used_at=now)

    def _set(self, approval_id: str, expected: sa.ColumnElement[bool], **values: int) -> bool:
        this = (t.codes.c.code_hash == approval_id) & expected
        with self._database.writing() as tx:
            done = _change(tx, this, self._database.now(), **values)
            if not done:  # for good: a clock that is set back must not bring it to life again
                tx.execute(t.codes.delete().where(this))
            return done

    def _read(self, row: sa.Row[Any]) -> Approval | None:
        opened = _unseal(self._database.key("approvals"), row.sealed, row.code_hash)
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
        if not _is_valid(self._database.now(), row.issued_at):
            return "expired"
        return "waiting" if row.approved_at is None else "approved"


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
                "members": _seal(self._database.key("question sets"), b"".join(sorted(members))),
            }
            for kind, members in shown.sets.items()
            if 0 < len(members) <= MOST_MEMBERS
        ]
        with self._database.writing() as tx:
            _forget_sets(tx, now)
            tx.execute(t.question_sets.delete().where(t.question_sets.c.question == name))
            tx.execute(t.question_sets.insert(), rows)
            _keep_bounded(tx, t.question_sets, caller=caller, newest=name)

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
        return {row.kind: _members_of(_unseal(key, row.members) or b"") for row in rows}

    def issue(self, *, caller: str, tool: str, binding: str, arguments: Mapping[str, Any], question: str) -> str:
        """Make a code for this launch; one that was made for it before is worth nothing any more."""
        code = _random_code(_CODE_LENGTH)
        sealed = _seal(self._key(code), json.dumps({"arguments": arguments, "question": question}).encode())
        name, now = self._hash(code), self._database.now()
        with self._database.writing() as tx:
            _write_down(tx, "code", name, caller=caller, tool=tool, binding=binding, sealed=sealed, now=now)
        return code

    def find(self, code: str) -> Pending | None:
        """What a code stands for, used or not; None if there is none, or its ten minutes are over."""
        code = code.strip().upper()
        digest = self._hash(code)
        with self._database.writing() as tx:
            row = tx.execute(sa.select(t.codes).where(_CODES & (t.codes.c.code_hash == digest))).one_or_none()
            if row is None:
                return None
            if not _is_valid(self._database.now(), row.issued_at):
                # For good: a clock that is set back must not bring it to life again.
                tx.execute(t.codes.delete().where(t.codes.c.code_hash == digest))
                return None
        opened = _unseal(self._key(code), row.sealed)
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
        return _change(tx, _CODES & _UNUSED & (t.codes.c.code_hash == token.digest), now, used_at=now)

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


def _random_code(length: int) -> str:
    """Characters that nobody guesses."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _is_valid(now: int, issued_at: int) -> bool:
    """Whether a row's ten minutes are not over."""
    return -_CLOCKS_APART_MS <= now - issued_at <= LIFETIME_MS


def _of_launch(caller: str, binding: str) -> sa.ColumnElement[bool]:
    """Every row of one launch, with or without warnings in its question."""
    return (t.codes.c.caller == caller) & t.codes.c.binding.startswith(launch_of(binding), autoescape=True)


def _write_down(
    tx: sa.Connection, kind: str, name: str, *, caller: str, tool: str, binding: str, sealed: bytes, now: int
) -> None:
    """A new question of a launch, in the place of its earlier ones and of what has expired."""
    old = (_of_launch(caller, binding) & _UNUSED) | (t.codes.c.issued_at < now - LIFETIME_MS)
    tx.execute(t.codes.delete().where(old))
    values = {"caller": caller, "tool": tool, "binding": binding, "sealed": sealed, "size": len(sealed)}
    tx.execute(t.codes.insert().values(code_hash=name, kind=kind, issued_at=now, **values))
    _keep_bounded(tx, t.codes, caller=caller, newest=name)


def _change(tx: sa.Connection, row: sa.ColumnElement[bool], now: int, **values: int) -> bool:
    """Change a row if it is as expected; False if it is not, or if its ten minutes are over."""
    issued_at = tx.scalar(sa.select(t.codes.c.issued_at).where(row))
    if issued_at is None or not _is_valid(now, issued_at):
        return False
    return bool(tx.execute(t.codes.update().where(row).values(**values)).rowcount)


def _seal(key: bytes, plain: bytes, name: str = "") -> bytes:
    """Encrypt; what is sealed under one name opens under no other."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, name.encode())


def _unseal(key: bytes, sealed: bytes, name: str = "") -> bytes | None:
    """The reverse; None if it was sealed otherwise."""
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
    except InvalidTag:
        return None


def _keep_bounded(tx: sa.Connection, table: sa.Table, *, caller: str, newest: str) -> None:
    """Forget the oldest of a caller, where there are too many or they are too large; never the newest.

    Where all callers together hold too much, the one that holds most loses its oldest: nobody's few are pushed out by
    another's many.
    """
    name, size, at = _COLUMNS[table.name]
    largest = sa.func.sum(size)
    rows = sa.select(name, largest).where(table.c.caller == caller).group_by(name)
    kept = held = 0
    for of_this, bytes_of_this in tx.execute(rows.order_by(name != newest, sa.func.max(at).desc())).all():
        kept, held = kept + 1, held + bytes_of_this
        if of_this != newest and (kept > MOST_OF_CALLER or held > MOST_BYTES_OF_CALLER):
            tx.execute(table.delete().where(name == of_this))
    while True:
        count, total = tx.execute(sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(size), 0))).one()
        if count <= MOST and total <= MOST_BYTES:
            return
        by = sa.func.count() if total <= MOST_BYTES else largest
        others = sa.select(table.c.caller).where(name != newest).group_by(table.c.caller)
        heaviest = tx.scalar(others.order_by(by.desc(), sa.func.min(at)).limit(1))
        oldest = sa.select(name).where((table.c.caller == heaviest) & (name != newest)).order_by(at).limit(1)
        forgotten = tx.scalar(oldest)
        if forgotten is None:
            return
        tx.execute(table.delete().where(name == forgotten))


def _forget_sets(tx: sa.Connection, now: int) -> None:
    tx.execute(t.question_sets.delete().where(t.question_sets.c.at < now - LIFETIME_MS))


def _members_of(packed: bytes) -> frozenset[bytes]:
    return frozenset(packed[at : at + MEMBER_BYTES] for at in range(0, len(packed), MEMBER_BYTES))


_COLUMNS: Final[Mapping[str, tuple[sa.ColumnElement[str], sa.ColumnElement[int], sa.ColumnElement[int]]]] = {
    t.codes.name: (t.codes.c.code_hash, t.codes.c.size, t.codes.c.issued_at),
    t.question_sets.name: (
        t.question_sets.c.question,
        sa.func.length(t.question_sets.c.members),
        t.question_sets.c.at,
    ),
}
"""What rows of one question share, their size in bytes, and when they were made."""
