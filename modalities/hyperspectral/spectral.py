"""Wavelengths as files write them -> nanometres."""

import re
from collections.abc import Sequence

import numpy as np

_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def numbers(text: str) -> list[float]:
    """Every number in a header's list, whatever separates them."""
    return [float(number) for number in _NUMBER.findall(text)]


def factor(units: str | None, values: Sequence[float]) -> float | None:
    """What turns `values` into nm; None when they are no wavelengths.

    Without usable units, a median below 100 can only be micrometres: optical sensors end at 0.1 mm.
    """
    unit = (units or "").strip().lower()
    if unit.startswith(("nm", "nano")):
        return 1.0
    if unit.startswith(("um", "\u00b5m", "\u03bcm", "micro")):
        return 1e3
    if unit in ("m", "meter", "meters", "metre", "metres"):
        return 1e9
    if unit.startswith(("index", "wavenumber", "cm-1", "ghz", "mhz")):
        return None
    return 1e3 if float(np.median(values)) < 100 else 1.0


def to_nm(
    values: Sequence[float], units: str | None, widths: Sequence[float] | None = None
) -> tuple[list[float] | None, list[float] | None]:
    """(centres, widths) in nm; the widths have the units of the centres."""
    if len(values) == 0 or (by := factor(units, values)) is None:
        return None, None
    scaled = [_exact(value, by) for value in values]
    return scaled, None if widths is None else [_exact(value, by) for value in widths]


def _exact(value: float, by: float) -> float:
    """0.55 um is 550 nm, not 550.0000000000001."""
    return float(value) if by == 1 else round(float(value) * by, 9)
