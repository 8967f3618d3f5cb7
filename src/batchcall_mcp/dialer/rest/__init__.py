"""The dialer as a REST API: requests in, transactions called, responses out."""
