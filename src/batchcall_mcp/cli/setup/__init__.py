"""`batchcall-mcp init`: asks, checks, shows and then writes what MCP clients need to start this server."""
