"""Model packages of the Hub and checkpoints of the original layout, read and written safely."""
