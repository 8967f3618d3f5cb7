"""Files of people ─► raw rows: which files may be read, their formats and columns."""
