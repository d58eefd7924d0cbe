"""Settings written as YAML, and the loader that checks them."""
