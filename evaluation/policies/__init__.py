"""Policies to evaluate: loaded, softened, baselines, and the estimated behavior policy."""
