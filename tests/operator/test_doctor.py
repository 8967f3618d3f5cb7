"""`doctor` says what a server would find and calls nobody; `verify` calls one number, once, after a yes."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from mcp import Client
from mcp.types import ElicitRequestFormParams

from batchcall_mcp.backends.registry import backend_class
from batchcall_mcp.cli import cli
from batchcall_mcp.cli.account.doctor import _address, examine
from batchcall_mcp.cli.account.findings import Finding
from batchcall_mcp.cli.account.verify import Verification, ask, through
from batchcall_mcp.clock import utc_now
from batchcall_mcp.server.app import build_server
from batchcall_mcp.settings import Settings
from tests.carriers.twilio import KEY, NUMBER, SECRET, Twilio
from tests.vendors import elevenlabs, zudu
from tests.vendors.elevenlabs import ElevenLabs
from tests.vendors.magpipe import Magpipe
from tests.vendors.zudu import Zudu
from tests.walks.stage import Person, settings_of

MINE = "+14155550123"


def settings_for(tmp_path: Path, **variables: Any) -> Settings:
    lists = tmp_path / "lists"
    lists.mkdir(exist_ok=True)
    given = {"data_dir": tmp_path / "data", "files": lists, **variables}
    return settings_of({name.upper(): str(value) for name, value in given.items()})


def zudu_settings(tmp_path: Path, url: str, **variables: Any) -> Settings:
    account = {"backend": "zudu", "url": url, "api_key": zudu.KEY, "api_secret": zudu.SECRET}
    return settings_for(tmp_path, **{**account, **variables})


async def found(settings: Settings, clock: Callable[[], datetime] = utc_now) -> dict[str, list[Finding]]:
    by_subject: dict[str, list[Finding]] = {}
    async for finding in examine(settings, clock):
        by_subject.setdefault(finding.about, []).append(finding)
    return by_subject


def words(findings: dict[str, list[Finding]]) -> set[tuple[str, str]]:
    return {(one.about, one.word) for several in findings.values() for one in several}


async def test_a_sound_account_is_ok_in_every_line_and_nothing_was_written(tmp_path: Path) -> None:
    vendor = Zudu()
    async with vendor.served() as url:
        findings = await found(zudu_settings(tmp_path, url))
    assert {word for _, word in words(findings)} == {"ok"}
    assert {"backend", "numbers", "agents", "batch calls", "clock", "launches", "lists", "data", "database"} == set(
        findings
    )
    assert (vendor.writes, vendor.dialled) == ([], [])
    assert not (tmp_path / "data").exists()


async def test_a_wrong_key_is_named_with_its_variable_and_is_not_shown(tmp_path: Path) -> None:
    async with Zudu().served() as url:
        findings = await found(zudu_settings(tmp_path, url, api_key="sk_wrong_0123456789"))
    (finding,) = findings["account"]
    assert finding.word == "wrong"
    assert "BATCHCALL_API_KEY" in finding.said
    assert "sk_wrong_0123456789" not in str(findings)


async def test_a_missing_secret_an_odd_key_and_one_too_many_are_said(tmp_path: Path) -> None:
    async with Zudu().served() as url:
        without = settings_for(tmp_path, backend="zudu", url=url, api_key=zudu.KEY)
        (finding,) = (await found(without))["key"]
        assert (finding.word, "BATCHCALL_API_SECRET" in finding.said) == ("wrong", True)
    async with Magpipe().served() as url:
        odd = settings_for(tmp_path, backend="magpipe", url=url, api_key="another", api_secret="spare")
        said = [str(one) for one in (await found(odd))["key"]]
    assert said == [
        "look  key: keys of magpipe begin with mgp_, and this one does not.",
        "look  key: magpipe has no secrets: BATCHCALL_API_SECRET is not sent. Remove it.",
    ]


async def test_a_backend_that_cannot_be_reached_is_wrong(tmp_path: Path) -> None:
    findings = await found(zudu_settings(tmp_path, "http://127.0.0.1:9"))
    assert ("account", "wrong") in words(findings)
    assert "could not be reached" in findings["account"][0].said


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://dialer.example.com", "look"),
        ("https://dialer.example.com", "ok"),
        ("http://127.0.0.1:8080", "ok"),
        ("http://[::1]:8080", "ok"),
    ],
)
def test_a_key_over_plain_http_to_another_machine_is_pointed_out(url: str, word: str) -> None:
    assert _address(backend_class("batchcall"), url).word == word


async def test_an_account_without_numbers_cannot_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elevenlabs, "_NUMBERS", ())
    async with ElevenLabs().served() as url:
        account = {"backend": "elevenlabs", "url": url, "api_key": elevenlabs.KEY}
        findings = await found(settings_for(tmp_path, **account))
    assert [one.word for one in findings["numbers"]] == ["wrong"]
    assert "import a caller number" in findings["numbers"][0].said


@pytest.mark.parametrize(("off", "word", "said"), [(10, "ok", "as the backend's"), (95, "wrong", "95 s ahead of")])
async def test_a_clock_that_is_off_is_wrong(tmp_path: Path, off: int, word: str, said: str) -> None:
    async with Zudu().served() as url:
        now = utc_now() + timedelta(seconds=off)  # the vendor's clock stands, too
        findings = await found(zudu_settings(tmp_path, url), lambda: now)
    (finding,) = findings["clock"]
    assert finding.word == word
    assert re.sub("9[4567] s", "95 s", finding.said).find(said) >= 0


def carrier_settings(tmp_path: Path, url: str, **variables: Any) -> Settings:
    agents = tmp_path / "agents.toml"
    agents.write_text('[reminder]\nsay = "Hello."\n', encoding="utf-8")
    account = {"carrier": "twilio", "carrier_url": url, "carrier_key": KEY, "carrier_secret": SECRET, "agents": agents}
    return settings_for(tmp_path, **{**account, **variables})


async def test_of_a_carrier_it_says_that_phones_ring_who_pays_and_what_the_account_has(tmp_path: Path) -> None:
    vendor = Twilio()
    async with vendor.served() as url:
        findings = await found(carrier_settings(tmp_path, url, public_url="https://calls.example.com/"))
    payer = f"AC…{KEY[-4:]} at 127.0.0.1"
    reports = (
        "Twilio sends them to https://calls.example.com/carriers/twilio. `batchcall-mcp dialer` takes them; an MCP "
        "server does not start with BATCHCALL_PUBLIC_URL."
    )
    assert {about: [str(one) for one in findings[about]] for about in list(findings)[:8]} == {
        "backend": [
            "ok    backend: dialer, in the process of the server. Calls are placed while a client is connected."
        ],
        "carrier": [f"look  carrier: Twilio: real phones ring, and the Twilio account {payer} pays."],
        "pace": ["ok    pace: 10 calls at once, 1 a second, over all processes of this database."],
        "reports": [f"look  reports: {reports}"],
        "numbers": ["ok    numbers: 2"],
        "agents": ["ok    agents: 1"],
        "countries": ["ok    countries: US may be called: those of the caller numbers."],
        "clock": ["ok    clock: as Twilio's, to some seconds."],
    }
    assert (vendor.rung, vendor.creates) == ([], [])
    assert SECRET not in str(findings)
    assert KEY not in str(findings)
    assert not (tmp_path / "data").exists()


async def test_a_carrier_with_a_wrong_key_or_without_one_is_wrong(tmp_path: Path) -> None:
    async with Twilio().served() as url:
        findings = await found(carrier_settings(tmp_path, url, carrier_secret="another0123456789"))
    (finding,) = findings["account"]
    assert (finding.word, "BATCHCALL_CARRIER_SECRET" in finding.said) == ("wrong", True)
    assert "another0123456789" not in str(findings)
    assert ("account", "wrong") in words(await found(carrier_settings(tmp_path, "http://127.0.0.1:9")))
    missing = await found(settings_for(tmp_path, carrier="retell"))
    assert words(missing) >= {("carrier", "wrong"), ("launches", "ok")}
    assert "BATCHCALL_CARRIER_KEY" in missing["carrier"][0].said


async def test_a_carrier_next_to_a_backend_that_calls_itself_is_wrong_as_at_a_start(tmp_path: Path) -> None:
    async with Zudu().served() as url:
        settings = zudu_settings(tmp_path, url, carrier="retell", carrier_key="key_0123456789")
        findings = await found(settings)
    (finding,) = findings["carrier"]
    assert (finding.word, "Set BATCHCALL_BACKEND=dialer" in finding.said) == ("wrong", True)


async def test_countries_that_the_operator_names_are_shown(tmp_path: Path) -> None:
    vendor = Twilio()
    vendor.reads_numbers = 403
    async with vendor.served() as url:
        named = await found(carrier_settings(tmp_path, url, countries="gb,US"))
        none = await found(carrier_settings(tmp_path, url))
    assert [str(one) for one in named["countries"]] == ["ok    countries: GB, US may be called: BATCHCALL_COUNTRIES."]
    assert [one.word for one in none["countries"]] == ["look"]
    assert [one.word for one in none["numbers"]] == ["look"]


async def test_folders_stops_and_lists_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    no_calls = tmp_path / "no.txt"
    no_calls.write_text("+14155550199\n")
    findings = await found(settings_for(tmp_path, do_not_call=no_calls, files=tmp_path / "none", confirm="off"))
    assert words(findings) >= {("data", "wrong"), ("lists", "look"), ("launches", "look"), ("do-not-call", "ok")}
    assert "no account is needed" in findings["backend"][0].said


def test_the_command_ends_with_1_if_something_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHCALL_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("BATCHCALL_FILES", str(tmp_path))
    fine = CliRunner().invoke(cli, ["doctor"])
    assert (fine.exit_code, fine.stdout.splitlines()[0][:6]) == (0, "ok    ")
    monkeypatch.setenv("BATCHCALL_BACKEND", "zudu")
    wrong = CliRunner().invoke(cli, ["doctor"])
    assert wrong.exit_code == 1
    assert "wrong key: " in wrong.stdout


async def verified(settings: Settings, person: Person, **options: Any) -> tuple[int, Verification]:
    server = build_server(settings, transport="stdio")
    options = {"from_number": None, "agent_id": None, **options}
    run = Verification(server.tool_names, {"to_number": MINE}, **options)
    async with Client(server, elicitation_callback=person) as client:
        return await run.run(client), run


async def test_one_number_is_called_once_and_the_report_names_nobody(tmp_path: Path) -> None:
    person = Person("yes")
    settings = settings_for(tmp_path, simulated_speed="2000", calling_hours="00:00-24:00")
    code, run = await verified(settings, person, from_number="+14157774444")
    report = run.report(through(settings, "dialer"))
    assert code == 0
    assert len(person.questions) == 1
    assert report.startswith("### dialer through simulated, 20")
    assert "its task completed" in report
    assert MINE not in report
    assert "+1" not in report
    assert "bc_" not in report


async def test_a_real_carrier_calls_one_number_once_after_a_yes_and_the_report_names_nobody(tmp_path: Path) -> None:
    vendor = Twilio()
    person = Person("yes")
    async with vendor.served() as url:
        settings = carrier_settings(tmp_path, url, calling_hours="00:00-24:00")
        code, run = await verified(settings, person, from_number=NUMBER)
    report = run.report(through(settings, "dialer"))
    assert (code, [number for number, _ in vendor.rung]) == (0, [MINE])
    (question,) = person.questions
    assert "real phones ring" in question.lower()
    assert report.startswith("### dialer through twilio, 20")
    assert "its task completed" in report
    assert not re.search(r"\+1|CA[0-9a-f]{8}|bc_|reminder", report)


async def test_who_verifies_again_is_called_again(tmp_path: Path) -> None:
    vendor = Twilio()
    async with vendor.served() as url:
        variables = {"calling_hours": "00:00-24:00", "min_gap_minutes": 0}
        settings = carrier_settings(tmp_path, url, **variables)
        codes = [(await verified(settings, Person("yes"), from_number=NUMBER))[0] for _ in range(2)]
    assert (codes, [number for number, _ in vendor.rung]) == ([0, 0], [MINE, MINE])


async def test_a_real_carrier_calls_nobody_without_a_yes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vendor = Twilio()
    async with vendor.served() as url:
        settings = carrier_settings(tmp_path, url, calling_hours="00:00-24:00")
        code, _ = await verified(settings, Person("no"), from_number=NUMBER)
    assert (code, vendor.rung, vendor.creates) == (4, [], [])
    assert "Nobody was called: the question was not answered with yes." in capsys.readouterr().err


async def test_a_missing_caller_number_is_named_by_its_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The simulated dialer has no list of them."""
    code, _ = await verified(Settings(data_dir=tmp_path, backend="dialer"), Person("yes"))
    assert code != 0
    assert "Name the caller number with --from." in capsys.readouterr().err


async def test_without_a_yes_nobody_is_called(tmp_path: Path) -> None:
    vendor = ElevenLabs()
    async with vendor.served() as url:
        account = {"backend": "elevenlabs", "url": url, "api_key": elevenlabs.KEY}
        options = {"from_number": elevenlabs.NUMBER, "agent_id": elevenlabs.AGENT}
        code, _ = await verified(settings_for(tmp_path, **account), Person("no"), **options)
    assert (code, vendor.writes, vendor.dialled) == (4, [], [])


async def test_an_account_with_several_numbers_is_not_guessed_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vendor = ElevenLabs()
    async with vendor.served() as url:
        account = {"backend": "elevenlabs", "url": url, "api_key": elevenlabs.KEY}
        code, _ = await verified(settings_for(tmp_path, **account), Person("yes"))
    assert (code, vendor.writes) == (4, [])
    assert "--from" in capsys.readouterr().err


@pytest.mark.parametrize("said", [True, False])
async def test_the_question_is_put_in_the_terminal(said: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click, "confirm", lambda *_arguments, **_options: said)
    schema = {"type": "object", "properties": {"confirm": {"type": "boolean"}}}
    answer = await ask(None, ElicitRequestFormParams(message="Call?", requested_schema=schema))  # type: ignore[arg-type]
    assert (answer.action, answer.content) == (("accept", {"confirm": True}) if said else ("decline", None))


def test_without_a_terminal_nothing_is_launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHCALL_DATA_DIR", str(tmp_path))
    refused = CliRunner().invoke(cli, ["verify", "--to", MINE])
    assert refused.exit_code == 2
    assert "not a terminal" in refused.stderr
