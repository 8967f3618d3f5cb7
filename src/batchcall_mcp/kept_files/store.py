"""Where files are kept: tables of their own, in the shared PostgreSQL database or in `files.db` of the data folder.

Not in the ledger's tables: a transaction that stores 50 MB must not hold up the one that records a launch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from batchcall_mcp import database
from batchcall_mcp.clock import Clock, from_ms, span_ms, utc_now
from batchcall_mcp.database import Schema
from batchcall_mcp.errors import NotFound, QuotaExceeded
from batchcall_mcp.kept_files import tables as t
from batchcall_mcp.kept_files.records import (
    KEPT_FOR,
    MOST_BYTES,
    MOST_BYTES_PER_CALLER,
    MOST_FILES_PER_CALLER,
    STORE_FILE,
    KeptFile,
    Kind,
    StoreFull,
    is_name,
    megabytes,
)
from batchcall_mcp.settings import Settings
from batchcall_mcp.text import quoted

_LOCK: Final = 0x62617463685F6669
_PARTS_EMPTY: Final = 4
"""A database of which more than this part is empty is rewritten."""
PART_BYTES: Final = 256 * 1024


class FileStore(database.Database):
    """One open store. Every file has an owner, and no method gives or removes another owner's."""

    schema = Schema(
        name="The store of uploaded lists and exports",
        migrations=Path(__file__).parent / "migrations",
        head="0001",
        versions="kept_files_version",
        lock=_LOCK,
    )

    @classmethod
    def open(cls, settings: Settings, clock: Clock = utc_now) -> FileStore:
        """The store that the settings name.

        Raises:
            ConfigurationError: it cannot be opened, or a newer version of this program made it.
        """
        return cls(cls.opened(settings.database(STORE_FILE)), clock)

    @classmethod
    def is_there(cls, settings: Settings) -> bool:
        """Whether the settings name a store that was used before.

        Raises:
            ConfigurationError: the database cannot be opened.
        """
        return cls.schema.is_used(settings.database(STORE_FILE))

    def keep(self, owner: str, name: str, kind: Kind, content: Iterable[bytes], rows: int) -> KeptFile:
        """Store a file, all of it or nothing. An export makes room by removing the owner's oldest exports.

        Args:
            owner: the hashed name of the caller.
            name: one that nobody has, of `new_name`.
            kind: what it is.
            content: pieces of any size.
            rows: how many the list has.

        Raises:
            QuotaExceeded: the owner keeps too much already; `StoreFull` if all of them do.
            ConfigurationError: the database cannot be reached, or not be written.
        """
        until = self.now() + span_ms(KEPT_FOR)
        with self._writing() as tx:
            self._remove(tx, t.files.c.kept_until <= self.now())
            made = t.files.insert().values(owner=owner, name=name, kind=kind, size_bytes=0, rows=rows, kept_until=until)
            (file_id,) = tx.execute(made).inserted_primary_key or (0,)
            size = 0
            for position, part in enumerate(_parts(content)):
                size += len(part)
                if size > MOST_BYTES_PER_CALLER:
                    break  # refused below
                tx.execute(t.parts.insert().values(file_id=file_id, position=position, content=part))
            tx.execute(t.files.update().where(t.files.c.file_id == file_id).values(size_bytes=size))
            while kind == "export" and _over(tx, owner) and self._remove_oldest_export(tx, owner, file_id):
                pass
            _check(tx, owner, 0)
            return KeptFile(
                file_id=file_id, name=name, kind=kind, size_bytes=size, rows=rows, kept_until=from_ms(until)
            )

    def check_room(self, owner: str, size_bytes: int) -> None:
        """Refuse one more list of this size before it is sent here; `keep` decides.

        Raises:
            QuotaExceeded: as of `keep`.
        """
        with self.usable(), self.reading() as tx:
            _check(tx, owner, size_bytes, files=1, now=self.now())

    def listed(self, owner: str) -> tuple[KeptFile, ...]:
        """All of the owner's files, newest first."""
        mine = t.files.select().where(t.files.c.owner == owner, t.files.c.kept_until > self.now())
        with self.usable(), self.reading() as tx:
            return tuple(_record(row) for row in tx.execute(mine.order_by(t.files.c.file_id.desc())))

    def find(self, owner: str, name: str) -> KeptFile:
        """One of the owner's files.

        Raises:
            NotFound: there is none of this name: never was, not any more, or another owner's.
        """
        is_it = (t.files.c.owner == owner, t.files.c.name == name, t.files.c.kept_until > self.now())
        with self.usable(), self.reading() as tx:
            row = tx.execute(t.files.select().where(*is_it)).one_or_none() if is_name(name) else None
        if row is None:
            raise NotFound(f"You have no file {quoted(name)} here. GET /files lists yours; each is kept for a day.")
        return _record(row)

    def part(self, file: KeptFile, position: int) -> bytes | None:
        """A part of a file's content, from 0; None behind the last one.

        Raises:
            ConfigurationError: the database cannot be reached.
        """
        is_it = (t.parts.c.file_id == file.file_id, t.parts.c.position == position)
        with self.usable(), self.reading() as tx:
            found: bytes | None = tx.scalar(sa.select(t.parts.c.content).where(*is_it))
        return found

    def copy(self, file: KeptFile, path: Path) -> None:
        """Write a file's content to a new file that only this user can read.

        Raises:
            NotFound: it was removed meanwhile.
            ConfigurationError: the database cannot be reached.
            OSError: the file cannot be written.
        """
        path.touch(mode=0o600, exist_ok=False)
        position = 0
        with path.open("wb") as copied:
            while (part := self.part(file, position)) is not None:
                copied.write(part)
                position += 1
            if copied.tell() != file.size_bytes:
                raise NotFound(f"The file {quoted(file.name)} was removed while it was read. Nothing was sent.")

    def remove(self, owner: str, name: str) -> None:
        """Remove one of the owner's files.

        Raises:
            NotFound: as of `find`.
        """
        file = self.find(owner, name)
        with self._writing() as tx:
            self._remove(tx, t.files.c.file_id == file.file_id)

    def everything(self) -> tuple[KeptFile, ...]:
        """The files of all owners, for the operator; also those whose time is over and that still are there."""
        with self.usable(), self.reading() as tx:
            return tuple(_record(row) for row in tx.execute(t.files.select().order_by(t.files.c.file_id)))

    def content(self, file: KeptFile) -> bytes:
        """All of a file."""
        found = bytearray()
        for position in count():
            part = self.part(file, position)
            if part is None:
                break
            found += part
        return bytes(found)

    def rewrite(self, file: KeptFile, content: bytes | None, rows: int) -> bool:
        """Give a file another content under its name, or none: it goes. It becomes another file, so that nobody reads
        half of the old one and half of the new one. One that was removed meanwhile stays so.

        Returns:
            Whether it was still there: else it was removed, or is another file by now.
        """
        with self._writing() as tx:
            it = t.files.c.file_id == file.file_id
            row = tx.execute(t.files.select().where(it)).one_or_none()
            if row is None or content is None:
                self._remove(tx, it)
                return row is not None
            known = {**row._mapping, "size_bytes": len(content), "rows": rows}  # noqa: SLF001 - public, but for its name
            del known["file_id"]
            # Before the old one goes: SQLite gives the highest id again once its row is deleted.
            in_the_meantime = {**known, "name": f"{file.name}.new"}
            (file_id,) = tx.execute(t.files.insert().values(in_the_meantime)).inserted_primary_key or (0,)
            self._remove(tx, it)
            tx.execute(t.files.update().where(t.files.c.file_id == file_id).values(name=file.name))
            for position, part in enumerate(_parts([content])):
                tx.execute(t.parts.insert().values(file_id=file_id, position=position, content=part))
        return True

    def sweep(self) -> None:
        """Remove what has been kept long enough, and give its disk space back.

        Raises:
            ConfigurationError: the database cannot be reached, or not be written.
        """
        with self._writing() as tx:
            self._remove(tx, t.files.c.kept_until <= self.now())
        if not self.shared:  # PostgreSQL has its own vacuum
            with self.usable():
                self._shrink()

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """The only writing transaction of this store; on SQLite what it removes is overwritten."""
        with self.usable(), database.writing(self.engine, _LOCK) as tx:
            if not self.shared:
                tx.exec_driver_sql("PRAGMA secure_delete = ON")
            yield tx

    def _shrink(self) -> None:
        """Rewrite the file once much of it is empty, and empty the write-ahead log, which holds what was removed."""
        connection = self.engine.raw_connection()
        try:
            cursor = connection.cursor()
            free, pages = (
                cursor.execute(f"PRAGMA {count}").fetchone()[0] for count in ("freelist_count", "page_count")
            )
            if free * _PARTS_EMPTY > pages:
                cursor.execute("VACUUM")
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            cursor.close()
        finally:
            connection.close()

    def _remove_oldest_export(self, tx: sa.Connection, owner: str, kept: int) -> bool:
        older = (t.files.c.owner == owner, t.files.c.kind == "export", t.files.c.file_id != kept)
        oldest = tx.scalar(sa.select(sa.func.min(t.files.c.file_id)).where(*older))
        if oldest is None:
            return False
        self._remove(tx, t.files.c.file_id == oldest)
        return True

    @staticmethod
    def _remove(tx: sa.Connection, which: sa.ColumnElement[bool]) -> None:
        named = sa.select(t.files.c.file_id).where(which)
        tx.execute(t.parts.delete().where(t.parts.c.file_id.in_(named)))
        tx.execute(t.files.delete().where(which))


def _parts(content: Iterable[bytes]) -> Iterable[bytes]:
    """Pieces of any size as parts of one size, but for the last."""
    held = bytearray()
    for piece in content:
        held += piece
        while len(held) >= PART_BYTES:
            yield bytes(held[:PART_BYTES])
            del held[:PART_BYTES]
    if held:
        yield bytes(held)


def _kept(tx: sa.Connection, *which: sa.ColumnElement[bool]) -> tuple[int, int]:
    """How many files, and how many bytes."""
    totals = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(t.files.c.size_bytes), 0)).where(*which)
    count, size = tx.execute(totals).one()
    return int(count), int(size)


def _over(tx: sa.Connection, owner: str) -> bool:
    files, size = _kept(tx, t.files.c.owner == owner)
    return files > MOST_FILES_PER_CALLER or size > MOST_BYTES_PER_CALLER


def _check(tx: sa.Connection, owner: str, size_bytes: int, *, files: int = 0, now: int = 0) -> None:
    """Refuse what would be too much with so many bytes and files more than there are."""
    current = t.files.c.kept_until > now
    count, size = _kept(tx, t.files.c.owner == owner, current)
    if count + files > MOST_FILES_PER_CALLER or size + size_bytes > MOST_BYTES_PER_CALLER:
        raise QuotaExceeded(
            f"This key pair may keep {MOST_FILES_PER_CALLER} files of together {megabytes(MOST_BYTES_PER_CALLER)}, and "
            f"keeps {count} of {megabytes(size)}. Nothing was stored. Remove one with DELETE /files/NAME, or wait: "
            "each is removed after a day."
        )
    if _kept(tx, current)[1] + size_bytes > MOST_BYTES:
        raise StoreFull(
            f"All callers of this server together keep {megabytes(MOST_BYTES)}, the most that it takes. Nothing was "
            "stored. Try again later: each file is removed after a day."
        )


def _record(row: Any) -> KeptFile:
    return KeptFile(
        file_id=row.file_id,
        name=row.name,
        kind=row.kind,
        size_bytes=row.size_bytes,
        rows=row.rows,
        kept_until=from_ms(row.kept_until),
    )
