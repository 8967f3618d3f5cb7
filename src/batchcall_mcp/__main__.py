"""Runs `batchcall-mcp`, which is the same as `python -m batchcall_mcp`."""

import gc


def main() -> None:
    """Entry point."""
    # Importing makes some hundred thousand objects that stay; looking among them for garbage costs a fifth of the
    # start-up. `cli` turns the collector on again.
    gc.disable()
    from batchcall_mcp.cli import run

    run()


if __name__ == "__main__":
    main()
