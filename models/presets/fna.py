"""Faster Neighborhood Attention: Reducing the O(n^2) Cost of Self Attention at the Threadblock Level.

Paper: Hassani, Hwu and Shi, 2024, arXiv:2403.04690. It is an operation, `models.ops.neighbourhood`; the
models timed with it are NAT's, arXiv:2204.07143, table 1, here without the bias, which its kernels leave out.
"""

PART = "token_mixer"

PRESETS = {
    "fna_mini": {
        "doc": "NAT-Mini on the fused operation; parameters as NAT's paper prints them.",
        "millions": 20.0,
        "modality": "image",
        "stem": "conv",
        "stem.layers": (
            {"width": 0.5, "kernel": 3, "stride": 2},
            {"kernel": 3, "stride": 2, "norm": "layer"},
        ),
        "backbone": "pyramid",
        "backbone.dims": (64, 128, 256, 512),
        "backbone.depths": (3, 4, 6, 5),
        "backbone.merge": {"name": "conv", "kernel": 3, "bias": False, "after": "layer"},
        "backbone.drop_path": 0.2,
        "block.channel": {"name": "mlp", "ratio": 3.0},
        "mixers": ({"name": "neighbourhood", "window": 7, "bias": False},),
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "fna_tiny": {
        "base": "fna_mini",
        "doc": "NAT-Tiny on the fused operation.",
        "millions": 27.9,
        "backbone.depths": (3, 4, 18, 5),
    },
    "fna_nano": {
        "base": "fna_mini",
        "doc": "Ours, for small images.",
        "backbone.dims": (32, 64, 128),
        "backbone.depths": (1, 2, 1),
        "backbone.drop_path": 0.0,
        "mixers": ({"name": "neighbourhood", "window": 5, "bias": False, "head_dim": 16},),
        "num_outputs": 10,
    },
    "fna_video_nano": {
        "base": "video_nano",
        "doc": "Ours, for clips: neighbours in space and earlier frames.",
        "mixers": (
            {
                "name": "neighbourhood",
                "axes": 3,
                "window": (3, 3, 3),
                "causal": (True, False, False),
                "bias": False,
                "head_dim": 16,
            },
        ),
    },
}
