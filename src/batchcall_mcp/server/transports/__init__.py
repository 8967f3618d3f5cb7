"""stdio, streamable HTTP and SSE, and who may connect."""
