"""Whose call it is: the key pair of one caller, from the request's headers over HTTP, from the settings over stdio."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import cached_property
from typing import Any

from mcp.server.context import ServerRequestContext
from mcp.server.request_state import AESGCMRequestStateCodec, InvalidRequestState, RequestStateSecurity
from pydantic import SecretStr

from batchcall_mcp.errors import AuthenticationFailed, ConfigurationError
from batchcall_mcp.settings import Settings, secret_problem
from batchcall_mcp.vendor_http.client import Credentials

KEY_HEADER = "X-API-KEY"
SECRET_HEADER = "X-API-SECRET"  # noqa: S105 - a header's name

_PROCESS_KEY = secrets.token_bytes(32)


def caller_credentials(
    headers: Mapping[str, str] | None, settings: Settings, *, needs_secret: bool = True
) -> Credentials:
    """The caller's key and secret: of this very request over HTTP, of the environment over stdio (`headers` None).

    A secret is ignored where the backend has none (`Capabilities.needs_secret`).

    Raises:
        AuthenticationFailed: naming the header that is missing or cannot be meant.
        ConfigurationError: naming the variable that is missing.
    """
    if headers is None:
        return _from_settings(settings, needs_secret=needs_secret)
    key = _header(headers, KEY_HEADER)
    return Credentials(key, _header(headers, SECRET_HEADER) if needs_secret else None)


def caller_id(credentials: Credentials) -> str:
    """An opaque name of a key pair: the same within this process, useless outside it, and not reversible."""
    return hmac.new(_PROCESS_KEY, _written(credentials), hashlib.sha256).hexdigest()


def caller_identity(credentials: Credentials) -> str:
    """A name of a key pair that is the same in every process. It is hashed again, with the ledger's key, before it is
    kept anywhere.
    """
    return hashlib.sha256(b"batchcall-mcp caller " + _written(credentials)).hexdigest()


def _written(credentials: Credentials) -> bytes:
    secret = credentials.api_secret.get_secret_value() if credentials.api_secret else ""
    key = credentials.api_key.get_secret_value()
    return f"{len(key)}:{key}:{secret}".encode()


class AcceptedPairs:
    """Which key pairs the backend has accepted in this process: opaque names of them only, a bounded number.

    `ask` says whether the backend accepts a pair now. Without it everybody is accepted: for a server that checks each
    pair itself before anything is opened, or has no backend to ask.
    """

    def __init__(self, ask: Callable[[Credentials], Awaitable[bool]] | None = None, most: int = 10_000) -> None:
        self._ask = ask
        self._most = most
        self._callers: dict[str, None] = {}

    def __contains__(self, caller: object) -> bool:
        """Whether the pair of this name has had a successful call, and no refusal since."""
        return self._ask is None or caller in self._callers

    def judged(self, credentials: Credentials, accepted: bool) -> None:  # noqa: FBT001 - `vendor_http.client.Judged`
        caller = caller_id(credentials)
        self._callers.pop(caller, None)
        if accepted:
            self._callers[caller] = None
            if len(self._callers) > self._most:
                del self._callers[next(iter(self._callers))]

    async def ask(self, credentials: Credentials) -> bool:
        """Whether the backend accepts the pair now.

        Raises:
            BatchCallError: that cannot be learned.
        """
        return self._ask is None or await self._ask(credentials)


class SharedCodec:
    """Seals with a key that every process on the same ledger has: any of them can take an answer.

    The key is asked for when it is first needed: a server that was not asked to change anything opens no ledger.
    """

    def __init__(self, key: Callable[[], bytes]) -> None:
        self._key = key

    def seal(self, payload: bytes) -> str:
        """A token that only `unseal` can read."""
        return self._codec.seal(payload)

    def unseal(self, token: str) -> bytes:
        """Reverse `seal`.

        Raises:
            InvalidRequestState: it was made by somebody else, or changed; or the key cannot be had.
        """
        try:
            codec = self._codec
        except ConfigurationError as error:
            raise InvalidRequestState(str(error)) from error
        return codec.unseal(token)

    @cached_property
    def _codec(self) -> AESGCMRequestStateCodec:
        return AESGCMRequestStateCodec([self._key()])


def request_state_security(
    settings: Settings, key: Callable[[], bytes], *, needs_secret: bool = True, ttl_seconds: float = 600
) -> RequestStateSecurity:
    """Seals what a question carries to its answer, for only the caller who was asked to answer it."""

    def principal(context: ServerRequestContext[Any, Any]) -> str | None:
        if context.request is None:
            return None  # stdio: one process, one caller
        return caller_identity(caller_credentials(context.request.headers, settings, needs_secret=needs_secret))

    return RequestStateSecurity(codec=SharedCodec(key), ttl=ttl_seconds, bind_principal=principal)


def _header(headers: Mapping[str, str], name: str) -> SecretStr:
    value = headers.get(name.lower()) or headers.get(name)
    problem = "is missing" if value is None else secret_problem(value)
    if value is None or problem:
        raise AuthenticationFailed(
            f"The request header {name} {problem}. Nothing was sent. Set it in the MCP client's configuration of this "
            "server: every request needs it."
        )
    return SecretStr(value)


def _from_settings(settings: Settings, *, needs_secret: bool) -> Credentials:
    missing = [
        name
        for name, value, needed in (
            ("BATCHCALL_API_KEY", settings.api_key, True),
            ("BATCHCALL_API_SECRET", settings.api_secret, needs_secret),
        )
        if needed and value is None
    ]
    if settings.api_key is None or missing:
        raise ConfigurationError(
            f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not set. Nothing was sent. Set "
            f"{'it' if len(missing) == 1 else 'them'} in the `env` of this server in the MCP client's configuration."
        )
    return Credentials(settings.api_key, settings.api_secret if needs_secret else None)
