"""One file a format; the format is known by the first bytes, the extension only has to agree."""

from importlib import import_module
from typing import cast

from modalities.base import BadSample, Raw
from modalities.hyperspectral.schema import Reader

NAMES = ("envi", "geotiff", "hdf5", "mat5", "netcdf3", "npy", "npz", "zarr")
HEAD = 4096  # bytes that `matches` sees: MATLAB 7.3 puts the HDF5 signature after 512 of its own


def reader_of(raw: Raw) -> Reader:
    """The reader for an object, its extension agreeing; BadSample."""
    if raw.name.endswith("/"):
        return cast(Reader, import_module(f"{__name__}.zarr"))
    if raw.size == 0:
        raise BadSample("empty", f"{raw.name} has no bytes")
    head = raw.head(HEAD)
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"<VRTDataset", b"<?xml", b"<GDAL")):
        raise BadSample(
            "unsafe", f"{raw.name} is a GDAL description that points at other files; give the files"
        )
    modules = [cast(Reader, import_module(f"{__name__}.{name}")) for name in NAMES]
    found = [module for module in modules if module.matches(head)]
    if not found:
        known = sorted({suffix for module in modules for suffix in module.SUFFIXES})
        raise BadSample("unknown-format", f"{raw.name} starts with {head[:8]!r}; want one of {known}")
    fitting = [module for module in found if raw.filename.endswith(module.SUFFIXES)]
    if not fitting:
        wanted = found[0].SUFFIXES
        raise BadSample("extension-mismatch", f"{raw.name} holds what goes by {wanted}; rename it or mend it")
    return fitting[0]
