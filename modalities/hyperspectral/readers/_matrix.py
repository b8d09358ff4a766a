"""MATLAB's way of keeping a cube: as a matrix (bands, pixels), with abundances and endmembers beside it."""

from collections.abc import Callable, Mapping, Sequence
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import check_decoded
from modalities.hyperspectral.readers import _choose
from modalities.hyperspectral.readers._choose import Variable
from modalities.hyperspectral.schema import Scene, Window

HEIGHTS = ("nrow", "nrows", "rows", "height", "lines")
WIDTHS = ("ncol", "ncols", "cols", "width", "samples")


def scene(
    variables: Sequence[Variable],
    attributes: Mapping[str, Any],
    *,
    format: str,
    stored: int,
    groups: Mapping[str, Mapping[str, Any]] | None = None,
) -> Scene:
    """The rule of `_choose`, and if there is no array with three axes, the largest matrix (c, h * w).

    h and w come from `nRow` and `nCol`, else the image is square; pixels run down the columns, as MATLAB's
    `reshape` has them. `A` (k, h * w) becomes `abundances` (h, w, k), `M` (c, k) becomes `endmembers`.
    """
    if any(v.numeric and len(v.shape) == 3 for v in variables):
        return _choose.scene(variables, attributes, format=format, stored=stored, groups=groups)
    matrices = [v for v in variables if v.numeric and len(v.shape) == 2 and min(v.shape) > 1]
    by_name = {v.name: v for v in variables}
    cube = max(matrices, key=lambda v: (v.name == "Y", v.size), default=None)
    size = _sides(cube, by_name) if cube is not None else None
    if cube is None or size is None:
        return _choose.scene(variables, attributes, format=format, stored=stored, groups=groups)
    folded = [_fold(cube, size) if v is cube else v for v in variables]
    found = _choose.scene(folded, attributes, format=format, stored=stored, groups=groups)
    planes, extras = dict(found.planes), dict(found.extras)
    shares, ends = by_name.get("A"), by_name.get("M")
    pixels, bands = size[0] * size[1], cube.shape[0]
    if shares is not None and shares.numeric and len(shares.shape) == 2 and shares.shape[1] == pixels:
        planes["abundances"] = _plane(_fold(shares, size))
        if ends is not None and ends.numeric and ends.shape == (bands, shares.shape[0]):
            extras["endmembers"] = np.ascontiguousarray(ends.all().astype(ends.dtype.newbyteorder("=")))
    return Scene(facts=found.facts, read=found.read, planes=planes, extras=extras)


def _sides(cube: Variable, by_name: Mapping[str, Variable]) -> tuple[int, int] | None:
    lower = {name.lower(): v for name, v in by_name.items() if v.numeric and v.size == 1}
    sides = [next((lower[name] for name in names if name in lower), None) for names in (HEIGHTS, WIDTHS)]
    pixels = cube.shape[1]
    if all(side is not None for side in sides):
        height, width = (int(side.all().real.ravel()[0]) for side in sides if side is not None)
        if height > 0 and height * width == pixels:
            return height, width
    root = isqrt(pixels)
    return (root, root) if root * root == pixels else None


def _fold(matrix: Variable, size: tuple[int, int]) -> Variable:
    """(c, h * w) seen as (c, w, h), its dimensions named; the matrix is loaded once, whole."""
    height, width = size
    count = matrix.shape[0]
    loaded: list[NDArray[Any]] = []

    def read(keys: tuple[slice, ...]) -> NDArray[Any]:
        if not loaded:
            check_decoded(matrix.path, matrix.shape, matrix.dtype.itemsize)
            loaded.append(matrix.all().reshape(count, width, height))
        return loaded[0][keys]

    return Variable(
        path=matrix.path,
        shape=(count, width, height),
        dtype=matrix.dtype,
        read=read,
        attributes=matrix.attributes,
        dims=("band", "x", "y"),
    )


def _plane(variable: Variable) -> Callable[[Window], NDArray[Any]]:
    part = _choose.Part(variable=variable, axes=(2, 1, 0))
    return part.read
