"""Kolmogorov-Arnold Transformer (KAT).

Paper: Yang and Wang, 2024, arXiv:2409.10594. A ViT whose MLPs are group-rational KANs. The text starts the
second function as GELU or swish; the released models of all three sizes start it as swish, and so do these.
"""

PART = "channel_mixer"

PRESETS = {
    "kat_tiny": {
        "base": "pre_ln_tiny",
        "doc": "KAT-T; parameters as printed by the paper's code.",
        "millions": 5.718,
        "block.channel": {"name": "kan", "act": "silu"},
    },
    "kat_small": {
        "base": "kat_tiny",
        "doc": "KAT-S; the paper prints 22.1 M.",
        "millions": 22.1,
        "backbone.dim": 384,
    },
    "kat_base": {
        "base": "kat_tiny",
        "doc": "KAT-B; the paper prints 86.6 M.",
        "millions": 86.6,
        "backbone.dim": 768,
    },
    "kat_nano": {
        "base": "kat_tiny",
        "doc": "Ours, for images of 32-64 pixels.",
        "stem.patch": 8,
        "backbone.dim": 64,
        "backbone.depth": 3,
        "backbone.position": {"name": "learned", "grid": (6, 6)},
        "mixers": ({"name": "attention", "head_dim": 16},),
        "num_outputs": 10,
    },
}
