"""Pre-RMSNorm and Pre-CRMSNorm Transformers: Equivalent and Efficient Pre-LN Transformers.

Paper: Jiang et al., 2023, arXiv:2305.14858. A ViT in its three equal forms: `norms` is "layer", "rms" or
"crms", and models/recentre.py turns a trained Pre-LN model into any of them. Parameters are those of the
"layer" form, as the paper trains; the stream of the "crms" form is one channel narrower.
"""

from models.imports import timm_vit

PART = "norm"

NORM = {"name": "layer", "eps": 1e-6}

PRESETS = {
    "pre_ln_tiny": {
        "doc": "ViT-Ti/16, the model to convert; parameters counted in timm.",
        "millions": 5.717,
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
        "mixers": ({"name": "attention", "head_dim": 64},),
        "head": "classification",
        "head.source": "class",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "pre_crmsnorm_tiny": {
        "base": "pre_ln_tiny",
        "doc": "The same with norms in the compressed form; without the norms' weights.",
        "millions": 5.717,
        "norms": "crms",
    },
    "pre_crmsnorm_nano": {
        "base": "pre_crmsnorm_tiny",
        "doc": "Ours, for images of 32-64 pixels.",
        "stem.patch": 8,
        "backbone.dim": 64,
        "backbone.depth": 3,
        "backbone.position": {"name": "learned", "grid": (6, 6)},
        "mixers": ({"name": "attention", "head_dim": 16},),
        "num_outputs": 10,
    },
}

IMPORTS = {"timm": timm_vit(16)}
