"""Alembic's entry: migrates over the connection that `database.migrate` hands in, inside its transaction."""

from __future__ import annotations

from alembic import context

attributes = context.config.attributes
context.configure(connection=attributes["connection"], version_table=attributes["versions"])
context.run_migrations()
