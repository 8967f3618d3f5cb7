"""Which snapshot is answered from is decided without the real settings: only where those are certain to agree."""

from __future__ import annotations

import os
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchcall_mcp.backends.registry import BUILT_IN
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.fast_start import SETTINGS, surface_of
from batchcall_mcp.server.app import build_server
from batchcall_mcp.server.startup import load_settings
from batchcall_mcp.settings import PREFIX, Settings

HOSTILE = [
    "",
    " ",
    "0",
    "-1",
    "+1",
    "1_000",
    "\N{ARABIC-INDIC DIGIT ONE}",
    "1e3",
    "999999999999",
    "on",
    "off",
    "ON",
    "full ",
    "Full",
    "readonly",
    "us",
    "US\n",
    "\n",
    "DEBUG\n",
    "${KEY}",
    "a${KEY}",
    "key with space",
    "schlüssel",
    "key\u200b",
    "\udcff",
    "~nobody-of-this-name/lists",
    "~",
    "/data:~nobody-of-this-name",
    "relative",
    ":",
    "24:00-08:00",
    "08:00-24:00",
    "\N{ARABIC-INDIC DIGIT ZERO}8:00-21:00",
    "http://a:b:c/",
    "http://",
    "http:///path",
    "https://user:secret@api.example.com",
    "https://api.example.com?key=1",
    "https://api.example.com#here",
    "https://xn--a/",
    "https://xn--/",
    "https://a..b/",
    "https://-a.example.com",
    "https://a-.example.com",
    "https://api.example.com:0",
    "https://api.example.com:65536",
    "https://api.example.com:99999/v1",
    "https://999.999.999.999/",
    "https://1.2.3",
    "https://0x7f.1",
    "https://[::1]/",
    "https://[",
    "https://api.example.com/%zz",
    "https://api.example.com/ /",
    "ftp://api.example.com",
    "HTTPS://API.EXAMPLE.COM",
    "//api.example.com",
    "dialer",
    "Dialer",
    "nobody",
    "third-party",
]
USUAL = [
    *BUILT_IN,
    "full",
    "draft",
    "read-only",
    "auto",
    "person",
    "code",
    "json",
    "text",
    "INFO",
    "US",
    "8",
    "250",
    "08:00-21:00",
    "/srv/lists",
    "/srv/lists:/srv/more lists",
    "key-1",
    "https://api.example.com",
    "https://my-api.example.com:8443/v1/batch-calls/",
    "http://127.0.0.1:59999",
    "http://localhost:8080/",
]
values = st.one_of(
    st.sampled_from([value for value in HOSTILE if value]),
    st.sampled_from(USUAL),
    st.text(st.characters(exclude_characters="\x00"), max_size=12),
    st.text("htps:/.0127aez-_@?#[]%~${}", max_size=24).map(lambda rest: f"http://{rest}"),
    st.from_regex(r"https?://[a-z0-9.-]{1,12}(:[0-9]{1,5})?(/[a-z0-9._-]{0,4}){0,2}", fullmatch=True),
)
names = st.one_of(
    st.sampled_from([*SETTINGS, *(name.upper() for name in Settings.model_fields), "ENV_FILE", "NO_SUCH"]),
    st.sampled_from(["mode", "Backend", "backend"]),
)
HOME = {"HOME": "/home/nobody-of-this-name"}
environments = st.dictionaries(names.map(lambda name: PREFIX + name), values, max_size=4)


@given(environments)
@example({"BATCHCALL_URL": "http://a:b:c/"})
@example({"BATCHCALL_URL": "https://999.999.999.999"})
@example({"BATCHCALL_BACKEND": "dialer", "BATCHCALL_URL": "https://api.example.com"})
@example({"BATCHCALL_MODE": "draft", "batchcall_mode": "read-only"})
@example({"BATCHCALL_API_KEY": "key"})
def test_where_it_decides_the_real_settings_and_the_real_server_agree(environment: dict[str, str]) -> None:
    decided = surface_of(HOME | environment)
    if decided is None or decided[0] not in BUILT_IN:
        return
    with mock.patch.dict(os.environ, HOME | environment, clear=True):
        server = build_server(load_settings(), transport="stdio")
    assert decided == (server.service.backend_type.name, server.service.settings.mode)
    assert (server.service.settings.test_numbers, server.service.settings.places_real_calls) == ((), False)


@pytest.mark.parametrize("name", sorted(SETTINGS))
@pytest.mark.parametrize("value", HOSTILE)
def test_no_hostile_value_of_a_setting_is_decided_upon_and_then_refused(name: str, value: str) -> None:
    environment = {PREFIX + name: value}
    if name == "URL":
        environment[PREFIX + "BACKEND"] = "batchcall"
    decided = surface_of(HOME | environment)
    if decided is None or decided[0] not in BUILT_IN:
        return
    with mock.patch.dict(os.environ, HOME | environment, clear=True):
        build_server(Settings.load(), transport="stdio")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ("dialer", "full")),
        ({"PATH": "/bin", "BATCHCALL_MODE": "draft"}, ("dialer", "draft")),
        ({"BATCHCALL_API_KEY": "key"}, ("batchcall", "full")),
        ({"BATCHCALL_URL": "https://my-api.example.com:8443/v1"}, ("batchcall", "full")),
        ({"BATCHCALL_BACKEND": "magpipe", "BATCHCALL_API_KEY": "key"}, ("magpipe", "full")),
        ({"BATCHCALL_BACKEND": "zudu", "BATCHCALL_DATA_DIR": "/srv/batch calls"}, ("zudu", "full")),
    ],
)
def test_usual_settings_are_decided_upon(environment: dict[str, str], expected: tuple[str, str]) -> None:
    assert surface_of(HOME | environment) == expected


@pytest.mark.parametrize(
    "environment",
    [
        {"BATCHCALL_FAST_START": "off"},
        {"BATCHCALL_ENV_FILE": "/srv/batchcall.env"},
        {"BATCHCALL_CARRIER": "twilio"},
        {"BATCHCALL_TEST_NUMBERS": "+14155550123"},
        {"batchcall_mode": "draft"},
        {"BATCHCALL_NO_SUCH": "1"},
        {"BATCHCALL_BACKEND": "dialer", "BATCHCALL_URL": "https://api.example.com"},
        {"BATCHCALL_URL": "http://a:b:c/"},
    ],
)
def test_what_only_the_real_settings_can_judge_takes_the_ordinary_way(environment: dict[str, str]) -> None:
    assert surface_of(HOME | environment) is None


def test_no_setting_is_decided_upon_that_there_is_not() -> None:
    assert {name.lower() for name in SETTINGS} <= Settings.model_fields.keys()


def test_it_is_switched_off_by_its_own_setting_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHCALL_FAST_START", "of")
    with pytest.raises(ConfigurationError, match="BATCHCALL_FAST_START"):
        Settings.load()


def test_without_a_home_folder_only_the_real_settings_know_the_folders() -> None:
    """A user without an entry has none, as in containers: then there is no data folder either, and no server."""
    assert surface_of({"PATH": "/bin"}) is None
