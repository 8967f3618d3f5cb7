"""What the hooks of several vendors do alike."""
