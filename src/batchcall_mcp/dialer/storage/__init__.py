"""The dialer's tables, and every transaction on them that is not the engine's."""
