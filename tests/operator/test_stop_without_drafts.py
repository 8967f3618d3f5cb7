"""`batchcall-mcp stop` where creating dials: what can be cancelled is, and what cannot is said."""

from __future__ import annotations

from pathlib import Path

from tests.operator.processes import command, serving, variables
from tests.vendors.retell import Retell
from tests.vendors.vapi import Vapi
from tests.walks.stage import FROM, NEW_YORK, Person, number, tomorrow_at

PEOPLE = [number(NEW_YORK, line) for line in (0, 1, 2)]
TASKS = [{"to_number": one} for one in PEOPLE]


def of_vendor(name: str, vendor: Vapi | Retell, url: str, folder: Path) -> dict[str, str]:
    return variables(folder, backend=name, url=url, api_key=vendor.key)


async def test_vapi_calls_nobody_else_and_calls_in_progress_go_on(tmp_path: Path) -> None:
    vendor = Vapi()
    async with vendor.served() as url:
        there = of_vendor("vapi", vendor, url, tmp_path)
        request = {"from_number": FROM, "agent_id": vendor.agent_id, "tasks": TASKS}
        async with serving(there, Person("yes")) as model:
            await model.call("create_batch_call", **request, trigger_timestamp="now", max_concurrency=1)
            await model.call("create_batch_call", **request, trigger_timestamp=tomorrow_at(9).isoformat(), name="x")
            stopped = await command(there, "stop")
    running, waiting = vendor.batch_ids()
    assert stopped.code == 0, stopped.out
    assert vendor.dialled == PEOPLE[:1]
    assert [vendor.campaigns[one].status for one in (running, waiting)] == ["cancelled", "cancelled"]
    vendor.finish(running)
    vendor.tick(tomorrow_at(10))
    assert vendor.dialled == PEOPLE[:1]


async def test_retell_cannot_be_stopped_and_that_is_said(tmp_path: Path) -> None:
    vendor = Retell()
    async with vendor.served() as url:
        there = of_vendor("retell", vendor, url, tmp_path)
        request = {"from_number": FROM, "agent_id": vendor.agent_id, "tasks": TASKS}
        async with serving(there, Person("yes")) as model:
            await model.call("create_batch_call", **request, trigger_timestamp=tomorrow_at(9).isoformat())
            stopped = await command(there, "stop")
    (waiting,) = vendor.batch_ids()
    said = stopped.out + stopped.err
    assert stopped.code != 0
    assert waiting in said
    assert "retell can neither pause nor cancel: its phones may ring on. Stop it at the backend itself." in said
    assert "retell cannot list batch calls" in said
    assert len(vendor.writes) == 1
