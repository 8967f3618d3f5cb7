"""A dialer whose carrier rings real phones: what its account cannot call is refused before anybody is asked."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from batchcall_mcp.dialer.carriers.base import AccountAtFault, CarrierAccount, CarrierUnavailable
from batchcall_mcp.dialer.rest.account import placing
from batchcall_mcp.dialer.storage.tables import attempts, tasks
from batchcall_mcp.model import CallerNumber
from tests.dialer.carriers.phones import AGENT, CALLER, Phones
from tests.dialer.conftest import ALWAYS, NewCaller, emptied_postgresql

LOS_ANGELES = "+12132000000"
over_both = pytest.mark.parametrize("database", ["sqlite", "postgresql"])


def whole(to_number: str = LOS_ANGELES, **fields: Any) -> dict[str, Any]:
    task = {"to_number": to_number, "dynamic_variables": {"first_name": "Ann"}}
    return {"from_number": CALLER, "agent_id": AGENT, "tasks": [task], "window": ALWAYS, **fields}


async def test_the_account_is_that_of_the_carrier(new_caller: NewCaller) -> None:
    async with new_caller(start=False, carrier=Phones()) as caller:
        account = await caller.ask("GET", "/account")
        assert account["numbers"] == [{"from_number": CALLER, "name": "Main", "agent_id": None}]
        assert [agent["variables"] for agent in account["agents"]] == [["first_name"]]
        assert (account["carrier"], account["places_real_calls"]) == ("phones", True)
        assert account["payer"] == "the Acme account AC…9f2c"
        assert account["notes"] == ["A note of the account."]


async def test_a_batch_call_belongs_to_the_carrier_of_its_creation(new_caller: NewCaller) -> None:
    async with new_caller(start=False, carrier=Phones()) as caller:
        made = await caller.ask("POST", "/batch-call", whole())
        assert made["carrier"] == "phones"
        assert made["dialled_here"] is True
    async with new_caller(start=False) as caller:
        found = await caller.get(made["batch_call_id"])
        assert (found["carrier"], found["dialled_here"]) == ("phones", False)
        listed = await caller.ask("GET", "/batch-call/list")
        assert [one["carrier"] for one in listed["batch_calls"]] == ["phones"]


@pytest.mark.parametrize(
    ("method", "under", "content"),
    [
        ("POST", "/execute", None),
        ("PATCH", "", {"status": "sent"}),
        ("PATCH", "", {"trigger_timestamp": "2026-11-24T20:00:00Z"}),
        ("PATCH", "", {"tasks": [{"to_number": "+12132000010"}]}),
        ("PATCH", "", {"from_number": "+14155550123"}),
        ("PATCH", "", {"max_concurrency": 3}),
        ("PUT", "", whole()),
        ("POST", "/resume", None),
        ("POST", "/retry", {"task_status": ["failed"]}),
        ("POST", "/tasks", {"tasks": [{"to_number": "+12132000010"}]}),
    ],
)
@pytest.mark.parametrize("real_first", [True, False])
async def test_what_dials_is_refused_of_another_carrier_s(
    new_caller: NewCaller, method: str, under: str, content: Any, *, real_first: bool
) -> None:
    carriers = (Phones(), None) if real_first else (None, Phones())
    async with new_caller(start=False, carrier=carriers[0]) as caller:
        batch_call_id = (await caller.ask("POST", "/batch-call", whole()))["batch_call_id"]
    async with new_caller(start=False, carrier=carriers[1]) as caller:
        path = f"/batch-call/{batch_call_id}{under}"
        refused = await caller.ask(method, path, content, status=409)
        assert "belongs to the carrier" in refused["error"]
        assert "Nothing was changed" in refused["error"]
        assert (await caller.get(batch_call_id))["status"] == "draft"


async def test_another_carrier_s_is_read_renamed_and_cancelled(new_caller: NewCaller) -> None:
    async with new_caller(start=False, carrier=Phones()) as caller:
        body = whole(trigger_timestamp="2026-11-24T20:00:00Z")
        batch_call_id = (await caller.ask("POST", "/batch-call", body))["batch_call_id"]
        later = (await caller.ask("POST", "/batch-call", body))["batch_call_id"]
    async with new_caller(start=False) as caller:
        await caller.ask("PATCH", f"/batch-call/{batch_call_id}", {"name": "Other"})
        await caller.ask("POST", f"/batch-call/{batch_call_id}/pause")
        drafted = await caller.ask("PATCH", f"/batch-call/{later}", {"status": "draft"})
        assert drafted["status"] == "draft"
        cancelled = await caller.ask("POST", f"/batch-call/{batch_call_id}/cancel")
        assert (cancelled["status"], cancelled["name"]) == ("cancelled", "Other")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"from_number": "+14155550123"}, "from_number: +14155550123 is not a caller number of the account"),
        ({"agent_id": "agent_2"}, "agent_id: 'agent_2' is not an agent of the account"),
        ({"tasks": [{"to_number": LOS_ANGELES}]}, "tasks.0: the variable first_name is missing"),
        ({"tasks": [{"to_number": "+19005550123"}]}, "tasks.0.to_number: is a premium-rate number"),
        ({"tasks": [{"to_number": "+18765550123"}]}, "tasks.0.to_number: is in JM, which may not be called"),
        ({"tasks": [{"to_number": "+19115550123"}]}, "tasks.0.to_number: is an emergency number"),
        ({"tasks": [{"to_number": "+449091234567"}]}, "tasks.0.to_number: is a premium-rate number"),
    ],
)
async def test_what_the_account_cannot_call_is_refused_by_field_and_row(
    new_caller: NewCaller, fields: dict[str, Any], words: str
) -> None:
    async with new_caller(start=False, carrier=Phones()) as caller:
        refused = await caller.ask("POST", "/batch-call", whole(**fields), status=422)
        assert words in refused["error"].replace('"', "'")
        assert "cannot be called through Acme Phones. Nothing was changed." in refused["error"]
        made = (await caller.ask("POST", "/batch-call", whole()))["batch_call_id"]
        for method, under, content in (
            ("PUT", "", whole(**fields)),
            ("PATCH", "", fields),
            *([("POST", "/tasks", fields)] if "tasks" in fields else []),
        ):
            refused = await caller.ask(method, f"/batch-call/{made}{under}", content, status=422)
            assert words in refused["error"].replace('"', "'")
        assert len(await caller.tasks(made)) == 1


async def test_what_is_wrong_with_everybody_is_said_once(new_caller: NewCaller) -> None:
    people: list[dict[str, Any]] = [{"to_number": f"+1213200000{digit}"} for digit in range(3)]
    async with new_caller(start=False, carrier=Phones()) as caller:
        refused = await caller.ask("POST", "/batch-call", whole(tasks=people), status=422)
        assert refused["error"].splitlines()[1:] == ["- every task: the variable first_name is missing"]
        people[1]["dynamic_variables"] = {"first_name": "Bob"}
        refused = await caller.ask("POST", "/batch-call", whole(tasks=people), status=422)
        assert refused["error"].splitlines()[1:] == [
            "- tasks.0: the variable first_name is missing",
            "- tasks.2: the variable first_name is missing",
        ]


async def test_many_rows_of_one_reason_hide_no_other_reason(new_caller: NewCaller) -> None:
    abroad = [{"to_number": f"+442079460{n:03d}"} for n in range(100, 130)]
    people = [*abroad, {"to_number": "+19005550123"}, {"to_number": LOS_ANGELES}]
    async with new_caller(start=False, carrier=Phones()) as caller:
        refused = await caller.ask("POST", "/batch-call", whole(tasks=people), status=422)
    abroad_words = "tasks.0.to_number: is in GB, which may not be called (allowed: US; BATCHCALL_COUNTRIES names them)"
    where = "tasks.1, tasks.2, tasks.3, …"
    assert refused["error"].splitlines()[1:] == [
        f"- {abroad_words}. The same with 29 more: {where}",
        "- tasks.30.to_number: is a premium-rate number",
        "- tasks.31: the variable first_name is missing",
    ]


async def test_the_account_says_how_many_calls_it_makes_at_once_and_where(new_caller: NewCaller) -> None:
    async with new_caller(start=False, carrier=Phones()) as caller:
        account = await caller.ask("GET", "/account")
        assert (account["calls_at_once"], account["countries"]) == (Phones.capacity, ["US"])
    async with new_caller(start=False, carrier=Phones(), countries=frozenset({"JM", "GB"})) as caller:
        assert (await caller.ask("GET", "/account"))["countries"] == ["GB", "JM"]


async def test_the_countries_of_the_setting_come_before_those_of_the_numbers(new_caller: NewCaller) -> None:
    async with new_caller(start=False, carrier=Phones(), countries=frozenset({"JM"})) as caller:
        await caller.ask("POST", "/batch-call", whole("+18765550123"))
        refused = await caller.ask("POST", "/batch-call", whole(), status=422)
        assert "tasks.0.to_number: is in US" in refused["error"]


async def test_an_unreadable_account_refuses_only_destinations(new_caller: NewCaller) -> None:
    carrier = Phones()
    async with new_caller(start=False, carrier=carrier) as caller:
        for fault in (AccountAtFault("the key is not accepted"), CarrierUnavailable("it does not answer")):
            carrier.fault = fault
            await caller.ask("POST", "/batch-call", whole(from_number="+14155550123", agent_id="agent_2"))
            await caller.ask("POST", "/batch-call", whole("+19005550123"), status=422)
            account = await caller.ask("GET", "/account")
            assert (account["numbers"], account["agents"], account["payer"]) == (None, None, carrier.payer)
            assert account["notes"] == [f"The account of Acme Phones cannot be read now: {fault}"]


async def test_a_slow_vendor_holds_no_write_up(new_caller: NewCaller, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Phones):
        async def account(self) -> CarrierAccount:
            await asyncio.Event().wait()
            raise AssertionError

    monkeypatch.setattr(placing, "LONGEST_READ_S", 0.01)
    async with new_caller(start=False, carrier=Silent()) as caller:
        await caller.ask("POST", "/batch-call", whole())
        assert "gave no answer within" in (await caller.ask("GET", "/account"))["notes"][0]


async def test_a_redial_of_real_phones_is_not_as_fast_as_simulated_time(new_caller: NewCaller) -> None:
    async with new_caller(start=False, carrier=Phones()) as caller:
        assert caller.dialer._options.retry_delay == timedelta(minutes=5)
        assert caller.dialer._options.min_gap == timedelta(minutes=15)
    async with new_caller(start=False) as caller:
        assert caller.dialer._options.retry_delay < timedelta(seconds=1)


@over_both
async def test_a_launch_looks_at_the_account_of_today(new_caller: NewCaller, database: str) -> None:
    carrier = Phones()
    shared: Any = {"database": emptied_postgresql()} if database == "postgresql" else {}
    async with new_caller(start=False, carrier=carrier, **shared) as caller:
        made = (await caller.ask("POST", "/batch-call", whole()))["batch_call_id"]
        carrier.account_now = CarrierAccount(numbers=(CallerNumber(from_number="+14155550123"),), agents=None)
        for method, under, content in (("POST", "/execute", None), ("PATCH", "", {"send_now": True})):
            refused = await caller.ask(method, f"/batch-call/{made}{under}", content, status=422)
            assert f"from_number: {CALLER} is not a caller number of the account" in refused["error"]
        await caller.ask("PATCH", f"/batch-call/{made}", {"name": "Renamed"})


async def test_a_write_that_was_carried_out_answers_as_it_did(new_caller: NewCaller) -> None:
    carrier = Phones()
    async with new_caller(start=False, carrier=carrier) as caller:
        named: Any = {"headers": {"Idempotency-Key": "once"}}
        made = await caller.ask("POST", "/batch-call", whole(), **named)
        carrier.account_now = CarrierAccount(numbers=(), agents=())
        again = await caller.ask("POST", "/batch-call", whole(), **named)
        assert again["batch_call_id"] == made["batch_call_id"]


async def test_the_simulator_asks_for_nothing(new_caller: NewCaller) -> None:
    async with new_caller(start=False) as caller:
        await caller.ask("POST", "/batch-call", whole("+19005550123", from_number="+449091234567"))
        account = await caller.ask("GET", "/account")
        assert (account["carrier"], account["payer"], account["notes"]) == ("simulated", None, [])


@over_both
async def test_what_is_over_says_what_it_cost(new_caller: NewCaller, database: str) -> None:
    shared: Any = {"database": emptied_postgresql()} if database == "postgresql" else {}
    async with new_caller(start=False, carrier=Phones(), **shared) as caller:
        one = {"to_number": LOS_ANGELES, "dynamic_variables": {"first_name": "Ann"}}
        other = {**one, "to_number": "+12132000010"}
        later = whole(tasks=[one, other], trigger_timestamp="2026-11-24T20:00:00Z")
        made = (await caller.ask("POST", "/batch-call", later))["batch_call_id"]
        with caller.dialer.store().writing() as tx:
            tx.execute(tasks.update().values(cost="0.14 USD"))
        await caller.ask("POST", f"/batch-call/{made}/cancel")
        assert (await caller.get(made))["results"]["cost"] == {"amount": "0.28", "currency": "USD"}


@over_both
async def test_what_was_said_is_the_carrier_s(new_caller: NewCaller, database: str) -> None:
    carrier = Phones()
    shared: Any = {"database": emptied_postgresql()} if database == "postgresql" else {}
    async with new_caller(start=False, carrier=carrier, **shared) as caller:
        made = (await caller.ask("POST", "/batch-call", whole()))["batch_call_id"]
        task_id = (await caller.tasks(made))[0]["task_id"]
        path = f"/batch-call/{made}/tasks/{task_id}"
        missing = await caller.ask("GET", f"{path}/call", status=404)
        assert "has no such call" in missing["error"]
        with caller.dialer.store().writing() as tx:
            tx.execute(tasks.update().values(backend_status="ended", cost="0.14 USD", summary="Short."))
            row = {"task_id": task_id, "batch_call_id": made, "organization_id": "local", "to_number": LOS_ANGELES}
            tx.execute(sa.insert(attempts).values(n=1, started_at=1, carrier="phones", carrier_call_id="v1", **row))
            tx.execute(sa.insert(attempts).values(n=2, started_at=2, carrier="phones", **row))
        last = await caller.ask("GET", f"{path}/call")
        assert (last["call_id"], last["transcript"]) == (f"{task_id}:2", None)
        call = await caller.ask("GET", f"{path}/call?n=1")
        assert call["call_id"] == f"{task_id}:1"
        assert [turn["text"] for turn in call["transcript"]] == ["Hello Ann", "Hi"]
        assert (call["recording_url"], call["ended_reason"]) == (carrier.said.recording_url, "customer-hung-up")
        assert call["task"]["summary"] == "They confirmed."
        assert call["task"]["backend_status"] == "ended"
        assert call["task"]["cost"] == {"amount": "0.14", "currency": "USD"}
        found = await caller.ask("GET", f"{path}/attempts")
        assert [one["carrier_call_id"] for one in found["attempts"]] == ["v1", None]
        carrier.fault = CarrierUnavailable("it does not answer")
        assert (await caller.ask("GET", f"{path}/call?n=1", status=503))["code"] == "backend_unavailable"
    async with new_caller(start=False, **shared) as caller:
        elsewhere = await caller.ask("GET", f"{path}/call?n=1")
        assert (elsewhere["call_id"], elsewhere["transcript"]) == (f"{task_id}:1", None)


async def test_a_carrier_is_closed_with_its_dialer(new_caller: NewCaller) -> None:
    carrier = Phones()
    async with new_caller(start=False, carrier=carrier):
        assert not carrier.closed
    assert carrier.closed
