"""Writes the snapshots of the contract anew; `git diff tests/server/snapshots` then shows what changed for a model."""

from __future__ import annotations

import shutil

from tests.server.contract import SNAPSHOTS, SURFACES


def main() -> None:
    """Replace all of them, so that a tool that is gone leaves no file."""
    shutil.rmtree(SNAPSHOTS, ignore_errors=True)
    for surface in SURFACES:
        for path, text in surface.files():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
