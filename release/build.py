"""Build what a release consists of, into one folder: wheel, sdist, MCPB bundle, server.json, SBOM, check sums.

The bundle contains the package itself, taken from the wheel, so that it works before and without the registry's copy of
this package; `uv` installs what that needs when the client starts it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from release.facts import ROOT, Facts, facts
from release.manifests import PLUGIN, bundle_name, server_json, written
from tests.clients.node import command, environment

SUMS = "SHA256SUMS"
_BUNDLE = ROOT / "release" / "mcpb"
_START = ROOT / PLUGIN / "start.py"
_LONGEST_S = 300


def build(folder: Path) -> None:
    """Everything, into a folder that is emptied first.

    Raises:
        subprocess.CalledProcessError: a builder has refused; it has written why.
    """
    of = facts()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    wheel = build_package(folder)
    bundle = build_bundle(wheel, folder / bundle_name(of), of)
    described = server_json(of, bundle_sha256=_sha256(bundle))
    (folder / "server.json").write_text(written(described), encoding="utf-8")
    (folder / f"{of.package}-{of.version}.cdx.json").write_text(written(bill_of_materials(of)), encoding="utf-8")
    sums = [f"{_sha256(path)}  {path.name}\n" for path in sorted(folder.iterdir())]
    (folder / SUMS).write_text("".join(sums), encoding="utf-8")


def build_package(folder: Path) -> Path:
    """The sdist, and the wheel that is built from it; returns the wheel."""
    _run([_uv(), "build", "--quiet", "--out-dir", str(folder)], ROOT)
    (folder / ".gitignore").unlink(missing_ok=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def build_bundle(wheel: Path, bundle: Path, of: Facts) -> Path:
    """The MCPB bundle of a wheel, checked and packed by MCPB's own tool."""
    tool = command("@anthropic-ai/mcpb", "dist/cli/cli.js")
    with tempfile.TemporaryDirectory() as made:
        inside = Path(made)
        with zipfile.ZipFile(wheel) as archive:
            package = [name for name in archive.namelist() if name.startswith("batchcall_mcp/")]
            archive.extractall(inside / "server", package)
        shutil.copy(_START, inside / "server" / "start.py")
        shutil.copy(ROOT / "LICENSE", inside)
        for name in ("manifest.json", "icon.png"):
            shutil.copy(_BUNDLE / name, inside)
        (inside / "pyproject.toml").write_text(bundle_project(of), encoding="utf-8")
        _run([*tool, "validate", str(inside / "manifest.json")], inside)
        _run([*tool, "pack", str(inside), str(bundle)], inside)
    return bundle


def bundle_project(of: Facts) -> str:
    """The pyproject.toml of the bundle: what `uv` has to install; the package lies next to it."""
    needed = "".join(f"  {json.dumps(one)},\n" for one in of.dependencies)
    return (
        f'[project]\nname = "{of.package}-bundle"\nversion = "{of.version}"\n'
        f'requires-python = "{of.requires_python}"\ndependencies = [\n{needed}]\n\n[tool.uv]\npackage = false\n'
    )


def bill_of_materials(of: Facts) -> dict[str, Any]:
    """What is installed with the package and its extra, as CycloneDX, with the versions of today."""
    with tempfile.TemporaryDirectory() as made:
        inside = Path(made)
        everything = replace(of, dependencies=of.dependencies + of.extra)
        (inside / "pyproject.toml").write_text(bundle_project(everything), encoding="utf-8")
        export = ["export", "--quiet", "--preview-features", "sbom-export", "--format", "cyclonedx1.5"]
        _run([_uv(), *export, "--output-file", "sbom.json"], inside)
        described: dict[str, Any] = json.loads((inside / "sbom.json").read_text(encoding="utf-8"))
    described["metadata"]["component"] |= {"name": of.package, "version": of.version}
    return described


def _run(command: list[str], folder: Path) -> None:
    subprocess.run(  # noqa: S603 - uv and MCPB's packer, with our own words
        command, cwd=folder, env=_environment(), check=True, timeout=_LONGEST_S, stdout=sys.stderr
    )


def _environment() -> dict[str, str]:
    ours = {name: value for name, value in environment().items() if name != "VIRTUAL_ENV"}
    return ours | {"UV_NO_CONFIG": "1", "UV_PYTHON": sys.executable}


def _uv() -> str:
    return str(Path(sys.executable).parent / ("uv.exe" if os.name == "nt" else "uv"))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
