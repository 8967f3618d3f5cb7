"""One module a batch-call backend, each a translation between `model` and the vendor's words."""
