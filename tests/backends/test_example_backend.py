"""The example of docs/writing-a-backend.md, outside the package: its own test, and the code that the page quotes."""

from __future__ import annotations

from test_acme_backend import test_contract

__all__ = ["test_contract"]
