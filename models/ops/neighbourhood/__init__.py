"""Neighbourhood attention on rasters of one to three axes: each query attends to the keys nearest to it."""

from models.ops.neighbourhood.geometry import Neighbourhood
from models.ops.neighbourhood.tiled import neighbourhood_attention

__all__ = ["Neighbourhood", "neighbourhood_attention"]
