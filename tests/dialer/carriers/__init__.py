"""The carriers, against strict fakes."""
