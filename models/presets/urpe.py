"""Your Transformer May Not be as Powerful as You Expect.

Paper: Luo et al., 2022, arXiv:2205.13401 (URPE). Relative positions alone cannot tell where identical
tokens are; a learned Toeplitz matrix behind the softmax can. The paper's models are for text and graphs;
here is a ViT of ours, with offsets of two axes and no other position.
"""

PART = "position"

PRESETS = {
    "urpe_nano": {
        "doc": "Ours, for images of 32-64 pixels.",
        "modality": "image",
        "stem": "patch",
        "stem.patch": 8,
        "backbone": "isotropic",
        "backbone.dim": 64,
        "backbone.depth": 3,
        "backbone.position": None,
        "mixers": (
            {
                "name": "scored_attention",
                "axes": 2,
                "head_dim": 16,
                "scores": ({"name": "relative", "grid": (8, 8)}, {"name": "toeplitz", "grid": (8, 8)}),
            },
        ),
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 10,
    },
}
