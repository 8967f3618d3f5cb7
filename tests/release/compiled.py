"""An environment that another one was compiled for: modules with the same bytes are not compiled again."""

from __future__ import annotations

import sysconfig
from importlib.util import cache_from_source
from pathlib import Path

import batchcall_mcp

_HERE = (Path(sysconfig.get_paths()["purelib"]), Path(batchcall_mcp.__file__).parents[1])


def compiled_as_here(environment: Path) -> None:
    """Before something installed in this environment starts for the first time, which takes seconds otherwise.

    A compiled module begins with the time and the size of its source (PEP 552). Python compares both, and compiles
    what differs.
    """
    (site,) = environment.glob("lib/python3*/site-packages")
    for root in _HERE:
        for source in site.rglob("*.py"):
            ours = root / source.relative_to(site)
            made, put = Path(cache_from_source(str(ours))), Path(cache_from_source(str(source)))
            if made.exists() and not put.exists() and ours.read_bytes() == source.read_bytes():
                compiled = made.read_bytes()
                changed = int(source.stat().st_mtime).to_bytes(4, "little")
                put.parent.mkdir(exist_ok=True)
                put.write_bytes(compiled[:8] + changed + compiled[12:])
