"""Stems: raw arrays to tokens, one a file."""
