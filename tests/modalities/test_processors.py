"""Numbers of quality and fingerprints are the same bits on other processors: indexes are made of them."""

import json
import os
import pickle
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import modalities

PROGRAM = """
import json, pickle, sys
from pathlib import Path
import modalities
found = {}
for (name, seed), files in pickle.loads(Path(sys.argv[1]).read_bytes()).items():
    kind = modalities.get(name)
    arrays = kind.decode(files)
    found[f"{name} {seed}"] = {**kind.quality(arrays), "fingerprint": kind.fingerprint(arrays)}
print(json.dumps(found))
"""
OLDER = {  # no wider than SSE4.2: other sums, other logarithms
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL",
    "OPENBLAS_CORETYPE": "Nehalem",
}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names parts of x86")
def test_an_older_processor_finds_the_same_numbers(tmp_path: Path) -> None:
    samples = {
        (name, seed): modalities.get(name).synth(seed) for name in modalities.names() for seed in range(12)
    }
    (tmp_path / "samples").write_bytes(pickle.dumps(samples))

    def found(**changes: str) -> dict[str, Any]:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "samples")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | changes)
        told: dict[str, Any] = json.loads(done.stdout)
        return told

    assert found(**OLDER) == found()
