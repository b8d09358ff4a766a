"""Stable, Fast and Accurate: Kernelized Attention with Relative Positional Encoding.

Paper: Luo et al., 2021, arXiv:2106.12566 (NPRF with RPE). The paper's image models are DeiTs whose
attention it replaces, in one dimension for text and two for images; it prints no parameters for them, so
here is a ViT of ours, with offsets of two axes and no other position.
"""

PART = "token_mixer"

PRESETS = {
    "kernel_rpe_fft_nano": {
        "doc": "Ours, for images of 32-64 pixels.",
        "modality": "image",
        "stem": "patch",
        "stem.patch": 8,
        "backbone": "isotropic",
        "backbone.dim": 48,
        "backbone.depth": 3,
        "backbone.position": None,
        "mixers": ({"name": "kernel_rpe", "axes": 2, "grid": (8, 8), "head_dim": 16, "features": 16},),
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 10,
    },
}
