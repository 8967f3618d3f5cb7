"""How the table of notifications came to be, step by step; run by Alembic when a database is opened."""
