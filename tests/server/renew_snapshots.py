"""Writes the snapshots of the contract again; `git diff tests/server/snapshots` then shows what changed for a model."""

from __future__ import annotations

import shutil

from tests.server.contract import SNAPSHOTS, files


def main() -> None:
    """Replace all of them: a tool that is gone leaves no file."""
    shutil.rmtree(SNAPSHOTS, ignore_errors=True)
    for path, text in files():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
