"""MIMIC-IV tables as a source: files, columns and items, and the official derived concepts."""
