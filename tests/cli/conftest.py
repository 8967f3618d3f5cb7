"""A home folder of a test's own, with two MCP clients in it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

GOOD = b'{\n  "mcpServers": {}\n}\n'
"""What Cursor has in it."""


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    """What the command sets about the log is put back."""
    loggers = [logging.getLogger(name) for name in (None, "batchcall_mcp", "httpx2")]
    levels, handlers = [logger.level for logger in loggers], list(loggers[0].handlers)
    yield
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of somebody who has Cursor and Codex."""
    home = tmp_path / "home"
    for variable, folder in (("HOME", ""), ("XDG_CONFIG_HOME", ".config"), ("XDG_DATA_HOME", ".local/share")):
        monkeypatch.setenv(variable, str(home / folder))
    for variable in ("CODEX_HOME", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("BATCHCALL_FILES", str(home / "lists"))
    for folder in (".cursor", ".codex"):
        (home / folder).mkdir(parents=True)
    (home / ".cursor/mcp.json").write_bytes(GOOD)
    return home


def contents(home: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(home)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in home.rglob("*")
        if path.is_symlink() or path.is_file()
    }
