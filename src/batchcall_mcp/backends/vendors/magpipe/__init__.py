"""Magpipe: `POST …/batch-calls` with an `action`."""
