"""Objects under a known light: frames with the light's direction in each of them."""

from modalities.base import Modality
from modalities.lighting.codec import decode, encode
from modalities.lighting.cuts import CUTS
from modalities.lighting.prepare import prepare
from modalities.lighting.preview import preview
from modalities.lighting.probe import COMPANIONS, PATTERNS, pack, probe
from modalities.lighting.quality import fingerprint, quality
from modalities.lighting.schema import AXIS_LETTERS
from modalities.lighting.synth import synth
from modalities.lighting.transforms import TRANSFORMS

MODALITY = Modality(
    name="lighting",
    axes=AXIS_LETTERS,
    patterns=PATTERNS,
    companions=COMPANIONS,
    probe=probe,
    pack=pack,
    decode=decode,
    encode=encode,
    quality=quality,
    fingerprint=fingerprint,
    preview=preview,
    synth=synth,
    prepare=prepare,
    cuts=CUTS,
    transforms=TRANSFORMS,
)
