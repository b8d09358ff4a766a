"""RMT: Retentive Networks Meet Vision Transformers.

Paper: Fan et al., 2023, arXiv:2309.11523. Sizes: its code: attention by rows and columns in the first stages,
whole in the last ones.
"""

from collections.abc import Mapping

PART = "token_mixer"


def stage(heads: int, dim: int, spread: float, ratio: float, decomposed: bool) -> tuple[Mapping[str, object]]:
    """The mixer of one stage, with its channel mixer."""
    mixer = {
        "name": "manhattan",
        "head_dim": dim // heads,
        "spread": spread,
        "decomposed": decomposed,
        "block": {"channel": {"name": "conv_mlp", "ratio": ratio}},
    }
    return (mixer,)


CONV = {"kernel": 3, "norm": "batch"}

PRESETS = {
    "rmt_tiny": {
        "doc": "RMT-T; parameters counted in the paper's code.",
        "millions": 14.334,
        "modality": "image",
        "stem": "conv",
        "stem.layers": (
            {"width": 0.5, "stride": 2, "act": "gelu", **CONV},
            {"width": 0.5, "act": "gelu", **CONV},
            {"stride": 2, "act": "gelu", **CONV},
            CONV,
        ),
        "backbone": "pyramid",
        "backbone.dims": (64, 128, 256, 512),
        "backbone.depths": (2, 2, 8, 2),
        "backbone.merge": {"name": "conv", "kernel": 3, "after": "batch"},
        "backbone.norm": None,
        "backbone.drop_path": 0.1,
        "block.norm": {"name": "layer", "eps": 1e-6},
        "block.position": "conditional",
        "mixers": (
            stage(4, 64, 4.0, 3.0, True),
            stage(4, 128, 4.0, 3.0, True),
            stage(8, 256, 6.0, 3.0, False),
            stage(16, 512, 6.0, 3.0, False),
        ),
        "head": "classification",
        "head.project": 1024,
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "rmt_small": {
        "base": "rmt_tiny",
        "doc": "RMT-S; counted likewise.",
        "millions": 26.967,
        "backbone.depths": (3, 4, 18, 4),
        "backbone.drop_path": 0.15,
        "mixers": (
            stage(4, 64, 4.0, 4.0, True),
            stage(4, 128, 4.0, 4.0, True),
            stage(8, 256, 6.0, 3.0, True),
            stage(16, 512, 6.0, 3.0, False),
        ),
    },
    "rmt_nano": {
        "base": "rmt_tiny",
        "doc": "Ours, for small images.",
        "backbone.dims": (32, 64, 128),
        "backbone.depths": (1, 1, 1),
        "backbone.drop_path": 0.0,
        "head.project": 128,
        "mixers": (
            stage(2, 32, 4.0, 3.0, True),
            stage(4, 64, 4.0, 3.0, True),
            stage(4, 128, 6.0, 3.0, False),
        ),
        "num_outputs": 10,
    },
}
