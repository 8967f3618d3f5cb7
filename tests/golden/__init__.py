"""The sentences that are seen most, in one file that a person reads."""
