"""Lines of the documentation that no test runs, each with its reason, and what checks them instead."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath

import click
import yaml  # type: ignore[import-untyped]

from batchcall_mcp.cli import cli
from batchcall_mcp.settings import PREFIX, Settings
from release.form import user_config
from tests.documented.pages import check_entry
from tests.server.transports import ROOT

NOT_RUN = {
    r"(BATCHCALL_\w+=\S+ )*batchcall-mcp (serve|dialer)( -.*)?": "does not end; the page has that server already",
    r"batchcall-mcp (init( --dry-run)?|verify .*|forget [+]\d+)": "asks at a terminal: tests/cli, tests/operator",
    r"make \w+": "make test would run itself; the target is looked up",
    r"uv tool install .*": "changes this computer; tests/test_package.py installs the wheel elsewhere",
    r"docker compose .*": "no container engine here; tests/deploy takes the same steps, and the page says so",
    r"(claude|gemini) .*": "other people's clients; the page says what was tried by hand",
}
"""A line is one of these as a whole, but for its comment."""

_DOCKER_COMPOSE = frozenset({"up", "exec", "logs", "down", "config"})
_OF_UV = (
    *("tool install .", "tool install --force .", "tool install dist/*.whl", "tool install --force dist/*.whl"),
    *("tool upgrade batchcall-mcp", "tool update-shell"),
)
_OF_CLIENTS = {
    "claude": ("mcp add", "mcp list", "plugin marketplace add", "plugin install"),
    "gemini": ("mcp list", "extensions install"),
}


def reason_for(line: str) -> str | None:
    """Why this line of a shell is not run; None if it is."""
    code = _without_comment(line)
    return next((why for pattern, why in NOT_RUN.items() if re.fullmatch(pattern, code)), None)


def check(line: str) -> None:
    """What can be known of such a line without running it.

    Raises:
        AssertionError: it names something that is not there.
        click.UsageError: `batchcall-mcp` would refuse it.
    """
    words = shlex.split(line, comments=True)
    while words and "=" in words[0]:
        _known_setting(words.pop(0).partition("=")[0])
    program, *arguments = words
    match program:
        case "make":
            found = subprocess.run(["make", "-n", *arguments], cwd=ROOT, check=False, capture_output=True, timeout=30)
            assert found.returncode == 0, line
        case "docker":
            _of_docker(arguments)
        case "claude" | "gemini":
            _of_client(program, arguments)
        case "code":
            option, entry = arguments
            named = json.loads(entry)
            assert (option, named.pop("name")) == ("--add-mcp", "batchcall"), line
            check_entry(named)
            parse([*named["args"][1:]])
        case "uv":
            assert " ".join(arguments) in _OF_UV, line
    if "batchcall-mcp" in words:
        parse(words[words.index("batchcall-mcp") + 1 :])


def parse(arguments: Sequence[str]) -> None:
    """Read the arguments of `batchcall-mcp` as it does, and do nothing.

    Raises:
        click.UsageError: it would refuse them.
    """
    command: click.Command = cli
    name, left, context = "batchcall-mcp", list(arguments), None
    while left or not isinstance(command, click.Group):
        context = command.make_context(name, left, parent=context)
        if not isinstance(command, click.Group):
            return
        left = [*context._protected_args, *context.args]
        if left:
            name, command, left = _resolved(command, context, left)


def exists(arguments: Sequence[str]) -> bool:
    """Whether there is this command, and are these options; values may be left out, or be names of what to write.

    Its usage, as its help shows it, will do too.
    """
    words = ["batchcall-mcp", *arguments]
    if usage(words) == " ".join(words):
        return True
    try:
        parse(arguments)
    except (click.BadParameter, click.BadOptionUsage, click.exceptions.NoArgsIsHelpError):
        return True
    except click.UsageError:
        return False
    except click.exceptions.Exit:  # --help and --version
        return True
    return True


def _resolved(group: click.Group, context: click.Context, left: list[str]) -> tuple[str, click.Command, list[str]]:
    name, command, rest = group.resolve_command(context, left)
    assert name is not None
    assert command is not None
    return name, command, rest


def _known_setting(name: str) -> None:
    assert name.removeprefix(PREFIX).lower() in Settings.model_fields, name


def _of_docker(arguments: list[str]) -> None:
    compose, verb, *rest = arguments
    assert (compose, verb in _DOCKER_COMPOSE) == ("compose", True), arguments
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    named = [word for word in rest if not word.startswith("-")][:1]
    assert set(named) <= services.keys(), named


def _of_client(program: str, arguments: list[str]) -> None:
    assert " ".join(arguments).startswith(_OF_CLIENTS[program]), arguments
    for word in arguments:
        if word.startswith("./batchcall-mcp"):
            assert (ROOT / PurePosixPath(word).relative_to("batchcall-mcp")).is_dir(), word
        elif "@" in word:
            assert word in _installable(), word
    for option, value in pairwise(arguments):
        if option == "--config":
            assert value.partition("=")[0] in user_config(), value


def _installable() -> set[str]:
    """What the marketplace in this repository offers."""
    market = json.loads((ROOT / ".claude-plugin" / "marketplace.json").read_text(encoding="utf-8"))
    return {f"{plugin['name']}@{market['name']}" for plugin in market["plugins"]}


def _without_comment(line: str) -> str:
    try:
        return shlex.join(shlex.split(line, comments=True)) if "#" in line else line.strip()
    except ValueError:  # a line within quotes
        return line.strip()


def helps() -> Iterator[str]:
    """What each command's help says."""
    left: list[click.Command] = [cli]
    while left:
        command = left.pop()
        yield command.help or ""
        if isinstance(command, click.Group):
            left += command.commands.values()


def usage(words: Sequence[str]) -> str:
    """The first line of a command's help, as far as these words name a command."""
    command: click.Command = cli
    context = click.Context(cli, info_name="batchcall-mcp")
    for word in words[1:]:
        if not isinstance(command, click.Group) or word not in command.commands:
            break
        command = command.commands[word]
        context = click.Context(command, parent=context, info_name=word)
    return " ".join(command.get_usage(context).removeprefix("Usage: ").split())
