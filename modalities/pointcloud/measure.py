"""Quality and fingerprint straight from a file: a LAS is unpacked whole, what they look at is kept."""

from modalities.base import Files, Measured, Meta
from modalities.pointcloud.codec import decode
from modalities.pointcloud.fingerprint import printed
from modalities.pointcloud.guard import guarded
from modalities.pointcloud.quality import numbers
from modalities.pointcloud.readers import las
from modalities.pointcloud.thinning import thin


def measure(files: Files, meta: Meta) -> Measured:
    """What `quality` and `fingerprint` say of the decoded cloud, to the last bit."""
    names = [name for name in ("las", "laz", "copc.laz") if name in files]
    if len(names) == 1 and meta["format"] in ("las", "laz", "copc"):
        with guarded(f"the .{names[0]} file"):
            arrays = las.look(files[names[0]])
    else:
        arrays = dict(decode(files))
    part = thin(arrays["points"])
    return numbers(arrays, part), printed(part)
