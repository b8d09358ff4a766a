"""ViR: Vision Retention Networks.

Paper: Hatamizadeh et al., 2023, arXiv:2310.19731 (its later title: ViR: Towards Efficient Vision Retention
Backbones). ViT's shapes; the class token stands last, where it sees every patch. No code was released.
"""

PART = "token_mixer"

PRESETS = {
    "vir_nano": {
        "doc": "Ours, for small images.",
        "modality": "image",
        "stem": "patch",
        "stem.patch": 8,
        "backbone": "isotropic",
        "backbone.dim": 128,
        "backbone.depth": 3,
        "backbone.position": {"name": "learned", "grid": (4, 4)},
        "backbone.class_token": "last",
        "mixers": ({"name": "retention"},),
        "head": "classification",
        "head.source": "class",
        "in_chans": 3,
        "num_outputs": 10,
        "init_std": 0.02,
    },
}
