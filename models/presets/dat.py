"""Vision Transformer with Deformable Attention (DAT).

Paper: Xia et al., 2022, arXiv:2201.00520. Sizes: table 1. Windows, in the first stages shifted in turn, in
the last with deformable attention in turn. Windows are shifted by 3 places, in the paper's code by 4.
"""

PART = "token_mixer"

WINDOW = {"name": "window", "window": 7}
LOCAL = (WINDOW, {**WINDOW, "shifted": True})
THIRD = {"name": "deformable", "kernel": 5, "grid": (14, 14)}
FOURTH = {"name": "deformable", "kernel": 3, "grid": (7, 7)}

PRESETS = {
    "dat_tiny": {
        "base": "swin_tiny",
        "doc": "DAT-T; parameters counted in the paper's code.",
        "millions": 28.319,
        "backbone.merge": {"name": "conv", "kernel": 2, "bias": False, "after": "layer"},
        "mixers": (LOCAL, LOCAL, (WINDOW, {**THIRD, "groups": 3}), (WINDOW, {**FOURTH, "groups": 6})),
        "init_std": None,
    },
    "dat_small": {
        "base": "dat_tiny",
        "doc": "DAT-S; counted likewise.",
        "millions": 49.700,
        "backbone.depths": (2, 2, 18, 2),
        "backbone.drop_path": 0.3,
    },
    "dat_base": {
        "base": "dat_small",
        "doc": "DAT-B; counted likewise.",
        "millions": 87.882,
        "backbone.dims": (128, 256, 512, 1024),
        "backbone.drop_path": 0.5,
        "mixers": (LOCAL, LOCAL, (WINDOW, {**THIRD, "groups": 4}), (WINDOW, {**FOURTH, "groups": 8})),
    },
    "dat_nano": {
        "base": "swin_nano",
        "doc": "Ours, for small images.",
        "backbone.merge": {"name": "conv", "kernel": 2, "bias": False, "after": "layer"},
        "backbone.depths": (2, 2, 1),
        "mixers": (
            (
                {"name": "window", "window": 6, "head_dim": 24},
                {"name": "deformable", "grid": (8, 8), "groups": 2, "stride": 2, "head_dim": 24},
            ),
            (
                {"name": "window", "window": 6, "head_dim": 24},
                {"name": "deformable", "grid": (4, 4), "groups": 2, "kernel": 3, "head_dim": 24},
            ),
            ({"name": "deformable", "grid": (2, 2), "groups": 4, "kernel": 3, "head_dim": 24},),
        ),
    },
}
