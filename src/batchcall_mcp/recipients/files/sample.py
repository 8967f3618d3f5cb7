"""The folder of lists, made for somebody who has none yet, with a list whose numbers reach nobody."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from batchcall_mcp.recipients.files.allowed_folders import exports_folder

logger = logging.getLogger(__name__)

NAME = "sample.csv"
LIST = """\
name,phone,appointment
Tara Brown,+14155550100,2026-12-01 09:00
Ann Silva,+14155550107,2026-12-01 09:30
Rosa Diaz,+12125550141,2026-12-01 10:00
Ben Adler,+12125550152,2026-12-01 10:30
Ida Moreau,+13125550133,2026-12-01 11:00
Omar Haddad,+13125550164,2026-12-01 11:30
Mia Larsen,+442079460106,2026-12-02 09:00
Tom Clarke,+442079460118,2026-12-02 09:30
Eve Hughes,+441134960125,2026-12-02 10:00
Leo Novak,+441614960139,2026-12-02 10:30
"""
"""Numbers that are reserved for fiction in the United States (555-0100 to 555-0199) and the United Kingdom (Ofcom)."""


def make_first_folder(folders: Sequence[Path]) -> None:
    """Make the first folder, its exports and a sample list, if the folder does not exist. Never raises.

    A folder that exists is somebody's: nothing is put into it.
    """
    if not folders:
        return
    folder = folders[0]
    try:
        folder.mkdir(parents=True)
        exports_folder(folders).mkdir()
        with (folder / NAME).open("x", encoding="utf-8", newline="\n") as file:
            file.write(LIST)
    except FileExistsError:
        return
    except OSError as error:
        logger.warning("The folder for lists %s cannot be made (%s); create it.", folder, error.strerror or error)
        return
    logger.info("Made the folder for lists %s, with %s: its numbers are fictional.", folder, NAME)
