"""What keeps `init` from changing a file."""

from __future__ import annotations


class FileProblem(Exception):
    """A file that `init` leaves as it is: what is odd about it, and what a person can do. Neither repeats its text."""

    def __init__(self, what: str, cure: str) -> None:
        super().__init__(f"{what}. {cure}.")
