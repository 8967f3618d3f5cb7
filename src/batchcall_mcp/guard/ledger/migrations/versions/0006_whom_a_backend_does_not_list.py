"""Entries say more of a list whose people a backend does not show; an older version could not read them."""

from __future__ import annotations

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """No table changes: what is new lies in the evidence of an entry. The number keeps older versions out."""
