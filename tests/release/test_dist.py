"""What `make dist` builds, as the people get it who install it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import StdioServerParameters

import batchcall_mcp
from release.build import SUMS
from release.facts import facts
from release.manifests import server_json
from tests.clients.node import NODE, node_home
from tests.release.built import dist, in_folder, offered_by
from tests.release.compiled import compiled_as_here
from tests.release.schemas import problems

OF = facts()
TOOLS = Path(sys.executable).parent
UV = {"UV_NO_CONFIG": "1", "UV_PYTHON": sys.executable}
UNTRACED = {name: value for name, value in os.environ.items() if not name.startswith(("COV", "VIRTUAL_ENV"))}


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dist(tmp_path_factory)


def one(released: Path, pattern: str) -> Path:
    (found,) = released.glob(pattern)
    return found


def test_a_release_has_these_files_and_their_sums(released: Path) -> None:
    version = batchcall_mcp.__version__
    assert {path.name for path in released.iterdir()} == {
        f"batchcall_mcp-{version}-py3-none-any.whl",
        f"batchcall_mcp-{version}.tar.gz",
        f"batchcall-mcp-{version}.mcpb",
        f"batchcall-mcp-{version}.cdx.json",
        "server.json",
        SUMS,
    }
    lines = (released / SUMS).read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert set(sums) == {path.name for path in released.iterdir()} - {SUMS}
    assert all(hashlib.sha256((released / name).read_bytes()).hexdigest() == digest for name, digest in sums.items())


def test_the_sdist_has_what_the_wheel_is_built_from_and_nothing_else(released: Path) -> None:
    with tarfile.open(one(released, "*.tar.gz")) as archive:
        inside = {name.split("/", 1)[1] for name in archive.getnames()}
    others = {name for name in inside if not name.startswith("src/batchcall_mcp/")}
    assert others == {
        "CHANGELOG.md",
        "LICENSE",
        "PKG-INFO",
        "README.md",
        "pyproject.toml",
        ".gitignore",
        "examples/customers.csv",
        "examples/do-not-call.txt",
    }


def test_the_page_of_the_package_is_the_readme(released: Path) -> None:
    with zipfile.ZipFile(one(released, "*.whl")) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        text = archive.read(metadata).decode()
    assert f"Version: {OF.version}\n" in text
    assert f"Project-URL: Homepage, {OF.home}\n" in text
    assert f"<!-- mcp-name: {OF.registry_name} -->" in text


def test_the_registry_is_given_the_hash_of_the_bundle(released: Path) -> None:
    described = json.loads((released / "server.json").read_text(encoding="utf-8"))
    assert problems(described, "mcp-registry-server") == []
    packed = hashlib.sha256(one(released, "*.mcpb").read_bytes()).hexdigest()
    assert described == server_json(OF, bundle_sha256=packed)


def test_the_bill_of_materials_names_everything_that_is_installed(released: Path) -> None:
    bill = json.loads(one(released, "*.cdx.json").read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    itself = bill["metadata"]["component"]
    assert (itself["name"], itself["version"]) == (OF.package, OF.version)
    listed = {part["name"]: part["version"] for part in bill["components"]}
    asked = {one.split(">=")[0].split("[")[0] for one in (*OF.dependencies, *OF.extra)}
    assert asked <= set(listed)
    assert all(listed.values())
    assert {"pytest", "mypy", "uv"}.isdisjoint(listed)


@pytest.fixture(scope="module")
def unpacked(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    with zipfile.ZipFile(one(released, "*.mcpb")) as archive:
        archive.extractall(folder)
    return folder


def test_the_bundle_has_the_package_of_the_wheel(released: Path, unpacked: Path) -> None:
    assert {path.name for path in unpacked.iterdir()} == {
        "LICENSE",
        "icon.png",
        "manifest.json",
        "pyproject.toml",
        "server",
    }
    with zipfile.ZipFile(one(released, "*.whl")) as archive:
        package = {name for name in archive.namelist() if name.startswith("batchcall_mcp/")}
        assert {
            path.relative_to(unpacked / "server").as_posix() for path in unpacked.rglob("server/*/**/*.*")
        } == package
        assert all((unpacked / "server" / name).read_bytes() == archive.read(name) for name in package)
    project = tomllib.loads((unpacked / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dependencies"] == list(OF.dependencies)


MCPBS_OWN_WAY = """
import { readFileSync } from "node:fs";
import { getMcpConfigForManifest } from "@anthropic-ai/mcpb";
const { extensionPath, userConfig } = JSON.parse(process.argv[1]);
const manifest = JSON.parse(readFileSync(`${extensionPath}/manifest.json`));
const made = { manifest, extensionPath, userConfig, systemDirs: {}, pathSeparator: "/" };
console.log(JSON.stringify(await getMcpConfigForManifest(made)));
"""


def started_by_a_client(extension: Path, form: dict[str, str]) -> dict[str, Any]:
    """What MCPB's own library makes of the manifest and of a form that a person filled in."""
    given = json.dumps({"extensionPath": str(extension), "userConfig": form})
    run = subprocess.run(
        [str(NODE), "--input-type=module", "--eval", MCPBS_OWN_WAY, given],
        cwd=node_home(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    made: dict[str, Any] = json.loads(run.stdout)
    return made


@pytest.mark.timeout(300)
async def test_the_bundle_starts_as_a_client_starts_it(unpacked: Path, tmp_path: Path) -> None:
    """With a form in which little was filled in: on the simulated dialer, with what `uv` installs."""
    extension = tmp_path / "extension"
    shutil.copytree(unpacked, extension)
    started = started_by_a_client(extension, {"mode": "draft", "api_key": ""})
    assert started["env"]["BATCHCALL_MODE"] == "draft"
    assert started["env"]["BATCHCALL_API_SECRET"] == "${user_config.api_secret}"
    command, arguments = str(TOOLS / started["command"]), [str(one) for one in started["args"]]
    environment = UNTRACED | UV | started["env"] | in_folder(tmp_path)
    await anyio.run_process([command, *arguments[:-1], "python", "-c", ""], env=environment, cwd=tmp_path)
    compiled_as_here(extension / ".venv")
    server = StdioServerParameters(command=command, args=arguments, env=environment, cwd=tmp_path)
    tools = await offered_by(server, "dialer")
    assert ("create_batch_call" in tools, "start_batch_call" in tools) == (True, False)
