"""A simulated sepsis ICU with known truth, and its rendering as MIMIC-IV tables."""
