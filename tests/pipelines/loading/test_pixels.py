"""Resizing and mirroring pictures as they lie in memory."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipelines.loading.pixels import mirror, resize

PICTURE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("shape", [(40, 50, 3), (40, 50, 1), (2, 40, 50, 3)])
def test_a_mirrored_picture_is_its_columns_backwards(dtype: type, shape: tuple[int, ...]) -> None:
    picture: NDArray[Any] = np.random.default_rng(1).integers(0, 200, shape).astype(dtype)
    picture.flags.writeable = False  # what Pillow gives
    mirrored = mirror(picture)
    assert mirrored.flags.c_contiguous
    assert mirrored.tobytes() == picture[..., ::-1, :].tobytes()


@pytest.mark.parametrize("size", [(20, 25), (64, 17), (56, 80)])
def test_a_part_of_a_picture_is_resized_as_pillow_does(size: tuple[int, int]) -> None:
    part = PICTURE[5:35, 10:45]
    small = resize(part, size)
    want = np.asarray(Image.fromarray(part).resize(size[::-1], Image.Resampling.BILINEAR))
    assert small.shape == (*size, 3)
    assert small.flags.c_contiguous
    assert np.abs(small.astype(int) - want).max() <= 1


def test_a_resized_picture_comes_as_it_lies_without_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    given = []
    plain = torch.nn.functional.interpolate

    def watched(planes: torch.Tensor, **options: object) -> torch.Tensor:
        found: torch.Tensor = plain(planes, **options)  # type: ignore[arg-type]
        given.append(found)
        return found

    monkeypatch.setattr(torch.nn.functional, "interpolate", watched)
    small = resize(PICTURE[5:35, 10:45], (20, 25))
    assert np.shares_memory(small, given[0].numpy())
