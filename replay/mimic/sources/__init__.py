"""Where MIMIC-IV's tables are kept: one file a kind of place."""
