"""Slide-Transformer: Hierarchical Vision Transformer with Local Self-Attention.

Paper: Pan et al., 2023, arXiv:2304.04237. Sizes: table 9, on Swin: slide attention in the first two stages,
in the others windows as large as the raster of a 224 pixel image, as in its code.
"""

PART = "token_mixer"

SLIDE = {"name": "slide", "kernel": 3}

PRESETS = {
    "slide_swin_tiny": {
        "base": "swin_tiny",
        "doc": "Slide-Swin-T; parameters counted in the paper's code, without its frozen kernels.",
        "millions": 28.338,
        "mixers": (
            (SLIDE,),
            (SLIDE,),
            ({"name": "window", "window": 14},),
            ({"name": "window", "window": 7},),
        ),
    },
    "slide_attn_nano": {
        "base": "swin_nano",
        "doc": "Ours, for small images.",
        "mixers": (
            ({"name": "slide", "head_dim": 24},),
            ({"name": "slide", "head_dim": 24},),
            ({"name": "window", "window": 6, "head_dim": 24},),
        ),
    },
}
