"""Time to think again: a launch that would dial now dials some seconds after the yes, and can be cancelled until then.

Pure. It holds where the backend can be given the moment, and can cancel before it. A test call rings at once.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.guard.preflight.humanize import counted

DEFAULT_SECONDS: Final = 60
MANY: Final = 50
"""People from whom on the default holds."""


def seconds(setting: int | None, capabilities: Capabilities, people: int | None, *, simulated: bool) -> int:
    """How long a launch waits that would dial now.

    Args:
        setting: BATCHCALL_UNDO_SECONDS; None: the default, which is for our own dialer where real phones ring.
        capabilities: the backend's.
        people: who would be called; None: not known, which counts as many.
        simulated: no real phone can ring.
    """
    if setting is not None:
        return setting
    is_ours = capabilities.in_process and not (simulated or capabilities.simulated)
    return DEFAULT_SECONDS if is_ours and (people is None or people >= MANY) else 0


def is_possible(operation: Operation, capabilities: Capabilities) -> bool:
    """Whether this kind of launch can be given a moment, and be cancelled before it.

    A resume, and a retry in the same batch call, have no moment anywhere.
    """
    if capabilities.stop == "never" or Operation.CANCEL not in capabilities.operations:
        return False
    match operation:
        case Operation.CREATE:
            return True
        case Operation.START:
            return capabilities.drafts == "full"
        case Operation.UPDATE:
            return "trigger_at" in capabilities.update_fields
        case _:
            return False


def sentence(waits: int, *, rings: bool) -> str:
    """What the question says. `rings`: somebody may be called as soon as it starts."""
    what = "Phones ring" if rings else "It starts"
    return f"{what} {counted(waits, 'second')} after your yes; cancel_batch_call stops it until then."


def again(at: datetime) -> str:
    """What the question says where it is sent once more: with the moment of the first try, which may have arrived."""
    return (
        f"It starts at {at:%H:%M:%S UTC}, as an earlier try said, or right after your yes if that is over; "
        "cancel_batch_call stops it until then."
    )


CANNOT: Final = "This cannot be undone: it dials right after your yes, whatever BATCHCALL_UNDO_SECONDS says."
