"""Lists of people to call ─► CallTasks: files and inline lists, numbers, who is left out and why."""

from batchcall_mcp.recipients.columns import Columns
from batchcall_mcp.recipients.countries import country_name
from batchcall_mcp.recipients.do_not_call import DoNotCall, load_do_not_call, read_do_not_call
from batchcall_mcp.recipients.folder import ListedFile, list_files, resolve_file
from batchcall_mcp.recipients.listing import (
    LeftOut,
    LeftOutKind,
    ReadOptions,
    Recipients,
    read_file,
    read_inline,
)
from batchcall_mcp.recipients.numbers import (
    InvalidNumber,
    comparable,
    country_of,
    digits_as_written,
    is_comparable,
    normalise_number,
)

__all__ = [
    "Columns",
    "DoNotCall",
    "InvalidNumber",
    "LeftOut",
    "LeftOutKind",
    "ListedFile",
    "ReadOptions",
    "Recipients",
    "comparable",
    "country_name",
    "country_of",
    "digits_as_written",
    "is_comparable",
    "list_files",
    "load_do_not_call",
    "normalise_number",
    "read_do_not_call",
    "read_file",
    "read_inline",
    "resolve_file",
]
