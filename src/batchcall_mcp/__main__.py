"""Runs `batchcall-mcp`, which is the same as `python -m batchcall_mcp`: alone it speaks MCP over stdin and stdout."""

import gc
import sys


def main() -> None:
    """Entry point. Settings that do not work are one line on stderr and exit code 2."""
    # Importing makes some hundred thousand objects that stay; looking among them for garbage costs a tenth of the
    # start-up. The commands turn the collector on again.
    gc.disable()
    from batchcall_mcp.errors import ConfigurationError

    try:
        if len(sys.argv) == 1:
            from batchcall_mcp.server.startup import serve_stdio

            serve_stdio()
        else:
            from batchcall_mcp.cli import cli

            cli()
    except ConfigurationError as error:
        sys.stderr.write(f"batchcall-mcp: {error}\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
