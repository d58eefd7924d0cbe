"""Concepts to the rows of a replay: cohort, trajectories, actions, splits, statistics."""
