"""How the dialer's tables came to be, step by step; run by Alembic when a database is opened."""
