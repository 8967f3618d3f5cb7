"""Everything that changes a batch call: create, update, start, resume, pause, cancel, delete, retry."""
