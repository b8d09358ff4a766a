"""Still pictures: JPEG, PNG, WebP, TIFF, GIF and BMP, at 8 or 16 bits a sample."""

from modalities.base import Modality
from modalities.image.codec import decode, encode, pack
from modalities.image.measure import measure
from modalities.image.preview import preview
from modalities.image.probe import probe
from modalities.image.quality import fingerprint, quality
from modalities.image.schema import EXTENSIONS
from modalities.image.synth import synth
from modalities.image.transforms import TRANSFORMS, prepare

MODALITY = Modality(
    name="image",
    axes={"image": "h w c", "segmentation": "h w", "icc": "n"},
    patterns=tuple(f"*.{extension}" for extension in EXTENSIONS),
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
    transforms=TRANSFORMS,
)
