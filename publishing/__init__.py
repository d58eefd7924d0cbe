"""Model card, export, push and verification of the Hub package."""
