"""What is said of a cube as its decoder laid it out is what is said of its arrays."""

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from numpy.typing import NDArray

from modalities.base import Raw
from modalities.hyperspectral import MODALITY
from modalities.hyperspectral.readers import geotiff


def cube(shape: tuple[int, int, int] = (45, 70, 6), dtype: str = "uint16", seed: int = 0) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    base = np.cumsum(np.cumsum(rng.normal(size=shape[:2]), 0), 1)[..., None]
    values = 100 + 20 * base / base.std() + 3 * np.arange(shape[2]) + rng.normal(0, 1, shape)
    return np.clip(values, 0, 255).astype(dtype)


def saved(values: NDArray[Any], **options: Any) -> bytes:
    """By GDAL."""
    height, width, bands = values.shape
    given = {
        "crs": "EPSG:32632",
        "transform": rasterio.Affine(10, 0, 0, 0, -10, 0),
        "dtype": values.dtype,
    } | options
    with rasterio.MemoryFile() as memory:
        with memory.open(driver="GTiff", count=bands, height=height, width=width, **given) as out:
            out.write(values.transpose(2, 0, 1))
        return bytes(memory.getbuffer())


def looked(data: bytes) -> dict[str, NDArray[Any]] | None:
    return geotiff.look(Raw(name="a.tif", content=data))


def measured(data: bytes) -> Any:
    return MODALITY.measured({"tif": data}, MODALITY.probe(Raw(name="a.tif", content=data)))


def judged(data: bytes) -> Any:
    arrays = MODALITY.decode({"tif": data})
    return MODALITY.quality(arrays), MODALITY.fingerprint(arrays)


PLAIN: dict[str, Mapping[str, Any]] = {
    "as it comes": {}, "deflated": {"compress": "deflate"}, "by band": {"interleave": "band"},
    "differences": {"compress": "deflate", "predictor": 2}, "nodata": {"nodata": 100, "compress": "deflate"},
    "tiles": {"tiled": True, "blockxsize": 32, "blockysize": 16, "compress": "deflate"},
    "differences in tiles by band": {
        "tiled": True, "blockxsize": 16, "blockysize": 32, "compress": "deflate", "predictor": 2,
        "interleave": "band",
    },
    "one strip": {"blockysize": 45, "compress": "deflate"}, "big-endian": {"ENDIANNESS": "BIG"},
    "big-endian differences": {"ENDIANNESS": "BIG", "compress": "deflate", "predictor": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_a_plain_file_is_unpacked_here_as_gdal_does(name: str, dtype: str) -> None:
    options = PLAIN[name]
    if "predictor" in options and dtype == "float32":
        options = {**options, "predictor": 1}
    data = saved(cube(dtype=dtype), **options)
    arrays = looked(data)
    assert arrays is not None
    np.testing.assert_array_equal(arrays["cube"], MODALITY.decode({"tif": data})["cube"])
    assert measured(data) == judged(data)


@pytest.mark.parametrize(
    "options",
    [
        {"compress": "lzw"}, {"compress": "zstd"}, {"BIGTIFF": "YES"}, {"compress": "packbits"},
        {"compress": "deflate", "predictor": 3, "dtype": "float32"},
    ],
    ids=str,
)  # fmt: skip
def test_for_the_rest_gdal_is_asked(options: Mapping[str, Any]) -> None:
    data = saved(cube(dtype=options.get("dtype", "uint16")), **options)
    assert looked(data) is None
    assert measured(data) == judged(data)


def test_files_of_another_writer_are_judged_alike() -> None:
    for options in (
        {"planarconfig": "contig"},
        {"planarconfig": "contig", "compression": "deflate"},
        {"planarconfig": "separate"},
        {"planarconfig": "contig", "tile": (16, 16)},
    ):
        values = cube()
        values = values.transpose(2, 0, 1) if options["planarconfig"] == "separate" else values
        tifffile.imwrite(out := BytesIO(), values, photometric="minisblack", metadata=None, **options)
        assert measured(out.getvalue()) == judged(out.getvalue())


@pytest.mark.parametrize("name", ["deflated", "differences in tiles by band", "as it comes"])
def test_every_damage_that_gdal_notices_is_noticed(name: str, refuses: Callable[[Any], bool]) -> None:
    data = saved(cube((20, 33, 3)), **PLAIN[name])
    start = int.from_bytes(data[4:8], "little")
    rng = np.random.default_rng(3)
    noticed = 0
    for number in range(120):
        broken = bytearray(data)
        at = int(rng.integers(start, start + 300) if number % 3 else rng.integers(8, len(data)))
        broken[at : at + 1] = rng.integers(0, 256, 1, np.uint8).tobytes()
        if number % 10 == 0:
            del broken[at:]
        damaged = bytes(broken)
        if refuses(lambda damaged=damaged: judged(damaged)):
            noticed += 1
            assert refuses(lambda damaged=damaged: measured(damaged)), f"{name} {number} at {at}"
    assert noticed > 15


def test_a_bomb_unpacks_to_no_more_than_its_header_says() -> None:
    import tracemalloc
    import zlib

    data = saved(np.zeros((64, 64, 1), np.uint8), compress="deflate", blockysize=64)
    arrays = looked(data)
    assert arrays is not None
    bomb = zlib.compress(bytes(64 * 2**20))
    [(offset, size)] = [(at, len(bomb)) for at in [len(data)]]
    with tifffile.TiffFile(BytesIO(data)) as tif:
        tags = tif.pages[0].tags  # type: ignore[union-attr]
        places = {code: tags[code].valueoffset for code in (273, 279)}
    broken = bytearray(data + bomb)
    for code, value in ((273, offset), (279, size)):
        broken[places[code] : places[code] + 4] = value.to_bytes(4, "little")
    tracemalloc.start()
    try:
        assert looked(bytes(broken)) is None
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("shape", [(300, 500, 3), (40, 4000, 5), (700, 3, 40)])
def test_a_large_cube_has_nearly_the_numbers_of_all_its_values(shape: tuple[int, int, int]) -> None:
    values = cube(shape, "float32")
    values[: shape[0] // 10] = np.nan
    numbers = MODALITY.quality({"cube": values})
    assert numbers["nan_share"] == pytest.approx(0.1, abs=0.01)
    held = values[np.isfinite(values)]
    assert numbers["mean"] == pytest.approx(held.mean(), rel=0.02)
    assert numbers["std"] == pytest.approx(held.std(), rel=0.1)
    assert numbers["p98"] == pytest.approx(np.percentile(held, 98), rel=0.05)
    if min(shape[:2]) > 3:
        assert numbers["snr"] == pytest.approx(numbers["mean"] / np.sqrt(1 + 1 / 12), rel=0.15)
