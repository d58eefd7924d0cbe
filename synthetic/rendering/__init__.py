"""A simulated ICU rendered as MIMIC-IV tables."""
