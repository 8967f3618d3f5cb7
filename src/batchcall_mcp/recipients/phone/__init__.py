"""Phone numbers: reading, comparing, countries."""
