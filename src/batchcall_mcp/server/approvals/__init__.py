"""Where a person is asked: in the MCP client, on the approval page, in a terminal."""
