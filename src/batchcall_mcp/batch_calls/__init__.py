"""One use case for each tool. Knows no MCP and no vendor: a `CallContext` goes in, domain objects come out."""
