"""Backbones: blocks in stages, one shape of network a file."""
