"""docs/commands.md: every command with its arguments and options, as click knows them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from batchcall_mcp.cli import cli
from documentation.markdown import code, codes, marked, table

_NAME = "batchcall-mcp"
_EXIT_CODE = re.compile(r"^ *(?:Exit code)? *(\d+) +(.+)$", re.MULTILINE)


def render() -> str:
    """An overview, then a section for each command."""
    found = list(commands(cli, _NAME))
    rows = [(f"[`{path}`](#{_anchor(path)})", command.get_short_help_str(limit=200)) for path, command in found]
    return "\n".join([table(("command", "what it does"), rows), *(_section(*one) for one in found)])


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that can be run, with its path, in the order of the alphabet."""
    for name, command in sorted(group.commands.items()):
        if not command.hidden:
            if not isinstance(command, click.Group) or command.invoke_without_command:
                yield f"{path} {name}", command
            if isinstance(command, click.Group):
                yield from commands(command, f"{path} {name}")


def _section(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=path)
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    rows = [_row(one) for one in command.params if not (isinstance(one, click.Option) and one.hidden)]
    return "\n".join(
        [
            f"## {path}\n",
            f"{code(usage)}\n",
            f"{_paragraphs(command.help or '')}\n",
            *([table(("option", "value", "default", "meaning"), rows)] if rows else []),
        ]
    )


def _row(parameter: click.Parameter) -> tuple[str, str, str, str]:
    if isinstance(parameter, click.Option):
        names = codes([*parameter.opts, *parameter.secondary_opts])
        text, _, by_itself = (parameter.help or "").rstrip("]").partition("[default: ")
        default = code(parameter.default) if parameter.show_default and not parameter.is_flag else by_itself
        value = "" if parameter.is_flag else _value(parameter)
    else:
        names, text, default, value = code(parameter.human_readable_name), "", "", _value(parameter)
    return (
        names,
        ", ".join(filter(None, (value, "may be repeated" if parameter.multiple else ""))),
        default,
        marked(text),
    )


def _value(parameter: click.Parameter) -> str:
    kind = parameter.type
    if isinstance(kind, click.Choice):
        return codes(str(getattr(one, "value", one)) for one in kind.choices)
    if isinstance(kind, click.IntRange | click.FloatRange):
        return f"{kind.min or 0:g} to {kind.max:g}" if kind.max is not None else f"{kind.min or 0:g} or more"
    return {"integer": "whole number", "float": "number", "path": "path"}.get(kind.name, "text")


def _paragraphs(text: str) -> str:
    r"""Click's help: lines of a paragraph belong together, and what stands after \b are lines of their own."""
    parts = [part.strip() for part in text.replace("\f", "").strip().split("\n\n")]
    return "\n\n".join(_lines(part[1:]) if part.startswith("\b") else marked(" ".join(part.split())) for part in parts)


def _lines(text: str) -> str:
    """Exit codes as a table, anything else as it is."""
    if codes_of_exit := _EXIT_CODE.findall(text):
        return table(("exit code", "means"), [(number, marked(means)) for number, means in codes_of_exit]).strip()
    return f"```text\n{text.strip()}\n```"


def _anchor(path: str) -> str:
    return path.replace(" ", "-")
