"""The two-stage selection protocol, its jobs and the frozen choice."""
