"""What a notification says: an event, ids and counts. Nobody's number, name or variables, and no secret. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final, Literal, TypeAlias

from batchcall_mcp.text import shortened

Event: TypeAlias = Literal["launched", "refused", "unknown", "stopped", "late", "finished"]

_LONGEST_ID: Final = 200
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One event. `tool`, `operation`, `backend`, `reason` and `status` are single words of ours.

    `calls` is how many people would be called, or were to be; `reason`, of what was refused, an error's code.
    """

    event: Event
    batch_call_id: str | None = None
    backend: str | None = None
    tool: str | None = None
    operation: str | None = None
    status: str | None = None
    calls: int | None = None
    reason: str | None = None
    at: datetime | None = None
    """When it happened, where several processes may see the same: they send one message of one id."""

    def message_id(self) -> str:
        """The `webhook-id`: of what several may see, the same from each of them."""
        if self.at is None or self.batch_call_id is None:
            return f"msg_{secrets.token_hex(16)}"
        # Whole seconds: not every API shows more of a moment.
        named = f"{self.event} {self.batch_call_id} {self.at:%Y-%m-%dT%H:%M:%S}"
        return f"msg_{hashlib.sha256(named.encode()).hexdigest()[:32]}"

    def payload(self, now: datetime) -> str:
        """The body, by the Standard Webhooks scheme; what is not one of our words is "?"."""
        said = {
            name: value for name, value in asdict(self).items() if value is not None and name not in {"event", "at"}
        }
        for name in said.keys() & {"backend", "tool", "operation", "status", "reason"}:
            said[name] = said[name] if _WORD.fullmatch(said[name]) else "?"
        if "batch_call_id" in said:
            said["batch_call_id"] = shortened(said["batch_call_id"], _LONGEST_ID)
        at = (self.at or now).isoformat(timespec="milliseconds")
        return json.dumps({"type": self.event, "timestamp": at, "data": said}, separators=(",", ":"))


Tell: TypeAlias = Callable[[Notice], None]
"""Takes a notice and returns at once, whatever comes of it."""


def most_of(event: Event, most: int) -> int:
    """How many may wait before one of this event is dropped, where `most` of all may.

    Any caller can have a launch refused, a thousand times: that takes no room from what has happened.
    """
    return most // 2 if event == "refused" else most


def tell_nobody(_notice: Notice) -> None:
    """Where BATCHCALL_NOTIFY_URL is not set."""
