"""How the tables of kept files came to be, step by step; run by Alembic when a database is opened."""
