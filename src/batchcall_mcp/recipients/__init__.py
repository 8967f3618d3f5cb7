"""Lists of people to call ─► CallTasks: files and inline lists, numbers, who is left out and why."""
