"""What is said of a scan without keeping all of its fields is what is said of its arrays."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import laspy
import numpy as np
import pytest

from modalities.base import Raw
from modalities.pointcloud import MODALITY


def scan(number: int, point_format: int, *, compressed: bool) -> dict[str, bytes]:
    rng = np.random.default_rng(number)
    header = laspy.LasHeader(point_format=point_format, version="1.4" if point_format > 5 else "1.2")
    header.scales = np.full(3, 0.01)
    cloud = laspy.LasData(header)
    x, y = rng.random((2, 3000)) * 50
    cloud.x, cloud.y, cloud.z = x, y, 3 * np.sin(x / 9) + rng.normal(0, 0.05, x.size)
    cloud.intensity = rng.integers(0, 4096, x.size).astype(np.uint16)
    cloud.write(out := BytesIO(), do_compress=compressed)
    return {"laz" if compressed else "las": out.getvalue()}


def measured(files: Mapping[str, bytes]) -> Any:
    [(ext, data)] = files.items()
    return MODALITY.measured(files, MODALITY.probe(Raw(name=f"a.{ext}", content=data)))


def judged(files: Mapping[str, bytes]) -> Any:
    arrays = MODALITY.decode(files)
    return MODALITY.quality(arrays), MODALITY.fingerprint(arrays)


@pytest.mark.parametrize("point_format", [0, 3, 6, 7])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_scan_is_judged_as_its_arrays_are(point_format: int, compressed: bool) -> None:
    files = scan(1, point_format, compressed=compressed)
    assert measured(files) == judged(files)


def test_real_scans_of_every_format_are_judged_as_their_arrays_are(shared_data: Path) -> None:
    for path in sorted((shared_data / "points").iterdir()):
        raw = Raw(name=path.name, content=path)
        meta = MODALITY.probe(raw)
        files = MODALITY.pack(raw, meta)
        assert MODALITY.measured(files, meta) == judged(files), path.name


def test_runs_that_are_read_apart_are_judged_together(monkeypatch: pytest.MonkeyPatch) -> None:
    files = scan(2, 3, compressed=True)
    whole = measured(files)
    monkeypatch.setattr("modalities.pointcloud.readers.las.CHUNK_POINTS", 700)
    assert measured(files) == whole == judged(files)


@pytest.mark.parametrize("point_format", [3, 7])
def test_every_damage_that_decoding_notices_is_noticed(
    point_format: int, refuses: Callable[[Any], bool]
) -> None:
    [(ext, data)] = scan(3, point_format, compressed=True).items()
    rng = np.random.default_rng(0)
    noticed = 0
    for number in range(60):
        broken = bytearray(data)
        at = int(rng.integers(90, len(data) if number % 2 else 700))
        broken[at : at + 2] = rng.integers(0, 256, 2, np.uint8).tobytes()
        files = {ext: bytes(broken if number % 5 else broken[:at])}
        if refuses(lambda files=files: judged(files)):
            noticed += 1
            assert refuses(lambda files=files: measured(files)), f"{number} at {at}"
    assert noticed > 10


@pytest.mark.parametrize("shape", ["plane", "wall", "line", "ball", "dense and sparse"])
def test_spacing_is_that_of_a_tree_over_all_points(shape: str) -> None:
    from scipy.spatial import cKDTree

    rng = np.random.default_rng(7)
    points = rng.random((6000, 3)) * [40, 30, 0.1]
    if shape == "wall":
        points = points[:, [2, 0, 1]]
    elif shape == "line":
        points = points * [0, 0, 1]
    elif shape == "ball":
        points = rng.normal(size=points.shape)
    elif shape == "dense and sparse":
        points[: len(points) * 3 // 4] /= 20
    want = float(np.median(cKDTree(points).query(points, k=2)[0][:, 1]))
    assert MODALITY.quality({"points": points})["spacing"] == pytest.approx(want, rel=0.12)


@pytest.mark.parametrize("compressed", [False, True])
def test_what_laspy_refuses_in_a_header_is_refused(compressed: bool, refuses: Callable[[Any], bool]) -> None:
    header = laspy.LasHeader(point_format=1, version="1.2")
    header.add_extra_dims([laspy.ExtraBytesParams("echo", "u2")])
    header.vlrs.append(laspy.VLR("LASF_Projection", 2112, "OGC WKT", b"GEOGCS[]\0"))
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = np.random.default_rng(0).random((3, 50))
    cloud.write(out := BytesIO(), do_compress=compressed)
    ext, data = ("laz" if compressed else "las"), out.getvalue()
    assert measured({ext: data}) == judged({ext: data})
    described = data.index(b"echo") - 2  # the type in its description
    for at, byte in ((data.index(b"LASF_Projection") + 5, 0xCC), (described, 99)):
        broken = data[:at] + bytes([byte]) + data[at + 1 :]
        assert refuses(lambda broken=broken: judged({ext: broken}))
        assert refuses(lambda broken=broken: measured({ext: broken}))
