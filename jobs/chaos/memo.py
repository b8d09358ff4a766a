"""Pure functions that remember their results, so that a schedule costs what its steps on the storage cost.

Only functions of content alone: bytes to table, samples to tar. Whatever touches the storage stays as it is.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa

from pipelines import parquet
from pipelines import seal as sealing
from pipelines.shards import index, manifest, pack
from pipelines.shards.pack import Built


class Memo:
    """Results by content, kept for as long as the memo. `folder` keeps the tars.

    `weather` is what sources look like now: what is built depends on it, too. `changed` puts them so.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.weather: Callable[[], Any] = lambda: None
        self.changed: Callable[[Any], None] = lambda weather: None
        self._tables: dict[Any, pa.Table] = {}
        self._rows: dict[int, list[Any]] = {}
        self._built: dict[Any, Built] = {}
        self._records: dict[bytes, dict[str, Any]] = {}
        self._bytes: dict[Any, bytes] = {}

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Put the remembering functions wherever pipelines.shards has imported the plain ones."""
        plain: dict[Callable[..., Any], Callable[..., Any]] = {
            _FROM: self._from_parquet,
            _UNSEAL: self._unseal,
            _ROWS: self._rows_of,
            _BUILD: self._build_unit,
            _LIST: self._shard_list,
        }
        with ExitStack() as stack:
            for name, module in list(sys.modules.items()):
                if name.startswith("pipelines.shards."):
                    for attribute, value in list(vars(module).items()):
                        if callable(value) and value in plain:
                            stack.enter_context(mock.patch.object(module, attribute, plain[value]))
            yield

    def _from_parquet(self, content: bytes, columns: list[str] | None = None) -> pa.Table:
        key = (content, tuple(columns or ()))
        if key not in self._tables:
            self._tables[key] = _FROM(content, columns)
        return self._tables[key]

    def _unseal(self, content: bytes) -> dict[str, Any]:
        if content not in self._records:
            self._records[content] = _UNSEAL(content)
        return dict(self._records[content])

    def _rows_of(self, table: pa.Table) -> list[Any]:
        if id(table) not in self._rows:  # a table of ours is never freed, so its id stays its own
            self._tables[id(table)] = table
            self._rows[id(table)] = _ROWS(table)
        return self._rows[id(table)]

    def _build_unit(
        self, rows: list[dict[str, Any]], head: Mapping[str, Any], folder: Path, *, as_listed: bool = True
    ) -> Built:
        weather = self.weather()
        key = (*((row["key"], row["entry"], row["content"]) for row in rows), as_listed, weather)
        if key not in self._built:
            self.changed(weather)
            built = _BUILD(rows, head, folder, as_listed=as_listed)
            kept = self.folder / f"{len(self._built)}.tar"
            kept.write_bytes(built.tar.read_bytes())
            self._built[key] = replace(built, tar=_Kept(kept))
        return self._built[key]

    def _shard_list(self, snapshot: manifest.Manifest) -> bytes:
        return self._remembered(snapshot.digest, _LIST, snapshot)

    def _remembered(self, key: Any, function: Callable[[Any], bytes], value: Any) -> bytes:
        if key not in self._bytes:
            self._bytes[key] = function(value)
        return self._bytes[key]


class _Kept(type(Path())):  # type: ignore[misc]
    """A file that is read once."""

    def read_bytes(self) -> bytes:
        if not hasattr(self, "_content"):
            self._content: bytes = super().read_bytes()
        return self._content


_FROM, _ROWS, _BUILD = parquet.from_parquet, index.rows_of, pack.build_unit
_UNSEAL = sealing.unseal
_LIST = manifest.shard_list
