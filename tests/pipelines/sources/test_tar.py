"""Tars written by webdataset and by tarfile, whole, cut and hostile."""

import io
import os
import random
import tarfile
import tracemalloc
from collections.abc import Mapping
from pathlib import Path

import pytest

import modalities
from modalities.base import BadSample
from pipelines.sources import Entry, open_entry, sorting
from tests.pipelines.sources.conftest import MODALITIES, Lister, Stream

LONG = "deep/" * 30 + "x" * 120


def write_tar(path: Path, files: Mapping[str, bytes], *, layout: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=layout) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def add(tar: tarfile.TarFile, name: str, data: bytes = b"data", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    info.size = len(data) if info.isreg() else 0
    tar.addfile(info, io.BytesIO(data) if info.isreg() else None)


def opened(entries: list[Entry]) -> dict[str, tuple[bytes, dict[str, bytes]]]:
    """name -> (content, sidecars) of the entries that open."""
    out = {}
    for entry in entries:
        if entry.refusal is None:
            raw, sidecars = open_entry(Entry.from_json(entry.to_json()))
            out[entry.name] = (raw.read(), sidecars)
    return out


def refusals(entries: list[Entry]) -> dict[str, str]:
    out = {}
    for entry in entries:
        if entry.refusal is not None:
            with pytest.raises(BadSample) as caught:
                open_entry(entry)
            out[entry.name] = caught.value.reason
    return out


@pytest.fixture
def real(shared_data: Path) -> dict[str, bytes]:
    """Members of 8 real samples."""
    files = {}
    for i, path in enumerate(sorted((shared_data / "images").iterdir())[:8]):
        files |= {f"{i:04d}.jpg": path.read_bytes(), f"{i:04d}.cls": str(i).encode(), f"{i:04d}.json": b"{}"}
    return files


def test_what_webdataset_writes_is_read_byte_for_byte(
    listing: Lister, tmp_path: Path, real: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WDS_SECURE", "1")
    webdataset = pytest.importorskip("webdataset")
    with (tmp_path / "a.tar").open("wb") as file, webdataset.TarWriter(file, encoder=False) as sink:  # PAX
        for i in range(8):
            sample = {e: real[f"{i:04d}.{e}"] for e in ("jpg", "cls", "json")}
            sink.write({"__key__": f"{i:04d}", **sample})
    entries = listing(tmp_path / "a.tar")
    assert [(entry.name, entry.group) for entry in entries] == [
        (f"a.tar/{i:04d}.jpg", f"a.tar/{i:04d}") for i in range(8)
    ]
    assert opened(entries) == {
        f"a.tar/{i:04d}.jpg": (real[f"{i:04d}.jpg"], {"cls": str(i).encode(), "json": b"{}"})
        for i in range(8)
    }


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_each_layout_gives_what_tarfile_gives(listing: Lister, tmp_path: Path, layout: int) -> None:
    files = {"a.jpg": b"", "./b/a.jpg": b"x" * 512, "é.jpg": b"y" * 513, "c.d.JPG": b"z"}
    if layout != tarfile.USTAR_FORMAT:
        files[LONG + ".jpg"] = b"long"
    else:
        files["p" * 120 + "/" + "q" * 90 + ".jpg"] = b"prefix"
    path = write_tar(tmp_path / "t.tar", files, layout=layout)
    with tarfile.open(path) as tar:
        peer = {m.name.removeprefix("./"): tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr]
    found = {name.removeprefix("t.tar/"): data for name, (data, _) in opened(listing(path)).items()}
    peer["c.d.jpg"] = peer.pop("c.d.JPG")  # extensions are lower case in a shard
    assert found == peer


def test_sizes_above_octal_are_read(listing: Lister, tmp_path: Path) -> None:
    """Base 256 (GNU) and PAX sizes of 9 GiB, in a file with a hole."""
    size = 9 * 2**30
    for layout in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        info = tarfile.TarInfo("big.jpg")
        info.size = size
        path = tmp_path / f"{layout}.tar"
        head = info.tobuf(layout)
        with path.open("wb") as file:
            file.write(head)
            file.seek(size, os.SEEK_CUR)
            last = tarfile.TarInfo("z.jpg")
            last.size = 1
            file.write(last.tobuf(layout) + b"!" + bytes(511) + bytes(1024))
        big, small = listing(path)
        assert big.content.size == size
        assert open_entry(small)[0].content == b"!"
        with pytest.raises(BadSample, match="too-large"):
            open_entry(big)


def test_members_that_lie_apart_are_one_sample(listing: Lister, tmp_path: Path) -> None:
    files = {"b.jpg": b"B", "a.jpg": b"A", "b.cls": b"1", "a.cls": b"0"}
    entries = listing(write_tar(tmp_path / "t.tar", files))
    assert opened(entries) == {"t.tar/a.jpg": (b"A", {"cls": b"0"}), "t.tar/b.jpg": (b"B", {"cls": b"1"})}


def test_object_of_a_sample_is_what_the_modality_reads(listing: Lister, tmp_path: Path) -> None:
    files = {f"k.{e}": e.encode() for e in ("cls", "json", "seg.png", "left.jpg", "jpg", "mp4", "README")}
    path = write_tar(tmp_path / "t.tar", {**files, "n.xyz": b"?", "README.md": b"#", ".hidden.jpg": b"h"})
    assert [entry.name for entry in listing(path)] == ["t.tar/k.jpg", "t.tar/n.xyz"]
    name, (data, sidecars) = next(iter(opened(listing(path)).items()))
    assert (name, data) == ("t.tar/k.jpg", b"jpg")
    assert set(sidecars) == {"cls", "json", "seg.png", "left.jpg", "mp4", "readme"}
    assert listing(path, "video")[0].name == "t.tar/k.mp4"


def test_companions_inside_a_sample(listing: Lister, tmp_path: Path) -> None:
    files = {
        "d/s.hdr": b"H",
        "d/s.img": b"I",
        "d/s.cls": b"1",
        "m.lights.npy": b"L",
        "m.f.npy": b"F",
        "m.cls": b"2",
    }
    path = write_tar(tmp_path / "t.tar", files)
    entry = next(e for e in listing(path, "hyperspectral") if e.name.endswith("hdr"))
    raw, sidecars = open_entry(entry)
    assert (raw.name, raw.companion("s.img").read(), sidecars) == ("t.tar/d/s.hdr", b"I", {"cls": b"1"})
    entry = next(e for e in listing(path, "lighting") if "/m" in e.name)
    raw, sidecars = open_entry(entry)
    assert (raw.filename, raw.companion("f.npy").read(), sidecars) == ("lights.npy", b"F", {"cls": b"2"})


def test_tars_in_a_folder_are_listed_in_place(listing: Lister, tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_tar(tmp_path / f"{name}.tar", {f"{i}.jpg": b"x" for i in range(2)})
    (tmp_path / "a.tar.txt").write_bytes(b"?")
    want = ["a.tar/0.jpg", "a.tar/1.jpg", "b.tar/0.jpg", "b.tar/1.jpg"]
    assert [entry.name for entry in listing(f"{tmp_path}/*.tar")] == want
    assert [entry.name for entry in listing(tmp_path, glob="*.tar")] == want
    assert [entry.name for entry in listing(tmp_path)] == ["a.tar.txt", *want]


def check_books(
    listing: Lister, path: Path, whole: dict[str, tuple[bytes, dict[str, bytes]]], *, apart: bool = False
) -> None:
    """Nothing is listed that differs from the whole archive; what is missing has a refusal.

    Where members of a sample lie apart, those behind the cut cannot be known; a refusal stands for them.
    """
    entries = listing(path)
    found = opened(entries)
    for name, (data, sidecars) in found.items():
        assert whole[name][0] == data
        assert sidecars.items() <= whole[name][1].items()
        assert apart or len(sidecars) == len(whole[name][1])
    if found != whole:
        assert refusals(entries), f"{len(whole) - len(found)} samples vanished"


@pytest.mark.parametrize("layout", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("apart", [False, True])
def test_no_cut_goes_unnoticed(listing: Lister, tmp_path: Path, layout: int, apart: bool) -> None:
    samples = {
        f"{i:03d}{'n' * 99 * (i % 2)}.{e}": os.urandom(i * 97 % 1200)
        for i in range(9)
        for e in ("jpg", "txt")
    }
    if layout == tarfile.USTAR_FORMAT:
        samples = {name.replace("n", ""): data for name, data in samples.items()}
    if apart:
        samples = dict(sorted(samples.items(), key=lambda item: item[0][::-1]))
    path = write_tar(tmp_path / "t.tar", samples, layout=layout)
    archive = path.read_bytes()
    whole = opened(listing(path))
    assert len(whole) == 9
    end = max(i for i in range(0, len(archive), 512) if any(archive[i : i + 512])) + 512
    cuts = {*range(0, end + 1024, 512), *random.Random(0).sample(range(end), 60)}
    for cut in sorted(cuts):
        path.write_bytes(archive[:cut])
        check_books(listing, path, whole, apart=apart)
        if cut <= end:
            assert set(refusals(listing(path)).values()) == {"truncated"}


@pytest.mark.parametrize(
    ("members", "told", "left"),
    [
        ("a.jpg a.txt b.jpg b.txt c.jpg c.txt", "1 samples that may lack a member (c)", "a.jpg b.jpg"),
        ("a.jpg b.jpg b.txt a.txt c.jpg c.txt", "3 samples that may lack a member (a, b, c)", ""),
        (
            "a.jpg b.jpg a.jpg c.jpg c.txt",
            "1 samples that may lack a member (c)",
            "a b.jpg",
        ),  # a is refused anyway
        ("b.jpg a.pkl a.jpg c.jpg c.txt", "1 samples that may lack a member (c)", "a b.jpg"),
        ("a.pkl b.jpg a.jpg c.jpg c.txt", "1 samples that may lack a member (c)", "a b.jpg"),
    ],
)
@pytest.mark.parametrize("held", [1, 2**14])
def test_a_cut_costs_all_samples_where_members_of_one_lie_apart(
    members: str, told: str, left: str, held: int,
    listing: Lister, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(sorting, "HELD", held)
    with tarfile.open(path := tmp_path / "t.tar", "w") as tar:
        for name in members.split():
            add(tar, name)
    with tarfile.open(path) as tar:
        cut = tar.getmembers()[-1].offset_data + 2
    os.truncate(path, cut)
    *found, remainder = listing(path)
    assert [entry.name for entry in found] == [f"t.tar/{name}" for name in left.split()]
    assert remainder.refusal is not None
    assert told in remainder.refusal[1]


@pytest.mark.parametrize("modality", ["image", "real hyperspectral", "real lighting"])
def test_a_large_tar_lists_as_a_small_one(
    modality: str, listing: Lister, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = modalities.get(modality.split()[1]) if " " in modality else MODALITIES[modality]
    rng = random.Random(modality)
    damaged = 0
    for i in range(60):
        names = [
            f"{key}.{end}"
            for key in rng.sample(["a", "b", "c/d", "c/e", "é", "README", "../x", ".h"], rng.randint(1, 6))
            for end in rng.sample(
                ["jpg", "JPG", "cls", "json", "npy", "hdr", "img", "pkl"], rng.randint(1, 3)
            )
        ]
        if i % 2:
            rng.shuffle(names)
        with tarfile.open(path := tmp_path / "t.tar", "w") as tar:
            for name in [*names, *rng.sample(names, i % 3 == 0)]:
                add(tar, name, bytes(rng.randint(0, 600)))
        data = bytearray(path.read_bytes())
        if i % 4 == 1:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data[: rng.randrange(len(data)) if i % 4 == 2 else None])
        monkeypatch.undo()
        at_once = listing(path, kind, allow_empty=True)
        damaged += any("damaged@" in entry.name for entry in at_once)
        for held in (1, 3):
            monkeypatch.setattr(sorting, "HELD", held)
            assert listing(path, kind, allow_empty=True) == at_once, i
    assert damaged > 10


def test_memory_does_not_grow_with_the_members(
    stream: Stream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "HELD", 256)
    monkeypatch.setattr(sorting, "_BLOCK", 4)
    peaks = []
    for count in (700, 4200):
        names = [f"{i * 37 % count:06}.{end}" for i in range(count) for end in ("jpg", "cls")]
        path = write_tar(tmp_path / f"{count}.tar", dict.fromkeys(names, b"x"))
        tracemalloc.start()
        assert sum(1 for _ in stream(path)) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0], f"{peaks} bytes for six times the members"


def test_a_cut_costs_only_the_sample_it_hits(listing: Lister, tmp_path: Path, real: dict[str, bytes]) -> None:
    path = write_tar(tmp_path / "t.tar", real)
    whole = opened(listing(path))
    with tarfile.open(path) as tar:
        middle = tar.getmember("0005.jpg").offset_data + 100
    os.truncate(path, middle)
    entries = listing(path)
    assert opened(entries) == {name: sample for name, sample in whole.items() if name < "t.tar/0005"}
    (entry,) = (entry for entry in entries if entry.refusal)
    with pytest.raises(BadSample, match=r"truncated: .*'0005.jpg' is cut, 100 of [\d,]+ bytes"):
        open_entry(entry)


def test_flipped_bits_in_headers_are_noticed(listing: Lister, tmp_path: Path) -> None:
    files = {f"{i}.jpg": bytes([i]) * 700 for i in range(5)}
    path = write_tar(tmp_path / "t.tar", files)
    archive, whole = path.read_bytes(), opened(listing(path))
    with tarfile.open(path) as tar:
        starts = [member.offset for member in tar]
    rng = random.Random(1)
    for start in starts:
        for _ in range(40):
            at, bit = start + rng.randrange(512), 1 << rng.randrange(8)
            flipped = bytearray(archive)
            flipped[at] ^= bit
            path.write_bytes(flipped)
            check_books(listing, path, whole)
            assert opened(listing(path)) != whole or 148 <= at - start < 156  # the checksum field has slack


def test_hostile_members_are_refused_by_name(listing: Lister, tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "ok.jpg")
        add(tar, "../up.jpg")
        add(tar, "/abs.jpg")
        add(tar, "a/../../b.jpg")
        add(tar, "win\\..\\x.jpg")
        add(tar, "bell\a.jpg")
        add(tar, "soft.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd")
        add(tar, "hard.jpg", type=tarfile.LNKTYPE, linkname="ok.jpg")
        add(tar, "fifo.jpg", type=tarfile.FIFOTYPE)
        add(tar, "dev.jpg", type=tarfile.CHRTYPE)
        add(tar, "folder", type=tarfile.DIRTYPE)
        add(tar, "twice.jpg", b"one")
        add(tar, "./twice.jpg", b"two")
        add(tar, "half.jpg")
        add(tar, "half.cls", type=tarfile.SYMTYPE, linkname="ok.cls")
        add(tar, "last.jpg")
    entries = listing(path)
    assert set(opened(entries)) == {"t.tar/ok.jpg", "t.tar/last.jpg"}
    bad = refusals(entries)
    assert set(bad.values()) == {"unsafe"}
    assert len(bad) == 11
    assert not any(".." in name.split("/") for name in bad)
    assert {"t.tar/soft", "t.tar/hard", "t.tar/fifo", "t.tar/dev", "t.tar/twice", "t.tar/half"} < set(bad)


def test_sparse_members_are_refused(listing: Lister, tmp_path: Path) -> None:
    path = tmp_path / "t.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        add(tar, "s.jpg", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.name": "s.jpg"})
        add(tar, "ok.jpg")
    entries = listing(path)
    assert (set(opened(entries)), refusals(entries)) == ({"t.tar/ok.jpg"}, {"t.tar/s": "unsafe"})


def test_concatenated_tars_are_not_half_read_in_silence(listing: Lister, tmp_path: Path) -> None:
    one = write_tar(tmp_path / "1.tar", {"a.jpg": b"A"}).read_bytes()
    two = write_tar(tmp_path / "2.tar", {"b.jpg": b"B"}).read_bytes()
    path = tmp_path / "t.tar"
    path.write_bytes(one + two)
    entries = listing(path)
    assert set(opened(entries)) == {"t.tar/a.jpg"}
    assert [*refusals(entries).values()] == ["trailing"]


@pytest.mark.parametrize("data", [b"", b"\x1f\x8b" + bytes(600), b"not a tar at all" * 99, bytes(100)])
def test_what_is_no_tar_is_one_refusal(listing: Lister, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "t.tar").write_bytes(data)
    (entry,) = listing(tmp_path / "t.tar")
    with pytest.raises(BadSample, match="compressed" if data[:1] == b"\x1f" else "truncated|damaged"):
        open_entry(entry)


def test_hostile_sizes_cost_nothing(listing: Lister, tmp_path: Path) -> None:
    """A member, or a long name, that claims 2^60 bytes."""
    for kind in (tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME):
        info = tarfile.TarInfo("a.jpg")
        info.size, info.type = 2**60, kind
        (tmp_path / "t.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
        assert [*refusals(listing(tmp_path / "t.tar")).values()] in (["truncated"], ["damaged"])
