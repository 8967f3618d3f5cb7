"""Our own batch-call backend: it keeps batch calls in SQL, decides when each call may start, and places it.

`rest` speaks HTTP, `storage` holds the tables, `engine` decides whom to dial and
when, `carriers` dial, `webhooks` report.
"""
