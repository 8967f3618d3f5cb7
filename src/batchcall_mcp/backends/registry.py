"""Which backend a process serves: ours by name, others by the entry-point group `batchcall_mcp.backends`."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import cast

import httpx2

from batchcall_mcp.backends.base import Backend
from batchcall_mcp.backends.capabilities import Capabilities
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.settings import Settings

GROUP = "batchcall_mcp.backends"
EMBEDDED = "dialer"

_BUILT_IN = {
    "dialer": ("batchcall_mcp.backends.rest_api.dialer", "DialerBackend"),
    "batchcall": ("batchcall_mcp.backends.rest_api.batchcall", "BatchCallBackend"),
    "zudu": ("batchcall_mcp.backends.rest_api.zudu", "ZuduBackend"),
    "magpipe": ("batchcall_mcp.backends.vendors.magpipe", "MagpipeBackend"),
    "elevenlabs": ("batchcall_mcp.backends.vendors.elevenlabs", "ElevenLabsBackend"),
    "bland": ("batchcall_mcp.backends.vendors.bland", "BlandBackend"),
    "vapi": ("batchcall_mcp.backends.vendors.vapi", "VapiBackend"),
    "retell": ("batchcall_mcp.backends.vendors.retell", "RetellBackend"),
    "bolna": ("batchcall_mcp.backends.vendors.bolna", "BolnaBackend"),
    "speechify": ("batchcall_mcp.backends.vendors.speechify", "SpeechifyBackend"),
    "dograh": ("batchcall_mcp.backends.vendors.dograh", "DograhBackend"),
    "cartesia": ("batchcall_mcp.backends.vendors.cartesia", "CartesiaBackend"),
}
BUILT_IN = tuple(_BUILT_IN)
"""The names of our own backends; a third party cannot take one of them."""


def select(settings: Settings) -> str:
    """The backend's name: as set; else `batchcall` where a URL or a key is set; else the dialer in this process."""
    if settings.backend:
        return settings.backend
    return "batchcall" if settings.url or settings.api_key else EMBEDDED


def backend_class(name: str) -> type[Backend]:
    """The class of a backend, imported when it is asked for.

    Raises:
        ConfigurationError: unknown, or a third party's that cannot be used; nothing was sent.
    """
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name]
        return cast("type[Backend]", getattr(import_module(module), attribute))
    others = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in others:
        known = [*_BUILT_IN, *sorted(set(others) - set(_BUILT_IN))]
        meant = "".join(f" Did you mean {close}?" for close in get_close_matches(name, known, n=1))
        raise ConfigurationError(
            f"BATCHCALL_BACKEND names an unknown backend: {name!r}.{meant} "
            f"Known are {', '.join(known)}. Nothing was sent."
        )
    return _third_party(others[name])


def serving_class(settings: Settings) -> type[Backend]:
    """The class of the backend that a process with these settings serves.

    Raises:
        ConfigurationError: as `backend_class`; or a carrier is set for a backend that places its calls itself.
    """
    name = select(settings)
    if settings.carrier is not None and name != EMBEDDED:
        raise ConfigurationError(
            f"BATCHCALL_CARRIER is set, and the backend {name} places the calls itself. Nothing was sent. Set "
            f"BATCHCALL_BACKEND={EMBEDDED} to dial from here, or remove BATCHCALL_CARRIER."
        )
    if settings.places_real_calls:
        from batchcall_mcp.backends.rest_api.dialer import RealDialerBackend

        return RealDialerBackend
    return backend_class(name)


def base_url(settings: Settings, backend: type[Backend]) -> str:
    """The base that an adapter appends its paths to: BATCHCALL_URL, or the backend's own. Plain http is allowed, for
    servers on one's own network; a key sent over it can be read on the way.

    Raises:
        ConfigurationError: no http or https URL, or one with a user, a query or a fragment in it; it is not repeated,
            because it may hold a password. Any URL with the dialer in this process, which has none.
    """
    if settings.url is None:
        return backend.default_url
    if backend.name == EMBEDDED:
        raise ConfigurationError(
            f"BATCHCALL_URL is set, but BATCHCALL_BACKEND={EMBEDDED} is the dialer inside this process: no "
            "request would go there. Nothing was sent. For a dialer that runs elsewhere set "
            "BATCHCALL_BACKEND=batchcall; otherwise remove BATCHCALL_URL."
        )
    problem = _url_problem(settings.url)
    if problem:
        raise ConfigurationError(f"BATCHCALL_URL {problem}. Nothing was sent. Give for example {backend.default_url}")
    return settings.url.rstrip("/")


def _url_problem(value: str) -> str | None:
    if any(character.isspace() for character in value) or "${" in value:
        return "holds white space or an unfilled ${…} placeholder"
    try:
        url = httpx2.URL(value)
    except httpx2.InvalidURL:
        return "is not a URL"
    if url.scheme not in {"http", "https"} or not url.host:
        return "is not an http:// or https:// address"
    if url.userinfo:
        return "holds a user or password; credentials belong into BATCHCALL_API_KEY and BATCHCALL_API_SECRET"
    if url.query or url.fragment or "?" in value or "#" in value:
        return "holds a query or a fragment; it is a base to which paths are appended"
    return None


def _third_party(entry: EntryPoint) -> type[Backend]:
    try:
        found = entry.load()
    except Exception as error:  # the code of others may fail in any way
        raise ConfigurationError(
            f"The backend {entry.name!r} ({entry.value}) cannot be loaded: {type(error).__name__}. Nothing was sent. "
            "Reinstall the package that brings it."
        ) from error
    if not isinstance(getattr(found, "capabilities", None), Capabilities) or not isinstance(found, type):
        raise ConfigurationError(
            f"The backend {entry.name!r} ({entry.value}) is not a class with `capabilities`. Nothing was sent."
        )
    return cast("type[Backend]", found)
