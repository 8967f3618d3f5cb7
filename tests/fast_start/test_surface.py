"""Which snapshot is answered from is decided without the real settings: only where those are certain to agree."""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batchcall_mcp.backends.registry import BUILT_IN
from batchcall_mcp.cli.setup import env_file
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.fast_start.surface import SETTINGS, surface_of
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
    check(environment)


def check(environment: dict[str, str]) -> None:
    decided = surface_of(HOME | environment)
    if decided is None or decided[0] not in BUILT_IN:
        return
    with mock.patch.dict(os.environ, HOME | environment, clear=True):
        server = build_server(load_settings(), transport="stdio")
    assert decided == (server.service.backend_type.name, server.service.settings.mode)
    assert (server.service.settings.test_numbers, server.service.settings.places_real_calls) == ((), False)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "batchcall.env"


def variables(name: str, value: str) -> str:
    return f"{name}={value}"


written = st.one_of(
    st.builds(variables, names.map(lambda name: PREFIX + name), values),
    st.builds(variables, st.sampled_from([PREFIX + name for name in SETTINGS]), st.sampled_from(USUAL)),
    st.builds(
        "{}{}{}{}{}{}".format,
        st.sampled_from(["", "", " ", "export ", "#", "'", "\ufeff", "\x0c"]),
        st.sampled_from(["BATCHCALL_MODE", "BATCHCALL_BACKEND", "BATCHCALL_API_KEY", "batchcall_mode", "PATH", ""]),
        st.sampled_from(["=", "=", "= ", " = ", "", "==", "'="]),
        st.sampled_from(["", "'", '"', "\\", "\t"]),
        st.sampled_from(
            ["draft", "read-only", "zudu", "magpipe", "a#b", "a #b", "${PATH}", "$PATH", "a\\'b", "a\nb", ""]
        ),
        st.sampled_from(["", "'", '"', " # why", "#", " ", "\\", "\x00"]),
    ),
    st.sampled_from(["", " ", "# BATCHCALL_MODE=draft", "#\u2028BATCHCALL_MODE=draft", "# \x85\x1c\x00 '"]),
    st.text("#='\"$\\\r\n\t {}ABC_", max_size=9),
)
ends = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "\n\n", "\x0b", "\u2028", ""])
texts = st.lists(st.builds("{}{}".format, written, ends), max_size=4).map(
    lambda lines: "".join(lines).encode(errors="replace")
)


@given(texts | st.binary(max_size=40), environments | st.just({}))
@example(b"BATCHCALL_MODE=draft\nBATCHCALL_MODE=read-only\n", {})
@example(b"BATCHCALL_MODE=draft\n", {"BATCHCALL_MODE": "read-only"})
@example(b"BATCHCALL_MODE=nothing\n", {"BATCHCALL_MODE": "read-only"})
@example(b"BATCHCALL_BACKEND=magpipe\nBATCHCALL_API_KEY='a${PATH}'\n", {})
@example(b"BATCHCALL_DATA_DIR='/srv/${PATH}'\n", {})
@example(b"BATCHCALL_ENV_FILE=/srv/other.env\nBATCHCALL_MODE=draft\n", {})
@example(b"\xef\xbb\xbfBATCHCALL_MODE=draft\n", {})
@example(b"# caf\xe9\nBATCHCALL_MODE=draft\n", {})
@example(b"BATCHCALL_MODE='draft\n'\n", {})
@example(b"#\rBATCHCALL_MODE=draft\n", {})
def test_where_it_decides_by_a_file_they_agree_too(file: Path, text: bytes, environment: dict[str, str]) -> None:
    file.write_bytes(text)
    check(environment | {"BATCHCALL_ENV_FILE": str(file)})


@given(st.dictionaries(st.sampled_from([PREFIX + name for name in SETTINGS]), st.sampled_from(USUAL), max_size=5))
def test_what_init_writes_is_decided_upon_as_the_same_in_the_environment(file: Path, chosen: dict[str, str]) -> None:
    file.write_text(env_file.changed("", chosen, ()), encoding="utf-8")
    assert surface_of(HOME | {"BATCHCALL_ENV_FILE": str(file)}) == surface_of(HOME | chosen)


@pytest.mark.parametrize(
    ("text", "environment", "expected"),
    [
        ("", {}, ("dialer", "full")),
        ("# Keys.\n\nBATCHCALL_BACKEND=zudu\nBATCHCALL_API_KEY='a#b c'", {}, None),  # which is no key
        ("# Schlüssel.\n\nBATCHCALL_BACKEND=zudu\nBATCHCALL_API_KEY='a#b'", {}, ("zudu", "full")),
        ("BATCHCALL_MODE=draft\n", {"BATCHCALL_MODE": "read-only"}, ("dialer", "read-only")),
        ("BATCHCALL_BACKEND=magpipe\n", {"BATCHCALL_API_KEY": "key"}, ("magpipe", "full")),
        ("BATCHCALL_MODE=draft\nBATCHCALL_MODE=read-only\n", {}, ("dialer", "read-only")),
        ("BATCHCALL_FAST_START=off\n", {}, None),
        ("BATCHCALL_ENV_FILE=/srv/other.env\n", {}, None),
        ("BATCHCALL_MODE=draft\r\n", {}, None),
        ("export BATCHCALL_MODE=draft\n", {}, None),
        ("BATCHCALL_MODE=draft # first\n", {}, None),
        ('BATCHCALL_MODE="draft"\n', {}, None),
        ("BATCHCALL_API_KEY='a$b'\n", {}, None),
        ("PORT=1\n", {}, None),
        ("#" * 16_384, {}, ("dialer", "full")),
        ("#" * 16_385, {}, None),
    ],
)
def test_a_file_of_settings_is_decided_upon_where_each_line_is_plain(
    file: Path, text: str, environment: dict[str, str], expected: tuple[str, str] | None
) -> None:
    file.write_text(text, encoding="utf-8", newline="")
    assert surface_of(HOME | environment | {"BATCHCALL_ENV_FILE": str(file)}) == expected


def test_a_file_that_is_not_one_takes_the_ordinary_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fifo, locked = tmp_path / "fifo", tmp_path / "locked.env"
    os.mkfifo(fifo)  # opening it would wait for somebody who writes
    locked.touch(mode=0)
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "file.env").touch()
    odd = [tmp_path, fifo, tmp_path / "none.env", "file.env", "~/file.env", "/" + "x" * 5000]
    for path in odd if os.access(locked, os.R_OK) else [*odd, locked]:
        assert surface_of(HOME | {"BATCHCALL_ENV_FILE": str(path)}) is None, path
    assert surface_of(HOME | {"BATCHCALL_ENV_FILE": ""}) == ("dialer", "full")


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_no_hostile_value_of_a_setting_is_decided_upon_and_then_refused(name: str) -> None:
    refused = {}
    for value in HOSTILE:
        environment = HOME | {PREFIX + name: value}
        if name == "URL":
            environment[PREFIX + "BACKEND"] = "batchcall"
        decided = surface_of(environment)
        if decided is None or decided[0] not in BUILT_IN:
            continue
        with mock.patch.dict(os.environ, environment, clear=True):
            try:
                build_server(Settings.load(), transport="stdio")
            except Exception as error:  # noqa: BLE001 - any
                refused[value] = error
    assert refused == {}


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
