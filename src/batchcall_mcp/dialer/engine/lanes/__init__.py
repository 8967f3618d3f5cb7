"""Lines of one process, each of which dials one person after the other."""
