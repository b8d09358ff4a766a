"""Agent Attention: On the Integration of Softmax and Linear Attention.

Paper: Han et al., 2023, arXiv:2312.08874. Sizes: appendix, on Swin: agents look at the whole raster in
three stages, the last has Swin's windows, as in its code.
"""

PART = "token_mixer"

PRESETS = {
    "agent_swin_tiny": {
        "base": "swin_tiny",
        "doc": "Agent-Swin-T; parameters counted in the paper's code.",
        "millions": 28.903,
        "mixers": (
            ({"name": "agent", "agents": 9, "grid": (56, 56)},),
            ({"name": "agent", "agents": 16, "grid": (28, 28)},),
            ({"name": "agent", "agents": 49, "grid": (14, 14)},),
            ({"name": "window", "window": 7},),
        ),
    },
    "agent_swin_small": {
        "base": "agent_swin_tiny",
        "doc": "Agent-Swin-S; counted likewise.",
        "millions": 51.329,
        "backbone.depths": (2, 2, 18, 2),
        "backbone.drop_path": 0.3,
    },
    "agent_nano": {
        "base": "swin_nano",
        "doc": "Ours, for small images.",
        "mixers": (
            ({"name": "agent", "agents": 9, "grid": (8, 8), "head_dim": 24},),
            ({"name": "agent", "agents": 9, "grid": (4, 4), "head_dim": 24},),
            ({"name": "window", "window": 6, "head_dim": 24},),
        ),
    },
}
