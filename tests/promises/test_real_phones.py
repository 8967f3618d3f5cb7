"""The dialer inside the MCP server with a carrier that rings real phones: what is said, asked and refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.server.app import build_server
from batchcall_mcp.settings import Settings
from tests.carriers.twilio import KEY, NUMBER, SECRET, Twilio
from tests.dialer.carriers.phones import AGENT, CALLER, Phones
from tests.server.contract import reported
from tests.server.test_contract import MOST_BYTES, MOST_TOOLS, size
from tests.walks.stage import ALWAYS, NEW_YORK, Model, Person, number, playing

PEOPLE = [number(NEW_YORK, line) for line in range(3)]
OPEN: dict[str, Any] = {"calling_hours": "00:00-24:00"}
REAL: dict[str, Any] = {"carrier": "phones", "carrier_key": "s3cr3t", **OPEN}
MADE: list[Phones] = []


def posing(config: CarrierConfig) -> Phones:
    """One that would dial the simulator's batch calls."""
    return Phones("simulated")


def phones(config: CarrierConfig) -> Phones:
    """What the entry point names."""
    MADE.append(Phones())
    return MADE[-1]


@pytest.fixture(autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution with an entry point, as an installer leaves it."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "phones-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: phones\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[batchcall_mcp.carriers]\nphones = {__name__}:phones\nposing = {__name__}:posing\n"
    )
    monkeypatch.syspath_prepend(folder)
    MADE.clear()
    yield
    MADE.clear()


def tasks(people: list[str] = PEOPLE) -> list[dict[str, Any]]:
    return [{"to_number": one, "dynamic_variables": {"first_name": "Ann"}} for one in people]


def wanted(**more: Any) -> dict[str, Any]:
    return {"from_number": CALLER, "agent_id": AGENT, "tasks": tasks(), "window": ALWAYS, **more}


async def until_completed(model: Model, named: dict[str, Any]) -> None:
    while (await model.call("watch_batch_call", **named, timeout_seconds=15))["batch_call"]["status"] != "completed":
        continue


async def test_the_question_says_that_real_phones_ring_and_who_pays(tmp_path: Path) -> None:
    person = Person("no")
    async with playing("auto", person, data_dir=tmp_path, **REAL) as model:
        made = await model.call("create_batch_call", **wanted())
        named = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await model.refused("start_batch_call", "not_confirmed", **named, trigger_timestamp="now")
    (question,) = person.questions
    assert "Real phones ring, and the Acme account AC…9f2c pays." in question
    assert "Calls are placed only while this client is connected." in question
    assert 'Agent "Ada" (agent_1) speaks, from +1 415 777 4444.' in question
    assert 'It begins: "Hello Ann' in question
    assert "simulated" not in question


async def test_a_client_that_cannot_ask_gets_no_code_where_real_phones_ring(tmp_path: Path) -> None:
    async with playing("auto", data_dir=tmp_path, approval_page="off", **REAL) as model:
        made = await model.call("create_batch_call", **wanted())
        named = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        answer = await model.call("start_batch_call", **named, trigger_timestamp="now")
        assert answer["result"] == "waiting_for_person"
        assert "confirmation_code" not in answer


async def test_fifty_people_leave_a_minute_to_think_again(tmp_path: Path) -> None:
    person = Person()
    async with playing("auto", person, data_dir=tmp_path, **REAL) as model:
        many = [number(NEW_YORK, line) for line in range(50)]
        made = await model.call("create_batch_call", **wanted(tasks=tasks(many)))
        named = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        started = await model.call("start_batch_call", **named, trigger_timestamp="now")
        assert started["batch_call"]["status"] == "scheduled"
        await model.call("cancel_batch_call", **named)
    assert "Phones ring 60 seconds after your yes" in person.questions[0]


async def test_the_account_is_the_carriers(tmp_path: Path) -> None:
    async with playing("auto", data_dir=tmp_path, **REAL) as model:
        found = await model.call("get_backend")
        assert [one["from_number"] for one in found["numbers"]] == [CALLER]
        assert [one["agent_id"] for one in found["agents"]] == [AGENT]
        assert "Real phones ring, through Acme Phones, and the Acme account AC…9f2c pays." in found["notes"]
        assert "A note of the account." in found["notes"]
        said = str(found)
        assert "no phone rings" not in said
        assert "get_call" in await model.tools()


async def test_what_the_account_cannot_call_is_refused_before_anybody_is_asked(tmp_path: Path) -> None:
    person = Person()
    async with playing("auto", person, data_dir=tmp_path, **REAL) as model:
        for fields, words in (
            ({"from_number": "+14155550123"}, "from_number: +14155550123 is not a caller number of the account"),
            ({"agent_id": "other"}, "is not an agent of the account"),
            ({"tasks": [{"to_number": PEOPLE[0]}]}, "tasks.0: the variable first_name is missing"),
            ({"tasks": tasks(["+442079460958"])}, "tasks.0.to_number: is in GB, which may not be called"),
        ):
            text = await model.refused("create_batch_call", "invalid_input", **wanted(**fields))
            assert words in text
            assert "s3cr3t" not in text
    assert person.questions == []


async def test_a_check_names_who_would_be_refused_and_reckons_with_the_lines_of_the_account(tmp_path: Path) -> None:
    person = Person("no")
    lines = Phones().capacity
    async with playing("auto", person, data_dir=tmp_path, **REAL) as model:
        people = tasks(["+442079460958", "+442079460959", *PEOPLE])
        checked = await model.call("check_batch_call", tasks=people, from_number=CALLER, agent_id=AGENT, window=ALWAYS)
        assert "Numbers outside US are refused: 2 in GB." in checked["preflight"]["warnings"]
        assert checked["summary"] == "3 of 5 rows can be called; the account may not call 2. Nothing was sent."
        assert "tool" not in checked["next"]  # what should change, and not a create that would be refused
        dear = tasks(["+19005550123", "+12139765555", *PEOPLE])
        checked = await model.call("check_batch_call", tasks=dear, from_number=CALLER, agent_id=AGENT, window=ALWAYS)
        assert checked["summary"] == "3 of 5 rows can be called; the account may not call 2. Nothing was sent."
        (warning,) = [one for one in checked["preflight"]["warnings"] if "refused" in one]
        assert warning.startswith(
            "Numbers of a kind that is never called are refused: 1 (is a premium-rate number), 1 ("
        )
        assert "tool" not in checked["next"]
        many = tasks([f"+1415555{n:04d}" for n in range(2000, 2000 + 3 * lines)])
        made = await model.call("create_batch_call", **wanted(tasks=many, max_concurrency=1000))
        named = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await model.refused("start_batch_call", "not_confirmed", **named, trigger_timestamp="now")
        notes = (await model.call("get_backend"))["notes"]
    assert f"About 6 minutes, at most {lines} at once" in person.questions[0]
    assert f"At most {lines} calls at once, over all batch calls." in notes
    assert "Only these countries may be called: US." in notes


async def test_a_rehearsal_never_rings(tmp_path: Path) -> None:
    """Made with the simulator: a process with real phones refuses to start it, before anybody is asked."""
    async with playing("auto", data_dir=tmp_path, **OPEN) as model:
        made = await model.call("create_batch_call", **wanted())
        named = {"batch_call_id": made["batch_call"]["batch_call_id"]}
    person = Person()
    async with playing("auto", person, data_dir=tmp_path, **REAL) as model:
        shown = await model.call("get_batch_call", **named)
        assert any("Simulated" in note for note in shown["batch_call"]["notes"])
        assert "next" not in shown  # a start would be refused
        text = await model.refused("start_batch_call", "illegal_transition", **named, trigger_timestamp="now")
        assert "it was made with the simulated carrier, and real phones ring here" in text
    assert person.questions == []


async def test_a_real_list_is_never_called_by_the_simulator(tmp_path: Path) -> None:
    async with playing("auto", data_dir=tmp_path, **REAL) as model:
        made = await model.call("create_batch_call", **wanted())
        named = {"batch_call_id": made["batch_call"]["batch_call_id"]}
    async with playing("auto", Person(), data_dir=tmp_path, **OPEN) as model:
        shown = await model.call("get_batch_call", **named)
        assert shown["batch_call"]["notes"] == [
            "It belongs to the carrier phones: the dialer here does not call its people."
        ]
        text = await model.refused("start_batch_call", "illegal_transition", **named, trigger_timestamp="now")
        assert "belongs to the carrier" in text


async def test_calls_are_placed_and_what_was_said_is_read(tmp_path: Path) -> None:
    person = Person()
    async with playing("auto", person, data_dir=tmp_path, **REAL) as model:
        made = await model.call("create_batch_call", **wanted())
        named = {"batch_call_id": made["batch_call"]["batch_call_id"]}
        await model.call("start_batch_call", **named, trigger_timestamp="now")
        await until_completed(model, named)
        call = await model.call("get_call", **named, to_number=PEOPLE[0])
        said = call["call"]
        assert [turn["text"] for turn in said["transcript"]] == ["Hello Ann", "Hi"]
        assert said["recording_url"] == "https://calls.example.com/rec.mp3"
    assert MADE[-1].closed


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"carrier": "phonez", "carrier_key": "k"}, "BATCHCALL_CARRIER names an unknown carrier: 'phonez'"),
        ({"carrier": "phones"}, "BATCHCALL_CARRIER_KEY is not set"),
        ({"carrier": "posing", "carrier_key": "k"}, "The carrier 'posing' calls itself 'simulated'"),
        ({"carrier": "twilio", "carrier_key": "AC1"}, "BATCHCALL_CARRIER_SECRET is not set"),
        ({"carrier": "twilio", "carrier_key": "AC1", "carrier_secret": "t"}, "BATCHCALL_AGENTS is not set"),
        (
            {"carrier": "twilio", "carrier_key": "AC1", "carrier_secret": "t", "agents": Path("/nowhere/agents.toml")},
            "BATCHCALL_AGENTS names a file that does not exist",
        ),
        ({"carrier": "phones", "backend": "zudu"}, "the backend zudu places the calls itself"),
        ({"carrier": "simulated", "api_key": "k"}, "the backend batchcall places the calls itself"),
        ({**REAL, "public_url": "https://calls.example.com"}, "BATCHCALL_PUBLIC_URL is set"),
        ({**REAL, "countries": frozenset({"UK"})}, "BATCHCALL_COUNTRIES names what is not a country"),
    ],
)
def test_what_cannot_work_is_said_at_the_start(tmp_path: Path, given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match="Nothing was") as caught:
        build_server(Settings(data_dir=tmp_path, **given), transport="stdio")
    assert words in caught.value.message


def test_the_instructions_say_that_real_phones_ring(tmp_path: Path) -> None:
    server = build_server(Settings(data_dir=tmp_path, **REAL), transport="stdio")
    assert "This backend is the built-in dialer: real phones ring" in (server.instructions or "")
    assert len((server.instructions or "").encode()) < 1024


async def test_the_tools_cost_a_model_as_little_as_elsewhere(tmp_path: Path) -> None:
    tools = await build_server(Settings(data_dir=tmp_path, **REAL), transport="stdio").list_tools()
    read = [{name: reported(tool)[name] for name in ("name", "description", "inputSchema")} for tool in tools]
    assert sum(map(size, read)) <= MOST_BYTES
    assert len(tools) <= MOST_TOOLS


def test_no_carrier_needs_nothing(tmp_path: Path) -> None:
    build_server(Settings(data_dir=tmp_path, carrier="simulated"), transport="stdio")


async def test_twilio_from_the_question_to_the_outcome(tmp_path: Path) -> None:
    agents = tmp_path / "agents.toml"
    agents.write_text('[reminder]\nname = "Reminder"\nsay = "Hello {{first_name}}."\n')
    vendor = Twilio()
    person = Person()
    async with vendor.served() as url:
        account = {"carrier_key": KEY, "carrier_secret": SECRET, "carrier_url": url, "agents": str(agents)}
        async with playing("auto", person, data_dir=tmp_path, carrier="twilio", **account, **OPEN) as model:
            people = ["+12125550100", "+12125550107"]
            asked = {"from_number": NUMBER, "agent_id": "reminder", "tasks": tasks(people), "window": ALWAYS}
            made = await model.call("create_batch_call", **asked)
            named = {"batch_call_id": made["batch_call"]["batch_call_id"]}
            assert vendor.rung == []
            await model.call("start_batch_call", **named, trigger_timestamp="now")
            await until_completed(model, named)
            shown = await model.call("get_batch_call", **named)
            assert [(one["to_number"], one["status"]) for one in shown["tasks"]] == [
                ("+12125550100", "completed"),
                ("+12125550107", "busy"),
            ]
    assert [number for number, _ in vendor.rung] == people
    (question,) = person.questions
    assert "Real phones ring, and the Twilio account AC" in question
    assert 'Agent "Reminder" (reminder) speaks' in question
    assert SECRET not in question + str(shown)
