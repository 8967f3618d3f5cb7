"""What places calls: which task is next, when, and what its outcome changes."""
