"""Linear maps from the raw numbers of a sample or a place to the answer: what a network must beat.

Of no paper. With a segmentation head, whose decoder has a GELU, they are a perceptron of each place.
"""

PRESETS = {
    "linear_image_nano": {
        "doc": "All pixels of an image of `stem.patch` pixels a side, one linear map.",
        "modality": "image",
        "stem": "patch",
        "stem.patch": 48,
        "backbone": "isotropic",
        "backbone.dim": 64,
        "backbone.depth": 0,
        "backbone.position": None,
        "backbone.norm": None,
        "mixers": ({"name": None},),
        "head": "classification",
        "in_chans": 3,
        "num_outputs": 10,
    },
    "linear_video_nano": {
        "base": "linear_image_nano",
        "doc": "All pixels of `stem.frames` frames, one linear map; the mean of such runs of frames.",
        "modality": "video",
        "stem": "tubelet",
        "stem.frames": 1,
        "stem.patch": 32,
    },
    "linear_light_nano": {
        "base": "linear_video_nano",
        "doc": "All pixels of a frame to its light direction, one linear map.",
        "modality": "lighting",
        "head": "regression",
        "head.per_frame": True,
        "head.unit": True,
        "num_outputs": 3,
    },
    "linear_points_nano": {
        "base": "linear_image_nano",
        "doc": "The features of a point by itself, one linear map.",
        "modality": "pointcloud",
        "stem": "point",
        "in_chans": 3,
    },
    "linear_spectral_nano": {
        "base": "linear_image_nano",
        "doc": "The whole spectrum of a pixel, one linear map; `stem.bands` is its number of bands.",
        "modality": "hyperspectral",
        "stem": "spectral",
        "stem.bands": 198,
        "stem.patch": 1,
        "in_chans": 1,
    },
}
