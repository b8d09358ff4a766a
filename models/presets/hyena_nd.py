"""Multi-Dimensional Hyena for Spatial Inductive Bias.

Paper: Zimerman and Wolf, 2023, arXiv:2309.13600. It puts its layer in place of attention in ViTs whose sizes
it takes from others and does not count; here is a ViT of ours, with Hyena first and attention in the last
block, the paper's hybrid.
"""

PART = "token_mixer"

PRESETS = {
    "hyena_nd_nano": {
        "doc": "Ours, for images of 32-64 pixels: three Hyena blocks, then one that attends.",
        "modality": "image",
        "stem": "patch",
        "stem.patch": 4,
        "backbone": "isotropic",
        "backbone.dim": 64,
        "backbone.depth": 4,
        "mixers": (
            (
                {"name": "hyena_nd", "extent": 16},
                {"name": "hyena_nd", "extent": 16},
                {"name": "hyena_nd", "extent": 16},
                {"name": "attention", "head_dim": 16},
            ),
        ),
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 10,
    },
}
