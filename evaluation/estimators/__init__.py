"""Estimators of a policy's value and their intervals."""
