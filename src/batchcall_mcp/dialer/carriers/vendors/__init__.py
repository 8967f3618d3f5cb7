"""One module a vendor; none knows another."""
