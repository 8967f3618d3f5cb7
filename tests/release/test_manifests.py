"""What registries and clients read of us: written from one place, and accepted by the schemas that they publish."""

import base64
import json
import re
import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import batchcall_mcp
from batchcall_mcp.settings import Settings
from release import manifests
from release.facts import ROOT, facts
from release.form import FORM, environment
from tests.release.schemas import problems

OF = facts()
WRITTEN = list(manifests.files(OF))
LAUNCH = json.loads((ROOT / "mcp.json").read_text(encoding="utf-8"))["mcpServers"]
JUDGED = {
    "server.json": "mcp-registry-server",
    ".claude-plugin/marketplace.json": "claude-code-marketplace",
    ".cursor-plugin/marketplace.json": "cursor-marketplace",
    "plugins/batchcall/.claude-plugin/plugin.json": "claude-code-plugin",
    "plugins/batchcall/.cursor-plugin/plugin.json": "cursor-plugin",
}

EXTENSIONS = ["gemini-extension.json", "plugins/batchcall/gemini-extension.json"]


def read(path: str) -> Any:
    return json.loads((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize(("path", "text"), WRITTEN, ids=[path.as_posix() for path, _ in WRITTEN])
def test_every_manifest_is_what_the_facts_make_of_it(path: Path, text: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == text, "run `python -m release.manifests`"


def test_no_manifest_is_left_that_nothing_writes() -> None:
    made = {path.as_posix() for path, _ in WRITTEN}
    by_hand = {"plugins/batchcall/start.py", "plugins/batchcall/icon.png", "plugins/batchcall/README.md"}
    lying = {path.relative_to(ROOT).as_posix() for path in (ROOT / "plugins").rglob("*") if path.is_file()}
    assert {path for path in lying if "__pycache__" not in path} - made == by_hand


@pytest.mark.parametrize(("path", "schema"), JUDGED.items())
def test_the_published_schema_accepts_it(path: str, schema: str) -> None:
    assert problems(read(path), schema) == []


@pytest.mark.parametrize(("path", "schema"), JUDGED.items())
def test_the_published_schema_judges(path: str, schema: str) -> None:
    """It is not one that accepts anything."""
    assert problems(read(path) | {"name": 7}, schema) != []


def test_the_registrys_words_are_short_enough_in_the_release_too() -> None:
    released = manifests.server_json(OF, bundle_sha256="0" * 64)
    assert problems(released, "mcp-registry-server") == []
    bundle = released["packages"][1]
    assert bundle["identifier"] == f"{OF.home}/releases/download/v{OF.version}/batchcall-mcp-{OF.version}.mcpb"


def test_the_readme_has_the_name_by_which_the_registry_knows_the_package() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"mcp-name: (\S+)\s", readme) == [read("server.json")["name"]]


def test_every_manifest_has_the_version_of_the_package() -> None:
    said = {
        path: value.get("version")
        for path in [*JUDGED, *EXTENSIONS, "release/mcpb/manifest.json"]
        if "marketplace" not in path and (value := read(path))
    }
    assert set(said.values()) == {batchcall_mcp.__version__}
    assert [package["version"] for package in read("server.json")["packages"]] == [batchcall_mcp.__version__]


def test_another_home_reaches_every_address() -> None:
    """Who publishes it elsewhere changes pyproject.toml and runs one command."""
    elsewhere = replace(OF, home="https://github.com/example/calls-mcp")
    for path, text in manifests.files(elsewhere):
        if path.name != "README.md":
            assert OF.home not in text, path
    assert manifests.server_json(elsewhere)["name"] == "io.github.example/calls-mcp"


def test_the_addresses_of_the_project_are_of_one_home() -> None:
    written = [path for path, _ in WRITTEN]
    homes = {
        found
        for path in written
        for found in re.findall(r"https://github\.com/[\w.-]+/[\w-]+", (ROOT / path).read_text(encoding="utf-8"))
    }
    assert homes <= {OF.home}


def test_the_files_that_manifests_name_are_there() -> None:
    plugin = ROOT / manifests.PLUGIN
    (entry,) = read(".claude-plugin/marketplace.json")["plugins"]
    assert (ROOT / entry["source"]).resolve() == plugin
    cursor = read("plugins/batchcall/.cursor-plugin/plugin.json")
    assert all((plugin / cursor[name]).exists() for name in ("logo", "skills", "mcpServers"))
    claude = read("plugins/batchcall/.claude-plugin/plugin.json")
    (start,) = (one for one in claude["mcpServers"]["batchcall"]["args"] if "${CLAUDE_PLUGIN_ROOT}" in one)
    assert Path(start.replace("${CLAUDE_PLUGIN_ROOT}", str(plugin))).is_file()


def test_the_pages_that_manifests_name_are_there() -> None:
    named = {
        page
        for path, _ in WRITTEN
        for page in re.findall(rf"{OF.home}/blob/main/([\w./-]+)", (ROOT / path).read_text(encoding="utf-8"))
    }
    assert named == {"README.md", manifests.PRIVACY}
    assert all((ROOT / page).is_file() for page in named)


def test_one_entry_for_every_client_that_takes_it_as_it_is() -> None:
    assert read("plugins/batchcall/mcp.json")["mcpServers"] == LAUNCH
    assert read("gemini-extension.json")["mcpServers"] == LAUNCH


def test_the_links_of_the_badges_install_the_entry_of_mcp_json() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = dict(re.findall(r"\[!\[Install in ([\w ]+)\]\(https://[^)]+\)\]\((https://[^)]+)\)", readme))
    assert set(links) == {"Cursor", "VS Code"}
    for client, link in links.items():
        asked = {name: value for name, (value,) in parse_qs(urlsplit(link).query, strict_parsing=True).items()}
        config = asked["config"]
        entry = json.loads(base64.b64decode(config, validate=True) if client == "Cursor" else config)
        assert {asked["name"]: entry} == LAUNCH
    assert urlsplit(links["Cursor"]).path == "/en/install-mcp"
    assert urlsplit(links["VS Code"]).path == "/redirect/mcp/install"


def test_the_form_asks_for_settings_that_there_are_and_hides_the_secret_ones() -> None:
    for field in FORM:
        kind = str(Settings.model_fields[field.variable.lower()].annotation)
        assert field.sensitive == ("SecretStr" in kind), field


def test_every_field_of_a_form_reaches_the_server() -> None:
    """Claude Code and MCPB name the fields alike; Gemini CLI names the variables themselves."""
    for path in ("plugins/batchcall/.claude-plugin/plugin.json", "release/mcpb/manifest.json"):
        manifest = read(path)
        form = manifest.get("userConfig") or manifest["user_config"]
        started = manifest["mcpServers"]["batchcall"] if "mcpServers" in manifest else manifest["server"]["mcp_config"]
        assert set(started["env"].values()) == {f"${{user_config.{key}}}" for key in form}
        assert {key for key, field in form.items() if field.get("sensitive")} == {
            field.key for field in FORM if field.sensitive
        }
        assert not any(field["required"] for field in form.values())
    asked = read("gemini-extension.json")["settings"]
    assert {one["envVar"]: one["sensitive"] for one in asked} == {
        f"BATCHCALL_{field.variable}": field.sensitive for field in FORM
    }


START = ROOT / manifests.PLUGIN / "start.py"


@pytest.mark.parametrize("empty", ["", " ", None], ids=["empty", "blank", "placeholder"])
def test_a_field_that_nobody_filled_in_is_a_setting_that_is_not_set(
    empty: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, placeholder in environment().items():
        monkeypatch.setenv(name, placeholder if empty is None else empty)
    monkeypatch.setenv("BATCHCALL_DEFAULT_REGION", "gb")
    runpy.run_path(str(START))
    settings = Settings.load()
    assert settings.default_region == "GB"
    assert settings == Settings(default_region="GB", log_level=settings.log_level, data_dir=settings.data_dir)


def test_any_other_placeholder_is_refused_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCHCALL_API_KEY", "${API_KEY}")
    runpy.run_path(str(START))
    with pytest.raises(Exception, match="unfilled"):
        Settings.load()


@pytest.mark.parametrize("page", ["README.md", "docs/install.md"])
def test_a_page_says_that_nothing_is_in_the_registry_exactly_until_there_is(page: str) -> None:
    """CHANGELOG.md has the date of a release; the workflow does not run without one."""
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = re.search(r"^## (\S+) \((.+)\)$", changes, re.MULTILINE)
    assert heading is not None
    said = f"Version {heading[1]} is not in the registry yet" in (ROOT / page).read_text(encoding="utf-8")
    assert said == (heading[2] == "not released")


def test_the_page_names_the_bundle_of_this_version() -> None:
    page = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    assert set(re.findall(r"[\w.-]+\.mcpb", page)) == {manifests.bundle_name(OF)}


def test_vulnerabilities_are_reported_to_the_repository_of_the_project() -> None:
    page = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert re.findall(r"https?://[^\s>)]+", page) == [f"{OF.home}/security/advisories/new"]
    assert "](SECURITY.md)" in (ROOT / "README.md").read_text(encoding="utf-8")
