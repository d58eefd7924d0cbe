"""Discrete Conservative Q-Learning: loss, loop, checkpoints, sweep and selection."""
