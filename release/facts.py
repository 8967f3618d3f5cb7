"""What every manifest says, from one place: pyproject.toml and the package's version."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import batchcall_mcp

ROOT = Path(__file__).parents[1]
SETUP = ROOT / "pyproject.toml"
TITLE = "batchcall-mcp"
NAME = "batchcall"
"""What clients call the server; mcp.json has the same."""


@dataclass(frozen=True)
class Facts:
    """Name, version and addresses of one release."""

    package: str
    version: str
    description: str
    home: str
    """Where the source is: https://github.com/OWNER/REPOSITORY."""
    keywords: tuple[str, ...]
    author: str
    licence: str
    requires_python: str
    dependencies: tuple[str, ...]
    extra: tuple[str, ...]
    """What a team's server needs in addition."""

    @property
    def owner_and_repository(self) -> str:
        """As GitHub writes it: OWNER/REPOSITORY."""
        return "/".join(self.home.split("/")[-2:])

    @property
    def registry_name(self) -> str:
        """Its name in the MCP registry, which the owner of the repository may use."""
        owner, repository = self.owner_and_repository.split("/")
        return f"io.github.{owner}/{repository}"

    def page(self, path: str) -> str:
        """The address of a page of the repository."""
        return f"{self.home}/blob/main/{path}"

    def folder(self, path: str) -> str:
        """The address of a folder of the repository."""
        return f"{self.home}/tree/main/{path}"

    def asset(self, file: str) -> str:
        """The address of a file of this release."""
        return f"{self.home}/releases/download/v{self.version}/{file}"


def facts() -> Facts:
    """Those of this working tree."""
    project: dict[str, Any] = tomllib.loads(SETUP.read_text(encoding="utf-8"))["project"]
    return Facts(
        package=project["name"],
        version=batchcall_mcp.__version__,
        description=project["description"],
        home=project["urls"]["Homepage"],
        keywords=tuple(project["keywords"]),
        author=project["authors"][0]["name"],
        licence=project["license"],
        requires_python=project["requires-python"],
        dependencies=tuple(project["dependencies"]),
        extra=tuple(project["optional-dependencies"]["postgres"]),
    )
