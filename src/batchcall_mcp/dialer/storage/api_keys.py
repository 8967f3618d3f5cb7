"""API keys. Only hashes are kept: SHA-256 without salt is enough for 192 random bits, which nobody can guess.

A key is named by its hint, which is how it begins: enough to find it in a list, too little to call with.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple

import sqlalchemy as sa

from batchcall_mcp.clock import from_ms
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.dialer.storage.tables import api_keys
from batchcall_mcp.errors import InvalidInput, NotFound
from batchcall_mcp.text import quoted

LOCAL: Final = "local"
"""The organisation of the first key pair and of the in-process dialer."""
_HINT: Final = 11
_HASH_SHOWN: Final = 8


class KeyPair(NamedTuple):
    """What a caller sends as X-API-KEY and X-API-SECRET."""

    api_key: str
    api_secret: str

    def __repr__(self) -> str:
        return "KeyPair(**********)"


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is in force, without what is secret of it."""

    hint: str | None
    organization_id: str
    created_at: datetime
    key_hash: str = field(repr=False)

    @property
    def number(self) -> str:
        """Its other name, where a hint is missing or is that of several."""
        return f"#{self.key_hash[:_HASH_SHOWN]}"

    @property
    def name(self) -> str:
        """By which it is listed and revoked; a key of the first version has no hint."""
        return self.hint or f"(old) {self.number}"


def new_pair() -> KeyPair:
    """A fresh random pair in the dialect's format."""
    return KeyPair(f"sk_{secrets.token_hex(24)}", f"s3cr3t_{secrets.token_hex(24)}")


def add(store: Store, pair: KeyPair, organization_id: str) -> None:
    """Let `pair` in as `organization_id`."""
    with store.writing() as tx:
        _insert(tx, store, pair, organization_id)


def first_pair(store: Store, given: KeyPair | None) -> KeyPair | None:
    """Make the first pair of a new database: `given`, or a random one. None if there is, or ever was, a key."""
    with store.writing() as tx:
        if tx.execute(sa.select(api_keys.c.key_hash).limit(1)).first():
            return None
        pair = given or new_pair()
        _insert(tx, store, pair, LOCAL)
    return pair


def organization_of(store: Store, api_key: str, api_secret: str) -> str | None:
    """The organisation that a pair belongs to, or None."""
    with store.reading() as tx:
        row = tx.execute(sa.select(api_keys).where(api_keys.c.key_hash == _hash(api_key), _IN_FORCE)).one_or_none()
    # Compared in constant time, and also where there is no such key, so that time tells nothing about secrets.
    expected = row.secret_hash if row else _hash("")
    matches = hmac.compare_digest(expected, _hash(api_secret))
    return str(row.organization_id) if row and matches else None


def in_force(store: Store) -> list[Key]:
    """Every key that works, the oldest first."""
    with store.reading() as tx:
        return _in_force(tx)


def revoke(store: Store, name: str) -> Key:
    """End the key of that name, from now on and for every process.

    `name` is a hint as `in_force` gives it, whole, or the number of a key.

    Raises:
        NotFound: no key that works has this name.
        InvalidInput: several have it; the text gives their numbers, which are unique.
    """
    with store.writing() as tx:
        keys = _in_force(tx)
        named = [key for key in keys if name in {key.name, key.number}]
        if not named:
            raise NotFound(
                f"No key in force is named {quoted(name)}. Nothing was changed. `batchcall-mcp dialer keys list` shows "
                "their names; give one as it stands there."
            )
        if len(named) > 1:
            meant = ", ".join(f"'{key.number}' of {key.organization_id}" for key in named)
            raise InvalidInput(
                f"{len(named)} keys are named {quoted(name)}. Nothing was changed. Give the number of the one that is "
                f"meant: {meant}."
            )
        tx.execute(
            api_keys.update().where(api_keys.c.key_hash == named[0].key_hash, _IN_FORCE).values(revoked_at=store.now())
        )
    return named[0]


_IN_FORCE: Final = api_keys.c.revoked_at.is_(None)


def _in_force(tx: sa.Connection) -> list[Key]:
    query = sa.select(api_keys).where(_IN_FORCE).order_by(api_keys.c.created_at, api_keys.c.key_hash)
    return [Key(row.hint, row.organization_id, from_ms(row.created_at), row.key_hash) for row in tx.execute(query)]


def _insert(tx: sa.Connection, store: Store, pair: KeyPair, organization_id: str) -> None:
    tx.execute(
        api_keys.insert().values(
            key_hash=_hash(pair.api_key),
            secret_hash=_hash(pair.api_secret),
            organization_id=organization_id,
            # Of a short key that somebody chose no more than half.
            hint=pair.api_key[: min(_HINT, len(pair.api_key) // 2)] or None,
            created_at=store.now(),
        )
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
