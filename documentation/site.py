"""docs/ as a site, built by Zensical from zensical.toml. `python -m documentation.site` builds it into build/site.

What is built is a copy, in which links to files outside docs/ lead to the repository: on its host they work as they are
written, and on a site there are no such files.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path

from release.facts import ROOT, Facts, facts

BUILD = ROOT / "build"
CONFIGURATION = ROOT / "zensical.toml"
DOCS = ROOT / "docs"
_THEME = ROOT / "documentation" / "theme"
_FENCE = re.compile(r"( {0,3})(```\w*)(?: +(\S+))? *\n")
_INDENT = 4
_LESS_THAN_FOUR = re.compile(r" {2,3}(?=\S)")
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
_LONGEST_S = 120


def build(folder: Path, docs: Path = DOCS, configuration: Path = CONFIGURATION) -> Path:
    """Build into `folder`, and return the folder of the site. What an earlier build left there is removed.

    Raises:
        subprocess.CalledProcessError: Zensical has found something wrong; it has written what.
    """
    shutil.rmtree(folder / "docs", ignore_errors=True)
    shutil.rmtree(folder / "site", ignore_errors=True)
    shutil.copytree(docs, folder / "docs")
    shutil.copytree(_THEME, folder / "theme", dirs_exist_ok=True)
    of = facts()
    for page in (folder / "docs").rglob("*.md"):
        inside = page.relative_to(folder / "docs").as_posix()
        page.write_text(for_the_site(page.read_text(encoding="utf-8"), inside, of), encoding="utf-8")
    shutil.copy(configuration, folder / CONFIGURATION.name)
    subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=folder, check=True, timeout=_LONGEST_S
    )
    return folder / "site"


def for_the_site(page: str, inside: str, of: Facts) -> str:
    """The page as Zensical needs it. `inside` is its path within docs/.

    Links to what is outside docs/ get the repository's address. The name of a file behind a fence's language becomes
    its title. What continues a list's item is indented by four, where the repository's host is content with less.
    """
    lines, fenced, more = [], False, ""
    for line in page.splitlines(keepends=True):
        fence = _FENCE.match(line)
        if fence and not fenced:
            more = _missing(fence[1])
            lines.append(more + _FENCE.sub(_titled, line))
        elif fenced:
            lines.append(more + line if line.strip() else line)
        else:
            indented = _LESS_THAN_FOUR.match(line)
            lines.append(
                (_missing(indented[0]) if indented else "")
                + _LINK.sub(lambda link: _address(link[0], inside, of), line)
            )
        fenced ^= fence is not None
    return "".join(lines)


def _missing(indent: str) -> str:
    return " " * (_INDENT - len(indent)) if indent else ""


def _titled(fence: re.Match[str]) -> str:
    return f'{fence[1]}{fence[2]} title="{fence[3]}"\n' if fence[3] else fence[0]


def _address(link: str, inside: str, of: Facts) -> str:
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(inside), link))
    if ":" in link or path.startswith("docs/"):
        return link
    return of.folder(path) if (ROOT / path).is_dir() else of.page(path)


if __name__ == "__main__":
    BUILD.mkdir(exist_ok=True)
    print(build(BUILD) / "index.html")  # noqa: T201 - a command
