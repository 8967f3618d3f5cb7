"""Whose call it is."""

import pytest
from pydantic import SecretStr
from starlette.datastructures import Headers

from batchcall_mcp.backends.base import Credentials
from batchcall_mcp.errors import AuthenticationFailed, ConfigurationError
from batchcall_mcp.server.credentials import caller_credentials
from batchcall_mcp.settings import Settings

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
