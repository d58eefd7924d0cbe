"""What may leave the machine, file by file."""
