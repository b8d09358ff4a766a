"""The checker itself finds out what it is there for; who fails here says how to see it again."""

import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from jobs.chaos.invariants import Truth, swept, violations, watched
from jobs.chaos.small import Work, build
from pipelines.shards.manifest import Books, head_key, head_of, listing_key, load, shard_list
from pipelines.shards.storage import LocalStorage

FATES = ("quarantined", "duplicates", "filtered")


def test_a_reader_sees_half_a_snapshot_that_was_there_for_a_moment(
    work: Work, truth: Truth, tmp_path: Path
) -> None:
    storage = LocalStorage(tmp_path)
    with watched(storage) as seen:
        build(storage, work, random.Random(0))
        time.sleep(0.2)
        assert seen == []
        shard = load(storage).shards[0].key
        content = storage.get(shard)
        storage.delete(shard)
        deadline = time.monotonic() + 60
        while not seen and time.monotonic() < deadline:
            time.sleep(0.01)
        storage.create(shard, content)
    assert [text for text in seen if text.startswith("I4") and shard in text]
    assert swept(storage, truth) == []  # mended: whoever looks only now finds nothing


def test_what_gc_should_have_removed_is_found_out(work: Work, truth: Truth, tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    build(storage, work, random.Random(0))
    loose = f"shards/{'0' * 64}.tar"
    storage.create(loose, b"of nobody")
    storage.create("runs/dead/plan.json", b"of a run that died")
    storage.begin_upload("shards/half.tar", b"half")
    left = swept(storage, truth, older_than_s=3600)  # too young for this gc
    for what in ("upload", "runs/dead/plan.json", loose, "in .staging"):
        assert [text for text in left if text.startswith("I6") and what in text]
    assert swept(storage, truth) == []


@pytest.mark.parametrize(("taken", "given"), [*permutations(FATES, 2)])
def test_books_that_put_an_input_where_it_is_not_are_found_out(
    work: Work, truth: Truth, tmp_path: Path, taken: str, given: str
) -> None:
    build(storage := LocalStorage(tmp_path), work, random.Random(0))
    manifest = load(storage)
    wrong = manifest.books + Books(**{given: 1}) - Books(**{taken: 1})
    assert wrong.closed
    changed = replace(manifest, books=wrong)
    storage.replace(listing_key(changed), shard_list(changed))
    storage.replace(head_key(manifest.number), head_of(changed))
    assert [text for text in violations(storage, truth) if text.startswith("I1 the books do not close")]


def test_whoever_fails_says_how_to_see_it_again(tmp_path: Path) -> None:
    """By the tests' own conftest.py, beside a test that fails."""
    (tmp_path / "conftest.py").write_text(Path(__file__).with_name("conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(
        "import pytest\n@pytest.mark.parametrize('seed', [7])\ndef test_it(seed): assert seed == 8\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_it.py"],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "RAYLOOM_CHAOS=1 python -m pytest 'test_it.py::test_it[7]'" in done.stdout
