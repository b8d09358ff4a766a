"""Tasks whose workers die: given again as often as it takes, within bounds, and never lost or doubled."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.graphs import tasks

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "PAUSE_S", 0.01)


def deadly(folder: Path, deaths: dict[int, int]) -> Callable[[int], tuple[int, bytes]]:
    """Ends its process so many times for some items, each time before it answers."""
    place = str(folder)

    def work(item: int) -> tuple[int, bytes]:
        path = Path(place, str(item))
        before = path.stat().st_size if path.exists() else 0
        with path.open("ab") as file:
            file.write(b".")
        if before < deaths.get(item, 0):
            os._exit(1)
        return item, bytes(200_000)  # lies in the object store, not in the message

    return work


def each(work: Callable[[int], Any], units: int) -> list[Any]:
    return list(tasks.each(work, units, "pack"))


def test_every_unit_is_answered_once_whoever_dies_over_it(tmp_path: Path) -> None:
    answers = each(deadly(tmp_path, {0: 1, 3: tasks.LIVES - 1, 9: 2}), 10)
    assert sorted(item for item, _ in answers) == list(range(10))
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == {
        str(i): {0: 2, 3: tasks.LIVES, 9: 3}.get(i, 1) for i in range(10)
    }


def test_spread_keeps_the_order_of_what_it_is_given(tmp_path: Path) -> None:
    answers = tasks.spread(deadly(tmp_path, {0: 2, 5: 1}), range(12))
    assert [item for item, _ in answers] == list(range(12))


def test_a_task_that_ends_every_worker_is_given_up_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(tasks.WorkersLost, match=rf"^pack: {tasks.LIVES} workers died over the same task"):
        each(deadly(tmp_path, {2: 1000}), 4)
    assert (tmp_path / "2").stat().st_size == tasks.LIVES


def test_what_a_task_raises_is_not_tried_again(tmp_path: Path) -> None:
    place = str(tmp_path)

    def refuse(item: int) -> None:
        Path(place, f"{item}-{os.urandom(4).hex()}").touch()
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"):
        each(refuse, 1)
    assert len(list(tmp_path.iterdir())) == 1
