"""Diagnostics, figures and page of an evaluation."""
