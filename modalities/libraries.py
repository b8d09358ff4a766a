"""Libraries that are imported when a sample first needs them; one that does not load is no sample's fault."""

from importlib import import_module
from typing import Final

PACKAGES: Final = {  # what is imported late -> the distribution that has it
    "PIL": "pillow",
    "av": "av",
    "decord": "decord2",
    "h5py": "h5py",
    "laspy": "laspy",
    "lazrs": "lazrs",
    "open3d": "open3d-cpu",
    "rasterio": "rasterio",
    "scipy.fft": "scipy",
    "scipy.ndimage": "scipy",
    "zarr": "zarr",
}


class MissingLibrary(ModuleNotFoundError):
    """What a modality needs is not there or does not load. It ends the job: the next sample needs it too."""


def load(*names: str) -> None:
    """Import some of PACKAGES, before the import that uses them: whatever that raises is a MissingLibrary.

    Only MemoryError stays one, for a sample may have left too little.
    """
    for name in names:
        package = PACKAGES[name]
        try:
            import_module(name)
        except MemoryError:
            raise
        except Exception as e:  # OSError of the dynamic linker, RuntimeError of versions that do not fit, ...
            absent = isinstance(e, ModuleNotFoundError) and e.name == name.partition(".")[0]
            advice = f"pip install {package}" if absent else "`rayloom doctor libs` says what it lacks"
            what = f"{name} does not load ({type(e).__name__}: {e}); {advice}"
            raise MissingLibrary(what, name=name) from e
