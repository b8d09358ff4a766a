"""Why fingerprints of videos do not rest on an encoder's keyframes."""

from pathlib import Path

import pytest

from jobs.bench.keyframes import GROUPS, encoded, looked_at
from modalities.video.codec import decode
from modalities.video.transforms import resize


@pytest.mark.parametrize("name", ["blocks.mp4", "dog.mp4"])
def test_other_places_of_keyframes_leave_a_clip_near(name: str, shared_data: Path) -> None:
    arrays = decode({"mp4": (shared_data / "video" / name).read_bytes()}, max_frames=72)
    files = [encoded(resize(arrays, shorter=96), options) for options in GROUPS.values()]
    found = [looked_at("a.mp4", content) for content in files]
    assert len({count for *_, count in found}) > 2  # they are elsewhere
    spans, keys = ([one[at] for one in found] for at in (1, 2))
    moved = [max((prints[0] ^ other).bit_count() for other in prints) for prints in (spans, keys)]
    assert moved[0] <= 3
    assert moved[1] > moved[0]
