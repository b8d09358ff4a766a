"""Heads: what is read off the features, one a file."""
