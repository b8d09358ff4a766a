"""How far fingerprints of videos move with a codec's keyframes. `python -m jobs.bench.keyframes DATA`.

Every clip in the folder DATA is encoded again as H.264 (crf 23) with keyframes elsewhere. The fingerprint of
`modalities/video/fingerprint.py` takes 16 frames at equal spans; beside it stands the same hash of keyframes,
16 of them at equal spans. Bits that differ from the original's, and how near other clips come.
"""

import argparse
import io
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import numpy as np

import modalities
from modalities.base import Arrays, Raw
from modalities.video.codec import decode
from modalities.video.fingerprint import fingerprint
from modalities.video.frames import read_timeline

DISTANCE: Final = 6  # as `dedup_distance` has it by default
GROUPS: Final[Mapping[str, dict[str, str]]] = {
    "keyframes every 12 frames": {"g": "12", "sc_threshold": "0"},
    "every 50": {"g": "50", "sc_threshold": "0"},
    "as x264 likes (250, and cuts)": {},
    "one alone": {"g": "100000", "sc_threshold": "0"},
}


def encoded(arrays: Arrays, options: Mapping[str, str]) -> bytes:
    """MP4, at the mean rate of the original."""
    import av

    frames, times = arrays["frames"], arrays["times"]
    even = frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2]
    with av.open(out := io.BytesIO(), "w", format="mp4") as container:
        rate = round((len(times) - 1) / (times[-1] - times[0]))
        stream: Any = container.add_stream("libx264", rate=rate, options={"crf": "23", **options})
        stream.height, stream.width, stream.pix_fmt = even.shape[1], even.shape[2], "yuv420p"
        for frame in even:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame))))
        container.mux(stream.encode())
    return out.getvalue()


def of_keyframes(arrays: Arrays, raw: Raw) -> tuple[int, int]:
    """The hash of keyframes alone, and how many there are."""
    keys = read_timeline(raw, modalities.get("video").probe(raw)).keyframes
    return fingerprint({"frames": arrays["frames"][keys], "times": arrays["times"][keys]}), len(keys)


def looked_at(name: str, content: bytes) -> tuple[Arrays, int, int, int]:
    """Frames, both fingerprints, and the number of keyframes."""
    arrays = decode({name.rpartition(".")[2]: content})
    if len(arrays["times"]) != arrays["num_frames"]:
        raise ValueError(f"want a clip that fits into memory, {name} has {arrays['num_frames']} frames")
    return arrays, fingerprint(arrays), *of_keyframes(arrays, Raw(name=name, content=content))


def main() -> None:
    """Print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path)
    given = parser.parse_args()
    originals: list[tuple[int, int]] = []
    moved: dict[str, list[tuple[int, int]]] = {name: [] for name in GROUPS}
    print("| clip | keyframes of its frames | bits moved at equal spans | by keyframes |\n|---|---|---|---|")
    for path in sorted(given.data.iterdir()):
        arrays, spans, keys, count = looked_at(path.name, path.read_bytes())
        originals.append((spans, keys))
        for name, options in GROUPS.items():
            _, again, keys_again, _ = looked_at("a.mp4", encoded(arrays, options))
            moved[name].append(((spans ^ again).bit_count(), (keys ^ keys_again).bit_count()))
        both = (", ".join(str(moved[name][-1][at]) for name in GROUPS) for at in (0, 1))
        print(f"| {path.name} | {count} of {len(arrays['times'])} | {' | '.join(both)} |", flush=True)
    print("\nFrom left to right: " + "; ".join(GROUPS) + "\n")
    for at, name in enumerate(("equal spans", "keyframes")):
        bits = [pair[at] for pairs in moved.values() for pair in pairs]
        apart = [(a[at] ^ b[at]).bit_count() for a, b in combinations(originals, 2)]
        print(f"- {name}: {np.mean(bits):.1f} bits on average, {max(bits)} at most,", end=" ")
        print(f"{_share(bits)} within {DISTANCE}; other clips are {min(apart)} bits apart or more")


def _share(bits: list[int]) -> str:
    return f"{np.mean(np.array(bits) <= DISTANCE):.0%}"


if __name__ == "__main__":
    main()
