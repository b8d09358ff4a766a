"""What a hostile sample can do to the worker and to its neighbours: nothing."""

import os
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest

import modalities
from modalities.base import BadSample, Modality, Raw
from pipelines.stages import _answer, process
from pipelines.stages._confine import MAX_FILE_BYTES, MAX_FILES
from pipelines.stages._frames import Garbled, frame, read_frame
from pipelines.stages.process import Look, Sample
from pipelines.stages.sandbox import Sandbox

POISON = '''
"""A modality whose files say what its decoder does."""
import ctypes, mmap, os, signal, socket, subprocess, sys, time
from modalities.base import BadSample, Modality
import numpy as np

def crash(): ctypes.string_at(0)
def leave(): os._exit(0)
def exit(): sys.exit(3)
def hang():
    while True: pass
def swallow(gib="6"): np.ones(int(float(gib) * 2**30), np.uint8)
kept = []
def hoard(gib): kept.append(np.ones(int(float(gib) * 2**30), np.uint8))
def modest(gib):
    try: swallow(gib)
    except MemoryError: raise BadSample("corrupt", "as a library says that could not allocate")
def share(): mmap.mmap(-1, 6 * 2**30)
def talk():
    os.write(1, b"x" * 100_000); os.write(2, b"y" * 100_000)
def fault(): raise KeyError("no such thing")
def refuse(): raise BadSample("corrupt", "not what it says")
def killed(): os.kill(os.getpid(), signal.SIGKILL)
def answer():
    for fd in range(3, 4096):
        try: os.write(fd, bytes(12) + b"{}" * 500)
        except OSError: pass
def forge():
    from pipelines.stages._frames import frame
    for fd in range(3, 4096):
        try: os.write(fd, frame({"number": -1, "bad": ["corrupt", "forged"]})[0])
        except OSError: pass
def exhaust():
    while True: kept.append(os.open("/dev/null", os.O_RDONLY))
def open_all():
    mine = []
    try:
        while True: mine.append(open("/dev/null"))
    except OSError: raise BadSample("told", str(len(mine)))
def crowd():
    try: exhaust()
    except OSError: os.closerange(kept[-4], kept[-1] + 1)
def cramped(library):
    from modalities.libraries import load
    from pipelines.stages import _confine
    _confine.limit_address_space(_confine.address_space_bytes() + 4 * 2**20)
    load(library)
def scratch():
    import tempfile
    with tempfile.TemporaryFile() as file: file.write(b"x")
def write(size):
    import tempfile
    with open(tempfile.mkdtemp() + "/long", "wb") as file:
        file.seek(int(size) - 1)
        file.write(b"x")
def lack(library):
    from modalities.libraries import MissingLibrary
    raise MissingLibrary("as a file might say that runs code here", name=library)
hurt = []
def weaken(): hurt.append(1)
def brittle():
    if hurt: crash()
def linger():
    if os.fork() == 0: time.sleep(600)
def run(): subprocess.run(["/bin/true"])
def strike(): os.kill(os.getppid(), signal.SIGKILL)
def environ():
    raise BadSample("told", repr(sorted(os.environ)))
def parent_environ():
    raise BadSample("told", repr(open(f"/proc/{os.getppid()}/environ", "rb").read()))
def call(port): socket.create_connection(("127.0.0.1", int(port)), 2)
def litter():
    import tempfile
    raise BadSample("told", tempfile.mkdtemp())
def peek(path): raise BadSample("told", open(path).read())
def where(): raise BadSample("told", __import__("modalities").__file__)
def ends(): return [int(end) for end in sys.argv[1].split(",")]
def mute(): os.close(ends()[1])
def flood():
    for _ in range(40): os.write(ends()[1], b"x" * 10_000)
def scribble(): os.pwrite(ends()[2], b"hang " * 100, 0)
def reopen(): os.pwrite(os.open(f"/proc/self/fd/{ends()[2]}", os.O_RDWR), b"hang " * 100, 0)
def map(): mmap.mmap(ends()[2], 0)
def truncate(): os.ftruncate(ends()[2], 0)
def nap(seconds="0.01"): time.sleep(float(seconds))
def fine(*_): pass

def probe(raw):
    return {"size": raw.size, "much": "x" * 10**6 * raw.name.startswith("much")}
def decode(files):
    word, *arguments = files["poison"].decode().split()
    globals()[word](*arguments)
    return {"data": np.frombuffer(files["poison"], np.uint8)}
def quality(arrays):
    return {"mean": float(arrays["data"].mean()), "nan": float("nan")}

MODALITY = Modality(
    name="poison", axes={"data": "n"}, patterns=("*.poison",), probe=probe, decode=decode, quality=quality,
    pack=lambda raw, meta: {"poison": raw.read()}, encode=lambda arrays: {"poison": arrays["data"].tobytes()},
    fingerprint=lambda arrays: 2**64 - 1, preview=lambda arrays: {}, synth=lambda seed: {},
    prepare=lambda arrays, **_: arrays,
)
'''


@pytest.fixture(scope="module")
def poison(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Modality]:
    """The modality, importable here and, because the child gets our path, there."""
    folder = tmp_path_factory.mktemp("poison")
    folder.joinpath("rayloom_poison.py").write_text(POISON)
    sys.path.insert(0, str(folder))
    import rayloom_poison  # type: ignore[import-not-found]

    yield rayloom_poison.MODALITY
    sys.path.remove(str(folder))


@pytest.fixture
def examine(poison: Modality) -> Iterator[Callable[..., list[Any]]]:
    """Examine files of these words, and say for each "ok" or the refusal."""
    with Sandbox(module="rayloom_poison", timeout_s=60) as sandbox:

        def run(*words: str, timeout_s: float = 60) -> list[Any]:
            sandbox.timeout_s = timeout_s
            looks = [
                Look(raw=Raw(name=f"{i}.poison", content=w.encode()), sidecars={})
                for i, w in enumerate(words)
            ]
            outcomes = sandbox.examine(looks, poison, [])
            return [out if isinstance(out, BadSample) else "ok" for out in outcomes]

        run.sandbox = sandbox  # type: ignore[attr-defined]
        yield run


@pytest.mark.parametrize(
    ("word", "reason", "detail"),
    [
        ("crash", "crashed", "SIGSEGV"),
        ("leave", "crashed", "exit code 0"),
        ("exit", "crashed", "SystemExit: 3"),
        ("swallow", "out-of-memory", "6.00 GiB"),
        ("share", "out-of-memory", "mmap.mmap"),
        ("killed", "out-of-memory", "SIGKILL"),
        ("fault", "crashed", "no such thing"),
        ("refuse", "corrupt", "not what it says"),
        ("linger", "crashed", "Operation not permitted"),
        ("run", "crashed", "not permitted"),
        ("strike", "crashed", "not permitted"),
        ("forge", "crashed", "another request"),
        ("answer", "crashed", "wrong answer"),
        ("exhaust", "crashed", "Too many open files"),
        (f"write {MAX_FILE_BYTES + 1}", "crashed", "File too large"),
        ("lack h5py", "crashed", "as a file might say"),
        ("lack nothing", "crashed", "as a file might say"),
    ],
)
def test_a_poison_costs_itself_and_no_neighbour(
    examine: Callable[..., list[Any]], word: str, reason: str, detail: str
) -> None:
    before, bad, *after = examine("fine", word, "fine", "talk", "fine")
    assert [before, *after] == ["ok"] * 4
    assert bad.reason == reason
    assert detail in bad.detail


def test_descriptors_and_bytes_of_a_file_are_counted(examine: Callable[..., list[Any]]) -> None:
    told, allowed = examine("open_all", f"write {MAX_FILE_BYTES}")  # it seeks: nothing fills the disk
    assert MAX_FILES - 32 < int(told.detail) < MAX_FILES
    assert allowed == "ok"


@pytest.mark.parametrize("word", ["exhaust", "crowd"])
def test_descriptors_that_a_sample_keeps_cost_no_neighbour(
    examine: Callable[..., list[Any]], word: str
) -> None:
    before, _, told, after = examine("scratch", word, "open_all", "scratch")
    assert (before, after) == ("ok", "ok")
    assert int(told.detail) > MAX_FILES - 32  # all that it may open


def test_a_library_that_a_sample_kept_from_loading_is_not_missing(examine: Callable[..., list[Any]]) -> None:
    assert examine("fine", "cramped rasterio", "fine") == ["ok"] * 3
    assert examine.sandbox.starts == 2  # type: ignore[attr-defined]  # the second was asked before any sample


def test_the_allowance_is_the_callers(poison: Modality) -> None:
    looks = [Look(raw=Raw(name="a.poison", content=b"swallow 1.5"), sidecars={})]
    for gib, reason in ((1, "out-of-memory"), (3, None)):
        with Sandbox(module="rayloom_poison", memory_bytes=gib * 2**30) as sandbox:
            [outcome] = sandbox.examine(looks, poison, [])
            assert getattr(outcome, "reason", None) == reason


def test_nobody_pays_for_what_the_sample_before_did_to_the_child(examine: Callable[..., list[Any]]) -> None:
    assert examine("weaken", "brittle", "fine") == ["ok"] * 3
    assert examine.sandbox.starts == 2  # type: ignore[attr-defined]


def test_a_crash_names_the_line_that_led_to_it(examine: Callable[..., list[Any]]) -> None:
    [bad] = examine("crash")
    assert "rayloom_poison.py" in bad.detail
    assert "in crash" in bad.detail


def test_a_hang_is_stopped_and_its_neighbours_get_all_their_time(examine: Callable[..., list[Any]]) -> None:
    examine("fine")
    before, bad, after = examine("fine", "hang", "fine", timeout_s=2)
    assert (before, after) == ("ok", "ok")
    assert (bad.reason, bad.detail) == ("timeout", "no result after 2 s; the decoder was stopped")


@pytest.mark.parametrize("word", ["mute", "flood"])
def test_the_bell_is_no_weapon(examine: Callable[..., list[Any]], word: str) -> None:
    for _ in range(2):
        assert examine("fine", word, "fine", "fine") == ["ok"] * 4


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="no shelf elsewhere")
@pytest.mark.parametrize("word", ["truncate", "scribble", "reopen", "map"])
def test_the_shelf_cannot_be_taken_away_nor_written_to(examine: Callable[..., list[Any]], word: str) -> None:
    [bad] = examine(word)
    assert "PermissionError" in bad.detail
    assert examine("fine") == ["ok"]


@pytest.mark.parametrize("size", [10, 8 * 2**20 - 4, 8 * 2**20 + 1, 20 * 2**20])
def test_requests_and_answers_of_any_size_come_whole(poison: Modality, size: int) -> None:
    look = Look(raw=Raw(name="a.poison", content=b"fine".ljust(size)), sidecars={"txt": b"t"})
    small = Look(raw=Raw(name="b.poison", content=b"fine"), sidecars={})
    given: dict[str, Any] = {"meta": {"size": size}, "spec": None, "suffix": ""}
    with Sandbox(module="rayloom_poison") as sandbox:
        assert sandbox.build(look, poison, [], **given) == process.build(look, poison, [], **given)
        found = sandbox.examine([small, look, small], poison, [])
        assert [sample.meta["size"] for [sample] in found] == [4, size, 4]  # type: ignore[union-attr,misc]


def looks_of(*words: str, name: str = "a") -> list[Look]:
    return [Look(raw=Raw(name=f"{name}.poison", content=word.encode()), sidecars={}) for word in words]


def reasons(outcomes: list[Any]) -> list[str]:
    return [out.reason if isinstance(out, BadSample) else "ok" for out in outcomes]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("crash", "crashed"), ("leave", "crashed"), ("fault", "crashed"), ("swallow", "out-of-memory"),
        ("killed", "out-of-memory"), ("forge", "crashed"), ("hang", "timeout"),
    ],
)  # fmt: skip
def test_a_poison_costs_itself_alone_with_two_batches_under_way(
    poison: Modality, word: str, reason: str
) -> None:
    with Sandbox(module="rayloom_poison", timeout_s=2 if word == "hang" else 60) as sandbox:
        batches = [["fine", word], [word, "fine"], [], ["fine"], ["fine", word, "fine"], ["fine"]]
        found = sandbox.stream((looks_of(*words) for words in batches), poison, [])
        assert [reasons(outcomes) for outcomes in found] == [
            [reason if said == word else "ok" for said in words] for words in batches
        ]


def test_the_next_batch_is_decoded_while_the_caller_works_and_no_further_one_is_held(
    poison: Modality,
) -> None:
    taken: list[int] = []

    def batches() -> Iterator[list[Look]]:
        for i in range(5):
            taken.append(i)
            yield looks_of("fine", "fine")

    under_way: list[int] = []

    class Watched(Sandbox):
        def _complete(self, batch: Any) -> None:
            under_way.append(len(self._under_way))
            super()._complete(batch)

    with Watched(module="rayloom_poison") as sandbox:
        for i, _ in enumerate(sandbox.stream(batches(), poison, [])):
            assert taken == list(range(min(i + 2, 5)))
            if i < 4:  # its answers come although nobody asks
                answered = select.poll()
                answered.register(sandbox._line._link, select.POLLIN)
                assert sandbox._line._inbox or answered.poll(20_000)
    assert under_way == [2, 2, 2, 2, 1]  # when answers were waited for, the child had more to do


def test_a_samples_clock_stands_while_those_before_it_are_decoded(poison: Modality) -> None:
    with Sandbox(module="rayloom_poison", timeout_s=2) as sandbox:
        sandbox.examine(looks_of("fine"), poison, [])
        found = sandbox.stream([looks_of("nap 1.1"), looks_of("nap 1.1", "fine")], poison, [])
        assert [reasons(outcomes) for outcomes in found] == [["ok"], ["ok", "ok"]]


def test_long_answers_and_long_requests_do_not_wait_for_each_other(poison: Modality) -> None:
    with Sandbox(module="rayloom_poison", timeout_s=60) as sandbox:
        long = "fine".ljust(5 * 2**20)
        batches = [looks_of("fine", "fine", name="much"), looks_of(long, long), looks_of("fine", name="much")]
        sizes = [
            [sample.meta["size"] for [sample] in found]  # type: ignore[union-attr,misc]
            for found in sandbox.stream(batches, poison, [])
        ]
        assert sizes == [[4, 4], [len(long)] * 2, [4]]
        assert sandbox.starts == 1


def test_other_work_may_come_between_and_a_stream_may_be_left(poison: Modality) -> None:
    given: dict[str, Any] = {"meta": {}, "spec": None, "suffix": ""}
    [look] = looks_of("fine")
    with Sandbox(module="rayloom_poison") as sandbox:
        streams = [sandbox.stream([looks_of("fine", "fault")] * 4, poison, []) for _ in range(2)]
        for outcomes in zip(*streams, strict=True):
            assert [reasons(told) for told in outcomes] == [["ok", "crashed"]] * 2
            assert sandbox.build(look, poison, [], **given).files == {"poison": b"fine"}  # type: ignore[union-attr]
        left = sandbox.stream([looks_of("fault"), looks_of("hang"), looks_of("hang")], poison, [])
        assert reasons(next(left)) == ["crashed"]
        left.close()
        assert sandbox.pid is None  # what nobody wants to know is not worked at
        assert reasons(sandbox.examine([look], poison, [])) == ["ok"]


@pytest.mark.parametrize(
    "batches", [[["hoard 0.6"], ["modest 0.7"], ["fine"]], [["hoard 0.6", "modest 0.7"]]]
)
def test_what_a_sample_left_in_memory_costs_the_child_and_no_sample(
    poison: Modality, batches: list[list[str]]
) -> None:
    with Sandbox(module="rayloom_poison", memory_bytes=2**30) as sandbox:
        found = sandbox.stream([looks_of(*words) for words in batches], poison, [])
        assert [reasons(outcomes) for outcomes in found] == [["ok"] * len(words) for words in batches]
        assert sandbox.starts == 2


def test_a_worker_is_not_woken_for_each_answer(examine: Callable[..., list[Any]]) -> None:
    examine("fine")

    def sleeps() -> int:
        return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw  # other threads sleep as they like

    before = sleeps()
    for _ in range(4):
        examine(*["nap"] * 16)
    assert sleeps() - before < 4 * 16 / 2


def test_one_child_serves_many_and_a_healthy_one_is_kept(examine: Callable[..., list[Any]]) -> None:
    for _ in range(3):
        assert examine("fine", "refuse", "fault", "talk")[0] == "ok"
    assert examine.sandbox.starts == 1  # type: ignore[attr-defined]


def test_credentials_stay_outside(examine: Callable[..., list[Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN", "HF_TOKEN", "GOOGLE_APPLICATION_CREDENTIALS"):
        monkeypatch.setenv(name, "canary-7351")
    [told] = examine("environ")
    names = set(eval(told.detail))
    assert "PATH" in names
    assert not {name for name in names if name.startswith(("AWS", "RAY", "HF", "GOOGLE"))}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc")
def test_the_workers_environment_cannot_be_read_from_proc(examine: Callable[..., list[Any]]) -> None:
    examine("fine")
    child = examine.sandbox._child.pid  # type: ignore[attr-defined]
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{child}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    mine = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line
    )
    shared = os.readlink(f"/proc/{child}/ns/user") == os.readlink("/proc/self/ns/user")
    if shared and int(mine["CapEff"], 16) == 0:
        pytest.skip("no capabilities to drop and no user namespaces here")
    [told] = examine("parent_environ")
    assert (told.reason, "Permission denied" in told.detail) == ("crashed", True)


def test_no_packet_leaves(examine: Callable[..., list[Any]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        [bad] = examine(f"call {server.getsockname()[1]}")
        assert bad.reason == "crashed"
        with pytest.raises(TimeoutError):
            server.accept()


def test_what_a_sample_leaves_on_disk_is_gone(examine: Callable[..., list[Any]]) -> None:
    [told] = examine("litter")
    examine("fine")
    assert told.detail.startswith(examine.sandbox._folder)  # type: ignore[attr-defined]
    assert not Path(told.detail).exists()
    examine.sandbox.close()  # type: ignore[attr-defined]
    assert not Path(told.detail).parent.exists()


def test_what_samples_leave_in_the_same_moment_is_gone_too(examine: Callable[..., list[Any]]) -> None:
    told = examine(*["litter", "fine", "litter"] * 20)
    left = [Path(one.detail) for one in told if isinstance(one, BadSample)]
    assert len(left) == 40
    assert not any(path.exists() for path in left)


def landlocked() -> bool:
    from pipelines.stages import _landlock

    try:
        return _landlock._call(444, None, 0, 1) > 0
    except OSError:
        return False


def test_a_decoder_reads_no_file_but_its_own(examine: Callable[..., list[Any]], tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("canary-7351")
    (tmp_path / "link").symlink_to(canary)
    paths = [str(canary), str(tmp_path / "link"), "/etc/passwd", f"/proc/self/root{canary}"]
    looks = examine(*(f"peek {path}" for path in paths), f"peek {modalities.__file__}")
    if not landlocked():
        pytest.skip("this kernel has no Landlock")
    assert [look.reason for look in looks] == ["crashed"] * 4 + ["told"]
    assert all("Permission denied" in look.detail for look in looks[:4])


def test_a_local_file_opens_its_folder_and_none_beside_it(poison: Modality, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "canary").write_text(f"canary {name}")
    for name in ("a", "b"):
        (tmp_path / name / f"{name}.poison").write_text(f"peek {tmp_path}/a/canary")
    looks = [
        Look(raw=Raw(name="x.poison", content=tmp_path / name / f"{name}.poison"), sidecars={})
        for name in "ab"
    ]
    with Sandbox(module="rayloom_poison") as sandbox:
        [of_b], [of_a] = (sandbox.examine([look], poison, []) for look in reversed(looks))
        assert sandbox.starts == 2
        sandbox.examine([looks[1]], poison, [])
        assert sandbox.starts == 2  # a child may read what those before it were given
    assert isinstance(of_a, BadSample)
    assert isinstance(of_b, BadSample)
    assert (of_a.reason, of_a.detail) == ("told", "canary a")
    assert ("Permission denied" in of_b.detail) == landlocked()


def test_where_data_lies_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.stages._landlock import libraries

    here, packages = tmp_path / "home" / "data", tmp_path / "packages"
    here.mkdir(parents=True)
    packages.mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(here)
    for path in (here, tmp_path / "home", Path(modalities.__file__).parents[1], packages):
        monkeypatch.syspath_prepend(str(path))
    found = set(libraries())
    assert str(packages) in found
    assert not {str(here), str(tmp_path / "home"), str(Path(modalities.__file__).parents[1])} & found
    assert str(here) in libraries(everything=True)


def test_a_kernel_without_landlock_is_told_of_once(
    poison: Modality, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from pipelines.stages import sandbox as module

    monkeypatch.setattr(module, "_told", set())
    cell = "import sys; from pipelines.stages import _landlock, _cell; _landlock.CREATE_RULESET = 1023; "
    cell += "_cell.main(*sys.argv[1:])"
    real = subprocess.Popen

    def without(command: list[str], **options: Any) -> "subprocess.Popen[bytes]":
        at = command.index("-m")
        return real([*command[:at], "-c", cell, *command[at + 2 :]], **options)

    monkeypatch.setattr(module.subprocess, "Popen", without)
    for _ in range(2):
        with Sandbox(module="rayloom_poison") as box:
            assert box.examine([Look(raw=Raw(name="a.poison", content=b"fine"), sidecars={})], poison, [])
    assert [r.getMessage() for r in caplog.records if "Landlock" in r.getMessage()] == [
        "decoder process: no Landlock in this kernel, so it may read what the worker may read: "
        "[Errno 38] call 1023: Function not implemented"
    ]


def test_the_child_imports_our_tree(examine: Callable[..., list[Any]]) -> None:
    assert examine("where")[0].detail == modalities.__file__


def test_the_child_dies_with_its_worker_even_in_the_middle_of_a_sample(poison: Modality) -> None:
    code = """
import threading, time, rayloom_poison
from modalities.base import Raw
from pipelines.stages.process import Look
from pipelines.stages.sandbox import Sandbox
sandbox = Sandbox(module="rayloom_poison")
look = lambda word: [Look(raw=Raw(name="a.poison", content=word), sidecars={})]
sandbox.examine(look(b"fine"), rayloom_poison.MODALITY, [])
print(sandbox._child.pid, flush=True)
sandbox.examine(look(b"hang"), rayloom_poison.MODALITY, [])
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=env) as worker:
        assert worker.stdout is not None
        child = int(worker.stdout.readline())
        time.sleep(0.3)
        assert Path(f"/proc/{child}").exists()
        worker.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while _runs(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_built_files_and_facts_are_those_of_this_process(poison: Modality) -> None:
    look = Look(raw=Raw(name="a.poison", content=b"talk"), sidecars={"txt": b"t"}, label="l", caption="t")
    given: dict[str, Any] = {"meta": {"size": 4}, "spec": None, "suffix": "x"}
    with Sandbox(module="rayloom_poison") as sandbox:
        assert sandbox.build(look, poison, [], **given) == process.build(look, poison, [], **given)


def test_transforms_come_back_whole() -> None:
    kind = modalities.get("image")
    files = kind.synth(3)
    [ext] = [ext for ext in files if ext in ("png", "jpg")]
    look = Look(raw=Raw(name=f"a.{ext}", content=files[ext]), sidecars={})
    stages = [{"kind": "transform", "how": "resize", "options": {"shorter": 12}}]
    given: dict[str, Any] = {"meta": kind.probe(look.raw), "spec": None, "suffix": ""}
    with Sandbox() as sandbox:
        assert sandbox.build(look, kind, stages, **given) == process.build(look, kind, stages, **given)


def test_an_unknown_modality_is_a_mistake_of_the_caller(poison: Modality) -> None:
    with Sandbox() as sandbox, pytest.raises(LookupError, match="no modality 'poison'"):
        sandbox.examine([Look(raw=Raw(name="a.poison", content=b"fine"), sidecars={})], poison, [])


SAMPLE = {
    "kind": "sample", "suffix": "", "spec": None, "num_bytes": 4, "meta": {}, "quality": {"a": 1.0},
    "fingerprint": 7, "files": ["jpg"],
}  # fmt: skip


def test_an_honest_answer_is_believed() -> None:
    assert _answer.checked_answer([SAMPLE], [b"data"], "cat", None) == [
        Sample(files={"jpg": b"data"}, num_bytes=4, meta={}, label="cat", quality={"a": 1.0}, fingerprint=7)
    ]


@pytest.mark.parametrize(
    "lie",
    [
        {"suffix": "../x"}, {"suffix": None}, {"spec": "x"}, {"num_bytes": -1}, {"num_bytes": 2**63},
        {"num_bytes": True}, {"meta": []}, {"quality": {"a": "high"}}, {"quality": {"a": None}},
        {"fingerprint": 2**64}, {"fingerprint": 1.5}, {"files": ["../jpg"]}, {"files": []},
        {"files": ["jpg", "png"]}, {"files": ["jpg", "jpg"]}, {"files": "jpg"},
    ],
    ids=repr,
)  # fmt: skip
def test_a_lie_is_noticed(lie: dict[str, Any]) -> None:
    with pytest.raises(Garbled, match="want"):
        _answer.checked_answer([SAMPLE | lie], [b"data"], None, None)


@pytest.mark.parametrize("refusal", [None, ["x"], [1, "x"], ["a b", "x"], ["x" * 99, ""], ["x", 3]])
def test_a_refusal_has_to_be_a_code_and_words(refusal: Any) -> None:
    with pytest.raises(Garbled):
        _answer.checked_refusal(refusal)


def packed(message: bytes) -> bytes:
    """A frame of anything."""
    return len(message).to_bytes(4, "little") + bytes(8) + message


def receiver(data: bytes) -> Callable[[int], bytes]:
    rest = SimpleNamespace(data=data)

    def receive(size: int) -> bytes:
        piece, rest.data = rest.data[:size], rest.data[size:]
        assert len(piece) == size
        return piece

    return receive


def test_frames_come_back_as_they_went() -> None:
    message = {"a": float("inf"), "b": "\u00e9\u20ac", "c": 0.1, "d": [None, True, 2**63], "e": 0.1 + 0.2}
    sent = b"".join(frame(message, [b"", b"\0\n", b"x" * 70_000]))
    assert read_frame(receiver(sent)) == (message, [b"", b"\0\n", b"x" * 70_000])


@pytest.mark.parametrize(
    "sent",
    [
        b"\xff" * 12,
        (2).to_bytes(4, "little") + (2**40).to_bytes(8, "little"),
        packed(b"\x93\x93\x93"),  # three lists that never end
        packed(b"\xc1"),  # no value at all
        packed(b"\x91" * 100_000),  # deeper than anybody reads
        packed(b"\xdd" + b"\xff" * 4),  # a list of four billion
        packed(msgpack.packb({"sizes": []}) + b"\0"),
        packed(msgpack.packb({1: 2, "sizes": []})),
        packed(msgpack.packb({})),
        packed(msgpack.packb([])),
        packed(msgpack.packb({"sizes": [-1]})),
        packed(msgpack.packb({"sizes": [5]})),
        b"".join(frame({"a": "\ud800"})),
    ],
)
def test_no_frame_is_believed_before_it_is_checked(sent: bytes) -> None:
    with pytest.raises(Garbled):
        read_frame(receiver(sent))
