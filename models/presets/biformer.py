"""BiFormer: Vision Transformer with Bi-Level Routing Attention.

Paper: Zhu et al., 2023, arXiv:2303.08810. Sizes: table 1 and its code: 7 x 7 regions, each of
which sees 1, 4 and 16 of them from stage to stage; the last stage is plain attention, in the code without
biases in q, k and v, and with a convolution of its input instead of its values.
"""

from collections.abc import Mapping

PART = "token_mixer"


def stages(last_head: int) -> tuple[tuple[Mapping[str, object], ...], ...]:
    """Mixers of the four stages; the last has heads of `last_head` channels."""
    last = {"name": "enhanced", "head_dim": last_head, "bias": False, "of_input": True}
    return (*(({"name": "bi_level", "topk": k},) for k in (1, 4, 16)), (last,))


PRESETS = {
    "biformer_tiny": {
        "doc": "BiFormer-T; parameters counted in the paper's code.",
        "millions": 13.143,
        "modality": "image",
        "stem": "conv",
        "stem.layers": (
            {"width": 0.5, "kernel": 3, "stride": 2, "norm": "batch", "act": "gelu"},
            {"kernel": 3, "stride": 2, "norm": "batch"},
        ),
        "backbone": "pyramid",
        "backbone.dims": (64, 128, 256, 512),
        "backbone.depths": (2, 2, 8, 2),
        "backbone.merge": {"name": "conv", "kernel": 3, "after": "batch"},
        "backbone.norm": "batch",
        "backbone.drop_path": 0.1,
        "block.norm": {"name": "layer", "eps": 1e-6},
        "block.position": "conditional",
        "block.channel": {"name": "mlp", "ratio": 3.0},
        "mixers": stages(64),
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "biformer_small": {
        "base": "biformer_tiny",
        "doc": "BiFormer-S.",
        "millions": 25.536,
        "backbone.depths": (4, 4, 18, 4),
        "backbone.drop_path": 0.15,
    },
    "biformer_base": {
        "base": "biformer_small",
        "doc": "BiFormer-B.",
        "millions": 56.805,
        "backbone.dims": (96, 192, 384, 768),
        "backbone.drop_path": 0.4,
        "mixers": stages(96),
    },
    "biformer_nano": {
        "base": "biformer_tiny",
        "doc": "Ours, for small images: 4 x 4 regions.",
        "backbone.dims": (32, 64, 128),
        "backbone.depths": (1, 1, 1),
        "backbone.drop_path": 0.0,
        "mixers": (
            ({"name": "bi_level", "regions": 4, "topk": 2, "head_dim": 16},),
            ({"name": "bi_level", "regions": 4, "topk": 4, "head_dim": 16},),
            ({"name": "enhanced", "head_dim": 32, "bias": False, "of_input": True},),
        ),
        "num_outputs": 10,
    },
}
