"""The account behind a real carrier: what it has, what it cannot call, and what was said in its calls."""
