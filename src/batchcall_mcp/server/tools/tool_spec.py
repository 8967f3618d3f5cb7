"""What a tool is: a handler, what is said of it, and what it does to the world, together in one place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from batchcall_mcp.backends.capabilities import Capabilities, Operation
from batchcall_mcp.server.tools.results import ToolResult

Handler: TypeAlias = Callable[..., Awaitable[ToolResult]]
"""Parameters before the slash are handed in: the context, and the progress of one that waits. Others are arguments."""


@dataclass(frozen=True, slots=True)
class Surface:
    """What tools are made for: a backend, whether callers share this machine's disk (stdio), and the operator's wishes.

    `test_numbers`: there are numbers that may be called for a test.
    """

    capabilities: Capabilities
    local_files: bool
    test_numbers: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSpec:
    """One tool.

    `description` is what a model reads: what it does, when to use it and when another, what it costs or changes.
    `confirms` says where it can end in a question to a person: there it takes a confirmation_code. `always_loaded`: a
    client that lets its model search for tools should show it at once. `most_characters`: of its largest answer, where
    a client would take that for too long and hide it.
    """

    handler: Handler
    operation: Operation
    title: str
    description: str | Callable[[Capabilities], str]
    read_only: bool = False
    destructive: bool = False
    idempotent: bool = False
    confirms: bool | Callable[[Capabilities], bool] = False
    always_loaded: bool = False
    most_characters: int | None = None

    @property
    def name(self) -> str:
        return self.handler.__name__

    def described(self, capabilities: Capabilities) -> str:
        """Its description for one backend: nothing is promised that the backend cannot do."""
        return self.description if isinstance(self.description, str) else self.description(capabilities)

    def is_confirmed(self, capabilities: Capabilities) -> bool:
        """Whether it can end in a question on one backend."""
        return self.confirms if isinstance(self.confirms, bool) else self.confirms(capabilities)

    @property
    def meta(self) -> dict[str, Any] | None:
        """What it asks of a client, in the words that one client has for it; others ignore them."""
        wishes = {"anthropic/alwaysLoad": self.always_loaded, "anthropic/maxResultSizeChars": self.most_characters}
        return {name: value for name, value in wishes.items() if value} or None


def tool(
    operation: Operation, title: str, description: str | Callable[[Capabilities], str], **hints: Any
) -> Callable[[Handler], ToolSpec]:
    """Make a tool of the handler below, whose name it gets. `hints`: as of `ToolSpec`."""

    def made(handler: Handler) -> ToolSpec:
        return ToolSpec(handler=handler, operation=operation, title=title, description=description, **hints)

    return made
