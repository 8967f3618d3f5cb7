"""What was sent, what is unknown, and what has been confirmed: kept where a crash or another process cannot lose it.

Imported when it is first needed, because SQLAlchemy is; `at_rest` alone, which has no need of it, is
imported when a server starts.
"""
