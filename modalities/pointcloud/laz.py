"""Fields that came from LAS, written back as LAZ: coordinates as the integers they were."""

import json
from datetime import date
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import Arrays
from modalities.libraries import load
from modalities.pointcloud.readers.las import GEOKEY_RECORDS
from modalities.pointcloud.schema import GLOBAL, VECTORS

_DATE = date(1970, 1, 1)  # the same arrays give the same bytes on any day
_NEEDED = ("scale", "offset", "point_format")


def write(arrays: Arrays) -> bytes | None:
    """One LAZ file, or None when LAZ cannot hold exactly these fields."""
    if any(name not in arrays for name in _NEEDED) or arrays["points"].dtype != np.float64:
        return None
    quantised = (arrays["points"] - arrays["offset"]) / arrays["scale"]
    if not np.all(np.abs(quantised) < 2**31):  # NaN included
        return None
    integers = np.rint(quantised).astype(np.int32)
    if not np.array_equal(integers * arrays["scale"] + arrays["offset"], arrays["points"]):
        return None
    try:
        return _write(arrays, integers)
    except (ValueError, OverflowError, KeyError, TypeError, RuntimeError, _laspy_error()):
        return None


def _laspy_error() -> type[Exception]:
    load("laspy")
    from laspy.errors import LaspyException  # type: ignore[import-untyped, unused-ignore]

    error: type[Exception] = LaspyException
    return error


def _write(arrays: Arrays, integers: NDArray[np.int32]) -> bytes:
    load("laspy", "lazrs")
    import laspy  # type: ignore[import-untyped, unused-ignore]

    number = int(arrays["point_format"])
    header = laspy.LasHeader(
        point_format=number, version="1.4" if number > 5 else "1.3" if number > 3 else "1.2"
    )
    header.scales, header.offsets, header.creation_date = arrays["scale"], arrays["offset"], _DATE
    header.generating_software = "rayloom"
    header.global_encoding.value = int(arrays.get("global_encoding", np.array(0)))
    header.vlrs.extend(_crs_records(arrays))
    columns = _columns(arrays)
    standard = set(header.point_format.dimension_names)
    header.add_extra_dims(
        [
            laspy.ExtraBytesParams(name, f"{v.shape[1]}{v.dtype.str[1:]}" if v.ndim == 2 else v.dtype)
            for name, v in columns.items()
            if name not in standard
        ]
    )
    record = laspy.ScaleAwarePointRecord.zeros(len(integers), header=header)
    for i, axis in enumerate("XYZ"):
        record[axis] = integers[:, i]
    for name, values in columns.items():
        record[name] = values
    out = BytesIO()
    with laspy.open(out, "w", header=header, laz_backend=laspy.LazBackend.Lazrs, closefd=False) as writer:
        writer.write_points(record)
    return out.getvalue()


def _columns(arrays: Arrays) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any]] = {}
    for name, values in arrays.items():
        if name in VECTORS:
            if name != "points":
                columns |= {part: values[:, i] for i, part in enumerate(VECTORS[name][0])}
        elif name not in GLOBAL:
            columns[name] = values
    return columns


def _crs_records(arrays: Arrays) -> list[Any]:
    import laspy

    records: list[Any] = []
    if "geokeys" in arrays:
        keys = json.loads(str(arrays["geokeys"]))
        parts = {
            "directory": np.array(keys["directory"], "<u2").tobytes(),
            "doubles": bytes.fromhex(keys["doubles"]),
            "ascii": keys["ascii"].encode("latin-1"),
        }
        records += [
            laspy.VLR("LASF_Projection", GEOKEY_RECORDS[name], "", data)
            for name, data in parts.items()
            if data
        ]
    text = str(arrays.get("crs", ""))
    if text and not text.startswith(("EPSG:", "{")):
        records.append(laspy.VLR("LASF_Projection", 2112, "OGC WKT", text.encode() + b"\0"))
    return records
