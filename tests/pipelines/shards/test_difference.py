"""What changed between two snapshots; what a repair can do without its sources."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs import storage as commands
from jobs.chaos.small import SETTINGS
from jobs.cli import main
from pipelines.shards.check import find_problems
from pipelines.shards.dataset import Dataset
from pipelines.shards.difference import Difference, difference, open_snapshot
from pipelines.shards.repair import repair
from pipelines.shards.storage import LocalStorage
from pipelines.shards.tar import BLOCK


def test_snapshots_are_compared_sample_by_sample(damaged: Path) -> None:
    first, second = open_snapshot(f"{damaged}@0"), open_snapshot(str(damaged))
    added = {row.key for _, row in second} - {row.key for _, row in first}
    assert [d.key for d in difference(first, second)] == sorted(added)
    assert {d.what for d in difference(first, second)} == {"added"}
    assert {d.what for d in difference(second, first)} == {"removed"}
    assert list(difference(second, second)) == []
    assert Difference("added", "x") != Difference("removed", "x")


def test_the_command_says_so_by_its_exit_code(damaged: Path, capsys: Any) -> None:
    assert commands.diff(f"{damaged}@0", str(damaged), as_json=True) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {line["what"] for line in lines} == {"added"}
    assert commands.diff(str(damaged), str(damaged)) == 0
    assert "the same data" in capsys.readouterr().err


def test_headers_and_padding_are_repaired_without_the_sources(
    damaged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipelines.shards import repair as module

    monkeypatch.setattr(module, "build_unit", lambda *_: pytest.fail("nothing of a source is needed"))
    storage, dataset = LocalStorage(damaged), Dataset.open(str(damaged))
    [shard, *_] = dataset.manifest.shards
    path = damaged / shard.key
    content = bytearray(path.read_bytes())
    content[:BLOCK] = bytes(BLOCK)
    path.write_bytes(content)
    done = repair(storage, settings_of=lambda _: SETTINGS)
    assert (done.objects, done.left) == ([shard.key], [])


def test_what_cannot_be_proved_is_left_and_named(damaged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sources are gone: the shard is not replaced by what can still be built."""
    from pipelines.shards import pack

    def gone(*_: object, **__: object) -> None:
        raise FileNotFoundError("the source")

    monkeypatch.setattr(pack, "open_entry", gone)
    storage, dataset = LocalStorage(damaged), Dataset.open(str(damaged))
    [shard, *_] = dataset.manifest.shards
    (damaged / shard.key).write_bytes(b"stump")
    marks = [key for key in storage.list("runs/") if "/done/" in key]
    (damaged / marks[0]).unlink()
    done = repair(storage, settings_of=lambda _: SETTINGS)
    assert {problem.key for problem in done.left} >= {shard.key, marks[0]}
    assert (damaged / shard.key).read_bytes() == b"stump"
    assert done.objects == []


def test_check_reports_a_damaged_manifest_as_a_problem(damaged: Path, capsys: Any) -> None:
    path = damaged / "manifest/000001.json"
    whole = path.read_bytes()
    for content in (b"{}", b"", b"[1]", b"\xff\xfe", whole[:-9], whole.replace(b'"', b"'")):
        path.write_bytes(content)
        with pytest.raises(SystemExit) as caught:
            main(["check", str(damaged), "--json", "--sample", "10%"])
        assert caught.value.code == 1
        report = json.loads(capsys.readouterr().out)
        assert not report["ok"]
        assert report["problems"][0].startswith("manifest/000001.json: ")


def test_the_books_are_compared_with_the_shards(damaged: Path) -> None:
    from pipelines.seal import seal, unseal

    path = damaged / "manifest/000001.json"
    head = unseal(path.read_bytes())
    head["books"] = {**head["books"], "quarantined": head["books"]["quarantined"] - 1}
    path.write_bytes(seal(head))
    assert find_problems(LocalStorage(damaged))[0]
