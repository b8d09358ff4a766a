"""Softmax-free Linear Transformers.

Paper: Lu et al., 2022, arXiv:2207.03341, normalised; 2021, arXiv:2110.11945, not. Sizes: table 2 and code,
whose larger ones have other numbers of parameters than the table. Three stages without softmax, normed behind
each residual; the last is plain attention with a class token.
"""

from collections.abc import Mapping, Sequence

PART = "token_mixer"

RELU = {"norm": "batch", "act": "relu"}
LAST = {
    "name": "attention",
    "head_dim": 32,
    "block": {"order": "pre", "norm": {"name": "layer", "eps": 1e-6}, "channel": "mlp"},
}


def stages(normalised: bool) -> Sequence[Sequence[Mapping[str, object]]]:
    """Mixers of the four stages: fewer landmarks for each token where there are more of them."""
    soft = {"name": "softmax_free", "head_dim": 32, "normalised": normalised}
    return (*(({**soft, "ratio": r, "kernel": k},) for r, k in ((8, 9), (4, 5), (2, 3))), (LAST,))


PRESETS = {
    "soft_tiny": {
        "doc": "SOFT++ Tiny; parameters counted in the paper's code.",
        "millions": 13.069,
        "modality": "image",
        "stem": "conv",
        "stem.layers": (
            {"width": 0.5, "kernel": 3, "stride": 2, **RELU},
            {"width": 0.5, "kernel": 3, **RELU},
            {"kernel": 3, "stride": 2, **RELU},
        ),
        "backbone": "pyramid",
        "backbone.dims": (64, 128, 320, 512),
        "backbone.depths": (1, 2, 3, 2),
        "backbone.merge": {"name": "convs", "layers": ({"kernel": 3, "stride": 2, **RELU},)},
        "backbone.positions": tuple({"name": "learned", "grid": (n, n)} for n in (56, 28, 14, 7)),
        "backbone.class_token": True,
        "backbone.norm": {"name": "layer", "eps": 1e-6},
        "block.order": "post",
        "block.channel": {"name": "mlp", "act": "gelu_tanh"},
        "mixers": stages(normalised=True),
        "head": "classification",
        "head.source": "class",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "soft_nano": {
        "base": "soft_tiny",
        "doc": "Ours, for small images.",
        "backbone.dims": (32, 64, 128),
        "backbone.depths": (1, 1, 1),
        "backbone.positions": tuple({"name": "learned", "grid": (n, n)} for n in (8, 4, 2)),
        "mixers": (
            ({"name": "softmax_free", "ratio": 4, "kernel": 5, "head_dim": 16},),
            ({"name": "softmax_free", "ratio": 2, "kernel": 3, "head_dim": 16},),
            (LAST,),
        ),
        "num_outputs": 10,
    },
}
