"""Acme's adapter, held to the contract of every backend."""

from __future__ import annotations

from acme_backend import AcmeBackend
from acme_fake import AcmeFake

from batchcall_mcp.testing import Case, contract

test_contract = contract(Case(backend=AcmeBackend, fake=AcmeFake, url=AcmeBackend.default_url))
