"""Learners, one file each: settings, loss and update."""
