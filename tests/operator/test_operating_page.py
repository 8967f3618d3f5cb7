"""`docs/operating.md` as an operator reads it: every command is typed, with calls in progress."""

from __future__ import annotations

import re
from pathlib import Path

from tests.operator.processes import command, serving, variables
from tests.operator.test_stop import MANY, draft, until
from tests.walks.stage import ALWAYS, Person, dials

PAGE = Path(__file__).parents[2] / "docs" / "operating.md"


def typed() -> list[tuple[list[str], list[str]]]:
    """Each command of the page, and the lines that it prints there; `…` stands for anything."""
    found: list[tuple[list[str], list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        for line in map(str.strip, block.strip().splitlines()):
            if line.startswith("$ batchcall-mcp "):
                found.append((line.split()[2:], []))
            else:
                found[-1][1].append(line)
    return found


def prints(line: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, line.split("…"))))


async def test_every_command_does_what_the_page_says(tmp_path: Path) -> None:
    there = variables(tmp_path, simulated_speed="40", calling_hours="00:00-24:00")
    commands = typed()
    assert [" ".join(arguments) for arguments, _ in commands] == ["stop", "audit", "ledger", "stop --clear"]
    async with serving(there, Person()) as model:
        launch = await draft(model, "November", [{"to_number": one} for one in MANY], max_concurrency=5, window=ALWAYS)
        await model.call("start_batch_call", **launch)
        await until(lambda: dials(tmp_path).total() >= 10)
        for arguments, lines in commands:
            ended = await command(there, *arguments)
            assert (arguments, ended.code, ended.err) == (arguments, 0, "")
            unmet = [line for line in lines if not any(prints(line).fullmatch(one) for one in ended.out.splitlines())]
            assert unmet == [], ended.out
        resumed = await model.call("resume_batch_call", batch_call_id=launch["batch_call_id"])
    assert resumed["result"] == "resumed"
