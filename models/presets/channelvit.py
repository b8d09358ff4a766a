"""Channel Vision Transformers: An Image Is Worth C x 16 x 16 Words.

Paper: Bao et al., 2023, arXiv:2309.16108. One map of a patch for all channels, a learned vector for each
channel and each place, joint attention of all tokens, a class token; in training a random number of
channels, drawn at random, for each batch. The code scales the table of places by 14.1 / 14 when there is
more than one channel; here it is taken as it is.
"""

PART = "tokenizer"

NORM = {"name": "layer", "eps": 1e-6}

PRESETS = {
    "channelvit_small": {
        "doc": "ChannelViT-S/16 on 8 channels (JUMP-CP), named 0-7; parameters counted in the paper's code.",
        "millions": 21.534,
        "modality": "hyperspectral",
        "stem": "spectral",
        "stem.bands": 1,
        "stem.patch": 16,
        "stem.sample": True,
        "backbone": "isotropic",
        "backbone.dim": 384,
        "backbone.depth": 12,
        "backbone.position": {"name": "channel", "centres": tuple(map(float, range(8)))},
        "backbone.class_token": "first",
        "backbone.norm": NORM,
        "block.norm": NORM,
        "mixers": ({"name": "attention", "head_dim": 64},),
        "head": "classification",
        "head.source": "class",
        "in_chans": 1,
        "num_outputs": 161,
        "init_std": 0.02,
    },
    "channelvit_nano": {
        "base": "channelvit_small",
        "doc": "Ours, for cubes of about 16 x 16 pixels: vectors for every 100 nm from 400 to 2500.",
        "stem.patch": 8,
        "backbone.dim": 48,
        "backbone.depth": 3,
        "backbone.position": {
            "name": "channel",
            "centres": tuple(map(float, range(400, 2501, 100))),
            "grid": (2, 2),
        },
        "mixers": ({"name": "attention", "head_dim": 12},),
        "num_outputs": 10,
    },
}
