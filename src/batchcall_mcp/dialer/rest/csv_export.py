"""A batch call as CSV, in memory that does not grow with the list."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from batchcall_mcp.dialer.rest.messages.mapping import iso, seconds
from batchcall_mcp.dialer.storage import queries
from batchcall_mcp.dialer.storage.store import Store
from batchcall_mcp.text import harmless_cell

_NAMES: Final = (
    "task_id position to_number name status attempts error_message attempted_at completed_at dynamic_variables "
    "duration_seconds answered_by choice backend_status cost summary"
)
COLUMNS: Final = tuple(_NAMES.split())
_ROWS: Final = 1000


def lines(open_store: Callable[[], Store], organization_id: str, batch_call_id: str) -> Iterator[str]:
    """The header and then every task in the order of the list, many lines at a time.

    Each piece is read in a transaction of its own, so that a slow reader holds nothing up. Where the batch call is
    deleted meanwhile the next piece raises: a file that was cut off must not look whole.

    Raises:
        NotFound: there is no such batch call in this organisation; before the first piece, or later.
    """
    heading: Sequence[Any] = COLUMNS
    after = -1
    while True:
        with open_store().reading() as tx:
            queries.get(tx, organization_id, batch_call_id)
            rows = queries.tasks_after(tx, batch_call_id, after, _ROWS)
        if not rows and not heading:
            return
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        if heading:
            writer.writerow(heading)
            heading = ()
        for row in rows:
            moments = {"attempted_at": iso(row["attempted_at"]), "completed_at": iso(row["completed_at"])}
            lasted = {"duration_seconds": seconds(row["duration_ms"])}
            cells = {**row, **moments, **lasted, "dynamic_variables": row["dynamic_variables"] or "{}"}
            writer.writerow([harmless_cell(cells[name]) for name in COLUMNS])
            after = row["position"]
        yield text.getvalue()
        if len(rows) < _ROWS:
            return
