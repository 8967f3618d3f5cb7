"""Runs `batchcall-mcp`, which is the same as `python -m batchcall_mcp`: alone it speaks MCP over stdin and stdout."""

from __future__ import annotations

import gc
import sys
from io import BufferedReader, FileIO

AT_A_TERMINAL = """\
batchcall-mcp is an MCP server: an MCP client starts it and speaks to it over stdin and stdout. This is a terminal,
where nobody would answer. Type one of these:

  batchcall-mcp init     set up the MCP clients on this machine (shows the change first)
  batchcall-mcp demo     watch an agent's batch call from draft to report; no phone rings
  batchcall-mcp serve    serve MCP over HTTP, for a team
  batchcall-mcp --help   all commands
"""


def main() -> None:
    """Entry point. Settings that do not work are one line on stderr and exit code 2; so is a start by hand."""
    # Importing makes some hundred thousand objects that stay; looking among them for garbage costs a tenth of the
    # start-up. The commands turn the collector on again.
    gc.disable()
    from batchcall_mcp.errors import ConfigurationError

    try:
        if len(sys.argv) == 1 and sys.stdin is not None and sys.stdin.isatty():
            sys.stderr.write(AT_A_TERMINAL)
            raise SystemExit(2)
        if len(sys.argv) == 1:
            taken = _begun_fast()
            from batchcall_mcp.server.startup import serve_stdio

            serve_stdio(taken)
        else:
            from batchcall_mcp.cli import cli

            cli()
    except ConfigurationError as error:
        sys.stderr.write(f"batchcall-mcp: {error}\n")
        raise SystemExit(2) from None


def _begun_fast() -> tuple[BufferedReader, FileIO] | None:
    """The client's ends of the pipes, if it is being answered already; None: the server starts in the ordinary way."""
    try:
        from batchcall_mcp import fast_start
    except ImportError:  # it can be left out
        return None
    return fast_start.begin()


if __name__ == "__main__":
    main()
