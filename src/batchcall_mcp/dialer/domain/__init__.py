"""What the dialer decides, and the values it decides about. No I/O but the clock."""
