"""The folders of BATCHCALL_FILES: the only place from which a model can have files read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from batchcall_mcp.errors import InvalidInput
from batchcall_mcp.recipients.files.file_formats import kind_of
from batchcall_mcp.text import quoted

EXPORTS = "exports"
"""In the first folder: where results are written. A file in it holds people who were called already."""
_LONGEST_NAME = 4096
_LONGEST_SHOWN = 300
_MOST_LISTED = 10
_MOST_LOOKED_AT = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFile:
    """A file that tasks_file may name."""

    name: str
    size_bytes: int
    modified: datetime


def exports_folder(folders: Sequence[Path]) -> Path:
    """Where results are written."""
    return folders[0] / EXPORTS


def resolve_file(name: str, folders: Sequence[Path], never: Sequence[Path] = ()) -> Path:
    """The real path of a file inside one of the folders. A bare name and a relative path mean the first folder.

    `never` are files that are not lists of people to call, wherever they are: the do-not-call list.

    Outside the folders the answer is always the same: whether a file exists, is a folder or cannot be read.

    Raises:
        InvalidInput: if the path ends outside, no ordinary file is there, or it is never a list; with the files that
            are there.
    """
    if not folders:
        raise InvalidInput("BATCHCALL_FILES names no folder, so no file can be read. Nothing was read or sent.")
    path = _real_path(name, folders)
    if path is None or not any(path.is_relative_to(folder.resolve()) for folder in folders):
        raise InvalidInput(
            f"tasks_file: {quoted(name, _LONGEST_SHOWN)} is outside the allowed folders; "
            f"nothing was read, nothing was sent. {_what_is_there(folders, never)} "
            "To use this list, copy it there and pass the name alone."
        )
    if what := _what_else(path, folders, never):
        raise InvalidInput(
            f"tasks_file: {quoted(name, _LONGEST_SHOWN)} is {what}; nothing was read, nothing was sent. "
            f"{_what_is_there(folders, never)}"
        )
    try:
        if path.is_file():
            with path.open("rb"):
                return path
        problem = "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
    except PermissionError:
        problem = "cannot be read: access is denied"
    except OSError as error:
        problem = f"cannot be read ({error.strerror or type(error).__name__})"
    raise InvalidInput(
        f"tasks_file: {quoted(name, _LONGEST_SHOWN)} {problem}; nothing was read, nothing was sent. "
        f"{_what_is_there(folders, never)}"
    )


def list_files(
    folders: Sequence[Path], never: Sequence[Path] = (), *, limit: int = _MOST_LISTED
) -> tuple[ListedFile, ...]:
    """The lists directly in the folders, newest first; none for a folder that cannot be read.

    Those of the first folder have their bare name, the others their whole path.
    """
    found = [each for at, folder in enumerate(folders) for each in _files_in(folder, bare=at == 0)]
    found.sort(key=lambda each: (-each[1].modified.timestamp(), each[1].name))
    lists = (file for path, file in found if _what_else(path, folders, never) is None)
    return tuple(islice(lists, limit))


def _real_path(name: str, folders: Sequence[Path]) -> Path | None:
    """Where the name ends after symbolic links and `..`; None if it can end nowhere."""
    if not name.strip() or "\0" in name or len(name) > _LONGEST_NAME:
        return None
    try:
        path = Path(name).expanduser() if name.startswith(("~/", "~\\")) else Path(name)
        return (folders[0].resolve() / path).resolve()
    except (OSError, RuntimeError, ValueError):
        return None


def _what_else(path: Path, folders: Sequence[Path], never: Sequence[Path]) -> str | None:
    """What a file is, if it is never a list of people to call; the path is a real one."""
    exports = exports_folder(folders)
    if any(_is_same(parent, exports) for parent in path.parents):
        return (
            "an export of results, which is not a list of people to call (retry_batch_call calls those who were not "
            "reached)"
        )
    if any(_is_same(path, one) for one in never):
        return "the do-not-call list, whose people are never called"
    return None


def _is_same(path: Path, other: Path) -> bool:
    """Whether both are one file, however they are written: a disk may take "Exports" for "exports"."""
    try:
        return path.samefile(other)
    except OSError:
        return path == other
    except ValueError:
        return False


def _files_in(folder: Path, *, bare: bool) -> Iterator[tuple[Path, ListedFile]]:
    try:
        root = folder.resolve()
        for looked_at, path in enumerate(folder.iterdir()):
            if looked_at >= _MOST_LOOKED_AT:
                return
            file = _listed(path, root, bare=bare)
            if file is not None:
                yield path.resolve(), file
    except (OSError, RuntimeError):
        # A folder that is not there yet, or may not be looked into, has no files to offer; resolve_file says why.
        return


def _listed(path: Path, root: Path, *, bare: bool) -> ListedFile | None:
    # "~$list.xlsx" is the lock that Excel keeps next to an open workbook.
    if path.name.startswith((".", "~$")) or kind_of(path) is None:
        return None
    try:
        real = path.resolve()
        if not real.is_relative_to(root) or not real.is_file():
            return None
        found = real.stat()
    except (OSError, RuntimeError):
        # Gone, or not ours to see, since the folder was listed.
        return None
    return ListedFile(
        name=path.name if bare else str(path),
        size_bytes=found.st_size,
        modified=datetime.fromtimestamp(found.st_mtime, tz=UTC),
    )


def _what_is_there(folders: Sequence[Path], never: Sequence[Path]) -> str:
    where = ", ".join(str(folder) for folder in folders)
    files = list_files(folders, never)
    names = ", ".join(quoted(file.name, _LONGEST_SHOWN) for file in files)
    there = f"Files there: {names}." if files else "It contains no list yet: put a CSV, JSONL or XLSX file there."
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    create = f" Folders that do not exist yet: {', '.join(missing)}." if missing else ""
    return f"BATCHCALL_FILES: {where}. {there}{create}"
