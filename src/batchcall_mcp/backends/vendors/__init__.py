"""Backends with an API of their own: a module or a package for each, none of which knows another."""
