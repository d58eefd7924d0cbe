"""Off-policy evaluation: behavior policy, estimators, diagnostics and report."""
