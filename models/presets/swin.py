"""Swin Transformer: Liu et al., 2021, arXiv:2103.14030, table 7 and appendix A1."""

PRESETS = {
    "swin_tiny": {
        "doc": "Swin-T, 28.29 M. Windows see padding, as in the paper's code.",
        "modality": "image",
        "stem": "patch",
        "stem.patch": 4,
        "stem.norm": True,
        "backbone": "pyramid",
        "backbone.dims": (96, 192, 384, 768),
        "backbone.depths": (2, 2, 6, 2),
        "backbone.drop_path": 0.2,
        "mixers": (
            {"name": "window", "window": 7, "hide_padding": False},
            {"name": "window", "window": 7, "hide_padding": False, "shifted": True},
        ),
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 1000,
        "init_std": 0.02,
    },
    "swin_small": {
        "base": "swin_tiny",
        "doc": "Swin-S, 49.61 M.",
        "backbone.depths": (2, 2, 18, 2),
        "backbone.drop_path": 0.3,
    },
    "swin_base": {
        "base": "swin_small",
        "doc": "Swin-B, 87.77 M.",
        "backbone.dims": (128, 256, 512, 1024),
        "backbone.drop_path": 0.5,
    },
}
