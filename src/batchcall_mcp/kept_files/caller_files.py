"""One caller's files, for code on an event loop. Light: the store, whose imports are heavy, is opened when needed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread

from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.kept_files.records import KeptFile, Kind, new_name
from batchcall_mcp.sockets import requested_address

if TYPE_CHECKING:
    from batchcall_mcp.kept_files.store import FileStore

FILES_PATH: Final = "/files"
INCOMING: Final = "incoming"
"""In the data folder: copies that are being written or read, each in a folder of its own, for seconds."""


def files_url(headers: Mapping[str, str]) -> str | None:
    """`/files` of this server, as a request whose Host was checked named it."""
    address = requested_address(headers)
    return None if address is None else address + FILES_PATH


def upload_line(url: str | None, *, needs_secret: bool) -> str:
    """How a list is uploaded, as one line for a shell, with placeholders for the key pair. `url`: of `CallerFiles`."""
    secret = " -H 'X-API-SECRET: SECRET'" if needs_secret else ""
    address = f"{url or 'https://THIS-SERVER' + FILES_PATH}?name=people.csv"
    return f"curl --data-binary @people.csv -H 'X-API-KEY: KEY'{secret} '{address}'"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerFiles:
    """What one caller keeps here.

    Args:
        opened: gives the store, and the name under which it holds this caller.
        data_dir: has room for the copies that are read.
        url: `/files` of this server, as the caller's request named it; None if it named nothing that can be one.
        needs_secret: whether a request needs a secret in addition to a key.
        is_used: whether anything may be kept yet: to find nothing, no store has to be made.
        reading: how many lists are read at once. A workbook is laid out in memory.
    """

    opened: Callable[[], Awaitable[tuple[FileStore, str]]]
    data_dir: Path
    url: str | None
    needs_secret: bool
    is_used: Callable[[], bool]
    reading: anyio.CapacityLimiter

    def url_of(self, name: str) -> str:
        return f"{self.url or FILES_PATH}/{name}"

    def how_to_upload(self) -> str:
        return upload_line(self.url, needs_secret=self.needs_secret)

    async def keep(self, written: str, extension: str, kind: Kind, content: Iterable[bytes], rows: int) -> KeptFile:
        """Store a file under a new name, made of what somebody called it.

        Raises:
            QuotaExceeded: too much is kept already; nothing was stored.
            ConfigurationError: the store cannot be used.
        """
        store, owner = await self.opened()
        keep = partial(store.keep, owner, new_name(written, extension), kind, content, rows)
        return await anyio.to_thread.run_sync(keep)

    async def check_room(self, size_bytes: int) -> None:
        """Refuse what would not be kept.

        Raises:
            QuotaExceeded: as of `keep`.
            ConfigurationError: the store cannot be used.
        """
        store, owner = await self.opened()
        await anyio.to_thread.run_sync(store.check_room, owner, size_bytes)

    async def listed(self) -> tuple[KeptFile, ...]:
        """All of them, newest first.

        Raises:
            ConfigurationError: the store cannot be used.
        """
        if not self.is_used():
            return ()
        store, owner = await self.opened()
        return await anyio.to_thread.run_sync(store.listed, owner)

    async def find(self, name: str) -> KeptFile:
        """One of them.

        Raises:
            NotFound: the caller has no such file.
            ConfigurationError: the store cannot be used.
        """
        store, owner = await self.opened()
        return await anyio.to_thread.run_sync(store.find, owner, name)

    async def remove(self, name: str) -> None:
        """Remove one of them.

        Raises:
            NotFound: the caller has no such file.
            ConfigurationError: the store cannot be used.
        """
        store, owner = await self.opened()
        await anyio.to_thread.run_sync(store.remove, owner, name)

    async def parts(self, file: KeptFile) -> AsyncIterator[bytes]:
        """The content of a file, part by part.

        Raises:
            ConfigurationError: the store cannot be used.
        """
        store, _ = await self.opened()
        position = 0
        while (part := await anyio.to_thread.run_sync(store.part, file, position)) is not None:
            yield part
            position += 1

    @asynccontextmanager
    async def copied(self, file: KeptFile) -> AsyncIterator[Path]:
        """A copy on this machine's disk, under its name, as long as the context lasts.

        Raises:
            NotFound: it was removed meanwhile.
            ConfigurationError: the store, or the data folder, cannot be used.
        """
        store, _ = await self.opened()
        async with incoming_folder(self.data_dir) as folder:
            path = folder / file.name
            with usable_disk():
                await anyio.to_thread.run_sync(store.copy, file, path)
            yield path


@asynccontextmanager
async def incoming_folder(data_dir: Path) -> AsyncIterator[Path]:
    """A new folder that only this user can read, removed in the end.

    Raises:
        ConfigurationError: the data folder cannot be used.
    """

    def made() -> tempfile.TemporaryDirectory[str]:
        parent = data_dir / INCOMING
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True)

    with usable_disk():
        folder = await anyio.to_thread.run_sync(made)
    try:
        yield Path(folder.name)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(folder.cleanup)


@contextmanager
def usable_disk() -> Iterator[None]:
    """Say in one line that the data folder cannot be used; callers are not shown where it is.

    Raises:
        ConfigurationError: it cannot.
    """
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"The data folder of the server cannot be written ({error.strerror or type(error).__name__}). Nothing was "
            "stored or sent. The operator makes room there, or names another folder with BATCHCALL_DATA_DIR."
        ) from error


def remove_leftovers(data_dir: Path, before: float) -> None:
    """Remove the folders of `incoming_folder` that a process left when it was killed: older than a time in epoch s."""
    with suppress(OSError):  # there is none, or another process removes it
        for left in (data_dir / INCOMING).iterdir():
            if left.stat().st_mtime < before:
                shutil.rmtree(left, ignore_errors=True)
