"""Every manifest of a registry or a client, written from `facts`, `form` and the skills.

`python -m release.manifests` writes them; `tests/release/test_manifests.py` fails when they differ, and holds each to
its published schema. So a new version, or another address in pyproject.toml, needs that one command.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from release.facts import NAME, ROOT, TITLE, Facts, facts
from release.form import FORM, environment, user_config

SERVER_SCHEMA = "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"
SKILLS = ROOT / "skills"
PLUGIN = Path("plugins/batchcall")
README = ROOT / "README.md"
PRIVACY = "docs/privacy.md"
SHORT = "Outbound batch calls, confirmed by a person, on any batch-call backend or its own dialer"
"""At most 100 characters, as the MCP registry wants it."""
_LAUNCH = {"command": "uvx", "args": ["batchcall-mcp"]}
_CATEGORY = "productivity"
_README_PART = re.compile(r"(?<=<!-- badges: begin -->\n).*?(?=<!-- badges: end -->)", re.DOTALL)
_MARKER = "mcp-name: "


def files(of: Facts) -> Iterator[tuple[Path, str]]:
    """Path inside the repository and text of every file that is written from facts."""
    yield Path("server.json"), written(server_json(of))
    yield Path("gemini-extension.json"), written(gemini_extension(of))
    yield PLUGIN / "gemini-extension.json", written(gemini_extension(of))
    yield Path("release/mcpb/manifest.json"), written(bundle_manifest(of))
    yield Path(".claude-plugin/marketplace.json"), written(marketplace(of) | {"description": SHORT})
    yield Path(".cursor-plugin/marketplace.json"), written(marketplace(of))
    yield PLUGIN / ".claude-plugin/plugin.json", written(claude_plugin(of))
    yield PLUGIN / ".cursor-plugin/plugin.json", written(cursor_plugin(of))
    yield PLUGIN / "mcp.json", written({"mcpServers": {NAME: _LAUNCH}})
    for skill in sorted(SKILLS.glob("*/SKILL.md")):
        yield PLUGIN / skill.relative_to(ROOT), skill.read_text(encoding="utf-8")
    yield README.relative_to(ROOT), with_badges(README.read_text(encoding="utf-8"), of)


def server_json(of: Facts, *, bundle_sha256: str | None = None) -> dict[str, Any]:
    """For the MCP registry. The release adds the bundle, whose hash is known once it was built."""
    package = {
        "registryType": "pypi",
        "identifier": of.package,
        "version": of.version,
        "runtimeHint": "uvx",
        "transport": {"type": "stdio"},
        "environmentVariables": [
            {
                "name": f"BATCHCALL_{field.variable}",
                "description": field.description,
                "format": {"number": "number", "file": "filepath", "directory": "filepath"}.get(field.type, "string"),
                "isRequired": False,
                "isSecret": field.sensitive,
            }
            for field in FORM
        ],
    }
    bundle = {
        "registryType": "mcpb",
        "identifier": of.asset(bundle_name(of)),
        "version": of.version,
        "fileSha256": bundle_sha256,
        "transport": {"type": "stdio"},
    }
    return {
        "$schema": SERVER_SCHEMA,
        "name": of.registry_name,
        "title": TITLE,
        "description": SHORT,
        "version": of.version,
        "websiteUrl": of.home,
        "repository": {"url": of.home, "source": "github"},
        "packages": [package] if bundle_sha256 is None else [package, bundle],
    }


def bundle_name(of: Facts) -> str:
    """The file of the MCPB bundle."""
    return f"{of.package}-{of.version}.mcpb"


def bundle_manifest(of: Facts) -> dict[str, Any]:
    """The MCPB bundle's: it contains the package itself, and `uv` installs what that needs."""
    return {
        "manifest_version": "0.4",
        "name": of.package,
        "display_name": TITLE,
        "version": of.version,
        "description": SHORT,
        "long_description": (
            "Your agent calls a list of people: it judges the list, makes a draft, asks you before a phone rings, "
            "waits, and reports who was reached and who was missed. Without an account it uses a simulated dialer, on "
            "which no phone rings."
        ),
        "author": {"name": of.author, "url": of.home},
        "repository": {"type": "git", "url": f"{of.home}.git"},
        "homepage": of.home,
        "documentation": of.page("README.md"),
        "support": f"{of.home}/issues",
        "icon": "icon.png",
        "server": {
            "type": "uv",
            "entry_point": "server/start.py",
            "mcp_config": {
                "command": "uv",
                "args": ["run", "--directory", "${__dirname}", "server/start.py"],
                "env": environment(),
            },
        },
        "tools_generated": True,
        "prompts_generated": True,
        "keywords": list(of.keywords),
        "license": of.licence,
        "privacy_policies": [of.page(PRIVACY)],
        "compatibility": {
            "platforms": ["darwin", "win32", "linux"],
            "runtimes": {"python": of.requires_python},
        },
        "user_config": user_config(),
    }


def marketplace(of: Facts) -> dict[str, Any]:
    """The repository as a marketplace of one plug-in; Claude Code and Cursor read the same form."""
    return {
        "name": of.package,
        "owner": {"name": of.author},
        "plugins": [{"name": NAME, "source": f"./{PLUGIN.as_posix()}", "description": SHORT}],
    }


def claude_plugin(of: Facts) -> dict[str, Any]:
    """Claude Code asks for the settings, and keeps the sensitive ones in its secure storage."""
    start = ["--from", of.package, "python", "${CLAUDE_PLUGIN_ROOT}/start.py"]
    return _plugin(of) | {
        "mcpServers": {NAME: {"command": "uvx", "args": start, "env": environment()}},
        "userConfig": user_config(),
    }


def cursor_plugin(of: Facts) -> dict[str, Any]:
    """Cursor's schema has neither optional settings that may stay empty nor addresses of authors."""
    return _plugin(of) | {
        "displayName": TITLE,
        "category": _CATEGORY,
        "logo": "icon.png",
        "skills": "./skills/",
        "mcpServers": "./mcp.json",
    }


def _plugin(of: Facts) -> dict[str, Any]:
    return {
        "name": NAME,
        "version": of.version,
        "description": SHORT,
        "author": {"name": of.author},
        "homepage": of.home,
        "repository": of.home,
        "license": of.licence,
        "keywords": list(of.keywords),
    }


def gemini_extension(of: Facts) -> dict[str, Any]:
    """At the root of the repository, which Gemini CLI installs from GitHub as it is, with the folder `skills`.

    And in the plug-in's folder: from a clone it would copy everything that lies there, an environment of 900 MB too.
    It sets no variable for a setting that nobody filled in, and keeps sensitive ones in the system's keychain.
    """
    return {
        "name": NAME,
        "version": of.version,
        "description": SHORT,
        "mcpServers": {NAME: _LAUNCH},
        "settings": [
            {
                "name": field.title,
                "description": field.description,
                "envVar": f"BATCHCALL_{field.variable}",
                "sensitive": field.sensitive,
            }
            for field in FORM
        ],
    }


def install_links() -> Mapping[str, str]:
    """Links that install the entry of mcp.json in a client, which asks first."""
    entry = json.dumps(_LAUNCH, separators=(",", ":"))
    config = base64.b64encode(entry.encode()).decode()
    return {
        "Cursor": "https://cursor.com/en/install-mcp?" + urlencode({"name": NAME, "config": config}),
        "VS Code": "https://insiders.vscode.dev/redirect/mcp/install?"
        + urlencode({"name": NAME, "config": entry}, quote_via=quote),
    }


_PICTURES = {
    "Cursor": "https://cursor.com/deeplink/mcp-install-dark.svg",
    "VS Code": "https://img.shields.io/badge/VS_Code-Install-0098FF",
}


def with_badges(readme: str, of: Facts) -> str:
    """The README with the links of today, and the name by which the MCP registry recognises the package."""
    if not _README_PART.search(readme):
        raise ValueError("README.md has no part between `<!-- badges: begin -->` and `<!-- badges: end -->`")
    shown = [f"[![Install in {client}]({_PICTURES[client]})]({link})" for client, link in install_links().items()]
    part = "\n".join([*shown, f"<!-- {_MARKER}{of.registry_name} -->\n"])
    return _README_PART.sub(lambda _: part, readme)


def written(manifest: Mapping[str, Any]) -> str:
    """As text, in the order in which it was put together."""
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def main() -> None:
    """Write them."""
    for path, text in list(files(facts())):
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
