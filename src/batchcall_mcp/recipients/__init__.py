"""Lists of people to call ─► CallTasks: files and inline lists, numbers, which rows are skipped and why."""
