"""What the dialer dials through."""
