"""Small scenes of five materials with known labels, as a sensor would deliver them: a GeoTIFF of uint16."""

import numpy as np
from numpy.typing import NDArray

from modalities.base import Files
from modalities.hyperspectral.codec import write_mask
from modalities.hyperspectral.materials import NAMES, draw
from modalities.hyperspectral.readers.geotiff import gdal

SIZE, BANDS = 24, 40
WIDTH_NM = 10  # of a band of the measured spectra
SCALE = 1e-4  # reflectance of one count, as Sentinel-2 and EnMAP level 2 ship it
NODATA = 0


def synth(seed: int) -> Files:
    """{"tif": (24, 24, 40) uint16, "seg.png": strongest material of each pixel, "cls": that of the scene}.

    Linear mixture of one measured spectrum of each of `materials` by smooth abundances, one of them favoured;
    a slope of illumination; noise that grows with the signal.
    """
    rng = np.random.default_rng(seed)
    nm, ends = draw(rng, BANDS)
    shares = _abundances(rng, len(NAMES))
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    angle = rng.uniform(0, 2 * np.pi)
    light = 1 + 0.15 * (np.cos(angle) * x + np.sin(angle) * y)
    cube = (shares @ ends) * light[:, :, None] * rng.uniform(0.85, 1.1)
    cube += rng.normal(0, 1, cube.shape) * (0.003 + 0.01 * np.sqrt(cube))
    counts = np.rint(cube / SCALE).clip(1, 65535).astype(np.uint16)
    labels = shares.argmax(axis=2)
    dominant = NAMES[int(np.bincount(labels.ravel(), minlength=len(NAMES)).argmax())]
    return {"tif": _geotiff(counts, nm, rng), "seg.png": write_mask(labels), "cls": dominant.encode()}


def _abundances(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """(h, w, k), non-negative, sum 1: softmax of smooth random fields, one material favoured."""
    waves = rng.normal(0, 1, (count, 4, 2))
    phase = rng.uniform(0, 2 * np.pi, (count, 4))
    y, x = np.mgrid[0 : 1 : SIZE * 1j, 0 : 1 : SIZE * 1j]
    fields = np.zeros((SIZE, SIZE, count))
    for k in range(count):
        for (v, u), shift in zip(waves[k] * 5, phase[k], strict=True):
            fields[:, :, k] += np.sin(v * y + u * x + shift)
    fields[:, :, rng.integers(count)] += 1.5
    power = np.exp(2.5 * fields)
    shares: NDArray[np.float64] = power / power.sum(axis=2, keepdims=True)
    return shares


def _geotiff(counts: NDArray[np.uint16], nm: NDArray[np.float64], rng: np.random.Generator) -> bytes:
    """UTM 33N, 30 m, deflate; wavelength and width of each band as tags."""
    rasterio = gdal()
    place = (30.0, 0.0, 400_000.0 + 30 * int(rng.integers(10_000)), 0.0, -30.0, 5_000_000.0)
    with rasterio.MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            height=SIZE,
            width=SIZE,
            count=BANDS,
            dtype="uint16",
            crs="EPSG:32633",
            transform=rasterio.Affine(*place),
            nodata=NODATA,
            compress="deflate",
            predictor=2,
        ) as dataset:
            dataset.write(counts.transpose(2, 0, 1))
            dataset.scales = [SCALE] * BANDS
            dataset.update_tags(wavelength_units="nm")
            for band, centre in enumerate(nm, start=1):
                dataset.update_tags(band, wavelength=f"{centre:g}", fwhm=f"{WIDTH_NM:g}")
        data: bytes = memory.read()
    return data
