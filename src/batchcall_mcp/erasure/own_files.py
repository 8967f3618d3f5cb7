"""Files that hold people and that this program wrote: exports and reports, what a stop listed, what was dialled.

Each is written next to itself and put in its place, or goes; the record of the simulated carrier, which processes
keep open, is overwritten where it is.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from batchcall_mcp.dialer.carriers.simulated import CARRIER_RECORD, in_record
from batchcall_mcp.erasure.contents import Without, occurs, without
from batchcall_mcp.recipients.files.allowed_folders import exports_folder
from batchcall_mcp.recipients.files.file_formats import KINDS
from batchcall_mcp.recipients.phone.spellings import Spellings
from batchcall_mcp.settings import Settings

_EXPORTED: Final = re.compile(r"(?P<id>[^.]+?)(?:-[0-9]{1,3})?\.(?P<form>csv|jsonl|html)")
_STOPPED: Final = "stopped-*.csv"
_BEGINS: Final = {
    ".csv": re.compile(rb"to_number,name,status,backend_status,attempts,"),
    ".jsonl": re.compile(rb'\{"to_number": "[^"]*"(?:, "name": "(?:[^"\\]|\\.)*")?(?:, "status"|\})|\Z'),
    ".html": re.compile(rb"(?s)<!DOCTYPE html>.{0,400}Content-Security-Policy", re.IGNORECASE),
}
_BEGIN_BYTES: Final = 4096
_DATABASES: Final = frozenset({"ledger.db", "dialer.db", "files.db", "notifications.db"})
_LARGEST: Final = 400_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFile:
    """A file of ours in which the person is. `without` None: there is nothing to be taken out, all of it goes."""

    path: Path
    without: Without

    @property
    def what(self) -> str:
        """What is done with it, in words."""
        if self.without.content is None:
            return "removed"
        return f"rewritten without {self.without.rows or 'the number in its'} row{'s' * (self.without.rows != 1)}"


def batch_call_of(path: Path) -> str | None:
    """The batch call of an export, by its name; None: the file is none of ours."""
    named = _EXPORTED.fullmatch(path.name)
    if named is None:
        return None
    try:
        with path.open("rb") as file:
            begin = file.read(_BEGIN_BYTES)
    except OSError:
        return None
    return named["id"] if _BEGINS[path.suffix].match(begin) else None


def exports(settings: Settings) -> list[Path]:
    """The exports and reports of ours in the folder for them."""
    if not settings.files:
        return []
    return [path for path in _files(exports_folder(settings.files)) if batch_call_of(path) is not None]


def stop_reports(settings: Settings) -> list[Path]:
    """The lists of people that `batchcall-mcp stop` wrote."""
    return sorted(path for path in settings.data_dir.glob(_STOPPED) if _is_plain(path))


def without_person(path: Path, who: Spellings, batch_call_ids: Sequence[str]) -> OwnFile | None:
    """What is to be done with a file of ours; None: the person is not in it.

    A report has no rows: each of a batch call of theirs goes.

    Raises:
        OSError: it cannot be read.
    """
    if path.suffix == ".html" and batch_call_of(path) in batch_call_ids:
        return OwnFile(path=path, without=Without(content=None))
    try:
        found = without(path.read_bytes(), path.suffix, who)
    except FileNotFoundError:
        return None
    return None if found is None else OwnFile(path=path, without=found)


def erase(file: OwnFile) -> None:
    """Put the file without the person in its place, or remove it.

    Raises:
        OSError: it cannot be written, and is as it was.
    """
    if file.without.content is None:
        file.path.unlink(missing_ok=True)
        return
    mode = file.path.stat().st_mode & 0o777
    handle, name = tempfile.mkstemp(dir=file.path.parent, prefix=".", suffix=file.path.suffix)
    try:
        with os.fdopen(handle, "wb") as written:
            written.write(file.without.content)
            written.flush()
            os.fsync(written.fileno())
        Path(name).chmod(mode)
        Path(name).replace(file.path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def dialled(settings: Settings, who: Spellings, *, change: bool) -> int:
    """How often the simulated carrier's record holds the number; `change`: it is overwritten, in the open file.

    Raises:
        OSError: it cannot be read or written.
    """
    return in_record(settings.data_dir / CARRIER_RECORD, lambda number, _: who.is_it(number), change=change)


def lists(settings: Settings, known: Sequence[Path], who: Spellings) -> list[Path]:
    """Files of other people in the folders of lists, and the operator's do-not-call lists, in which the number is."""
    folders = [folder for one in settings.files for folder in (one, exports_folder([one]))]
    inside = [path for folder in folders for path in _files(folder) if path.suffix.lower() in {*KINDS, ".html"}]
    paths = dict.fromkeys([*inside, *settings.do_not_call])
    return [path for path in paths if path not in known and _occurs_in(path, who)]


def left(settings: Settings, who: Spellings, known: Sequence[Path]) -> list[Path]:
    """Files of the data folder that still hold the number, other than its databases and those of `known`."""
    paths = (path for path in sorted(settings.data_dir.rglob("*")) if _is_plain(path) and path not in known)
    return [path for path in paths if not _is_database(path) and _occurs_in(path, who)]


def _is_database(path: Path) -> bool:
    """One of ours, as long as it is used: what is in it is erased in it."""
    return path.name.removesuffix("-wal").removesuffix("-shm") in _DATABASES


def _occurs_in(path: Path, who: Spellings) -> bool:
    try:
        return path.stat().st_size <= _LARGEST and occurs(path.read_bytes(), who)
    except OSError:
        return False


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if _is_plain(path))
    except OSError:
        return []


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()
