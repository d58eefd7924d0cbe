"""Learners side by side: one budget of tuning, one choice on validation, one verdict."""
