"""The account behind a key, read in two parts: one that cannot be read is a note, and the other one is still shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias, TypeVar

from batchcall_mcp.errors import AuthenticationFailed, BackendUnavailable, BatchCallError
from batchcall_mcp.model import Account, Agent, CallerNumber

T = TypeVar("T")
Part: TypeAlias = tuple[tuple[T, ...] | None, tuple[str, ...]]
"""What was read (None: nothing readable), and notes about it."""


async def read_parts(
    numbers: Callable[[], Awaitable[Part[CallerNumber]]], agents: Callable[[], Awaitable[Part[Agent]]]
) -> Account:
    """Numbers and agents.

    Raises:
        AuthenticationFailed: the key is not accepted at all.
    """
    silent: list[str] = []
    found, notes = await _read("caller numbers", numbers, silent)
    known, more = await _read("agents", agents, silent)
    unavailable = silent[0] if len(silent) > 1 else None
    return Account(numbers=found, agents=known, notes=(*notes, *more), unavailable=unavailable)


async def _read(what: str, read: Callable[[], Awaitable[Part[T]]], silent: list[str]) -> Part[T]:
    try:
        return await read()
    except AuthenticationFailed:
        raise
    except BatchCallError as error:
        if isinstance(error, BackendUnavailable):
            silent.append(error.message)
        return None, (f"The {what} could not be read: {error.message}",)
