"""Runs `batchcall-mcp`."""


def main() -> None:
    """Entry point."""
    raise SystemExit(2)
