"""Lists that callers over HTTP have uploaded and exports that were made for them: one caller's own, kept for a day."""
