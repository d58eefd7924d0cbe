"""Settings and records, storage, provenance, errors and small-count privacy, for every other room."""
