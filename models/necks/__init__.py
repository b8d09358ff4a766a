"""Necks: maps of other strides than the backbone's, one way to make them a file."""
