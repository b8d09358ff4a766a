"""Combiner: Full Attention Transformer with Sparse Computation Cost.

Paper: Ren et al., 2021, arXiv:2107.05768 (Combiner-Fixed). Its models are for text and for images as
sequences of bytes, in sizes it does not count; here is a ViT of ours, patches as a sequence.
"""

PART = "token_mixer"

PRESETS = {
    "combiner_nano": {
        "doc": "Ours, for images of 32-64 pixels.",
        "modality": "image",
        "stem": "patch",
        "stem.patch": 4,
        "backbone": "isotropic",
        "backbone.dim": 64,
        "backbone.depth": 3,
        "mixers": ({"name": "combiner", "head_dim": 16},),
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 10,
    },
}
