"""The command lines that benchmarks start; a test puts others in their place, which start at once."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent


def ours(*arguments: str) -> list[str]:
    """`batchcall-mcp` with arguments."""
    return [sys.executable, "-m", "batchcall_mcp", *arguments]


def script(name: str, *arguments: str) -> list[str]:
    """A script of this folder."""
    return [sys.executable, str(HERE / f"{name}.py"), *arguments]
