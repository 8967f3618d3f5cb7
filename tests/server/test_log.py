"""What is written about a run."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from batchcall_mcp.server import log
from batchcall_mcp.settings import Settings
from tests.server.echo import echo_server
from tests.server.test_access import ACCEPT, INITIALIZE
from tests.server.transports import Way, client_of, served


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    log.configure(Settings(api_key=SecretStr("the-key"), api_secret=SecretStr("the-secret"), log_level="DEBUG"), stream)
    yield stream
    root.handlers[:], root.level = before
    logging.getLogger("batchcall_mcp").setLevel(logging.NOTSET)


def test_every_secret_of_the_settings_is_blanked(written: io.StringIO) -> None:
    secrets = {
        "api_key": "the-key",
        "api_secret": "the-secret",
        "carrier_key": "AC01234567",
        "carrier_secret": "tok-en",
    }
    given: dict[str, Any] = {name: SecretStr(one) for name, one in secrets.items()}
    log.configure(Settings.model_construct(**given), written)
    logging.getLogger("batchcall_mcp").warning("keys: %s", " ".join(secrets.values()))
    logging.getLogger("other").warning("Authorization: Basic QUMwOnRvaw== and xi-api-key: abcdefgh")
    assert written.getvalue().count("**********") == len(secrets) + 2
    for secret in (*secrets.values(), "QUMwOnRvaw", "abcdefgh"):
        assert secret not in written.getvalue()


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("call +14155550100 now", "call +141•••••••• now"),
        ("to_number=%2B14155550100&x=1", "to_number=%2B14•••••••••&x=1"),
        ("+1 (415) 555-0100", "+1 (41•) •••-••••"),
        ("415-555-0100, 4155550100", "41•-•••-••••, 41••••••••"),
        ("{'to_number': '+4915112345678'}", "{'to_number': '+491••••••••••'}"),
        ("2026-11-23T01:43:00 took 123 ms, b-1234567", "2026-11-23T01:43:00 took 123 ms, b-1234567"),
        ("X-API-KEY: abc, x-api-secret=def", "X-API-KEY: **********, x-api-secret=**********"),
        ("{'x-api-key': 'abc', 'a': 1}", "{'x-api-key': '**********', 'a': 1}"),
        ("[(b'x-api-key', b'abc')]", "[(b'x-api-key', b'**********')]"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer **********"),
        ("/messages/?session_id=0123456789abcdef0123456789abcdef", "/messages/?session_id=**********"),
        ("session ID: 0123456789abcdef0123456789abcdef", "session ID: **********"),
        ("one\ntwo\r\nthree\x1b[31m", "one | two | three [31m"),
    ],
)
def test_numbers_keys_and_line_breaks_are_taken_out(text: str, masked: str) -> None:
    assert log.mask(text) == masked


@given(st.from_regex(r"\+[1-9][0-9]{7,14}", fullmatch=True), st.text())
def test_no_whole_number_stays_in_a_line(number: str, around: str) -> None:
    line = log.mask(f"{around} {number} {around}")
    assert number not in line
    assert number[:-5] not in line, "at least six of its digits are hidden"
    assert line.isprintable() or not any(character in line for character in "\n\r\x1b")


def test_the_settings_secrets_never_show_even_inside_a_traceback(written: io.StringIO) -> None:
    def fail() -> None:
        raise RuntimeError("the-key and the-secret of +14155550100")

    try:
        fail()
    except RuntimeError:
        logging.getLogger("anybody").exception("failed with the-key")
    line = written.getvalue()
    assert line.count("\n") == 1
    assert "RuntimeError: ********** and ********** of +141••••••••" in line
    assert "the-key" not in line


def test_json_is_one_object_a_line_with_nothing_private_in_it(written: io.StringIO) -> None:
    secret = SecretStr("the-secret")
    log.configure(Settings(api_key=SecretStr("the-key"), api_secret=secret, log_format="json"), written)

    def fail() -> None:
        raise RuntimeError("the-key and the-secret\nof +14155550100")

    try:
        fail()
    except RuntimeError:
        logging.getLogger("anybody").exception("“the-secret” of %s\nfailed", "+1 (415) 555-0100")
    logging.getLogger("other").warning("Authorization: Bearer abcdefgh, {'x-api-key': 'ijklmnop'}")
    failed, plain = (json.loads(line) for line in written.getvalue().splitlines())
    assert failed.keys() == {"time", "level", "logger", "message", "traceback"}
    assert (failed["level"], failed["logger"]) == ("ERROR", "anybody")
    assert failed["message"] == "“**********” of +1 (41•) •••-•••• | failed"
    assert failed["traceback"].endswith("RuntimeError: ********** and ********** | of +141••••••••")
    assert failed["time"].endswith("+00:00")
    assert plain.keys() == {"time", "level", "logger", "message"}
    assert plain["message"] == "Authorization: Bearer **********, {'x-api-key': '**********'}"


@given(st.from_regex(r"\+[1-9][0-9]{7,14}", fullmatch=True), st.text(), st.sampled_from(["text", "json"]))
def test_no_number_stays_in_a_line_of_either_format(number: str, around: str, form: Any) -> None:
    stream = io.StringIO()
    formatter = log.JsonFormatter() if form == "json" else log.MaskingFormatter()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.handle(logging.LogRecord("any", logging.INFO, "", 0, f"{around} {number} {around}", None, None))
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert number not in line
    assert number[:-5] not in line.partition("any")[2], "at least six of its digits are hidden"


def test_libraries_write_no_debug_and_we_do_if_asked(written: io.StringIO) -> None:
    logging.getLogger("mcp.server.sse").debug("Received JSON: everything")
    logging.getLogger("batchcall_mcp.backends").debug("ours")
    assert "everything" not in written.getvalue()
    assert "DEBUG batchcall_mcp.backends: ours" in written.getvalue()


@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_what_the_sdk_logs_of_a_failed_tool_is_masked(written: io.StringIO, transport: str) -> None:
    settings = Settings.load()
    way = Way(transport, "legacy")  # type: ignore[arg-type]
    headers = {"X-API-KEY": "the-callers-key", "X-API-SECRET": "the-callers-secret"}
    with anyio.fail_after(60):
        async with (
            served(echo_server(settings), settings, way=way) as url,
            client_of(url, way, headers=headers) as client,
        ):
            await client.call_tool("find", {"number": "+14155550100"})
            await client.call_tool("find", {"nummer": "+14155550100"})
    lines = written.getvalue()
    assert "Tool 'find' failed: [not_found]" in lines, "and not what it says: it may quote a cell of a list"
    assert "No batch call has" not in lines
    assert "+14155550100" not in lines
    assert "the-callers" not in lines


async def test_a_refused_caller_leaves_no_key_behind(written: io.StringIO) -> None:
    settings = Settings.load()
    async with (
        served(echo_server(settings), settings) as url,
        httpx2.AsyncClient(timeout=10, trust_env=False) as http,
    ):
        headers = ACCEPT | {"X-API-KEY": "half-a-pair", "Host": "evil.example"}
        await http.post(url + "/mcp", headers=headers, json=INITIALIZE)
        await http.post(url + "/mcp", headers=ACCEPT | {"X-API-KEY": "half-a-pair"}, json=INITIALIZE)
    assert "half-a-pair" not in written.getvalue()
