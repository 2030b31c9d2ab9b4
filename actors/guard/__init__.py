"""Self-fencing: act at the deadline whatever the agent does."""
