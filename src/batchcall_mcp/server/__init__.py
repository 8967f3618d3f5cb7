"""The MCP face: tools, results, resources, credentials and transports. Translates, decides nothing."""
