"""Where a token is, as channels."""
