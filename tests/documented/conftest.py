"""The documented calls are played with the same desk as the tools."""

from tests.tools.conftest import portal

__all__ = ["portal"]
