"""HTTP to somebody else's API, and the foreign JSON that it answers. Knows neither backends nor dialer."""
