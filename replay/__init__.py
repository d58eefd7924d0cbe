"""MIMIC-IV tables to a Sepsis-3 cohort, 4-hour trajectories and replay buffers."""
