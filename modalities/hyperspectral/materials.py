"""Reflectance of five materials as it was measured, from the spectra that the package earthlib ships.

Soils are of the ICRAF-ISRIC library (4168 profiles, in the laboratory) and of field campaigns; litter and
char of the Joint Fire Science Program; roads and roof tiles of Santa Barbara (Herold et al. 2004). They go
from 400 to 2450 nm in steps of 10 nm, without the bands in which water vapour hides the ground. earthlib's
spectra of green plants are computed, so there are none here.
"""

import csv
import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from modalities.libraries import MissingLibrary

NAMES = ("soil", "litter", "char", "road", "tile")


def draw(rng: np.random.Generator, bands: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """At `bands` measured wavelengths, nm (c,), one measured spectrum of each of NAMES, (k, c) in 0..1."""
    nm, groups = library()
    chosen = np.rint(np.linspace(0, len(nm) - 1, bands)).astype(int)
    return nm[chosen], np.stack([group[rng.integers(len(group))][chosen] for group in groups])


@lru_cache(maxsize=1)
def library() -> tuple[NDArray[np.float64], tuple[NDArray[np.float64], ...]]:
    """Wavelengths in nm (c,), and for each of NAMES its measured spectra (n, c).

    MissingLibrary where earthlib is not installed.
    """
    spec = find_spec("earthlib")  # importing it would take pandas along
    if spec is None or not spec.submodule_search_locations:
        raise MissingLibrary(
            "synthetic cubes are mixed from the spectra of the package earthlib: pip install 'rayloom[demo]'"
        )
    folder = Path(spec.submodule_search_locations[0], "data")
    header = (folder / "spectra.sli.hdr").read_text()
    found = re.search(r"\bwavelength = \{([^}]*)\}", header)
    assert found, "an ENVI spectral library has its wavelengths in its header"
    nm = np.array(found[1].split(","), float) * 1000  # they are in micrometres
    with (folder / "spectra.csv").open(newline="") as file:
        rows = [row["LEVEL_3"] if row["LEVEL_4"] == "measured" else "" for row in csv.DictReader(file)]
    spectra = np.fromfile(folder / "spectra.sli", "<f4").reshape(len(rows), len(nm)).astype(float)
    kinds = np.array(rows)
    return nm.round(6), tuple(spectra[kinds == name] for name in NAMES)
