"""Towards Scalable Foundation Model for Multi-modal and Hyperspectral Geospatial Data.

Paper: Si et al., 2025, arXiv:2503.12843 (LESS ViT). One map of a patch for all bands, with a hidden layer,
as in its code; sines of metres and nanometres; the Kronecker product of a spectral and a spatial attention.
The paper's second modality, radar, has a map of its own, which a second stem would be; its Hyper-MAE hides
bands and places by themselves, here `band_ratio` of the masked objective does.
"""

PART = "backbone"

NORM = {"name": "layer", "eps": 1e-6}

PRESETS = {
    "less_vit_base": {
        "doc": "LESS ViT-B for cubes of 10 m a pixel; parameters counted in the paper's code, without radar.",
        "millions": 70.923,
        "modality": "hyperspectral",
        "stem": "spectral",
        "stem.bands": 1,
        "stem.patch": 16,
        "stem.hidden": 1536,
        "backbone": "framed",
        "backbone.dim": 768,
        "backbone.depth": 12,
        "backbone.norm": NORM,
        "backbone.metres": 160.0,
        "block.norm": NORM,
        "mixers": ({"name": "kronecker", "head_dim": 64, "spectral": 4},),
        "head": "classification",
        "head.source": "class",
        "in_chans": 1,
        "num_outputs": 19,
    },
    "less_vit_nano": {
        "base": "less_vit_base",
        "doc": "Ours, for cubes of about 16 x 16 pixels; places see as far as three patches.",
        "stem.patch": 4,
        "stem.hidden": 128,
        "backbone.dim": 64,
        "backbone.depth": 3,
        "backbone.metres": 40.0,
        "mixers": ({"name": "kronecker", "head_dim": 16, "spectral": 4, "radius": 120.0},),
        "num_outputs": 10,
    },
}
