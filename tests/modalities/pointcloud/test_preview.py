"""Previews a browser shows."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modalities.base import Raw
from modalities.pointcloud import MODALITY


def picture(points: np.ndarray, **fields: np.ndarray) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(MODALITY.preview({"points": points, **fields})["png"])))


def test_every_real_scan_has_a_picture_and_a_list(shared_data: Path) -> None:
    for path in sorted((shared_data / "points").iterdir()):
        raw = Raw(name=path.name, content=path)
        arrays = MODALITY.decode(MODALITY.pack(raw, MODALITY.probe(raw)))
        files = MODALITY.preview(arrays)
        image = np.asarray(Image.open(io.BytesIO(files["png"])))
        assert image.shape == (512, 512, 3)
        assert (image != image[0, 0]).any(axis=2).mean() > 0.01
        listed = json.loads(files["json"])
        assert listed["num_points"] == len(arrays["points"])
        assert len(listed["points"]) == len(listed["colors"]) == min(20_000, len(arrays["points"]))
        points = np.array(listed["points"]) + listed["center"]
        extent = np.ptp(arrays["points"], axis=0).max()
        np.testing.assert_allclose(points[0], arrays["points"][0], rtol=0, atol=1e-3 * extent)


def test_what_is_near_hides_what_is_behind() -> None:
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 200), np.linspace(-1, 1, 200)), -1).reshape(-1, 2)
    front = np.column_stack([grid[:, 0], np.full(len(grid), -1.0), grid[:, 1]])
    back = np.column_stack([grid[:, 0], np.full(len(grid), 1.0), grid[:, 1] - 2])  # same place in the picture
    red, blue = np.tile(np.uint8([255, 0, 0]), (len(grid), 1)), np.tile(np.uint8([0, 0, 255]), (len(grid), 1))
    for order in (slice(None), slice(None, None, -1)):
        image = picture(np.concatenate([front, back])[order], colors=np.concatenate([red, blue])[order])
        # Where both project, red must win: blue is seen only in gaps between pixels of red.
        assert (image == [255, 0, 0]).all(axis=2).sum() > 4 * (image == [0, 0, 255]).all(axis=2).sum()


def test_height_is_coloured_where_there_are_no_colours() -> None:
    x, y = np.random.default_rng(0).uniform(-1, 1, (2, 3000))
    listed = json.loads(MODALITY.preview({"points": np.stack([x, y, x], 1)})["json"])
    points, colors = np.array(listed["points"]), np.array(listed["colors"])
    low, high = colors[points[:, 2] < -0.9].mean(axis=0), colors[points[:, 2] > 0.9].mean(axis=0)
    assert high.sum() > low.sum() + 150


@pytest.mark.parametrize(
    "points", [np.zeros((1, 3)), np.full((5, 3), 7.0), np.array([[0, 0, 0], [np.nan, 1, 1]])]
)
def test_degenerate_clouds_have_a_picture(points: np.ndarray) -> None:
    assert picture(points).shape == (512, 512, 3)
