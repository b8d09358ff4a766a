"""Markers of a JPEG, wherever its bytes lie and in whichever order its profile comes."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from modalities.base import BadSample
from modalities.image.readers import jpeg
from modalities.image.readers.span import Span

PROFILE = np.random.default_rng(0).bytes(70_000)  # two segments; what it means is not asked here


@pytest.fixture(scope="module")
def picture() -> bytes:
    pixels = np.random.default_rng(1).integers(0, 255, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(out := BytesIO(), "JPEG", icc_profile=PROFILE)
    return out.getvalue()


def swapped(picture: bytes) -> bytes:
    """The two segments of the profile in the other order."""
    first = picture.index(b"\xff\xe2")
    second = first + 2 + int.from_bytes(picture[first + 2 : first + 4], "big")
    end = second + 2 + int.from_bytes(picture[second + 2 : second + 4], "big")
    return picture[:first] + picture[second:end] + picture[first:second] + picture[end:]


def test_a_profile_is_joined_by_its_numbers_as_pillow_joins_it(picture: bytes) -> None:
    for data in (picture, swapped(picture)):
        assert (
            jpeg.read(Span(len(data), data=data)).icc
            == PROFILE
            == Image.open(BytesIO(data)).info["icc_profile"]
        )


def test_views_and_files_are_read_as_bytes_are(picture: bytes) -> None:
    want = jpeg.read(Span(len(picture), data=picture))
    assert jpeg.read(Span(len(picture), data=memoryview(picture))) == want
    assert jpeg.read(Span(len(picture), file=BytesIO(picture))) == want
    cut = picture[:-2]
    for span in (
        Span(len(cut), data=cut),
        Span(len(cut), data=memoryview(cut)),
        Span(len(cut), file=BytesIO(cut)),
    ):
        with pytest.raises(BadSample, match="truncated"):
            jpeg.read(span)
