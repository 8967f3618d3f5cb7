"""What stands between a tool call and a ringing phone: what would happen, and whether it was confirmed."""
