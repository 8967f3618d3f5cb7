"""The contract of a backend as a test suite: `test_contract = contract(Case(backend=…, fake=…))` in a test module.

For test suites only: it imports pytest, and nothing in the package imports it. See docs/writing-a-backend.md.
"""

from batchcall_mcp.testing.contract import contract
from batchcall_mcp.testing.fake import AsgiApp, Case, Fake
from batchcall_mcp.testing.scene import opened

__all__ = ["AsgiApp", "Case", "Fake", "contract", "opened"]
