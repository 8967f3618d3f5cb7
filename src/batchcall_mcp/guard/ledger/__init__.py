"""What was sent, what is unknown, and what has been confirmed: kept where a crash or another process cannot lose it.

Imported when it is first needed, because SQLAlchemy is; nothing that a server imports at start imports it.
"""
