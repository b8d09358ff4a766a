"""Square patches of an image as rows of numbers, and back."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from models.layout import Mask
from models.ops.windows import merge, pad_to_multiple, partition


def cut_patches(x: Tensor, patch: int) -> Float[Tensor, "b n v"]:
    """(b, c, h, w) -> (b, n, c * patch * patch), zeros beyond the edge."""
    window = (patch,) * 2
    pieces = partition(pad_to_multiple(x.movedim(1, -1), window), window)  # (b, n, p * p, c)
    return pieces.mT.flatten(2)


def join_patches(values: Float[Tensor, "b n v"], patch: int, size: Sequence[int]) -> Tensor:
    """Undoes `cut_patches` for an image of `size`."""
    h, w = size
    padded = (h + -h % patch, w + -w % patch)
    pieces = values.unflatten(2, (-1, patch**2)).mT
    return merge(pieces, (patch,) * 2, padded)[:, :h, :w].movedim(-1, 1)


def only_real(x: Tensor, mask: Mask | None, patch: int) -> Tensor:
    """(b, c, h, w) with zeros where a patch is hidden: overlapping patches would see it."""
    if mask is None:
        return x
    h, w = x.shape[2:]
    raster = mask.unflatten(1, (-(-h // patch), -(-w // patch)))
    real = raster.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[:, None, :h, :w]
    return x.masked_fill(~real, 0)
