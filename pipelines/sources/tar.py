"""A tar."""

from collections.abc import Iterator
from modalities.base import Modality
from pipelines.sources.entry import Entry
from pipelines.sources.stores import Node, Store


def list_tar(store: Store, node: Node, modality: Modality, *, name: str) -> Iterator[Entry]:
    raise NotImplementedError
    yield
