"""Events sent to the addresses that a batch call names."""
