"""What keeps the scale of tokens in bounds, one norm a file."""
