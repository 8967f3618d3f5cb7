"""A draft whose answer was lost: when it is looked for, when it is made again, and when it is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from batchcall_mcp.backends.capabilities import Operation
from batchcall_mcp.backends.rest_api.zudu import ZuduBackend
from batchcall_mcp.errors import OutcomeUnknown
from batchcall_mcp.guard.audit import Audit
from batchcall_mcp.guard.delivery.write_sender import Resend, Sender, Ticket, WriteOutcome
from batchcall_mcp.guard.fingerprints import people_digest
from batchcall_mcp.guard.ledger.ledger import Ledger
from batchcall_mcp.guard.write_record import Evidence, Intent
from batchcall_mcp.model import BatchCall, BatchCallRequest, CallTask
from batchcall_mcp.settings import Settings
from batchcall_mcp.vendor_http.client import BackendHttp, Credentials, open_client
from tests.guard.ledger.conftest import Clock
from tests.vendors import zudu
from tests.vendors.zudu import Zudu

NAME = "Batch call 2026-11-24 ffffff"
REQUEST = BatchCallRequest(
    from_number="+14155550100", tasks=(CallTask(to_number="+12125550101"), CallTask(to_number="+12125550102"))
)
TIMEOUT_S = 15


class Forgetful(Zudu):
    """Loses the next creates: `lost` of them come to nothing, and are answered with an error."""

    lost = 0

    async def _create(self, request: Request) -> Response:
        if self.lost:
            self.lost -= 1
            return Response(status_code=500)
        return await super()._create(request)


@dataclass
class Desk:
    """One caller, whose process may be replaced by a new one."""

    vendor: Forgetful
    backend: ZuduBackend
    folder: Path
    clock: Clock
    ledger: Ledger

    @property
    def sender(self) -> Sender:
        return Sender(
            self.ledger,
            self.backend,
            Audit(self.folder),
            request_timeout_s=TIMEOUT_S,
            patience_s=1,
            max_calls_per_day=None,
        )

    def restart(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.open(Settings(data_dir=self.folder), self.clock)

    @property
    def intent(self) -> Intent:
        people = people_digest(task.to_number for task in REQUEST.tasks or ())
        return Intent(
            caller="a",
            backend="zudu",
            tool="create_batch_call",
            operation=Operation.CREATE,
            fingerprint="f" * 64,
            evidence=Evidence(
                name=NAME,
                from_number=self.ledger.hashed("number +14155550100"),
                total=2,
                people=self.ledger.hashed(people),
            ),
        )

    async def create(self) -> WriteOutcome:
        async def send(ticket: Ticket) -> BatchCall:
            return await self.backend.create(ticket.named(REQUEST), ticket.backend_key)

        earlier = await self.sender.earlier(self.intent, None)
        if isinstance(earlier, WriteOutcome):
            return earlier
        assert earlier is None or isinstance(earlier, Resend)
        return await self.sender.send(self.intent, send, again=earlier)

    async def unknown(self) -> str:
        with pytest.raises(OutcomeUnknown) as caught:
            await self.create()
        return caught.value.message


@asynccontextmanager
async def desk(folder: Path) -> AsyncIterator[Desk]:
    vendor, clock = Forgetful(), Clock()
    vendor.now = clock.now
    async with vendor.served() as url, open_client() as client:
        pair = Credentials(SecretStr(zudu.KEY), SecretStr(zudu.SECRET))
        backend = ZuduBackend(BackendHttp(client, url, TIMEOUT_S), pair)
        ledger = Ledger.open(Settings(data_dir=folder), clock)
        made = Desk(vendor, backend, folder, clock, ledger)
        yield made
        made.ledger.close()


async def test_a_draft_that_two_complete_looks_do_not_show_is_made_again_and_the_answer_says_so(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.vendor.lost = 1
        first = await at.unknown()
        assert "does not show it" in first
        assert "Repeat this same call in 45 s" in first

        at.restart()  # whoever has not sent it itself has the wall clock alone
        at.clock.move(seconds=44)
        assert "Repeat this same call in 1 s" in await at.unknown()
        assert at.vendor.batches == {}
        at.clock.move(seconds=1)
        made = await at.create()
        assert made.note is not None
        assert "It was sent again" in made.note
        assert [batch.body["name"] for batch in at.vendor.batches.values()] == [NAME]

        again = await at.create()
        assert again.replayed
        assert again.batch_call.batch_call_id == made.batch_call.batch_call_id
        assert len(at.vendor.batches) == 1


async def test_a_clock_that_jumps_ahead_makes_no_draft_twice(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.vendor.lost = 1
        await at.unknown()
        at.clock.move(hours=1)
        assert "Repeat this same call in 4" in await at.unknown(), "by a clock that nobody sets it is not over yet"
        assert at.vendor.batches == {}


async def test_one_look_is_not_two_however_late_it_is(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        at.ledger.writes.begin(at.intent)  # recorded; then the process died
        at.restart()
        at.clock.move(hours=5)
        assert "Repeat this same call now" in await at.unknown()
        assert at.vendor.batches == {}
        assert (await at.create()).note is not None
        assert len(at.vendor.batches) == 1


async def test_one_that_somebody_elses_call_made_is_not_taken_for_it(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        made = await at.create()
        at.clock.move(hours=24)
        at.vendor.now = at.clock.now
        at.vendor.lost = 1
        text = await at.unknown()
        assert "does not show it" in text
        assert made.batch_call.batch_call_id not in text


async def test_two_that_could_be_it_are_named_and_neither_is_taken(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        for _ in range(2):  # made in the vendor's own web application, with the same name
            await at.backend.create(replace(REQUEST, name=NAME))
        at.vendor.lost = 1
        text = await at.unknown()
        assert all(one in text for one in at.vendor.batches)
        at.restart()
        at.clock.move(minutes=5)
        await at.unknown()
        assert len(at.vendor.batches) == 2


async def test_a_long_list_is_read_only_as_far_as_it_is_new_enough(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        for number in range(450):
            age = at.clock.now - timedelta(days=1, seconds=number)
            at.vendor.batches[f"old_{number}"] = zudu.Batch(
                f"old_{number}", "org_first", age, {"from_number": "+14155550100", "name": "old"}
            )
        at.vendor.lost = 1
        assert "read to its end" in await at.unknown()
        assert sum(one.path == "/batch-call/list" for one in at.vendor.requests) == 1
