"""Videos: frames in time, with the second each is shown at."""

from modalities.base import Modality
from modalities.video.codec import decode, encode, sample
from modalities.video.cuts import CLIPS, SCENES
from modalities.video.fingerprint import fingerprint
from modalities.video.measure import measure
from modalities.video.prepare import prepare
from modalities.video.preview import preview
from modalities.video.probe import pack, probe
from modalities.video.quality import quality
from modalities.video.synth import synth
from modalities.video.transforms import frames, resize, transcode

MODALITY = Modality(
    name="video",
    axes={"frames": "t h w c", "times": "t", "num_frames": ""},
    patterns=("*.mp4", "*.m4v", "*.mov", "*.mkv", "*.webm", "*.avi"),
    probe=probe,
    pack=pack,
    decode=decode,
    glance=sample,
    encode=encode,
    quality=quality,
    fingerprint=fingerprint,
    measure=measure,
    preview=preview,
    synth=synth,
    prepare=prepare,
    cuts={"clips": CLIPS, "scenes": SCENES},
    transforms={"frames": frames, "resize": resize, "transcode": transcode},
)
