"""API keys. Only hashes are kept: SHA-256 without salt is enough for 192 random bits, which nobody can guess."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final, NamedTuple

import sqlalchemy as sa

from batchcall_mcp.dialer.store import Store
from batchcall_mcp.dialer.tables import api_keys

LOCAL: Final = "local"
"""The organisation of the first key pair and of the in-process dialer."""


class KeyPair(NamedTuple):
    """What a caller sends as X-API-KEY and X-API-SECRET."""

    api_key: str
    api_secret: str

    def __repr__(self) -> str:
        return "KeyPair(**********)"


def new_pair() -> KeyPair:
    """A fresh random pair in the dialect's format."""
    return KeyPair(f"sk_{secrets.token_hex(24)}", f"s3cr3t_{secrets.token_hex(24)}")


def add(store: Store, pair: KeyPair, organization_id: str) -> None:
    """Let `pair` in as `organization_id`."""
    with store.writing() as tx:
        _insert(tx, store, pair, organization_id)


def first_pair(store: Store, given: KeyPair | None) -> KeyPair | None:
    """Make the first pair of a new database: `given`, or a random one. None if there is a key already."""
    with store.writing() as tx:
        if tx.execute(sa.select(api_keys.c.key_hash).limit(1)).first():
            return None
        pair = given or new_pair()
        _insert(tx, store, pair, LOCAL)
    return pair


def organization_of(store: Store, api_key: str, api_secret: str) -> str | None:
    """The organisation that a pair belongs to, or None."""
    with store.reading() as tx:
        row = tx.execute(sa.select(api_keys).where(api_keys.c.key_hash == _hash(api_key))).one_or_none()
    # Compared in constant time, and also where there is no such key, so that time tells nothing about secrets.
    expected = row.secret_hash if row else _hash("")
    matches = hmac.compare_digest(expected, _hash(api_secret))
    return str(row.organization_id) if row and matches else None


def _insert(tx: sa.Connection, store: Store, pair: KeyPair, organization_id: str) -> None:
    tx.execute(
        api_keys.insert().values(
            key_hash=_hash(pair.api_key),
            secret_hash=_hash(pair.api_secret),
            organization_id=organization_id,
            created_at=store.now(),
        )
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
