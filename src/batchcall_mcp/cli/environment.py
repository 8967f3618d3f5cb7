"""What a command needs before it does anything: the operator's settings, and a log that follows them."""

from __future__ import annotations

from batchcall_mcp.settings import Settings


def load_settings() -> Settings:
    """Read the settings, and log as they say from here on.

    Raises:
        ConfigurationError: naming each variable that does not work.
    """
    from batchcall_mcp.server import log

    settings = Settings.load()
    log.configure(settings)
    return settings
