"""Estimators held against environments whose true values are known."""
