"""BATCHCALL_AGENTS: what speaks on a call of a carrier that only connects phones. One table of a TOML file an agent.

A file with a mistake is refused as a whole, before anything dials: each mistake by its table and its key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast, get_args
from urllib.parse import urlsplit

from batchcall_mcp.errors import ConfigurationError
from batchcall_mcp.text import quoted

Kind: TypeAlias = Literal["say", "play", "sip", "stream"]
Machine: TypeAlias = Literal["hang_up", "leave_message", "ignore"]
DO_NOT_CALL: Final = "do_not_call"
"""The meaning of a key with which a person asks not to be called again."""

_KINDS: Final = get_args(Kind)
_OPTIONAL: Final = ("name", "voice", "language", "machine", "keys")
_PLACEHOLDER: Final = re.compile(r"\{\{\s*([^{}\s]{1,80})\s*\}\}")
_AGENT_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_SIP: Final = re.compile(
    r"sips?:[A-Za-z0-9_.!~*'()&=+$,%-]{1,100}@[A-Za-z0-9.-]{1,200}(:[0-9]{1,5})?(;[\w=.-]{1,100})*", re.ASCII
)
_VOICE: Final = re.compile(r"[A-Za-z0-9_.-]{1,80}", re.ASCII)
_LANGUAGE: Final = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,3}", re.ASCII)
_NAME: Final = re.compile(r"\S(.{0,98}\S)?")
_MEANING: Final = re.compile(r"\w[\w -]{0,39}")
_PHONE_KEYS: Final = frozenset("0123456789*#")
_LONGEST_TEXT: Final = 4000
_LONGEST_URL: Final = 1000
_EXAMPLE: Final = 'Write a table such as [reminder], and in it say = "Hello."'


@dataclass(frozen=True, slots=True, kw_only=True)
class PhoneAgent:
    """One agent. `content`: what it says, or the address of its recording, SIP or WebSocket server, by `kind`.

    `machine`: what happens when a machine answers; with `ignore` nobody looks who answered. `keys`: what the keys of a
    phone mean, in the operator's words.
    """

    agent_id: str
    kind: Kind
    content: str
    name: str | None = None
    voice: str | None = None
    language: str | None = None
    machine: Machine = "ignore"
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def placeholders(self) -> tuple[str, ...]:
        """The variables that it cannot do without, each once, in the order of the text."""
        return tuple(dict.fromkeys(_PLACEHOLDER.findall(self.content))) if self.kind == "say" else ()

    def filled(self, variables: Mapping[str, str]) -> str:
        """`content` with each placeholder replaced, all at once: a value that looks like a placeholder stays as it is.

        Raises:
            KeyError: a variable is missing.
        """
        return _PLACEHOLDER.sub(lambda found: variables[found[1]], self.content) if self.kind == "say" else self.content


def read_agents(path: Path) -> dict[str, PhoneAgent]:
    """The agents of a file, by the names of their tables, in its order.

    Raises:
        ConfigurationError: it cannot be read or understood; the text names each table and key, and what to write.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"BATCHCALL_AGENTS: {path} cannot be read ({why}). Nothing was started. Correct the path or the file."
        ) from error
    try:
        return parse_agents(text)
    except ValueError as error:
        raise ConfigurationError(
            f"BATCHCALL_AGENTS: {path} cannot be used. Nothing was started. Correct this:\n{error}"
        ) from error


def parse_agents(text: str) -> dict[str, PhoneAgent]:
    """The agents of such a file's text.

    Raises:
        ValueError: the text has one line for each mistake.
    """
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"It is not TOML: {error}. {_EXAMPLE}") from error
    problems = [problem for agent_id, table in tables.items() for problem in _problems(agent_id, table)]
    if problems or not tables:
        raise ValueError("\n".join(problems) or f"There are no agents. {_EXAMPLE}")
    return {agent_id: _agent(agent_id, table) for agent_id, table in tables.items()}


def _agent(agent_id: str, table: Mapping[str, Any]) -> PhoneAgent:
    kind = cast("Kind", next(name for name in _KINDS if name in table))
    optional = {name: table[name] for name in _OPTIONAL if name in table}
    return PhoneAgent(agent_id=agent_id, kind=kind, content=" ".join(table[kind].split()), **optional)


def _problems(agent_id: str, table: Any) -> Iterator[str]:
    if not isinstance(table, dict):
        yield f"{agent_id}: this key is in no table. Write the name of its agent in a line above it, as [reminder]."
        return
    if not _AGENT_ID.fullmatch(agent_id):
        yield f"[{quoted(agent_id)}]: write a name of letters, digits, hyphens, points and underscores, at most 64."
    kinds = [name for name in _KINDS if name in table]
    if len(kinds) != 1:
        has = f"has {' and '.join(kinds)}" if kinds else "has none of them"
        yield f"[{agent_id}]: write exactly one of say, play, sip and stream; this one {has}."
    for key, value in table.items():
        problem = _problem(key, value, kinds)
        if problem is not None:
            yield f"[{agent_id}] {key}: {problem}"


def _problem(key: str, value: Any, kinds: Sequence[str]) -> str | None:
    """What is wrong with one key of an agent that has these kinds."""
    if key not in _CHECKS:
        meant = "".join(f", did you mean {close}?" for close in get_close_matches(key, _CHECKS, n=1))
        return f"unknown key{meant or '.'} Write only {', '.join(_CHECKS)}."
    check, expected, only_with = _CHECKS[key]
    if not check(value):
        return f"write {expected}."
    if kinds and only_with.isdisjoint(kinds):
        return f"it goes with {' or '.join(sorted(only_with))} only. Remove it."
    stray = re.search(r"[{}].{0,30}", _PLACEHOLDER.sub("", value)) if key == "say" else None
    if stray is not None:
        return (
            f"{quoted(stray[0])} cannot be filled. Write {{{{name}}}}, without spaces in the name, and no other braces."
        )
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= _LONGEST_TEXT


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value.isprintable() and pattern.fullmatch(value) is not None


def _is_recording(value: Any) -> bool:
    return _is_url(value, "http", "https")


def _is_stream(value: Any) -> bool:
    """Twilio passes no query on."""
    return _is_url(value, "wss") and not set(value) & set("?#")


def _is_url(value: Any, *schemes: str) -> bool:
    """Of another host, without what cannot stand in a URL, and without a password."""
    if not isinstance(value, str) or len(value) > _LONGEST_URL or not value.isprintable() or set(value) & set(' {}<>"'):
        return False
    try:
        parts = urlsplit(value)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
    except ValueError:
        return False


def _are_keys(value: Any) -> bool:
    is_one = _matches(_MEANING)
    return isinstance(value, dict) and bool(value) and value.keys() <= _PHONE_KEYS and all(map(is_one, value.values()))


_ANY: Final = frozenset(_KINDS)
_CHECKS: Final[Mapping[str, tuple[Callable[[Any], bool], str, frozenset[str]]]] = {
    "say": (_is_text, 'what it says in quotation marks, such as "Hello {{name}}."', _ANY),
    "play": (_is_recording, 'the address of a recording, such as "https://example.com/hello.mp3"', _ANY),
    "sip": (_matches(_SIP), 'a SIP address, such as "sip:agent@example.com"; each variable becomes an X- header', _ANY),
    "stream": (
        _is_stream,
        'a WebSocket address without a query, such as "wss://example.com/agent"; each variable becomes a parameter',
        _ANY,
    ),
    "name": (_matches(_NAME), "a name for people, at most 100 characters", _ANY),
    "voice": (_matches(_VOICE), 'the name of a voice, such as "Polly.Joanna-Neural"', frozenset({"say"})),
    "language": (_matches(_LANGUAGE), 'a language, such as "en-GB"', frozenset({"say"})),
    "machine": (
        lambda value: value in get_args(Machine),
        '"hang_up", "leave_message" or "ignore"',
        _ANY,
    ),
    "keys": (
        _are_keys,
        'what each key of the phone means (0 to 9, "*", "#"), such as {1 = "confirmed", 9 = "do_not_call"}',
        frozenset({"say", "play"}),
    ),
}
"""By key: what it has to be, how to write that, and the kinds with which it means something."""
