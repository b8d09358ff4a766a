"""What a worker asks its sandbox at one time, and what has become of it so far."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from modalities.base import BadSample, Modality
from pipelines.stages._landlock import home
from pipelines.stages.process import Found, Look, Stage


class Batch:
    """Looks to be examined or built, all in the same way. `outcomes` are those of the first of them."""

    def __init__(
        self, do: str, looks: Sequence[Look], modality: Modality, stages: Sequence[Stage],
        given: Mapping[str, Any],
    ) -> None:  # fmt: skip
        self.looks = looks
        self.modality = modality.name
        self.outcomes: list[Found | BadSample] = []
        self.first = 0  # the number under which the first look was sent, or would have been
        self._way = {"do": do, "modality": modality.name, "stages": list(stages), "given": given}

    @property
    def left(self) -> int:
        """How many have no outcome."""
        return len(self.looks) - len(self.outcomes)

    @cached_property
    def folders(self) -> frozenset[str]:
        """Those of the local files it names; a file that lies where everything does stands for itself."""
        paths = [
            data.resolve() for look in self.looks for data in _parts(look).values() if isinstance(data, Path)
        ]
        return frozenset(str(path if home().is_relative_to(path.parent) else path.parent) for path in paths)

    def request(self, number: int) -> tuple[dict[str, Any], list[bytes]]:
        """What to send for those that are left, the first under `number`: JSON-able facts, bytes in order."""
        self.first = number - len(self.outcomes)
        facts, blobs = [], []
        for look in self.looks[len(self.outcomes) :]:
            parts = _parts(look)
            paths = {name: str(data.resolve()) for name, data in parts.items() if isinstance(data, Path)}
            facts.append(
                [
                    look.raw.name,
                    look.label,
                    look.caption,
                    paths,
                    list(look.raw.companions),
                    list(look.sidecars),
                ]
            )
            blobs += [b"" if isinstance(data, Path) else data for data in parts.values()]
            blobs += look.sidecars.values()
        return {**self._way, "number": number, "looks": facts}, blobs


def _parts(look: Look) -> dict[str, bytes | Path]:
    raw = look.raw
    return {"": raw.content, **{f"beside/{name}": data for name, data in raw.companions.items()}}
