"""Whose call it is."""

import secrets

import pytest
from mcp.server.request_state import InvalidRequestState
from pydantic import SecretStr
from starlette.datastructures import Headers

from batchcall_mcp.errors import AuthenticationFailed, ConfigurationError
from batchcall_mcp.server.credentials import SharedCodec, caller_credentials
from batchcall_mcp.settings import Settings
from batchcall_mcp.vendor_http.client import Credentials

PAIR = Credentials(SecretStr("k"), SecretStr("s"))


def test_over_stdio_they_are_the_environments() -> None:
    settings = Settings(api_key=SecretStr("k"), api_secret=SecretStr("s"))
    assert caller_credentials(None, settings) == PAIR


@pytest.mark.parametrize("headers", [{"x-api-key": "k", "x-api-secret": "s"}, {"X-API-KEY": "k", "X-API-SECRET": "s"}])
def test_over_http_they_are_the_requests_and_never_the_environments(headers: dict[str, str]) -> None:
    settings = Settings(api_key=SecretStr("operator"), api_secret=SecretStr("operator"))
    assert caller_credentials(headers, settings) == PAIR
    assert caller_credentials(Headers(headers), settings) == PAIR
    with pytest.raises(AuthenticationFailed, match="X-API-KEY is missing"):
        caller_credentials({}, settings)


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        (Settings(), "BATCHCALL_API_KEY and BATCHCALL_API_SECRET are not set"),
        (Settings(api_key=SecretStr("k")), "BATCHCALL_API_SECRET is not set"),
        (Settings(api_secret=SecretStr("s")), "BATCHCALL_API_KEY is not set"),
    ],
)
def test_what_is_not_set_is_named(settings: Settings, names: str) -> None:
    with pytest.raises(ConfigurationError, match=names):
        caller_credentials(None, settings)


def test_a_refusal_never_repeats_the_value() -> None:
    with pytest.raises(AuthenticationFailed) as refused:
        caller_credentials({"X-API-KEY": "sec ret", "X-API-SECRET": "s"}, Settings())
    assert "sec ret" not in str(refused.value)


def test_what_one_process_asks_any_process_with_its_key_understands_and_no_other() -> None:
    key = secrets.token_bytes(32)
    sealed = SharedCodec(lambda: key).seal(b"a question")
    assert b"a question" not in sealed.encode()
    assert SharedCodec(lambda: key).unseal(sealed) == b"a question"
    with pytest.raises(InvalidRequestState):
        SharedCodec(lambda: secrets.token_bytes(32)).unseal(sealed)


def test_the_key_is_asked_for_when_it_is_needed_and_once() -> None:
    asked: list[bytes] = []

    def key() -> bytes:
        asked.append(secrets.token_bytes(32))
        return asked[0]

    codec = SharedCodec(key)
    assert asked == []
    assert codec.unseal(codec.seal(b"a question")) == b"a question"
    assert len(asked) == 1


def test_without_a_key_no_answer_is_believed_and_the_next_one_asks_for_it_again() -> None:
    sealed = SharedCodec(lambda: b"k" * 32).seal(b"a question")
    there = False

    def key() -> bytes:
        if not there:
            raise ConfigurationError("The ledger cannot be used.")
        return b"k" * 32

    codec = SharedCodec(key)
    with pytest.raises(InvalidRequestState):
        codec.unseal(sealed)
    there = True
    assert codec.unseal(sealed) == b"a question"
