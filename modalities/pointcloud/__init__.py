"""Point clouds: laser scans, depth sensors and meshes' vertices, with every value stored at a point."""

from modalities.base import Modality
from modalities.pointcloud.codec import decode, encode, pack
from modalities.pointcloud.fingerprint import fingerprint
from modalities.pointcloud.measure import measure
from modalities.pointcloud.prepare import prepare
from modalities.pointcloud.preview import preview
from modalities.pointcloud.probe import COMPANIONS, PATTERNS, probe
from modalities.pointcloud.quality import quality
from modalities.pointcloud.synth import synth
from modalities.pointcloud.tiles import TILES
from modalities.pointcloud.transforms import TRANSFORMS

MODALITY = Modality(
    name="pointcloud",
    axes={"points": "n k", "colors": "n c", "normals": "n k", "intensity": "n", "classification": "n"},
    patterns=PATTERNS,
    companions=COMPANIONS,
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
    transforms=TRANSFORMS,
)
