"""A table of URIs."""

from collections.abc import Iterator
from modalities.base import Modality
from pipelines.sources.entry import Entry
from pipelines.sources.stores import Node, Store


def is_table(store: Store, node: Node, modality: Modality, uri_column: str) -> bool:
    return False


def list_table(source: object, store: Store, node: Node) -> Iterator[Entry]:
    raise NotImplementedError
