"""Our own batch-call backend: it keeps batch calls in SQL, decides when each call may start, and places it.

`api` speaks REST, `store` and `dispatch` are the transactions, `engine` runs them, `rules` decides, `carriers` dial.
"""
