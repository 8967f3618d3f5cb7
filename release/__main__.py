"""`make dist`: build the release into `dist/`. The tests of tests/release then look at exactly these files."""

from release.build import build
from release.facts import ROOT

if __name__ == "__main__":
    build(ROOT / "dist")
