"""What a backend's author gives: the adapter's class, and a fake of the vendor that refuses what the vendor refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter
from typing import Any, Protocol, TypeAlias

from batchcall_mcp.backends.base import Backend

Message: TypeAlias = MutableMapping[str, Any]
AsgiApp: TypeAlias = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]


class Fake(Protocol):
    """A vendor in this process, made from its documents, which knows nothing of the adapter.

    It answers with the vendor's fields, units, paging, status words and error bodies, refuses a wrong key and every
    request that the vendor would refuse, and dials (`dialled`) exactly when the vendor would. Nothing happens by
    itself. Its ASGI app is in the attribute `app`, or `Case.app` says where: it is asked at any host name (an upload to
    another origin of the vendor comes to it too). With a method `close`, it is closed after each check.
    """

    @property
    def key(self) -> str:
        """The API key that it accepts, as a user gives it."""
        ...

    @property
    def secret(self) -> str | None:
        """The API secret; None if the vendor has none."""
        ...

    @property
    def from_number(self) -> str:
        """A caller number of the account (E.164), as a user gives it, also where the vendor wants an id."""
        ...

    @property
    def agent_id(self) -> str:
        """An agent of the account, as a user gives it."""
        ...

    @property
    def dialled(self) -> Sequence[str]:
        """Every number that it has called, in order; never taken away."""
        ...

    @property
    def writes(self) -> Sequence[object]:
        """Every request that changes something, in order; never taken away."""
        ...

    def batch_ids(self) -> Sequence[str]:
        """The vendor's ids of its batch calls, the oldest first."""
        ...

    def tick(self, now: datetime) -> None:
        """Move its time; what is due is dialled."""
        ...

    def finish(self, batch_id: str, outcomes: Mapping[str, str], otherwise: str = ...) -> None:
        """End every call in progress of one batch call: by phone number, in the words of our TaskStatus."""
        ...

    def say_status(self, batch_id: str, word: str) -> None:
        """From now on it reports this word as the status of that batch call, whatever it is."""
        ...

    def say_task_status(self, batch_id: str, number: str, word: str) -> None:
        """The same for one recipient."""
        ...


@dataclass(frozen=True, kw_only=True)
class Case:
    """One backend for the suite.

    Attributes:
        backend: the adapter's class; its `capabilities` decide what is checked.
        fake: makes a fresh fake.
        url: what BATCHCALL_URL would be; the fake answers under its path.
        app: where the fake's ASGI app is.
        given: fields of BatchCallRequest that every request of this vendor has, such as a window that is always open.
        skip: checks that this fake cannot play, by name, with the reason; they are reported as skipped.
    """

    backend: type[Backend]
    fake: Callable[[], Fake]
    url: str = "https://vendor.example"
    app: Callable[[Any], AsgiApp] = attrgetter("app")
    given: Mapping[str, Any] = field(default_factory=dict)
    skip: Mapping[str, str] = field(default_factory=dict)
