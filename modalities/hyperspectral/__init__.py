"""Hyperspectral rasters: many narrow bands per pixel."""

from modalities.base import Modality
from modalities.hyperspectral.codec import decode, encode, measure, pack, probe
from modalities.hyperspectral.prepare import prepare
from modalities.hyperspectral.preview import preview
from modalities.hyperspectral.quality import fingerprint, quality
from modalities.hyperspectral.readers.envi import BODIES
from modalities.hyperspectral.synth import synth
from modalities.hyperspectral.tiles import TILES
from modalities.hyperspectral.transforms import bands, crop, scale

_FILES = ("tif", "tiff", "gtiff", "gtif", "h5", "he5", "hdf5", "nc", "nc3", "nc4", "cdf", "mat", "npy", "npz")

MODALITY = Modality(
    name="hyperspectral",
    axes={
        "cube": "h w c",
        "wavelengths": "c",
        "fwhm": "c",
        "bad_bands": "c",
        "segmentation": "h w",
        "abundances": "h w k",
        "endmembers": "c k",
    },
    patterns=("*.hdr", *(f"*.{suffix}" for suffix in _FILES), "*.zarr/", "*.zarr.zip"),
    companions={
        "*.hdr": (*(f"{{stem}}{suffix}" for suffix in BODIES), "{stem}.seg.png"),
        **{f"*.{suffix}": ("{stem}.seg.png",) for suffix in _FILES},
        "*.zarr/": ("**/*",),
        "*.zarr.zip": ("{stem}.seg.png",),
    },
    probe=probe,
    pack=pack,
    decode=decode,
    encode=encode,
    quality=quality,
    fingerprint=fingerprint,
    measure=measure,
    preview=preview,
    synth=synth,
    prepare=prepare,
    cuts={"tiles": TILES},
    transforms={"bands": bands, "scale": scale, "crop": crop},
)
