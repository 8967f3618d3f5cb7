"""The contract of every backend of ours, on its fake: see batchcall_mcp.testing."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import Any

from batchcall_mcp.backends.registry import BUILT_IN, backend_class
from batchcall_mcp.model import CallingWindow
from batchcall_mcp.testing import Case, contract
from tests.dialer.fake import DialerFake
from tests.vendors.bland import Bland
from tests.vendors.bolna import Bolna
from tests.vendors.cartesia import Cartesia
from tests.vendors.dograh import Dograh
from tests.vendors.elevenlabs import ElevenLabs
from tests.vendors.magpipe import Magpipe
from tests.vendors.retell import Retell
from tests.vendors.speechify import Speechify
from tests.vendors.vapi import Vapi
from tests.vendors.zudu import Zudu

ANY_HOUR = {"window": CallingWindow(start="00:00", end="24:00", timezone="UTC")}
NO_WINDOWS = {"nobody is called outside the window": "the fake knows no windows"}

NO_READ = {
    "an unknown status survives": "Retell reports no status of a batch call; test_retell.py has those of calls",
    "an unknown id is not found": "a batch call that waits and one that does not exist have no calls: nobody can tell",
}


def ours(name: str, **options: Any) -> Case:
    return Case(backend=backend_class(name), **options)


def vendor(name: str, fake: Any, **options: Any) -> Case:
    return ours(name, fake=fake, app=attrgetter("recording"), **options)


CASES = (
    ours("dialer", fake=DialerFake, given=ANY_HOUR),
    ours("batchcall", fake=DialerFake, given=ANY_HOUR),
    vendor("zudu", Zudu, skip=NO_WINDOWS),
    vendor("magpipe", Magpipe),
    vendor("elevenlabs", ElevenLabs),
    vendor("bland", Bland),
    vendor("vapi", Vapi),
    vendor("retell", Retell, skip=NO_READ),
    vendor("bolna", Bolna),
    vendor("speechify", Speechify),
    ours("dograh", fake=partial(Dograh, lines=30), url="https://vendor.example/api/v1"),
    vendor("cartesia", Cartesia),
)

test_contract = contract(*CASES)


def test_every_backend_of_ours_is_held_to_it() -> None:
    assert {case.backend.name for case in CASES} == set(BUILT_IN)
