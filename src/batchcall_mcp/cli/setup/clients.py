"""The MCP clients that `init` knows: where each keeps its servers for one user, and in what form.

From the makers' documentation of November 2026; docs/install.md has the list, and says which pages were read whole.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import platformdirs

from batchcall_mcp.settings import plain_environment


@dataclass(frozen=True, slots=True)
class Machine:
    """What the places depend on."""

    home: Path
    config: Path
    """Where applications keep settings: ~/Library/Application Support, %APPDATA%, ~/.config or $XDG_CONFIG_HOME."""
    variables: Mapping[str, str]

    @classmethod
    def this(cls) -> Machine:
        return cls(Path.home(), platformdirs.user_config_path(roaming=True), plain_environment())


@dataclass(frozen=True, slots=True)
class Client:
    """One client. `file` and `traces` are relative to `base`; it is found if one of its traces exists."""

    name: str
    title: str
    documented: str
    base: Literal["home", "config"]
    file: str
    traces: tuple[str, ...]
    form: Literal["json", "json with comments", "toml"] = "json"
    key: str = "mcpServers"
    typed: bool = False
    """Whether an entry says `"type": "stdio"`."""
    home_variable: str | None = None
    """The variable that names another folder in place of the first part of `file`."""
    asks_for_secrets: bool = False
    """Whether the client asks for a secret itself and stores it safely."""
    then: str = "Restart it."

    def path(self, machine: Machine) -> Path:
        return self._in(machine, self.file)

    def is_found(self, machine: Machine) -> bool:
        return any(self._in(machine, trace).exists() for trace in (self.file, *self.traces))

    def _in(self, machine: Machine, relative: str) -> Path:
        named = machine.variables.get(self.home_variable) if self.home_variable is not None else None
        if named:
            return Path(named).joinpath(*Path(relative).parts[1:]) if "/" in relative else Path(named) / relative
        return (machine.home if self.base == "home" else machine.config) / relative


CLIENTS: Final = (
    Client(
        "claude-desktop",
        "Claude Desktop",
        "https://modelcontextprotocol.io/docs/develop/connect-local-servers",
        "config",
        "Claude/claude_desktop_config.json",
        ("Claude",),
        then="Quit it and start it again: closing the window is not enough.",
    ),
    Client(
        "claude-code",
        "Claude Code",
        "https://code.claude.com/docs/en/mcp",
        "home",
        ".claude.json",
        (".claude",),
        typed=True,
        home_variable="CLAUDE_CONFIG_DIR",
        then="Start a new session; `/mcp` shows the server.",
    ),
    Client(
        "cursor",
        "Cursor",
        "https://cursor.com/docs/mcp",
        "home",
        ".cursor/mcp.json",
        (".cursor",),
        typed=True,
    ),
    Client(
        "vscode",
        "VS Code",
        "https://code.visualstudio.com/docs/copilot/reference/mcp-configuration",
        "config",
        "Code/User/mcp.json",
        ("Code/User",),
        form="json with comments",
        key="servers",
        typed=True,
        asks_for_secrets=True,
        then="Run `MCP: List Servers` in it, and start the server there.",
    ),
    Client(
        "codex",
        "Codex",
        "https://developers.openai.com/codex/mcp",
        "home",
        ".codex/config.toml",
        (".codex",),
        form="toml",
        key="mcp_servers",
        home_variable="CODEX_HOME",
        then="Start a new session; `/mcp` shows the server.",
    ),
    Client(
        "gemini",
        "Gemini CLI",
        "https://geminicli.com/docs/tools/mcp-server",
        "home",
        ".gemini/settings.json",
        (".gemini",),
        form="json with comments",
        then="Start a new session; `/mcp` shows the server.",
    ),
)
BY_NAME: Final = {client.name: client for client in CLIENTS}


def server_command(executable: str = sys.executable, prefix: str = sys.prefix) -> tuple[str, list[str]]:
    """The program that a client starts, with its arguments.

    Applications with a window do not have the PATH of a terminal, so the path is a whole one. `uvx` runs from a folder
    that it may clean up at any time: there the entry is `uvx` again.
    """
    import shutil

    if {"archive-v0", "environments-v2", "builds-v0"} & set(Path(prefix).parts):
        return shutil.which("uvx") or "uvx", ["batchcall-mcp"]
    for name in ("batchcall-mcp", "batchcall-mcp.exe"):
        script = Path(executable).parent / name
        if script.is_file():
            return str(script), []
    return executable, ["-m", "batchcall_mcp"]
