"""Changed photographs are found as well as by somebody else's hash."""

import re
from itertools import islice
from pathlib import Path

from jobs.bench.near import PICTURES, measure, pictures, print_picture, print_usual

WORDS = re.compile(r"precision ([\d.]+), recall ([\d.]+)")


def test_photographs_beside_imagehash(shared_data: Path) -> None:
    originals = list(islice(pictures(shared_data / "images"), 16))
    found = {}
    for of in (print_picture, print_usual):
        words, lines = measure(originals, PICTURES, of, 6)
        assert len(lines) == len(PICTURES)
        [numbers] = WORDS.findall(words)
        found[of] = tuple(map(float, numbers))
    (precision, recall), (usual_precision, usual_recall) = found.values()
    assert precision == usual_precision == 1.0
    assert recall >= usual_recall - 0.02
