"""LAS, LAZ and COPC, against laspy."""

import io
import struct
from pathlib import Path

import laspy
import numpy as np
import pytest

from modalities.base import BadSample, Raw
from modalities.pointcloud.codec import decode, encode, pack, same
from modalities.pointcloud.probe import probe
from modalities.pointcloud.readers import las as las_reader
from modalities.pointcloud.schema import GLOBAL

NAMES = ("simple.las", "simple.laz", "simple.copc.laz", "autzen_trim.laz")


def read(name: str, data: bytes | Path) -> dict[str, np.ndarray]:
    raw = Raw(name=name, content=data)
    return dict(decode(pack(raw, probe(raw))))


def written(las: laspy.LasData, compress: bool) -> bytes:
    las.write(out := io.BytesIO(), do_compress=compress)
    return out.getvalue()


def made(point_format: int, n: int = 700, version: str | None = None) -> laspy.LasData:
    """Random values in every dimension of a point format."""
    rng = np.random.default_rng(point_format)
    header = laspy.LasHeader(
        point_format=point_format, version=version or ("1.4" if point_format > 5 else "1.2")
    )
    header.scales, header.offsets = (0.001, 0.001, 0.01), (5e5, 5e6, 0)
    las = laspy.LasData(header)
    las.points = laspy.ScaleAwarePointRecord.zeros(n, header=header)
    for name in las.point_format.dimension_names:
        dimension = las.point_format.dimension_by_name(name)
        if dimension.kind == laspy.DimensionKind.FloatingPoint:
            las[name] = rng.normal(0, 1e5, n)
        else:
            las[name] = rng.integers(dimension.min, min(dimension.max, 2**31 - 1), n, endpoint=True)
    return las


def compare(fields: dict[str, np.ndarray], las: laspy.LasData) -> None:
    np.testing.assert_array_equal(fields["points"], np.asarray(las.xyz))
    rgb = [n for n in ("red", "green", "blue") if n in las.point_format.dimension_names]
    if rgb:
        np.testing.assert_array_equal(fields["colors"], np.stack([las[n] for n in rgb], 1))
    for name in las.point_format.dimension_names:
        if name not in ("X", "Y", "Z", *rgb):
            np.testing.assert_array_equal(fields[name.lower()], np.asarray(las[name]), err_msg=name)


@pytest.mark.parametrize("name", NAMES)
def test_real_files_read_as_laspy_reads_them(shared_data: Path, name: str) -> None:
    path = shared_data / "points" / name
    las = laspy.read(path)
    compare(read(name, path), las)
    meta = probe(Raw(name=name, content=path))
    assert meta["num_points"] == len(las) == (110_000 if "autzen" in name else 1065)
    assert meta["point_format"] == las.point_format.id
    np.testing.assert_allclose(meta["bounds"], [las.header.mins, las.header.maxs], rtol=0, atol=0)
    assert meta["is_copc"] == ("copc" in name)


def test_las_laz_and_copc_of_one_scan_agree(shared_data: Path) -> None:
    las, laz, copc = (read(name, shared_data / "points" / name) for name in NAMES[:3])
    assert same(las, laz)
    # COPC stores the points in another order and another point format.
    ours, theirs = (np.lexsort((f["gps_time"], *np.rint(f["points"] * 100).T)) for f in (las, copc))
    for name in ("points", "colors", "intensity", "return_number", "classification", "gps_time"):
        np.testing.assert_allclose(las[name][ours], copc[name][theirs], rtol=0, atol=1e-6, err_msg=name)


def test_coordinate_systems_of_real_files_are_kept(shared_data: Path) -> None:
    copc = shared_data / "points" / "simple.copc.laz"
    with laspy.open(copc) as file:
        wkt = file.header.vlrs.get("WktCoordinateSystemVlr")[0].string
    assert str(read("a.laz", copc)["crs"]) == wkt.rstrip("\0")
    autzen = shared_data / "points" / "autzen_trim.laz"
    with laspy.open(autzen) as file:
        keys = file.header.vlrs.get("GeoKeyDirectoryVlr")[0].record_data_bytes()
    packed = encode(read("a.laz", autzen))["laz"]
    with laspy.open(io.BytesIO(packed)) as file:
        assert file.header.vlrs.get("GeoKeyDirectoryVlr")[0].record_data_bytes() == keys


@pytest.mark.parametrize("name", NAMES)
def test_a_real_file_packs_to_laz_that_laspy_reads_the_same(shared_data: Path, name: str) -> None:
    path = shared_data / "points" / name
    files = encode(read(name, path))
    assert set(files) == {"laz"}
    ours, theirs = laspy.read(io.BytesIO(files["laz"])), laspy.read(path)
    assert ours.point_format.id == theirs.point_format.id
    np.testing.assert_array_equal(ours.header.scales, theirs.header.scales)
    np.testing.assert_array_equal(ours.header.offsets, theirs.header.offsets)
    for dimension in theirs.point_format.dimension_names:
        np.testing.assert_array_equal(np.asarray(ours[dimension]), np.asarray(theirs[dimension]))


@pytest.mark.parametrize("compress", [False, True])
@pytest.mark.parametrize("point_format", [0, 1, 2, 3, 6, 7, 8])
def test_every_dimension_of_every_format_survives_packing(point_format: int, compress: bool) -> None:
    las = made(point_format)
    name = "a.laz" if compress else "a.las"
    data = written(las, compress)
    fields = read(name, data)
    compare(fields, las)
    assert set(probe(Raw(name=name, content=data))["fields"]) == set(fields) - set(GLOBAL)
    files = encode(fields)
    assert set(files) == {"laz"}
    assert same(decode(files), fields)


@pytest.mark.parametrize("point_format", [4, 5, 9, 10])
def test_waveform_formats_survive_packing(point_format: int) -> None:
    las = made(point_format, version="1.3" if point_format < 6 else "1.4")
    fields = read("a.las", written(las, False))
    compare(fields, las)
    assert same(decode(encode(fields)), fields)


def test_extra_dimensions_survive_packing() -> None:
    las = made(6)
    las.add_extra_dims(
        [
            laspy.ExtraBytesParams("Amplitude", np.float32),
            laspy.ExtraBytesParams("deviation", np.int16, scales=np.array([0.01]), offsets=np.array([3.0])),
            laspy.ExtraBytesParams("direction", "3f8"),
        ]
    )
    las["Amplitude"] = np.linspace(0, 1, len(las))
    las["deviation"] = 3 + np.arange(len(las)) * 0.01
    las["direction"] = np.random.default_rng(0).normal(size=(len(las), 3))
    fields = read("a.laz", written(las, True))
    np.testing.assert_array_equal(fields["amplitude"], las["Amplitude"])
    np.testing.assert_array_equal(fields["deviation"], np.asarray(las["deviation"]))
    np.testing.assert_array_equal(fields["direction"], las["direction"])
    files = encode(fields)
    assert set(files) == {"laz"}
    assert same(decode(files), fields)


def test_points_off_the_grid_are_packed_without_loss_all_the_same() -> None:
    fields = read("a.las", written(made(3), False))
    fields["points"] = fields["points"] + 1e-5
    files = encode(fields)
    assert "points.npy" in files
    assert "laz" not in files
    assert same(decode(files), fields)


def test_packing_gives_the_same_bytes_on_any_day() -> None:
    fields = read("a.las", written(made(7), False))
    packed = encode(fields)["laz"]
    assert packed == encode(fields)["laz"]
    assert laspy.open(io.BytesIO(packed)).header.creation_date.year == 1970


def test_epsg_code_of_geokeys_is_named() -> None:
    las = made(1, 3)
    directory = np.array([1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32614], "<u2")
    las.header.vlrs.append(laspy.VLR("LASF_Projection", 34735, "", directory.tobytes()))
    data = written(las, True)
    assert probe(Raw(name="a.laz", content=data))["crs"] == "EPSG:32614"
    fields = read("a.laz", data)
    assert str(decode(encode(fields))["crs"]) == "EPSG:32614"


def test_runs_of_a_file_of_many_chunks_are_the_rows_asked_for() -> None:
    data = written(made(3, n=120_000), True)
    whole = laspy.read(io.BytesIO(data))
    with las_reader.opened(Raw(name="a.laz", content=data)) as rows:
        for start, stop in ((60_000, 60_010), (10, 20), (119_990, 120_000)):
            np.testing.assert_array_equal(rows.read(start, stop)["points"], np.asarray(whole.xyz)[start:stop])


def test_runs_of_copc_are_the_rows_asked_for(shared_data: Path) -> None:
    path = shared_data / "points" / "simple.copc.laz"
    whole = np.asarray(laspy.read(path).xyz)
    with las_reader.opened(Raw(name="a.laz", content=path)) as rows:
        for start, stop in ((500, 510), (900, 1065), (3, 40)):  # laspy's own seek gives other rows here
            np.testing.assert_array_equal(rows.read(start, stop)["points"], whole[start:stop])


def patched(data: bytes, *changes: tuple[str, int, int | float]) -> bytes:
    out = bytearray(data)
    for kind, at, value in changes:
        struct.pack_into(kind, out, at, value)
    return bytes(out)


@pytest.fixture(scope="module")
def las() -> bytes:
    return written(made(3, 20), False)


@pytest.fixture(scope="module")
def laz() -> bytes:
    return written(made(3, 20), True)


@pytest.mark.parametrize("count", [21, 100_000_000, 2**32 - 1])
def test_a_las_that_counts_points_it_lacks_is_refused(las: bytes, count: int) -> None:
    with pytest.raises(BadSample, match="truncated"):
        probe(Raw(name="a.las", content=patched(las, ("<I", 107, count))))


@pytest.mark.parametrize(
    ("reason", "change"),
    [
        ("too-large", ("<I", 107, 100_000_000)),
        ("corrupt", ("<I", 107, 40_000_000)),  # more than its one chunk holds
        ("empty", ("<I", 107, 0)),
        ("unsupported", ("<B", 25, 9)),  # version
        ("unsupported", ("<B", 104, 0x80 | 20)),  # point format
        ("corrupt", ("<H", 105, 12)),  # record length
        ("corrupt", ("<H", 94, 12)),  # header length
        ("truncated", ("<I", 96, 2**31)),  # offset to the points
        ("corrupt", ("<I", 100, 4000)),  # number of records
        ("corrupt", ("<d", 131, 0.0)),  # scale
        ("corrupt", ("<d", 155, float("nan"))),  # offset
        ("extension-mismatch", ("<B", 104, 3)),  # not compressed
    ],
)
def test_a_laz_whose_header_lies_is_refused(
    laz: bytes, reason: str, change: tuple[str, int, int | float]
) -> None:
    with pytest.raises(BadSample) as refusal:
        probe(Raw(name="a.laz", content=patched(laz, change)))
    assert refusal.value.reason == reason


@pytest.mark.parametrize(
    ("reason", "kind", "place", "value"),
    [
        ("corrupt", "<I", "chunk size", 0),
        ("corrupt", "<H", "items", 900),
        ("corrupt", "<I", "chunks", 2**32 - 1),
        ("truncated", "<q", "table", 2**60),
        ("truncated", "<q", "table", -7),
    ],
)
def test_a_laz_whose_chunks_lie_is_refused(
    laz: bytes, reason: str, kind: str, place: str, value: int
) -> None:
    header = las_reader.parse(Raw(name="a.laz", content=laz))
    record = laz.index(header.records["laszip encoded", 22204])
    (table,) = struct.unpack_from("<q", laz, header.points_at)
    at = {"chunk size": record + 12, "items": record + 32, "chunks": table + 4, "table": header.points_at}[
        place
    ]
    with pytest.raises(BadSample) as refusal:
        probe(Raw(name="a.laz", content=patched(laz, (kind, at, value))))
    assert refusal.value.reason == reason
