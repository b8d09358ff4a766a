"""Tiny videos that only their motion tells apart."""

import itertools
from collections import Counter

import numpy as np

from modalities.base import Raw
from modalities.video import MODALITY
from modalities.video.codec import decode
from modalities.video.synth import DIRECTIONS, MOTIONS, synth


def test_a_seed_is_a_video() -> None:
    assert synth(7) == synth(7)
    assert synth(7)["mp4"] != synth(8)["mp4"]


def test_synthetic_videos_pass_the_probe_and_are_small() -> None:
    files = synth(0)
    meta = MODALITY.probe(Raw(name="a.mp4", content=files["mp4"]))
    assert (meta["width"], meta["height"], meta["num_frames"], meta["fps"]) == (48, 48, 16, 8.0)
    assert len(files["mp4"]) < 20_000


def test_every_motion_comes_up() -> None:
    counts = Counter(synth(seed)["cls"].decode() for seed in range(40))
    assert set(counts) == set(MOTIONS)
    assert max(counts.values()) < 20


def shift(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """(dy, dx) by which the change between two frames moved, by phase correlation of the moving part."""
    best, found = -np.inf, (0, 0)
    for dy in range(-4, 5):
        for dx in range(-4, 5):
            score = -np.abs(np.roll(before, (dy, dx), (0, 1)) - after).mean()
            if score > best:
                best, found = score, (dy, dx)
    return found


def test_the_class_is_the_motion() -> None:
    for seed in range(12):
        files = synth(seed)
        frames = decode(files)["frames"].astype(float)
        ground = np.median(frames, axis=0)
        moving = frames - ground
        steps = np.array([shift(a, b) for a, b in itertools.pairwise(moving)])
        dy, dx = np.median(steps, axis=0)
        want_y, want_x = DIRECTIONS[files["cls"].decode()]
        assert (np.sign(dy), np.sign(dx)) == (want_y, want_x), files["cls"]


def test_a_single_frame_does_not_tell_the_class() -> None:
    """Where the disc is says nothing: nearest class mean on first frames is near chance."""
    seeds = range(130)
    files = [synth(seed) for seed in seeds]
    labels = np.array([MOTIONS.index(f["cls"].decode()) for f in files])
    first = np.stack([decode(f, max_frames=1)["frames"][0].astype(float).ravel() for f in files])
    means = np.stack([first[:100][labels[:100] == k].mean(0) for k in range(len(MOTIONS))])
    guess = ((first[100:, None] - means) ** 2).sum(-1).argmin(1)
    assert (guess == labels[100:]).mean() < 0.4
