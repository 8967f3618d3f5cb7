"""Files that a process keeps open: whether a path still names the file that was opened there.

To delete or replace an open file changes what its path names, and not what the process reads and writes. From
then on another process on the same path sees nothing of it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class HeldFile:
    """The file that was opened at `path`."""

    path: Path
    device: int
    inode: int

    @classmethod
    def at(cls, path: Path) -> HeldFile:
        """The file that the path names now.

        Raises:
            OSError: there is none.
        """
        found = path.stat()
        return cls(path, found.st_dev, found.st_ino)

    @classmethod
    def opened(cls, path: Path, descriptor: int) -> HeldFile:
        found = os.fstat(descriptor)
        return cls(path, found.st_dev, found.st_ino)

    @property
    def is_in_place(self) -> bool:
        """Whether the path still names it. A path that cannot be looked at does not."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (self.device, self.inode)
