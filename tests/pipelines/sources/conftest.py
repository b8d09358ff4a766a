"""Sources as jobs describe them, and modalities that only know names."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from modalities.base import Modality
from pipelines.sources import Entry, list_source

Lister = Callable[..., list[Entry]]
Stream = Callable[..., Iterator[Entry]]


def _unused(*_: Any, **__: Any) -> Any:
    raise AssertionError("listing must not look into files")


def named(name: str, *patterns: str, companions: dict[str, tuple[str, ...]] | None = None) -> Modality:
    works = ("probe", "pack", "decode", "encode", "quality", "fingerprint", "preview", "synth", "prepare")
    unused = dict.fromkeys(works, _unused)
    return Modality(name=name, axes={}, patterns=patterns, companions=companions or {}, **unused)


MODALITIES = {
    "image": named("image", "*.jpg", "*.jpeg", "*.png"),
    "video": named("video", "*.mp4", "*.mkv", "*.mov", "*.avi"),
    "pointcloud": named("pointcloud", "*.bin", "*.pcd.bin", "*.las", "*.laz", "*.copc.laz", "*.csv", "*.txt"),
    "hyperspectral": named(
        "hyperspectral",
        *("*.hdr", "*.tif", "*.mat", "*.zarr/", "*.npy"),
        companions={"*.hdr": ("{stem}", "{stem}.img", "{stem}.dat"), "*.npy": ("{stem}.wl/*.csv",)},
    ),
    "lighting": named("lighting", "lights.npy", "*.mp4", companions={"lights.npy": ("*",)}),
    "pairs": named("pairs", "*.a", "*.b", companions={"*.a": ("{stem}.b",)}),
}


@pytest.fixture
def stream() -> Stream:
    """stream(uri, "image", labels="none") -> entries, as they are found."""

    def stream(uri: str | Path | None, modality: str | Modality = "image", **options: Any) -> Iterator[Entry]:
        said = {"synth": None, "labels": "auto", "glob": None}
        columns = {"uri_column": "uri", "label_column": "label", "caption_column": "caption"}
        uri = None if uri is None else str(uri)
        source = SimpleNamespace(**{"uri": uri, **said, **columns, **options})
        return list_source(source, MODALITIES[modality] if isinstance(modality, str) else modality)

    return stream


@pytest.fixture
def listing(stream: Stream) -> Lister:
    """The same, all at once."""
    return lambda *args, **options: list(stream(*args, **options))


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """tree("a.jpg", "b/c.jpg") -> a folder with these files; the content of each is its own name."""

    def tree(*names: str) -> Path:
        root = tmp_path / "source"
        root.mkdir(exist_ok=True)
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(name.encode())
        return root

    return tree
