"""Requests and responses of the REST API: their models, how bodies are read, and records ─► JSON."""
