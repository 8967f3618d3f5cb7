"""One whole job, and what is left of it: exactly these events, and nothing private in any file or on any stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.kills.scenes import Front
from tests.operator.processes import command, of_magpipe, of_zudu, serving, terminal
from tests.operator.test_approve import ASKS, waits
from tests.vendors import magpipe, zudu
from tests.vendors.magpipe import Magpipe
from tests.vendors.serving import listening
from tests.vendors.zudu import Zudu
from tests.walks.stage import FROM, NEW_YORK, Model, Person, number, tomorrow_at

PEOPLE = [number(NEW_YORK, line) for line in range(3)]
NAMES = [f"Quetzal{at} Ixtlan" for at in range(3)]
WITH_VARIABLES = [
    {"to_number": one, "dynamic_variables": {"full_name": name, "balance_due": f"zloty {at}4711"}}
    for at, (one, name) in enumerate(zip(PEOPLE, NAMES, strict=True))
]
WITH_NAMES = [{"to_number": one, "name": name} for one, name in zip(PEOPLE, NAMES, strict=True)]
CRON = "the job of Xochitl"
"""An idempotency key."""
PRIVATE = ("quetzal", "ixtlan", "full_name", "balance_due", "zloty", "xochitl", *(one[2:] for one in (*PEOPLE, FROM)))
KEYS = (zudu.KEY, zudu.SECRET, magpipe.KEY)


def private_in(held: bytes) -> list[str]:
    """Names, variables, whole numbers however they are written, keys and secrets."""
    return [one for one in (*PRIVATE, *KEYS) if one.encode() in held.lower()]


def files_in(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file of a data folder, a database's log of what it has written ahead included."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.name, path.read_bytes()


def holds_nothing_private(folder: Path, *, at_work: bool = False) -> None:
    found = dict(files_in(folder))
    assert {"audit.jsonl", "ledger.db"} <= found.keys()
    assert not at_work or found["ledger.db-wal"], "a running server's last entries are still in there"
    # A file that the emergency stop leaves lists people; that is what it is for.
    kept = {name: held for name, held in found.items() if not name.startswith("stopped-")}
    assert {name: private_in(held) for name, held in kept.items()} == {name: [] for name in kept}


async def draft(model: Model, name: str, tasks: list[dict[str, Any]]) -> dict[str, Any]:
    made = await model.call("create_batch_call", from_number=FROM, tasks=tasks, name=f"Quetzals, {name}")
    return {"batch_call_id": made["batch_call"]["batch_call_id"], "trigger_timestamp": "now"}


async def test_a_job_leaves_exactly_its_events_and_nothing_private(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    vendor, person = Zudu(), Person()
    front = Front(
        vendor.recording, lambda method, path, _json: method == "POST" and path.endswith("/execute"), lambda: None
    )
    async with listening(front) as url:
        there = of_zudu(url, tmp_path, log_level="DEBUG", max_calls_per_launch="3")
        async with serving(there, person) as model:
            await model.call("get_backend")
            await model.call("check_batch_call", from_number=FROM, tasks=WITH_VARIABLES)
            first = await draft(model, "first", WITH_VARIABLES)
            for _ in range(2):
                await model.call("start_batch_call", **first)
            later = await draft(model, "later", WITH_VARIABLES[:2])
            await model.call("start_batch_call", **later | {"trigger_timestamp": tomorrow_at(9).isoformat()})
            person.answer = "no"
            lost = await draft(model, "lost", WITH_VARIABLES[2:])
            await model.refused("start_batch_call", "not_confirmed", **lost)
            person.answer = "yes"
            front.trouble = "never carried out"
            for _ in range(2):
                await model.refused("start_batch_call", "outcome_unknown", **lost)
            large = await draft(model, "large", [*WITH_VARIABLES, {"to_number": number(NEW_YORK, 9)}])
            await model.refused("start_batch_call", "invalid_input", **large)
            holds_nothing_private(tmp_path, at_work=True)
        by_hand = (("ledger",), ("ledger", "resolve", "6", "not-made"), ("stop",), ("stop", "--clear"))
        said = [(await command(there, *arguments)).err for arguments in by_hand]
        exported = await command(there, "audit", "--format", "jsonl")
        table = await command(there, "audit", "--last", "100")
    said += [exported.err, table.err, capfd.readouterr().err]
    assert "outcome_unknown" in said[-1], "what the server said is among it"
    assert [private_in(text.encode()) for text in said] == [[]] * len(said)
    holds_nothing_private(tmp_path)

    record = (tmp_path / "audit.jsonl").read_text(encoding="utf-8")
    events = [json.loads(line) for line in record.splitlines()]
    names = {one["batch_call_id"]: name for name, one in names_of(first, later, lost, large)}
    assert [in_short(one, names) for one in events] == [
        "write create done",
        "question start first 3 asked",
        "answer start first 3 accepted",
        "write start first 3 done",
        "write start first replayed",
        "write create done",
        "question start later 2 asked",
        "answer start later 2 accepted",
        "write start later 2 done",
        "write create done",
        "question start lost 1 asked",
        "answer start lost 1 declined",
        "question start lost 1 asked",
        "answer start lost 1 accepted",
        "write start lost 1 unknown",
        "write create done",
        "refused start large 4 blocked",
        "settled start lost not-made",
        "stop stop stopped",
        "write cancel later done",
        "write cancel first not_supported",
        "stop stop cleared",
    ]
    assert exported.out == record
    assert len(table.out.splitlines()) == 2 + len(events)
    operators = [one["event"] in {"settled", "stop"} for one in events]
    assert [one["caller"] == "operator" for one in events] == operators
    assert len({one["caller"] for one in events}) == 2, "the same key is the same caller in every process"


def names_of(*launches: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return zip(("first", "later", "lost", "large"), launches, strict=True)


def in_short(event: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What was done, to which batch call and to how many, and what came of it."""
    what = event.get("operation") or event["tool"]
    which = None if what == "create" else names.get(event.get("batch_call_id", ""))
    parts = [event["event"], what, which]
    return " ".join(str(part) for part in (*parts, event.get("calls"), event["outcome"]) if part is not None)


async def test_the_record_says_which_batch_call_a_create_made(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        there = of_zudu(url, tmp_path)
        async with serving(there) as model:
            made = await draft(model, "November", WITH_VARIABLES)
        shown = await command(there, "audit", "--format", "jsonl", "--batch-call", made["batch_call_id"])
    assert [json.loads(line)["operation"] for line in shown.out.splitlines()] == ["create"]


async def test_a_list_that_waits_for_a_code_or_an_approval_is_sealed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where the list comes with the launch, it is held until the code comes: nobody can read it without the code."""
    vendor = Magpipe()
    launch = {"from_number": FROM, "tasks": WITH_NAMES, "trigger_timestamp": "now", "idempotency_key": CRON}
    async with vendor.served() as url:
        by_code = of_magpipe(url, tmp_path, log_level="DEBUG", confirm="code")
        async with serving(by_code) as model:
            asked = await model.call("create_batch_call", **launch)
            holds_nothing_private(tmp_path, at_work=True)
            await model.refused("create_batch_call", "not_confirmed", from_number=FROM, confirmation_code="AAAAAAAA")
            code = {"confirmation_code": asked["confirmation_code"]}
            await model.call("create_batch_call", from_number=FROM, **code)
            assert (await model.call("create_batch_call", **launch))["replayed"] is True
            await model.call("create_batch_call", **launch | {"tasks": WITH_NAMES[:2], "idempotency_key": CRON + "2"})
            holds_nothing_private(tmp_path, at_work=True)
        by_a_person = by_code | {"BATCHCALL_CONFIRM": "person"}
        async with serving(by_a_person) as model:
            other = launch | {"tasks": WITH_NAMES[1:], "idempotency_key": CRON + "3"}
            await waits(model, "create_batch_call", **other)
            async with terminal(by_a_person, "approve") as screen:
                await screen.shows(ASKS)
                await screen.types("2")
            holds_nothing_private(tmp_path, at_work=True)
            await model.call("create_batch_call", **other)
    assert len(vendor.actions("create")) == 2
    holds_nothing_private(tmp_path)
    said = capfd.readouterr().err
    assert "not_confirmed" in said
    assert private_in(said.encode()) == []


@pytest.mark.parametrize(
    "tasks",
    [
        [{"to_number": NAMES[0]}],
        [{"to_number": PEOPLE[0], "dynamic_variables": NAMES[0]}],
        [{"to_number": PEOPLE[0], "nickname": NAMES[0]}],
        NAMES[0],
    ],
    ids=["a name as a number", "a name as variables", "a name as something unknown", "a name as the list"],
)
async def test_what_a_model_mixes_up_is_not_in_the_log(
    tasks: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serving(of_zudu("http://127.0.0.1:9", tmp_path, log_level="DEBUG")) as model:
        await model.refused("create_batch_call", "invalid_input", from_number=FROM, tasks=tasks)
    said = capfd.readouterr().err
    assert "create_batch_call" in said
    assert private_in(said.encode()) == []
