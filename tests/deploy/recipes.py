"""Dockerfile and compose.yaml as steps that need no container. Pure; `test_containers.py` takes them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

_KNOWN = {
    "FROM",
    "WORKDIR",
    "COPY",
    "RUN",
    "LABEL",
    "ENV",
    "USER",
    "VOLUME",
    "EXPOSE",
    "HEALTHCHECK",
    "ENTRYPOINT",
    "CMD",
}


@dataclass
class Stage:
    """What one FROM begins."""

    base: str
    name: str
    steps: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        """The arguments of every such instruction, in order."""
        return [rest for word, rest in self.steps if word == instruction]

    def only(self, instruction: str) -> str:
        """The arguments of the one such instruction."""
        (rest,) = self.all(instruction)
        return rest

    def words(self, instruction: str) -> list[str]:
        """Of one that is written as a JSON list."""
        words: list[str] = json.loads(self.only(instruction))
        return words

    def environment(self) -> dict[str, str]:
        """What ENV sets."""
        return dict(word.split("=", 1) for rest in self.all("ENV") for word in shlex.split(rest))


def stages(dockerfile: str) -> list[Stage]:
    """The stages of a Dockerfile.

    Raises:
        ValueError: for an instruction that nobody here knows how to take.
    """
    found: list[Stage] = []
    for line in _lines(dockerfile):
        word, rest = line.split(None, 1)
        if word not in _KNOWN:
            raise ValueError(f"nobody takes {word}")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base, name))
        else:
            found[-1].steps.append((word, rest))
    return found


def _lines(dockerfile: str) -> Iterator[str]:
    whole = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", dockerfile))
    yield from (line for line in whole.splitlines() if line.strip())


def filled(value: Any, variables: Mapping[str, str]) -> Any:
    """A part of a compose file with its `${NAME}`, `${NAME:-default}` and `${NAME:?error}` replaced.

    Raises:
        KeyError: with the error, if a variable that has to be set is not.
    """
    if isinstance(value, dict):
        return {name: filled(inner, variables) for name, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, variables) for inner in value]
    if not isinstance(value, str):
        return value

    def put(found: re.Match[str]) -> str:
        name, how, otherwise = found.groups()
        if name in variables:
            return variables[name]
        if how == ":?":
            raise KeyError(otherwise)
        return otherwise or ""

    return re.sub(r"\$\{(\w+)(:[-?])?([^}]*)\}", put, value)
