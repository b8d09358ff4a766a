import pytest

from models.mixers.retention import Retention

SMALL = [
    {"head_dim": 8},
    {"head_dim": 8, "form": "chunkwise", "chunk": 7},
    {"head_dim": 8, "form": "recurrent", "gate": False},
]


def test_rejects_an_unknown_form() -> None:
    with pytest.raises(ValueError, match="form of retention must be one of"):
        Retention(32, form="serial")
