"""Settings that do not work are one clear line that names the variable, and never repeats a secret."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.money import Money
from batchcall_mcp.server.app import build_server
from batchcall_mcp.settings import PREFIX, Settings, secret_problem


def test_without_any_variable_the_defaults_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BATCHCALL_FILES")
    settings = Settings.load()

    assert (settings.backend, settings.api_key, settings.mode, settings.confirm) == (None, None, "full", "auto")
    assert settings.calling_hours == "08:00-21:00"
    assert settings.request_timeout_s == 15
    assert settings.simulated_speed == 20
    assert [folder.name for folder in settings.files] == ["batchcall"]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("BATCHCALL_MODE", "readonly", "must be 'full', 'draft' or 'read-only'"),
        ("BATCHCALL_CONFIRM", "yes", "'auto', 'person', 'code' or 'off'"),
        ("BATCHCALL_MAX_CALLS_PER_LAUNCH", "0", "greater than or equal to 1"),
        ("BATCHCALL_DEFAULT_REGION", "usa", 'such as "US"'),
        ("BATCHCALL_CALLING_HOURS", "9-17", 'such as "08:00-21:00"'),
        ("BATCHCALL_REQUEST_TIMEOUT_S", "soon", "valid number"),
        ("BATCHCALL_COST_PER_MINUTE", "14 cents", "such as 0.14 USD"),
        ("BATCHCALL_MAX_COST_PER_DAY", "0 USD", "must be more than 0"),
    ],
)
def test_a_bad_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match="Nothing was started") as caught:
        Settings.load()

    assert name in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("BATCHCALL_CARRIER", " ", "is blank"),
        ("BATCHCALL_CARRIER_URL", "http://api.example.com", "must begin with https://"),
        ("BATCHCALL_CARRIER_URL", "https://api.example.com?key=s3cr3t", "holds a query"),
        ("BATCHCALL_CARRIER_KEY", "${KEY}", "unfilled"),
        ("BATCHCALL_CARRIER_SECRET", "two words", "white space"),
        ("BATCHCALL_CARRIER_CONCURRENCY", "0", "greater than or equal to 1"),
        ("BATCHCALL_CARRIER_CALLS_PER_SECOND", "0", "greater than 0"),
        ("BATCHCALL_PUBLIC_URL", "http://calls.example.com", "must begin with https://"),
        ("BATCHCALL_COUNTRIES", "US, USA", "'USA' is not a country's two letters"),
        ("BATCHCALL_COUNTRIES", " , ", "is not a country's two letters"),
    ],
)
def test_a_carriers_setting_that_cannot_work_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv("BATCHCALL_CARRIER", "twilio")
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=r"Nothing was started") as caught:
        Settings.load()

    assert f"{name}: " in str(caught.value)
    assert words in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BATCHCALL_CARRIER_URL", "https://api.example.com"),
        ("BATCHCALL_CARRIER_KEY", "s3cr3t"),
        ("BATCHCALL_CARRIER_SECRET", "s3cr3t"),
        ("BATCHCALL_CARRIER_CONCURRENCY", "3"),
        ("BATCHCALL_CARRIER_CALLS_PER_SECOND", "0.5"),
        ("BATCHCALL_AGENTS", "agents.toml"),
        ("BATCHCALL_PUBLIC_URL", "https://calls.example.com"),
        ("BATCHCALL_COUNTRIES", "us, gb"),
    ],
)
def test_a_carriers_setting_without_a_carrier_would_be_a_simulation(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Who sets an account means real calls."""
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=f"{name}: is set, and BATCHCALL_CARRIER is not") as caught:
        Settings.load()
    assert "s3cr3t" not in str(caught.value)

    monkeypatch.setenv("BATCHCALL_CARRIER", " Twilio ")
    loaded = Settings.load()
    assert (loaded.carrier, loaded.places_real_calls) == ("twilio", True)
    assert "s3cr3t" not in repr(loaded)
    monkeypatch.setenv("BATCHCALL_CARRIER", "simulated")  # a rehearsal with the account's settings at hand
    assert not Settings.load().places_real_calls


AMOUNTS = ("BATCHCALL_COST_PER_MINUTE", "BATCHCALL_MAX_COST_PER_LAUNCH", "BATCHCALL_MAX_COST_PER_DAY")


@pytest.mark.parametrize("other", AMOUNTS)
def test_amounts_in_two_currencies_do_not_start(monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    for name in AMOUNTS:
        monkeypatch.setenv(name, "50 USD")
    assert Settings.load().max_cost_per_day == Money(Decimal(50), "USD")
    monkeypatch.setenv(other, "50 EUR")

    with pytest.raises(ConfigurationError, match=r"is in EUR.*is in USD|is in USD.*is in EUR") as caught:
        Settings.load()

    assert other in str(caught.value)
    assert "Nothing was started" in str(caught.value)


@pytest.mark.parametrize("name", ["BATCHCALL_API_KEY", "BATCHCALL_API_SECRET"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("   ", "is blank"),
        ("${MY_SECRET_VARIABLE}", "unfilled"),
        ("s3cr3t with space", "white space"),
        ("s3cr3t\u2028", "white space"),
        ("s3cr3té", "HTTP header"),
    ],
)
def test_a_secret_that_cannot_be_meant_is_refused_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setenv(name, value)

    with pytest.raises(ConfigurationError, match=name) as caught:
        Settings.load()

    assert words in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert "MY_SECRET" not in str(caught.value)


@pytest.mark.parametrize("value", ["x", "mgp_0", "sk_" + "a" * 200, "a=b&c;d"])
def test_a_key_is_not_judged_by_its_length_or_format(value: str) -> None:
    assert secret_problem(value) is None


def test_secrets_do_not_show_in_a_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHCALL_API_KEY", "k-very-secret")

    assert "k-very-secret" not in repr(Settings.load())


def test_a_name_that_nothing_reads_is_refused_with_the_one_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt limit must not be a limit that does not hold."""
    monkeypatch.setenv("BATCHCALL_MAX_CALL_PER_LAUNCH", "100")

    with pytest.raises(ConfigurationError, match=r"did you mean BATCHCALL_MAX_CALLS_PER_LAUNCH\?"):
        Settings.load()


def test_an_env_file_is_read_only_if_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BATCHCALL_MODE=draft\nOTHER=1\n")
    monkeypatch.chdir(tmp_path)
    assert Settings.load().mode == "full"

    monkeypatch.setenv("BATCHCALL_ENV_FILE", str(tmp_path / ".env"))
    assert Settings.load().mode == "draft"


def test_an_env_file_is_held_to_the_same_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("BATCHCALL_MOED=draft\n")
    monkeypatch.setenv("BATCHCALL_ENV_FILE", str(tmp_path / ".env"))

    with pytest.raises(ConfigurationError, match="did you mean BATCHCALL_MODE"):
        Settings.load()


def test_an_env_file_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BATCHCALL_ENV_FILE", str(tmp_path / "gone"))

    with pytest.raises(ConfigurationError, match="BATCHCALL_ENV_FILE"):
        Settings.load()


def test_an_env_file_that_is_no_text_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "env").write_bytes(b"BATCHCALL_MODE=\xff\xfe")
    monkeypatch.setenv("BATCHCALL_ENV_FILE", str(tmp_path / "env"))

    with pytest.raises(ConfigurationError, match="cannot be read as UTF-8"):
        Settings.load()


def test_several_folders_and_hosts_are_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHCALL_FILES", "/a:~/b:")
    monkeypatch.setenv("BATCHCALL_ALLOWED_HOSTS", "calls.example.com, calls.example.com:*")

    settings = Settings.load()

    assert settings.files == (Path("/a"), Path("~/b").expanduser())
    assert settings.allowed_hosts == ("calls.example.com", "calls.example.com:*")


NAMES = st.sampled_from(sorted(PREFIX + name.upper() for name in (*Settings.model_fields, "env_file")))
# Whatever an environment can hold: no NUL, and no half characters but those that stand for undecodable bytes.
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.sampled_from(
    ["", "0", "-1", "1e400", "nan", "null", "[]", '{"a": 1}', "~", "~nobody-here/x", "a" * 5000, "/", ".", "\udcff"]
)


@example({"BATCHCALL_FILES": "~nobody-here/x"})
@example({"BATCHCALL_DATA_DIR": "~nobody-here/x"})
@example({"BATCHCALL_DO_NOT_CALL": "~nobody-here/x"})
@example({"BATCHCALL_ENV_FILE": "a" * 5000})
@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_any_text_in_any_variable_is_settings_or_a_clear_refusal(variables: dict[str, str]) -> None:
    with mock.patch.dict(os.environ, variables):
        try:
            Settings.load()
        except ConfigurationError as error:
            told = error.message
        else:
            return
    assert told.endswith((".", "variable.", "it."))
    assert any(name in told for name in variables)


@given(
    st.sampled_from(["BATCHCALL_API_KEY", "BATCHCALL_API_SECRET"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    st.sampled_from([{}, {"BATCHCALL_MODE": "none"}, {"BATCHCALL_MAX_CALLS_PER_LAUNCH": "many"}]),
)
def test_no_secret_is_repeated_whatever_else_is_wrong(name: str, around: str, other: dict[str, str]) -> None:
    secret = "s3cr3t_zq9"
    with mock.patch.dict(os.environ, {name: around + secret + around} | other):
        try:
            told = repr(Settings.load())
        except ConfigurationError as error:
            told = repr(error) + repr(error.__cause__)
    assert secret not in told


GATE_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    ("url", "secret", "names"),
    [
        ("https://gate.example.com/x", None, "PREDIAL_SECRET: is missing"),
        (None, GATE_SECRET, "PREDIAL_SECRET: is set, and BATCHCALL_PREDIAL_URL is not"),
        ("https://gate.example.com/x", "secret", "PREDIAL_SECRET: must be whsec_"),
        ("http://gate.example.com/x", GATE_SECRET, "PREDIAL_URL: must begin with https://"),
        ("http://10.0.0.1/x", GATE_SECRET, "PREDIAL_URL: must begin with https://"),
        ("https://user:word@gate.example.com/x", GATE_SECRET, "PREDIAL_URL: must be a URL"),
        ("gate.example.com", GATE_SECRET, "PREDIAL_URL: must be a URL"),
    ],
)
def test_a_gate_that_cannot_be_asked_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, url: str | None, secret: str | None, names: str
) -> None:
    for name, value in (("URL", url), ("SECRET", secret)):
        if value is not None:
            monkeypatch.setenv(f"BATCHCALL_PREDIAL_{name}", value)
    with pytest.raises(ConfigurationError, match=names) as refused:
        Settings.load()
    assert GATE_SECRET not in refused.value.message


@pytest.mark.parametrize(
    "url", ["https://10.0.0.1/x", "http://127.0.0.1:8000/x", "http://localhost/x", "http://[::1]:1/"]
)
def test_a_gate_is_encrypted_or_on_this_machine(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("BATCHCALL_PREDIAL_URL", url)
    monkeypatch.setenv("BATCHCALL_PREDIAL_SECRET", GATE_SECRET)
    settings = Settings.load()
    assert (settings.predial_url, settings.predial_on_this_machine) == (url, not url.startswith("https"))


def test_several_do_not_call_files_are_taken_apart_and_none_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHCALL_DO_NOT_CALL", "/a.txt:~/b.csv")
    assert Settings.load().do_not_call == (Path("/a.txt"), Path("~/b.csv").expanduser())
    for blank in ("", " ", ":"):
        monkeypatch.setenv("BATCHCALL_DO_NOT_CALL", blank)
        with pytest.raises(ConfigurationError, match="DO_NOT_CALL: is blank"):
            Settings.load()


def test_a_gate_that_the_backend_would_not_ask_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHCALL_PREDIAL_URL", "https://gate.example.com/x")
    monkeypatch.setenv("BATCHCALL_PREDIAL_SECRET", GATE_SECRET)
    monkeypatch.setenv("BATCHCALL_BACKEND", "zudu")
    with pytest.raises(ConfigurationError, match="zudu places the calls itself"):
        build_server(Settings.load(), transport="stdio")


@pytest.mark.parametrize("written", ["us", "US", " Us "])
def test_a_region_is_taken_in_any_case(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("BATCHCALL_DEFAULT_REGION", written)
    assert Settings.load().default_region == "US"
