"""ScatterFormer: Efficient Voxel Transformer with Scattered Linear Attention.

Paper: He et al., 2024, arXiv:2401.00912. Of the detector these are the six layers: attention in windows,
then convolutions across them, then an MLP. The paper's sparse convolutions before, between the two stages
and behind, which change the voxels themselves, are not part of it; tokens are points or voxels as given. As
in its code, the cross-window step starts from the normed features, and its last quarter of channels is
doubled.
"""

PART = "token_mixer"

NORM = {"name": "batch", "eps": 1e-3, "momentum": 0.01}

PRESETS = {
    "scatterformer": {
        "doc": "Six layers of 128 channels; parameters counted in the paper's code, for these layers.",
        "millions": 0.804,
        "modality": "pointcloud",
        "stem": "point",
        "backbone": "isotropic",
        "backbone.dim": 128,
        "backbone.depth": 6,
        "backbone.position": None,
        "backbone.norm": NORM,
        "block.norm": NORM,
        "block.channel": {"name": "mlp", "ratio": 2.0, "act": "relu"},
        "block.channel_position": "cross_window",
        "mixers": ({"name": "scattered_linear"},),
        "head": "classification",
        "in_chans": 5,
        "num_outputs": 3,
    },
    "scatterformer_nano": {
        "base": "scatterformer",
        "doc": "Ours, for clouds of about 512 points: three layers, windows of 6 of 24 cells; norms for runs "
        "of hundreds of steps; the places of points are among their features.",
        "backbone.position": "fourier",
        "backbone.dim": 64,
        "backbone.depth": 3,
        "backbone.norm": "batch",
        "block.norm": "batch",
        "block.channel_position": {"name": "cross_window", "reach": 7, "cells": 24, "height": 24},
        "mixers": ({"name": "scattered_linear", "window": 6, "cells": 24, "head_dim": 16},),
        "in_chans": 3,
        "num_outputs": 10,
    },
}
