"""Somebody's files: read with everything odd about them said, compared for the eye, and replaced in one step."""

from __future__ import annotations

import difflib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from batchcall_mcp.cli.setup.problems import FileProblem

_LARGEST: Final = 64 * 1024 * 1024
_LONGEST_LINE: Final = 500
_NEAR: Final = 100
_CONTEXT: Final = 2
_BOM: Final = b"\xef\xbb\xbf"
PRIVATE: Final = 0o600


@dataclass(frozen=True, slots=True)
class Original:
    """A file as it was read; a file that does not exist yet has no content and no mode."""

    path: Path
    content: bytes = b""
    mode: int | None = None
    owner: tuple[int, int] | None = None

    @property
    def text(self) -> str:
        return self.content.decode("utf-8")


def read(path: Path) -> Original:
    """Read a file that is to be changed.

    Raises:
        FileProblem: it is something that should not be replaced, or could not be.
    """
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        _check_folder(path.parent)
        return Original(path)
    except OSError as error:
        raise _unreadable(error) from None
    if stat.S_ISLNK(found.st_mode):
        raise FileProblem(
            f"it is a link to {os.readlink(path)}, which may belong to something else",  # noqa: PTH115 - as it is written
            "Replace the link by the file itself, or add the entry there by hand",
        )
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "not an ordinary file"
        raise FileProblem(f"it is {what}", "Move it away")
    if found.st_size > _LARGEST:
        raise FileProblem("it is larger than 64 MiB", "Look what is in it")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(error) from None
    _check_content(content)
    if not os.access(path, os.W_OK):
        raise FileProblem("it may not be written", "Make it writable (chmod u+w), or ask who manages this machine")
    _check_folder(path.parent)
    owner = (found.st_uid, found.st_gid)
    return Original(path, content, stat.S_IMODE(found.st_mode), owner)


def _check_content(content: bytes) -> None:
    if content.startswith(_BOM):
        raise FileProblem("it begins with a byte-order mark", "Save it as UTF-8 without one (without BOM)")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        raise FileProblem("it is not UTF-8 text", "Save it as UTF-8 without BOM") from None


def _check_folder(folder: Path) -> None:
    nearest = next((one for one in (folder, *folder.parents) if os.path.lexists(one)), folder)
    if not nearest.is_dir():
        raise FileProblem(f"{nearest} is not a folder", "Move it away")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise FileProblem(
            f"the folder {nearest} may not be written", "Make it writable, or ask who manages this machine"
        )


def _unreadable(error: OSError) -> FileProblem:
    return FileProblem(f"it cannot be read ({error.strerror})", "Correct its permissions")


def difference(path: Path, old: str, new: str) -> Iterator[str]:
    """The lines of a unified diff of two texts that may be shown; none if they are the same.

    Of a file that is one long line only what is near the change.
    """
    if max(map(len, [*old.splitlines(), *new.splitlines()]), default=0) > _LONGEST_LINE:
        old, new = _near_the_change(old, new)
    yield from difflib.unified_diff(old.splitlines(), new.splitlines(), str(path), str(path), n=_CONTEXT, lineterm="")


def _near_the_change(old: str, new: str) -> tuple[str, str]:
    start = _equal_beginning(old, new)
    end = _equal_beginning(old[start:][::-1], new[start:][::-1])
    before, after = max(0, start - _NEAR), max(0, end - _NEAR)
    return _cut(old, before, after), _cut(new, before, after)


def _equal_beginning(one: str, other: str) -> int:
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def _cut(text: str, before: int, after: int) -> str:
    return f"{'…' if before else ''}{text[before : len(text) - after]}{'…' if after else ''}"


def replace(original: Original, text: str, *, private: bool = False) -> Path | None:
    """Put `text` in the place of a file in one step: a reader sees the old or the new one, whole. Where the back-up is.

    The mode and the owner stay; a new file, and the folder that is made for it, are the owner's alone. A `private` file
    is always so, and has no back-up: an old key would stay on the disk.

    Raises:
        FileProblem: it changed since it was read, or cannot be written; it is as it was.
    """
    path = original.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _now(path) != original.content:
            raise FileProblem("it changed in the meantime", "Close the client, and run this again")
        mode = PRIVATE if private or original.mode is None else original.mode
        kept = None
        if not private and original.mode is not None:
            kept = _free_name(path)
            _move_in(kept, original.content, mode, original.owner)
        _move_in(path, text.encode("utf-8"), mode, original.owner)
    except OSError as error:
        raise FileProblem(f"it cannot be written ({error.strerror})", "Correct that, and run this again") from None
    return kept


def _now(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _free_name(path: Path) -> Path:
    at = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    names = (path.with_name(f"{path.name}.{at}{suffix}.bak") for suffix in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(name for name in names if not os.path.lexists(name))


def _move_in(path: Path, content: bytes, mode: int, owner: tuple[int, int] | None) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # for its owner alone
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        made = os.stat(name)  # noqa: PTH116 - its owner, next to chown
        if owner is not None and owner != (made.st_uid, made.st_gid) and hasattr(os, "chown"):
            os.chown(name, *owner)
        os.chmod(name, mode)  # noqa: PTH101 - next to chown
        os.replace(name, path)  # noqa: PTH105 - a name of tempfile
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(name)  # noqa: PTH108 - a name of tempfile
        raise
