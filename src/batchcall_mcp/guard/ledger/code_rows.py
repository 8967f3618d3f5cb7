"""What codes and approvals have in common: rows of one table, each good for one launch and for ten minutes."""

from __future__ import annotations

import secrets
from typing import Final

import sqlalchemy as sa

from batchcall_mcp.guard.binding import launch_of
from batchcall_mcp.guard.ledger import tables as t

LIFETIME_MS: Final = 600_000
MOST_CODES: Final = 1000
MOST_BYTES: Final = 64 * 1024 * 1024
"""Of everything that waits: arguments may be as large as a request."""
_CLOCKS_APART_MS: Final = 60_000
"""Several machines may share a ledger. A row from further in the future is one of a clock that was set back."""
_ALPHABET: Final = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # nothing that a person misreads over the telephone

UNUSED: Final = t.codes.c.used_at.is_(None)


def random_code(length: int) -> str:
    """Characters that nobody guesses."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def is_valid(now: int, issued_at: int) -> bool:
    """Whether a row's ten minutes are not over."""
    return -_CLOCKS_APART_MS <= now - issued_at <= LIFETIME_MS


def of_launch(caller: str, binding: str) -> sa.ColumnElement[bool]:
    """Every row of one launch, whatever its question warned of."""
    return (t.codes.c.caller == caller) & t.codes.c.binding.startswith(launch_of(binding), autoescape=True)


def forget_all_of(tx: sa.Connection, caller: str, binding: str, now: int) -> None:
    """Before a new question of a launch: its earlier ones, and what has expired."""
    tx.execute(
        t.codes.delete().where((of_launch(caller, binding) & UNUSED) | (t.codes.c.issued_at < now - LIFETIME_MS))
    )


def keep_bounded(tx: sa.Connection, newest: str) -> None:
    """Forget the oldest rows, where there are too many or they are too large."""
    newest_first = sa.select(t.codes.c.code_hash, t.codes.c.size).order_by(
        t.codes.c.code_hash != newest, t.codes.c.issued_at.desc()
    )
    kept = size = 0
    for code_hash, of_this in tx.execute(newest_first).all():
        kept, size = kept + 1, size + of_this
        if kept > MOST_CODES or (size > MOST_BYTES and kept > 1):
            tx.execute(t.codes.delete().where(t.codes.c.code_hash == code_hash))
