"""What codes and approvals have in common: rows of one table, each good for one launch and for ten minutes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from batchcall_mcp.guard.fingerprints import launch_of
from batchcall_mcp.guard.ledger import tables as t

LIFETIME_MS: Final = 600_000
MOST_OF_CALLER: Final = 200
MOST_BYTES_OF_CALLER: Final = 32 * 1024 * 1024
"""Of one caller's that waits: arguments may be as large as a request."""
MOST: Final = 10_000
MOST_BYTES: Final = 256 * 1024 * 1024
"""Of all callers' together, of each table."""
_CLOCKS_APART_MS: Final = 60_000
"""Several machines may share a ledger. A row from further in the future is one of a clock that was set back."""
_NONCE_BYTES: Final = 12
_ALPHABET: Final = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # nothing that a person misreads over the telephone

UNUSED: Final = t.codes.c.used_at.is_(None)


def random_code(length: int) -> str:
    """Characters that nobody guesses."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def is_valid(now: int, issued_at: int) -> bool:
    """Whether a row's ten minutes are not over."""
    return -_CLOCKS_APART_MS <= now - issued_at <= LIFETIME_MS


def of_launch(caller: str, binding: str) -> sa.ColumnElement[bool]:
    """Every row of one launch, with or without warnings in its question."""
    return (t.codes.c.caller == caller) & t.codes.c.binding.startswith(launch_of(binding), autoescape=True)


def write_down(
    tx: sa.Connection, kind: str, name: str, *, caller: str, tool: str, binding: str, sealed: bytes, now: int
) -> None:
    """A new question of a launch, in the place of its earlier ones and of what has expired."""
    old = (of_launch(caller, binding) & UNUSED) | (t.codes.c.issued_at < now - LIFETIME_MS)
    tx.execute(t.codes.delete().where(old))
    values = {"caller": caller, "tool": tool, "binding": binding, "sealed": sealed, "size": len(sealed)}
    tx.execute(t.codes.insert().values(code_hash=name, kind=kind, issued_at=now, **values))
    keep_bounded(tx, t.codes, caller=caller, newest=name)


def change(tx: sa.Connection, row: sa.ColumnElement[bool], now: int, **values: int) -> bool:
    """Change a row if it is as expected; False if it is not, or if its ten minutes are over."""
    issued_at = tx.scalar(sa.select(t.codes.c.issued_at).where(row))
    if issued_at is None or not is_valid(now, issued_at):
        return False
    return bool(tx.execute(t.codes.update().where(row).values(**values)).rowcount)


def seal(key: bytes, plain: bytes, name: str = "") -> bytes:
    """Encrypt; what is sealed under one name opens under no other."""
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, plain, name.encode())


def unseal(key: bytes, sealed: bytes, name: str = "") -> bytes | None:
    """The reverse; None if it was sealed otherwise."""
    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], name.encode())
    except InvalidTag:
        return None


def keep_bounded(tx: sa.Connection, table: sa.Table, *, caller: str, newest: str) -> None:
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


_COLUMNS: Final[Mapping[str, tuple[sa.ColumnElement[str], sa.ColumnElement[int], sa.ColumnElement[int]]]] = {
    t.codes.name: (t.codes.c.code_hash, t.codes.c.size, t.codes.c.issued_at),
    t.question_sets.name: (
        t.question_sets.c.question,
        sa.func.length(t.question_sets.c.members),
        t.question_sets.c.at,
    ),
}
"""What rows of one question share, their size in bytes, and when they were made."""
