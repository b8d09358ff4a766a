"""Clouds of one .npy a field."""

import io
from typing import Any

import numpy as np
import pytest

from modalities.base import BadSample, Raw
from modalities.pointcloud import MODALITY
from modalities.pointcloud.codec import same

POINTS = np.arange(60, dtype=np.float32).reshape(20, 3)


def npy(values: Any) -> bytes:
    np.save(out := io.BytesIO(), np.asarray(values))
    return out.getvalue()


def cloud(points: Any = POINTS, **fields: Any) -> Raw:
    beside: dict[str, bytes] = {f"{name}.npy": npy(values) for name, values in fields.items()}
    return Raw(name="scan/points.npy", content=npy(points), companions={**beside, "tile.json": b"{}"})


def test_what_encode_writes_is_read_as_an_object_again() -> None:
    raw = cloud(intensity=np.arange(20), crs="EPSG:1", Labels=np.ones(20, np.uint8))
    meta = MODALITY.probe(raw)
    assert (meta["format"], meta["num_points"], meta["fields"]) == (
        "fields",
        20,
        ["points", "intensity", "labels"],
    )
    files = MODALITY.pack(raw, meta)
    assert files["labels.npy"] == raw.companions["Labels.npy"]
    arrays = MODALITY.decode(files)
    assert sorted(arrays) == ["crs", "intensity", "labels", "points"]
    assert same(MODALITY.decode(MODALITY.encode(arrays)), arrays)


def test_a_points_npy_alone_is_a_table_as_any_other() -> None:
    wide = np.arange(80, dtype=np.float32).reshape(20, 4)
    raw = Raw(name="points.npy", content=npy(wide))
    meta = MODALITY.probe(raw)
    assert meta["format"] == "npy"
    assert MODALITY.pack(raw, meta) == {"npy": raw.content}


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (cloud(intensity=np.arange(19)), "one row a point"),
        (
            cloud(np.zeros((20, 6), np.float32), other=np.zeros((20, 6))),
            "a table of its own needs another name",
        ),
        (cloud(**{"a b": np.arange(20)}), "a field is called"),
        (cloud(**{"a": np.arange(20), "A": np.arange(20)}), "a field is called"),
        (cloud(np.zeros((0, 3), np.float32), intensity=np.zeros(0)), "no points"),
    ],
)
def test_files_that_do_not_fit_together_are_refused(raw: Raw, detail: str) -> None:
    with pytest.raises(BadSample, match=detail):
        MODALITY.probe(raw)
