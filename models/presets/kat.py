"""Kolmogorov-Arnold Transformer (KAT).

Paper: Yang and Wang, 2024, arXiv:2409.10594. A ViT whose MLPs are group-rational KANs. The text starts the
second function as GELU or swish; the released models of all three sizes start it as swish, and so do these.
"""

PART = "channel_mixer"

NORM = {"name": "layer", "eps": 1e-6}

PRESETS = {
    "kat_tiny": {
        "doc": "KAT-T; parameters as printed by the paper's code.",
        "millions": 5.718,
        "modality": "image",
        "stem": "patch",
        "stem.patch": 16,
        "backbone": "isotropic",
        "backbone.dim": 192,
        "backbone.depth": 12,
        "backbone.position": "learned",
        "backbone.class_token": "first",
        "backbone.norm": NORM,
        "block.norm": NORM,
        "block.channel": {"name": "kan", "act": "silu"},
        "mixers": ({"name": "attention", "head_dim": 64},),
        "head": "classification",
        "head.source": "class",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
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
