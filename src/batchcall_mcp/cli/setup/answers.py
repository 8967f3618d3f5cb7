"""What the settings are to be: from flags, from this shell's variables, from the file of an earlier run, or asked for.

Keys are never on the command line, where other programs and the shell's history see them, and never shown.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from batchcall_mcp.backends.registry import BUILT_IN, EMBEDDED, backend_class
from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.settings import secret_problem

BACKEND: Final = "BATCHCALL_BACKEND"
URL: Final = "BATCHCALL_URL"
API_KEY: Final = "BATCHCALL_API_KEY"
API_SECRET: Final = "BATCHCALL_API_SECRET"  # noqa: S105 - a variable's name
CARRIER: Final = "BATCHCALL_CARRIER"
CARRIER_KEY: Final = "BATCHCALL_CARRIER_KEY"
CARRIER_SECRET: Final = "BATCHCALL_CARRIER_SECRET"  # noqa: S105 - a variable's name
AGENTS: Final = "BATCHCALL_AGENTS"
ACCOUNT: Final = (BACKEND, URL, API_KEY, API_SECRET, CARRIER, CARRIER_KEY, CARRIER_SECRET, AGENTS)
"""What belongs to one account; none of it is kept for another one."""
CARRIER_URL: Final = "BATCHCALL_CARRIER_URL"
OF_A_CARRIER: Final = (
    CARRIER_URL,
    "BATCHCALL_CARRIER_CONCURRENCY",
    "BATCHCALL_CARRIER_CALLS_PER_SECOND",
    "BATCHCALL_PUBLIC_URL",
    "BATCHCALL_COUNTRIES",
)
"""Settings that do not work without a carrier."""
OF_AN_ACCOUNT: Final = (*ACCOUNT, *OF_A_CARRIER)
SIMULATED: Final = "simulated"
CARRIERS: Final = {
    "retell": (CARRIER_KEY,),
    "vapi": (CARRIER_KEY,),
    "elevenlabs": (CARRIER_KEY,),
    "bland": (CARRIER_KEY,),
    "twilio": (CARRIER_KEY, CARRIER_SECRET, AGENTS),
}
"""What the account of each carrier needs."""
_NAMED: Final = {
    API_KEY: "API key of {}",
    API_SECRET: "API secret of {}",
    CARRIER_KEY: "Key of the {} account",
    CARRIER_SECRET: "Secret of the {} account",
}


@dataclass(frozen=True, slots=True)
class Flags:
    backend: str | None = None
    carrier: str | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Answers:
    """The settings, and which of them are secrets of the account, each with a name for people."""

    values: dict[str, str]
    secrets: dict[str, str]


def collect(flags: Flags, kept: Mapping[str, str], given: Mapping[str, str], *, choices: bool) -> Answers:
    """All settings. `kept`: of the file; `given`: of this shell; `choices`: whether to ask for what has a default.

    Raises:
        ConfigurationError: something is missing, and nobody is there to ask.
    """
    backend = _backend(flags, kept, given, choices=choices)
    kind = backend_class(backend)
    carrier = _carrier(flags, kept, given, choices=choices) if backend == EMBEDDED else None
    if carrier is None and (flags.carrier or given.get(CARRIER)):
        raise ConfigurationError(f"A carrier belongs to the backend {EMBEDDED}, not to {backend}. Nothing was written.")
    needed: tuple[str, ...]
    if carrier is None:
        needed = (API_KEY, API_SECRET) if kind.capabilities.needs_secret else (API_KEY,)
        held = {URL, *needed}
    elif carrier == SIMULATED:
        needed, held = (), set()
    else:
        needed = CARRIERS.get(carrier, (CARRIER_KEY,))
        held = {CARRIER, AGENTS, *OF_A_CARRIER, *needed}
    is_the_same = kept.get(BACKEND) == backend and kept.get(CARRIER, SIMULATED) == (carrier or SIMULATED)
    values = {name: value for name, value in kept.items() if is_the_same or name not in OF_AN_ACCOUNT} | dict(given)
    values = {name: value for name, value in values.items() if name in held or name not in OF_AN_ACCOUNT}
    values[BACKEND] = backend
    if CARRIER in held:
        values[CARRIER] = str(carrier)
    if URL in held:
        values |= _url(flags, values, kind.default_url, choices=choices and backend == "batchcall")
    whose = carrier or backend
    # A key goes to the address that it was typed for, and to no other one.
    keeps = all(values.get(name) == kept.get(name) for name in (URL, CARRIER_URL))
    for name in needed:
        values[name] = given.get(name) or _asked(name, whose, values.get(name) if keeps else None, choices=choices)
    return Answers(values, {name: _NAMED[name].format(whose) for name in needed if name in _NAMED})


def _backend(flags: Flags, kept: Mapping[str, str], given: Mapping[str, str], *, choices: bool) -> str:
    by_account = "batchcall" if given.get(URL) or given.get(API_KEY) else EMBEDDED
    backend = flags.backend or given.get(BACKEND) or kept.get(BACKEND) or by_account
    if choices and flags.backend is None:
        click.echo("Where are the calls placed? dialer: here, simulated, or on a carrier's account. Else your vendor.")
        backend = str(click.prompt("Backend", default=backend, type=click.Choice(_with(BUILT_IN, backend))))
    return backend


def _with(names: Sequence[str], other: str) -> list[str]:
    return [*names, *([other] if other not in names else [])]


def _carrier(flags: Flags, kept: Mapping[str, str], given: Mapping[str, str], *, choices: bool) -> str:
    carrier = flags.carrier or given.get(CARRIER) or kept.get(CARRIER) or SIMULATED
    if choices and flags.carrier is None:
        click.echo(f"Through which carrier? {SIMULATED}: no phone rings, no account is needed.")
        names = _with((SIMULATED, *CARRIERS), carrier)
        carrier = str(click.prompt("Carrier", default=carrier, type=click.Choice(names)))
    return carrier.strip().lower()


def _url(flags: Flags, values: Mapping[str, str], default: str, *, choices: bool) -> dict[str, str]:
    if flags.url is not None:
        return {URL: flags.url}
    if choices:
        return {URL: str(click.prompt("URL of the server", default=values.get(URL, default)))}
    return {}


def _asked(name: str, whose: str, kept: str | None, *, choices: bool) -> str:
    """What a person types; the one that is kept, where nobody is asked or nothing is typed."""
    if kept is not None and not choices:
        return kept
    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"{name} is not set, and {whose} needs it. Nothing was written. Run `batchcall-mcp init` in a terminal, "
            f"which asks for it, or set {name} in the environment of this command."
        )
    if name == AGENTS:
        question = f"{AGENTS}, the file that says what is spoken"
        typed = str(click.prompt(question, default=kept, type=click.Path(exists=True, dir_okay=False)))
        return str(Path(typed).absolute())
    question = _NAMED[name].format(whose) + (" (Enter keeps the one of the last time)" if kept is not None else "")
    while True:
        typed = str(click.prompt(question, hide_input=True, default="", show_default=False)).strip()
        if not typed and kept is not None:
            return kept
        problem = secret_problem(typed)
        if problem is None:
            return typed
        click.echo(f"What was typed {problem.partition(';')[0]}. It is not shown while you type or paste it.", err=True)
