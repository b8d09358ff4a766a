"""Thousands of crashes and races in a simulated world; stores and code that are broken are found out."""

import logging
from collections.abc import Iterator

import pytest

from jobs.chaos import invariants
from jobs.chaos.simulation import COMMAND, Simulator, play
from pipelines.shards import closing, manifest, pack, quarantine
from pipelines.shards.retry import RetryingStorage
from pipelines.shards.storage import Storage

SCHEDULES = 10_000


@pytest.fixture(scope="module")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYLOOM_SANDBOX", "0")
        level = (log := logging.getLogger("rayloom")).level
        yield Simulator(tmp_path_factory.mktemp("world"))
        log.setLevel(level)  # the simulator keeps it quiet


def told(failures: dict[int, list[str]]) -> str:
    return "\n".join(f"{found[0]}\n    again: {COMMAND} {seed}" for seed, found in failures.items())


@pytest.mark.timeout(900)
def test_no_schedule_loses_doubles_or_tears_anything(simulator: Simulator) -> None:
    failures = play(simulator, range(SCHEDULES))
    assert not failures, told(failures)


def test_every_step_of_an_undisturbed_builder_is_a_place_to_die(simulator: Simulator) -> None:
    kinds = [kind for kind, _ in simulator.points]
    for kind, name in (("one", "all"), ("plain", "plain")):
        assert kinds.count(kind) > 60
        first = kinds.index(kind)
        for seed in (first, first + 9, first + kinds.count(kind) - 1):
            found, world = simulator.run(seed)
            assert not found
            assert {who for who, _, _ in world.history} >= {f"{name}0.0"}


def test_files_of_workers_whose_mark_came_second_are_found_out_where_they_count(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker saw a file, the other what it became; who believes both has more than the books say."""

    def everything(storage: Storage, plan: str) -> Iterator[str]:
        return storage.list(f"quarantine/{plan}/")

    monkeypatch.setattr(quarantine, "dropped_keys", everything)
    monkeypatch.setattr(invariants, "dropped_keys", everything)
    assert any("by its books" in text for f in play(simulator, range(1700, 2400)).values() for text in f)


def test_a_seed_is_a_schedule(simulator: Simulator) -> None:
    for seed in (5, 1234, 4321):
        histories = []
        for _ in range(2):
            world = simulator.run(seed)[1]
            histories.append([(who, what, key.split("/")[0]) for who, what, key in world.history])
        assert histories[0] == histories[1]


@pytest.mark.parametrize("broken", ["overwrites", "partial"])
def test_a_store_that_breaks_its_promise_is_found_out(simulator: Simulator, broken: str) -> None:
    assert play(simulator, range(1000, 1200), broken)


def test_marks_before_shards_are_found_out(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the last look before the commit, a worker that marks first and dies costs a shard."""
    monkeypatch.setattr(closing, "_still_there", lambda *_: None)
    monkeypatch.setattr(pack, "_store", lambda *_: None)
    assert any("I4" in found[0] for found in play(simulator, range(20)).values())


def test_a_lost_answer_that_is_not_asked_after_is_found_out(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A builder that takes its own snapshot, whose answer got lost, for somebody else's, gives up."""

    def never(storage: Storage, snapshot: manifest.Manifest) -> None:
        if not storage.put(manifest.head_key(snapshot.number), manifest.head_of(snapshot)):
            raise AssertionError("its own snapshot was taken for another's")

    monkeypatch.setattr(closing, "commit", never)
    monkeypatch.setattr(RetryingStorage, "_holds", lambda *_: False)
    assert play(simulator, range(200, 800))


def test_books_that_do_not_close_end_the_run(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit loses one sample on the way, and says nothing."""
    plain = pack.build_unit
    monkeypatch.setattr(pack, "build_unit", lambda rows, head, folder: plain(rows[1:], head, folder))
    failures = play(simulator, range(3))
    assert all("do not close" in found[0] or "nobody finished" in found[0] for found in failures.values())
    assert len(failures) == 3
