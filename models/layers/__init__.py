"""Small parts of a block that are not token mixers."""
