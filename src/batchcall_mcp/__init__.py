"""batchcall-mcp: the MCP server with which AI agents run outbound batch calls."""

__version__ = "0.2.0"
