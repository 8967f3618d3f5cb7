"""Commands about the account at the backend: `doctor` looks, `verify` calls once."""
