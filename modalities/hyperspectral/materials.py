"""Reflectance of five common surfaces, 400 to 2500 nm.

Approximations, read to about 0.02 from the general shape that published libraries show for these classes
(USGS Spectral Library Version 7, Kokaly et al. 2017; ECOSTRESS Spectral Library, Meerdink et al. 2019): clear
water, loam, green grass, weathered concrete, medium-grained snow. For tests and demos, not to measure with.
"""

import numpy as np
from numpy.typing import NDArray

NAMES = ("water", "soil", "vegetation", "concrete", "snow")
_TABLE = """
 400 0.050 0.06 0.03 0.16 0.95
 450 0.060 0.08 0.04 0.20 0.96
 500 0.060 0.11 0.05 0.24 0.96
 550 0.050 0.15 0.11 0.27 0.96
 600 0.030 0.19 0.07 0.29 0.95
 650 0.020 0.22 0.05 0.30 0.94
 680 0.020 0.23 0.04 0.31 0.93
 720 0.015 0.25 0.20 0.31 0.91
 750 0.010 0.26 0.40 0.32 0.90
 800 0.010 0.28 0.47 0.33 0.86
 900 0.008 0.31 0.49 0.34 0.78
 970 0.006 0.32 0.45 0.34 0.72
1100 0.005 0.36 0.48 0.35 0.62
1200 0.005 0.38 0.41 0.35 0.42
1300 0.005 0.40 0.40 0.36 0.38
1400 0.004 0.37 0.15 0.33 0.12
1450 0.004 0.38 0.12 0.33 0.05
1600 0.004 0.43 0.25 0.36 0.08
1700 0.004 0.44 0.26 0.36 0.13
1800 0.004 0.44 0.21 0.36 0.14
1940 0.004 0.35 0.05 0.29 0.02
2050 0.004 0.41 0.10 0.33 0.02
2200 0.004 0.39 0.14 0.33 0.07
2300 0.004 0.39 0.10 0.30 0.05
2500 0.004 0.34 0.05 0.27 0.02
"""  # nm, then one column a name


def spectra(nm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reflectance (k, c) of NAMES at the wavelengths asked for, linearly interpolated."""
    rows = np.array([line.split() for line in _TABLE.split("\n") if line.strip()], float)
    return np.stack([np.interp(nm, rows[:, 0], column) for column in rows[:, 1:].T])
