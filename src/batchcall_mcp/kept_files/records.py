"""What a kept file is, how it is named, and how much may be kept. Pure."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal, TypeAlias

from batchcall_mcp.errors import QuotaExceeded

Kind: TypeAlias = Literal["list", "export"]

STORE_FILE: Final = "files.db"
"""In the data folder, where no PostgreSQL is named."""
KEPT_FOR: Final = timedelta(days=1)
LARGEST_BYTES: Final = 50_000_000
"""Of one uploaded list."""
MOST_BYTES_PER_CALLER: Final = 200_000_000
MOST_FILES_PER_CALLER: Final = 100
MOST_BYTES: Final = 2_000_000_000
"""Of all callers together."""

_LONGEST_STEM: Final = 60
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_NOT_IN_A_NAME: Final = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptFile:
    """One file. Its content never changes under its name. `rows` are those of the list, without its header."""

    file_id: int
    name: str
    kind: Kind
    size_bytes: int
    rows: int
    kept_until: datetime


class StoreFull(QuotaExceeded):
    """All callers together keep as much as may be kept."""


def plain_name(written: str, ending: str) -> str:
    """What somebody named a file, in characters that need no quoting anywhere."""
    stem = _NOT_IN_A_NAME.sub("_", written).strip("_-")[:_LONGEST_STEM]
    return f"{stem or 'list'}{ending}"


def new_name(written: str, extension: str) -> str:
    """The same as a name that nobody guesses, and that no other file has."""
    return plain_name(written, f"-{secrets.token_hex(8)}{extension}")


def is_name(text: str) -> bool:
    """Whether a file can have this name."""
    return _NAME.fullmatch(text) is not None


def megabytes(size_bytes: int) -> str:
    return f"{size_bytes // 1_000_000} MB"
