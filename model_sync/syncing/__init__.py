"""Running syncs: requests, a queue per model, and the report of their progress."""
