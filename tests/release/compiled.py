"""An environment that another one was compiled for: modules with the same bytes are not compiled again."""

from __future__ import annotations

import filecmp
import importlib.util
import os
import shutil
import sysconfig
from pathlib import Path

import batchcall_mcp

_HERE = (Path(sysconfig.get_paths()["purelib"]), Path(batchcall_mcp.__file__).parents[1])


def compiled_as_here(environment: Path) -> None:
    """Before something installed in this environment starts for the first time, which takes seconds otherwise.

    A compiled module names the time and the size of its source. Python compares them as ever, and compiles what
    differs.
    The environment needs files of its own (`UV_LINK_MODE=copy`): their times become those of the files here.
    """
    (site,) = environment.glob("lib/python3*/site-packages")
    for source in site.rglob("*.py"):
        for root in _HERE:
            ours = root / source.relative_to(site)
            made = Path(importlib.util.cache_from_source(str(ours)))
            if made.exists() and filecmp.cmp(ours, source, shallow=False):
                put = Path(importlib.util.cache_from_source(str(source)))
                put.parent.mkdir(exist_ok=True)
                shutil.copyfile(made, put)
                times = ours.stat()
                os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
