"""Strict fakes of the services that place single calls."""
