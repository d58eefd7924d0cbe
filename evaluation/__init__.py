"""Off-policy evaluation: behaviour policy, estimators, diagnostics and report."""
