"""SpectFormer: Frequency and Attention is what you need in a Vision Transformer.

Paper: Patro et al., 2023, arXiv:2304.06446. The first alpha = 4 blocks gate frequencies, the rest attend.
The paper draws a residual around each half of a block; its code, which the numbers come from, has one
around gate and MLP together in the spectral blocks, and so have we. The columnar sizes are here.
"""

from models.imports import timm_vit

PART = "token_mixer"

SPECTRAL = {"name": "spectral_gating", "block": {"order": "single"}}
ATTENTION = {"name": "attention", "head_dim": 64}
NORM = {"name": "layer", "eps": 1e-6}

PRESETS = {
    "spectformer_xs": {
        "doc": "SpectFormer-XS; parameters as logged by the paper's code.",
        "millions": 20.029,
        "modality": "image",
        "stem": "patch",
        "stem.patch": 16,
        "backbone": "isotropic",
        "backbone.dim": 384,
        "backbone.depth": 12,
        "backbone.position": "learned",
        "backbone.norm": NORM,
        "block.norm": NORM,
        "mixers": ((SPECTRAL,) * 4 + (ATTENTION,) * 8,),
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "spectformer_t": {
        "base": "spectformer_xs",
        "doc": "SpectFormer-T; parameters as logged by the paper's code.",
        "millions": 9.158,
        "backbone.dim": 256,
    },
    "spectformer_s": {
        "base": "spectformer_xs",
        "doc": "SpectFormer-S; parameters as logged by the paper's code.",
        "millions": 32.450,
        "backbone.depth": 19,
        "backbone.drop_path": 0.15,
        "mixers": ((SPECTRAL,) * 4 + (ATTENTION,) * 15,),
    },
    "spectformer_b": {
        "base": "spectformer_s",
        "doc": "SpectFormer-B; the table of the paper prints 57 M, counted here from the code's widths.",
        "millions": 57.149,
        "backbone.dim": 512,
        "backbone.drop_path": 0.25,
    },
    "spectformer_nano": {
        "base": "spectformer_xs",
        "doc": "Ours, for images of 32-64 pixels: two spectral blocks, two that attend.",
        "stem.patch": 4,
        "backbone.dim": 64,
        "backbone.depth": 4,
        "backbone.position": {"name": "learned", "grid": (8, 8)},
        "mixers": (
            (
                {"name": "spectral_gating", "grid": (8, 8), "block": {"order": "single"}},
                {"name": "spectral_gating", "grid": (8, 8), "block": {"order": "single"}},
                {"name": "attention", "head_dim": 16},
                {"name": "attention", "head_dim": 16},
            ),
        ),
        "num_outputs": 10,
    },
}

# a ViT without class token is what is left when alpha is 0
IMPORTS = {"timm": timm_vit(16)}
