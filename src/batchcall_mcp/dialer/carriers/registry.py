"""Which carrier a process dials through: ours by name, others by the entry-point group `batchcall_mcp.carriers`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from batchcall_mcp.dialer.carriers.base import SIMULATED, Carrier
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.settings import Settings

if TYPE_CHECKING:
    from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig

    Make: TypeAlias = Callable[[CarrierConfig], Carrier]

GROUP: Final = "batchcall_mcp.carriers"
_VENDORS: Final = "batchcall_mcp.dialer.carriers.vendors"
_NOTHING: Final = "Nothing was started."


@dataclass(frozen=True, slots=True)
class _BuiltIn:
    """Where the class is, and what its account needs in addition to the key."""

    module: str
    attribute: str
    has_secret: bool = False
    has_agents: bool = False


_BUILT_IN: Final = {
    "twilio": _BuiltIn("twilio", "TwilioCarrier", has_secret=True, has_agents=True),
    "retell": _BuiltIn("retell", "RetellCarrier"),
    "vapi": _BuiltIn("vapi", "VapiCarrier"),
    "elevenlabs": _BuiltIn("elevenlabs", "ElevenLabsCarrier"),
    "bland": _BuiltIn("bland", "BlandCarrier"),
}
BUILT_IN: Final = (SIMULATED, *_BUILT_IN)
"""The names of our own carriers; a third party cannot take one of them."""


def carrier_of(settings: Settings) -> Carrier | None:
    """The carrier that the settings name; None: the simulator.

    Raises:
        ConfigurationError: unknown, next to a backend that places calls itself, or something that it needs is missing;
            it names the variable.
    """
    if not settings.places_real_calls:
        return None
    if settings.backend not in {None, "dialer"}:
        raise ConfigurationError(
            f"BATCHCALL_CARRIER is set, and BATCHCALL_BACKEND is {settings.backend}, which places the calls itself. "
            f"{_NOTHING} Remove one of them."
        )
    name = str(settings.carrier)
    own = _BUILT_IN.get(name)
    if own is not None:
        config = _config(settings, name, own)
        return _imported(own)(config)
    carrier = _third_party(name)(_config(settings, name, own))
    if carrier.name != name:  # by its name a batch call belongs to it: another one's would be dialled
        raise ConfigurationError(f"The carrier {name!r} calls itself {carrier.name!r:.60}. {_NOTHING}")
    return carrier


def _imported(own: _BuiltIn) -> Make:
    return cast("Make", getattr(import_module(f"{_VENDORS}.{own.module}"), own.attribute))


def _config(settings: Settings, name: str, own: _BuiltIn | None) -> CarrierConfig:
    from batchcall_mcp.dialer.carriers.http_carrier import CarrierConfig

    if settings.carrier_key is None:
        raise _missing("BATCHCALL_CARRIER_KEY", name, "the key of the account")
    if own is not None and own.has_secret and settings.carrier_secret is None:
        raise _missing("BATCHCALL_CARRIER_SECRET", name, "the secret that belongs to the key")
    if own is not None and own.has_agents and settings.agents is None:
        raise _missing("BATCHCALL_AGENTS", name, "the file that says what is spoken")
    if settings.agents is not None and not settings.agents.is_file():
        raise ConfigurationError(f"BATCHCALL_AGENTS names a file that does not exist: {settings.agents}. {_NOTHING}")
    _check_countries(settings.countries or frozenset())
    return CarrierConfig(
        url=settings.carrier_url,
        key=settings.carrier_key,
        secret=settings.carrier_secret,
        concurrency=settings.carrier_concurrency,
        calls_per_second=settings.carrier_calls_per_second,
        agents=settings.agents,
        countries=settings.countries,
        public_url=settings.public_url,
    )


def _missing(variable: str, name: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"{variable} is not set, and BATCHCALL_CARRIER={name} needs it: {what}. {_NOTHING}")


def _check_countries(given: frozenset[str]) -> None:
    """A country that nobody has would be one in which nobody is called, with no word about it: UK is GB."""
    from phonenumbers import SUPPORTED_REGIONS

    unknown = sorted(given - SUPPORTED_REGIONS)
    if unknown:
        raise ConfigurationError(
            f"BATCHCALL_COUNTRIES names what is not a country by ISO 3166: {', '.join(unknown)[:60]} (the United "
            f"Kingdom is GB). {_NOTHING}"
        )


def _third_party(name: str) -> Make:
    others = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in others:
        known = ", ".join([*BUILT_IN, *sorted(set(others) - set(BUILT_IN))])
        raise ConfigurationError(
            f"BATCHCALL_CARRIER names an unknown carrier: {name[:60]!r}. Known are {known}. {_NOTHING}"
        )
    entry = others[name]
    try:
        found = entry.load()
    except Exception as error:  # the code of others may fail in any way
        raise ConfigurationError(
            f"The carrier {name!r} ({entry.value}) cannot be loaded: {type(error).__name__}. {_NOTHING} Reinstall the "
            "package that brings it."
        ) from error
    if not callable(found):
        raise ConfigurationError(f"The carrier {name!r} ({entry.value}) is not a class. {_NOTHING}")
    return cast("Make", found)
