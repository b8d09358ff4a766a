"""Demystify Mamba in Vision: A Linear Attention Perspective (MLLA).

Paper: Han et al., 2024, arXiv:2405.16605; its final version says MILA. Sizes: table 9 and its code.
"""

PART = "token_mixer"

BN = {"norm": "batch", "bias": False}

PRESETS = {
    "mlla_tiny": {
        "doc": "MLLA-T; parameters counted in the paper's code.",
        "millions": 24.392,
        "modality": "image",
        "stem": "conv",
        "stem.layers": (
            {"width": 0.5, "kernel": 3, "stride": 2, "act": "relu", **BN},
            {"width": 0.5, "kernel": 3, "act": "relu", **BN},
            {"width": 0.5, "kernel": 3, "skip": 2, **BN},
            {"width": 4, "kernel": 3, "stride": 2, "act": "relu", **BN},
            {"kernel": 1, **BN},
        ),
        "backbone": "pyramid",
        "backbone.dims": (64, 128, 256, 512),
        "backbone.depths": (2, 4, 8, 4),
        "backbone.merge": "convs",
        "backbone.drop_path": 0.2,
        "block.position": "conditional",
        "block.channel_position": "conditional",
        "mixers": ({"name": "mila"},),
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "mlla_small": {
        "base": "mlla_tiny",
        "doc": "MLLA-S; counted likewise.",
        "millions": 43.015,
        "backbone.depths": (3, 6, 21, 6),
        "backbone.drop_path": 0.4,
    },
    "mlla_nano": {
        "base": "mlla_tiny",
        "doc": "Ours, for small images.",
        "backbone.dims": (32, 64, 128),
        "backbone.depths": (1, 1, 1),
        "backbone.drop_path": 0.0,
        "mixers": ({"name": "mila", "head_dim": 16},),
        "num_outputs": 10,
    },
}
