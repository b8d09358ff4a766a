"""What indexes and shards are made of is the same on other processors: numbers, prints, changed samples."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import modalities

PROGRAM = """
import json, sys
from pathlib import Path
import blake3
import modalities
found = {}
changes = json.loads(sys.argv[2])
for folder in sorted(Path(sys.argv[1]).iterdir()):
    name, _, seed = folder.name.partition("-")
    kind = modalities.get(name)
    arrays = kind.decode({path.name: path.read_bytes() for path in folder.iterdir()})
    found[f"{name} {seed}"] = {**kind.quality(arrays), "fingerprint": kind.fingerprint(arrays)}
    for change, options in changes[name]:
        made = kind.encode(kind.transforms[change](arrays, **options))
        digests = {ext: blake3.blake3(data).hexdigest() for ext, data in made.items()}
        found[f"{name} {seed} {change} {options}"] = digests
print(json.dumps(found))
"""
CHANGES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "image": [("resize", {"shorter": 24}), ("transcode", {"format": "jpg", "quality": 80})],
    "video": [("frames", {"num": 4}), ("resize", {"shorter": 24}), ("transcode", {})],
    "pointcloud": [
        ("voxel", {"size": 0.2, "keep": "mean"}), ("outliers", {}), ("normals", {}),
        ("subsample", {"num_points": 100}),
    ],
    "hyperspectral": [("scale", {"factor": 0.001})],
    "lighting": [
        ("flip", {}), ("resize", {"height": 16, "width": 20}), ("tonemap", {"curve": "soft"}),
    ],
}  # fmt: skip
OLDER = {  # no wider than SSE4.2: other sums, other logarithms
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
    "OPENBLAS_CORETYPE": "Nehalem",
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names parts of x86")
def test_an_older_processor_finds_the_same_numbers(tmp_path: Path) -> None:
    for name in modalities.names():
        for seed in range(12):
            (folder := tmp_path / f"{name}-{seed}").mkdir()
            for ext, content in modalities.get(name).synth(seed).items():
                (folder / ext).write_bytes(content)

    def found(**changes: str) -> dict[str, Any]:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path), json.dumps(CHANGES)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | changes)
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    assert found(**OLDER) == found()
