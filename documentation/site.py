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
_FENCE = re.compile(r"^ *(```|~~~)")
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
_LONGEST_S = 120


def build(folder: Path, docs: Path = DOCS) -> Path:
    """Build into `folder`, and return the folder of the site. What an earlier build left there is removed.

    Raises:
        subprocess.CalledProcessError: Zensical has found something wrong; it has written what.
    """
    shutil.rmtree(folder / "docs", ignore_errors=True)
    shutil.rmtree(folder / "site", ignore_errors=True)
    shutil.copytree(docs, folder / "docs")
    for page in (folder / "docs").rglob("*.md"):
        inside = page.relative_to(folder / "docs").as_posix()
        page.write_text(for_the_site(page.read_text(encoding="utf-8"), inside, facts()), encoding="utf-8")
    shutil.copy(CONFIGURATION, folder)
    subprocess.run(  # noqa: S603 - Zensical, with our own words
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"], cwd=folder, check=True, timeout=_LONGEST_S
    )
    return folder / "site"


def for_the_site(page: str, inside: str, of: Facts) -> str:
    """The page with the repository's addresses of what is outside docs/. `inside` is its path within docs/."""
    lines, fenced = [], False
    for line in page.splitlines(keepends=True):
        fenced ^= bool(_FENCE.match(line))
        lines.append(line if fenced else _LINK.sub(lambda link: _address(link[0], inside, of), line))
    return "".join(lines)


def _address(link: str, inside: str, of: Facts) -> str:
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(inside), link))
    if ":" in link or path.startswith("docs/"):
        return link
    return of.folder(path) if (ROOT / path).is_dir() else of.page(path)


if __name__ == "__main__":
    BUILD.mkdir(exist_ok=True)
    print(build(BUILD) / "index.html")  # noqa: T201 - a command
