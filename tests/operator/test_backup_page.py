"""`docs/backup.md` as an operator follows it: backed up with calls in progress, restored hours of work later."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest

from tests.operator.processes import command, serving, variables
from tests.operator.test_stop import MANY, draft, until
from tests.postgresql import bundled_programs, postgresql_url
from tests.walks.stage import ALWAYS, FROM, Person, dials, number, tomorrow_at

PAGE = (Path(__file__).parents[2] / "docs" / "backup.md").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Operator:
    """Types what the page says into a shell."""

    there: dict[str, str]
    backup: Path

    async def types(self, heading: str, nth: int = 0) -> None:
        """A block of shell lines below a heading, or below a step of one."""
        block = re.findall(r"```sh\n(.*?)```", PAGE.split(heading, 1)[1], re.DOTALL)[nth]
        path = f"{bundled_programs()}:{os.environ['PATH']}"
        environment = os.environ | self.there | {"BACKUP": str(self.backup), "PATH": path}
        ended = await anyio.run_process(["bash", "-eu", "-c", block], env=environment, check=False)
        assert (ended.returncode, ended.stderr) == (0, b""), ended


def commands() -> list[str]:
    return re.findall(r"^\$ batchcall-mcp (.*)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
async def test_x(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "data"
    shared = {"database_url": postgresql_url()} if kind == "postgresql" else {}
    there = variables(folder, simulated_speed="40", calling_hours="00:00-24:00", **shared)
    operator = Operator(there, tmp_path / "backup")
    nightly = {
        "from_number": FROM,
        "tasks": [{"to_number": number("212", 90)}],
        "idempotency_key": "night",
        "trigger_timestamp": None,
    }
    async with serving(there, Person()) as model:
        launch = await draft(model, "November", [{"to_number": one} for one in MANY], max_concurrency=5, window=ALWAYS)
        await model.call("start_batch_call", **launch)
        later = await draft(model, "December")
        await model.call(
            "start_batch_call", batch_call_id=later["batch_call_id"], trigger_timestamp=tomorrow_at(9).isoformat()
        )
        await until(lambda: dials(folder).total() >= 10)
        await operator.types("## Back up", 0 if kind == "sqlite" else 1)
        made = await model.call(
            "create_batch_call",
            from_number=FROM,
            tasks=[{"to_number": number("212", 90)}],
            idempotency_key="night",
            window=ALWAYS,
        )
        night = {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}
        print("night", await model.call("start_batch_call", **night))
        await model.call("watch_batch_call", batch_call_id=night["batch_call_id"], timeout_seconds=60)
        await until(lambda: dials(folder).total() >= 60)
    rang = dials(folder).total()
    if kind == "postgresql":
        there |= variables(folder, database_url=postgresql_url())
    await operator.types("**2.")
    await operator.types("**3.", 0 if kind == "sqlite" else 1)
    if kind == "sqlite":
        print(await command(there, "dialer", "adopt"))
    async with serving(there, Person()) as model:
        while True:
            found = await model.call("list_batch_calls")
            print([(b["batch_call_id"], b["status"]) for b in found["batch_calls"]])
            if all(b["status"] in ("paused", "completed") for b in found["batch_calls"]):
                break
            await anyio.sleep(0.05)
        print(await model.call("get_batch_call", batch_call_id=launch["batch_call_id"]))
        print(await model.call("get_batch_call", batch_call_id=later["batch_call_id"]))
        print(await command(there, "audit", "--since", "24h"))
        print(await command(there, "stop", "--clear"))
        assert dials(folder).total() == rang
        r = await model.call(
            "create_batch_call",
            from_number=FROM,
            tasks=[{"to_number": number("212", 90)}],
            idempotency_key="night",
            window=ALWAYS,
        )
        print("NIGHT AGAIN", r)
    assert 0
