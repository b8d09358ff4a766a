"""Fewer, wider tokens: what stands between two stages of a pyramid, one a file."""
