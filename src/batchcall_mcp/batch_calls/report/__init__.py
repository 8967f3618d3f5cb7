"""The report of a batch call: one HTML file for people, made of what the tasks say. Pure."""
