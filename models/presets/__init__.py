"""Presets: models as data, inherited with `base`; a file a family."""
