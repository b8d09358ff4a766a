"""Token mixers, one a file."""

from models.mixers.base import create_mixer, list_mixers

__all__ = ["create_mixer", "list_mixers"]
