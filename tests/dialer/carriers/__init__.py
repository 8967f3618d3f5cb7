"""Carriers over an API, against strict fakes on loopback."""
