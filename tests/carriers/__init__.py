"""Vendors' APIs for single calls, played on loopback: strict, and with phones that ring in a list."""
