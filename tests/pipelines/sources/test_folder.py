"""Folders, globs and single files on a local disk."""

import os
import random
import socket
import tarfile
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modalities.base import BadSample
from pipelines.sources import Entry, open_entry, sorting
from pipelines.sources.folder import Folder
from pipelines.sources.opening import IN_PLACE_BYTES
from pipelines.sources.stores import told_name

Lister = Callable[..., list[Entry]]
CLOUDS = "pointcloud"  # reads *.txt, and still no readme
Stream = Callable[..., Iterator[Entry]]
Tree = Callable[..., Path]


def covered(entries: list[Entry], root: Path) -> list[str]:
    """Every file that some entry takes, with repetitions."""
    parts = [p for e in entries for p in (e.content, *e.companions.values(), *e.sidecars.values())]
    return sorted(str(Path(p.uri).relative_to(root)) for p in parts if not Path(p.uri).is_dir())


def on_disk(root: Path) -> list[str]:
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("folder", "modality", "num"),
    [
        ("images", "image", 142),
        ("video", "video", 7),
        ("points", "pointcloud", 8),
        ("hyperspectral", "hyperspectral", 3),
        ("lighting", "lighting", 1),
        ("lighting/bunny", "lighting", 1),
    ],
)
def test_every_real_file_is_in_exactly_one_entry(
    listing: Lister, shared_data: Path, folder: str, modality: str, num: int
) -> None:
    root = (shared_data / folder).resolve()
    entries = listing(root, modality)
    assert covered(entries, root) == on_disk(root)
    assert len(entries) == num == len({entry.name for entry in entries})
    for entry in entries:
        raw, sidecars = open_entry(entry)
        assert raw.read() == (root / entry.name).read_bytes()
        assert sidecars == {}
        for name, content in raw.companions.items():
            assert content == (root / entry.name).parent.joinpath(name).read_bytes()


def test_longest_suffix_gives_the_stem(listing: Lister, shared_data: Path) -> None:
    groups = {entry.name: entry.group for entry in listing(shared_data / "points", "pointcloud")}
    assert groups["nuscenes_lidar_top.pcd.bin"] == "nuscenes_lidar_top"
    assert groups["simple.copc.laz"] == "simple" == groups["simple.las"]


def test_order_is_that_of_the_names_whatever_was_written_first(listing: Lister, tmp_path: Path) -> None:
    names = ["a.jpg", "a/b.jpg", "a/b/c.jpg", "a-b/x.jpg", "a.d/y.jpg", "B.jpg", "é.jpg", "z/0.jpg"]
    orders = []
    for seed in range(3):
        root = tmp_path / str(seed)
        for name in random.Random(seed).sample(names, len(names)):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(b"x")
        orders.append([entry.name for entry in listing(root)])
    assert orders[0] == sorted(names) == orders[1] == orders[2]


def test_listing_does_not_read_ahead_of_its_consumer(stream: Stream, tree: Tree) -> None:
    root = tree("a/1.jpg", "b/1.jpg")
    entries = stream(root, labels="none")
    assert next(entries).name == "a/1.jpg"
    (root / "b" / "2.jpg").write_bytes(b"late")
    assert [entry.name for entry in entries] == ["b/1.jpg", "b/2.jpg"]


@pytest.mark.parametrize("modality", ["image", "pointcloud", "hyperspectral", "video", "lighting", "pairs"])
def test_the_short_way_through_a_folder_finds_what_the_long_one_does(
    modality: str, listing: Lister, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a.jpg", "b.PNG", "c.laz", "d.txt", "readme.txt", "e.mp4", "f.tif", "g.npy", "h.hdr", "h.img"]
    names += ["README.md", "i.seg.png", "i.jpg", "lights.npy", "j.tar", "k.pcd.bin", "l.zarr/x", "é.jpg", "m"]
    rng = random.Random(str(modality))
    some = [f"{i}/{name}" for i in range(40) for name in rng.sample(names, rng.randint(1, 3))]
    root = tree(*some, "p/i.jpg", "p/i.seg.png", "q/x.a", "q/x.b", "r/1.jpg", "r/2.jpg")
    short = listing(root, modality, labels="none")
    monkeypatch.setattr(Folder, "_plain", lambda *_: None)
    assert short == listing(root, modality, labels="none")
    assert len(short) >= 20


def test_sidecars_ride_along_and_are_no_objects(listing: Lister, tree: Tree) -> None:
    root = tree("a.JPG", "a.cls", "a.txt", "a.json", "a.seg.png", "b.png", "b.seg.jpg", "lonely.seg.png")
    entries = {entry.name: entry for entry in listing(root)}
    assert set(entries) == {"a.JPG", "b.png", "b.seg.jpg", "lonely.seg.png"}
    raw, sidecars = open_entry(entries["a.JPG"])
    assert sidecars == {"cls": b"a.cls", "txt": b"a.txt", "json": b"a.json", "seg.png": b"a.seg.png"}
    assert raw.content == b"a.JPG"
    assert not entries["b.png"].sidecars


def test_companions_belong_to_their_object(listing: Lister, tree: Tree) -> None:
    names = ["s.hdr", "s.img", "s.cls", "s.tif", "t.HDR", "t", "odd.img", "n.npy", "n.wl/1.csv", "n.wl/u.csv"]
    root = tree(*names, "other/n.wl/1.csv")
    entries = {entry.name: entry for entry in listing(root, "hyperspectral")}
    assert set(entries) == {"s.hdr", "s.tif", "t.HDR", "odd.img", "n.npy", "other/n.wl/1.csv"}
    assert set(entries["s.hdr"].companions) == {"s.img"}
    assert set(entries["t.HDR"].companions) == {"t"}
    assert set(entries["n.npy"].companions) == {"n.wl/1.csv", "n.wl/u.csv"}
    raw, sidecars = open_entry(entries["s.hdr"])
    assert raw.companion("s.img").read() == b"s.img"
    assert sidecars == {"cls": b"s.cls"}


@pytest.mark.parametrize("held", [1, 2**14])
def test_what_belongs_to_an_object_above_is_no_object_however_deep(
    held: int, listing: Lister, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sorting, "HELD", held)
    root = tree(
        "n.npy", "n.wl/1.csv", "n.wl/x/2.csv", "n.wl/x/y/3.csv", "n.wl/x/b.tif", "n.wl/y/1.csv.txt", "o.npy"
    )
    entries = {entry.name: entry for entry in listing(root, "hyperspectral")}
    assert set(entries) == {"n.npy", "n.wl/x/b.tif", "n.wl/y/1.csv.txt", "o.npy"}
    assert set(entries["n.npy"].companions) == {"n.wl/1.csv", "n.wl/x/2.csv", "n.wl/x/y/3.csv"}


def test_folder_object_takes_everything_inside(listing: Lister, tree: Tree) -> None:
    root = tree("d/x.zarr/.zgroup", "d/x.zarr/0/c/0.0", "d/x.cls", "d/y.tif")
    entries = listing(root, "hyperspectral")
    assert [(entry.name, entry.group) for entry in entries] == [("d/x.zarr/", "d/x"), ("d/y.tif", "d/y")]
    for entry in (entries[0], *listing(root / "d" / "x.zarr", "hyperspectral")):
        raw, sidecars = open_entry(entry)
        assert raw.content == b""
        assert set(raw.companions) == {".zgroup", "0/c/0.0"}
        assert raw.companion("0/c/0.0").read() == b"d/x.zarr/0/c/0.0"
        assert sidecars == {"cls": b"d/x.cls"}


def test_whole_folder_is_one_object_and_its_group(listing: Lister, tree: Tree) -> None:
    root = tree("s1/lights.npy", "s1/f.npy", "s1/m.mp4", "s1/sub/g.npy", "s1/lights.cls", "s2/clip.mp4")
    first, second = listing(root, "lighting", labels="none")
    assert (first.name, first.group) == ("s1/lights.npy", "s1")
    assert set(first.companions) == {"f.npy", "m.mp4", "sub/g.npy"}
    assert (second.name, second.group) == ("s2/clip.mp4", "s2/clip")


def test_unknown_files_are_listed_and_known_litter_is_not(listing: Lister, tree: Tree) -> None:
    litter = [
        "README",
        "readme.txt",
        "notes.md",
        "a.jpg.license",
        "Thumbs.db",
        ".DS_Store",
        ".git/x.jpg",
        "._a.jpg",
    ]
    root = tree("a.jpg", "b.xyz", "orphan.cls", "readme.jpg", *litter)
    assert "readme.txt" not in [entry.name for entry in listing(root, CLOUDS)]
    assert [entry.name for entry in listing(root)] == ["a.jpg", "b.xyz", "orphan.cls", "readme.jpg"]


@pytest.mark.parametrize(
    ("glob", "want"),
    [
        ("*.jpg", ["a.jpg"]),
        ("**/*.jpg", ["a.jpg", "x/b.jpg", "x/y/c.jpg"]),
        ("x/**", ["x/b.jpg", "x/y/c.jpg", "x/y/d.png"]),
        ("*/[!a-b].jpg", []),
        ("x/y/?.[jp]*", ["x/y/c.jpg", "x/y/d.png"]),
        ("**", ["README.md", "a.jpg", "x/b.jpg", "x/y/c.jpg", "x/y/d.png"]),
    ],
)
def test_glob_lists_what_it_matches(listing: Lister, tree: Tree, glob: str, want: list[str]) -> None:
    root = tree("a.jpg", "a.cls", "README.md", "x/b.jpg", "x/y/c.jpg", "x/y/d.png")
    assert [entry.name for entry in listing(root, glob=glob, allow_empty=True)] == want
    fixed = "x/y/" if glob.startswith("x/y/") else "x/" if glob.startswith("x/") else ""  # becomes the root
    assert [fixed + entry.name for entry in listing(f"{root}/{glob}", allow_empty=True)] == want


def test_glob_keeps_the_sidecars_of_what_it_matches(listing: Lister, tree: Tree) -> None:
    (entry,) = listing(tree("a.jpg", "a.cls", "b.png"), glob="*.jpg")
    assert open_entry(entry)[1] == {"cls": b"a.cls"}


def test_single_file_comes_with_what_lies_beside_it(listing: Lister, tree: Tree) -> None:
    root = tree("s.hdr", "s.img", "s.cls", "t.hdr", "t.img")
    (entry,) = listing(root / "s.hdr", "hyperspectral")
    assert (entry.name, set(entry.companions), set(entry.sidecars)) == ("s.hdr", {"s.img"}, {"cls"})
    (literal,) = listing(tree("odd[1].jpg") / "odd[1].jpg")
    assert literal.name == "odd[1].jpg"
    (mask,) = listing(tree("m.png", "m.seg.png") / "m.seg.png")
    assert open_entry(mask)[0].content == b"m.seg.png"


def test_labels_of_folders(listing: Lister, tree: Tree) -> None:
    root = tree("cat/1.jpg", "cat/2.jpg", "cat/2.cls", "dog/1.jpg")

    def labels(**options: str) -> list[str | None]:
        return [entry.label for entry in listing(root, **options)]

    assert labels() == ["cat", None, "dog"]  # the sidecar of cat/2 is read when it is opened
    assert labels(labels="folder") == ["cat", "cat", "dog"]
    assert labels(labels="none") == labels(labels="sidecar") == [None, None, None]
    assert "cls" not in listing(root, labels="folder")[1].sidecars
    assert "cls" not in listing(root, labels="none")[1].sidecars
    assert "cls" in listing(root, labels="sidecar")[1].sidecars
    tree("loose.jpg")
    assert labels() == [None, None, None, None]


@pytest.mark.parametrize(
    ("beside", "glob"), [("README.md", None), (".hidden.jpg", None), ("c.png", "*/*.jpg")]
)
def test_what_is_not_listed_beside_them_keeps_no_folders_from_being_classes(
    listing: Lister, tree: Tree, beside: str, glob: str | None
) -> None:
    root = tree("cat/a.jpg", "dog/b.jpg", beside)
    assert [entry.label for entry in listing(root, glob=glob)] == ["cat", "dog"]
    tree("c.jpg" if glob is None else "dog.jpg")
    assert [entry.label for entry in listing(root, glob=None)] == [None] * (3 + (glob is not None))


def test_one_folder_is_no_class(listing: Lister, tree: Tree) -> None:
    assert [entry.label for entry in listing(tree("all/1.jpg", "all/2.jpg"))] == [None, None]


def test_nested_split_folders_do_not_become_classes(listing: Lister, tree: Tree) -> None:
    root = tree("train/cat/1.jpg", "train/dog/1.jpg", "val/cat/1.jpg")
    assert [entry.label for entry in listing(root)] == ["cat", "dog", "cat"]


def test_label_of_a_folder_object_is_the_folder_above(listing: Lister, tree: Tree) -> None:
    root = tree("metal/s1/lights.npy", "metal/s1/f.npy", "glass/s2/lights.npy")
    assert [entry.label for entry in listing(root, "lighting")] == ["glass", "metal"]


def test_unknown_labels_option_is_named(listing: Lister, tree: Tree) -> None:
    with pytest.raises(ValueError, match="labels must be one of auto, folder"):
        listing(tree("a.jpg"), labels="folders")


def test_nothing_there_is_an_error_not_an_empty_list(listing: Lister, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing at"):
        listing(tmp_path / "missing")


def test_links_and_special_files_are_refused(listing: Lister, tree: Tree, tmp_path: Path) -> None:
    root = tree("a.jpg", "d/b.jpg")
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (root / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "up").symlink_to(tmp_path)
    (root / "loop").symlink_to(root)
    (root / "inside.jpg").symlink_to(root / "a.jpg")
    (root / "dangling.jpg").symlink_to(root / "none.jpg")
    os.mkfifo(root / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "sock.jpg"))
        entries = {entry.name: entry for entry in listing(root)}
    reasons = {}
    for name, entry in entries.items():
        try:
            assert b"secret" not in open_entry(entry)[0].read()
        except BadSample as error:
            reasons[name] = error.reason
    unsafe = dict.fromkeys(["out.jpg", "up", "loop", "pipe.jpg", "sock.jpg"], "unsafe")
    assert reasons == unsafe | {"dangling.jpg": "unreadable"}
    assert set(entries) - set(reasons) == {"a.jpg", "d/b.jpg", "inside.jpg"}


@pytest.mark.parametrize("kind", ["link", "pipe", "gone", "grown", "cut"])
def test_what_changed_after_listing_is_refused(
    listing: Lister, tree: Tree, tmp_path: Path, kind: str
) -> None:
    root = tree("a.jpg")
    (entry,) = listing(root)
    path = root / "a.jpg"
    if kind in ("link", "pipe", "gone"):
        path.unlink()
    if kind == "link":
        (tmp_path / "same5").write_bytes(b"other")
        path.symlink_to(tmp_path / "same5")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "gone":
        path.write_bytes(b"a.jpg more" if kind == "grown" else b"a")
    with pytest.raises(BadSample, match="unsafe" if kind == "pipe" else "unreadable"):
        open_entry(entry)


@pytest.mark.parametrize("seconds", [-3600, -1, 0, 1])
def test_a_file_of_before_1970_is_no_changed_one(listing: Lister, tree: Tree, seconds: int) -> None:
    root = tree("a.jpg")
    os.utime(root / "a.jpg", (seconds, seconds))
    (entry,) = listing(root)
    assert open_entry(entry, as_listed=True)[0].content == b"a.jpg"
    os.utime(root / "a.jpg", (seconds - 1, seconds - 1))
    with pytest.raises(BadSample, match="changed"):
        open_entry(entry, as_listed=True)


def test_large_local_files_stay_where_they_are(listing: Lister, tree: Tree) -> None:
    root = tree("big.tif", "small.tif")
    os.truncate(root / "big.tif", IN_PLACE_BYTES + 1)
    big, small = listing(root, "hyperspectral")
    assert open_entry(big, max_bytes=10)[0].content == root / "big.tif"
    assert open_entry(small, max_bytes=9)[0].content == b"small.tif"
    with pytest.raises(BadSample, match=r"too-large: .*9 bytes.* 8 in memory"):
        open_entry(small, max_bytes=8)


def test_budget_covers_companions_and_sidecars_together(listing: Lister, tree: Tree) -> None:
    (entry,) = listing(tree("s.hdr", "s.img", "s.cls"), "hyperspectral")
    assert entry.num_bytes == 15
    open_entry(entry, max_bytes=15)
    with pytest.raises(BadSample, match="too-large"):
        open_entry(entry, max_bytes=14)


def test_names_that_are_not_utf8_or_not_nfc_are_read(listing: Lister, tree: Tree) -> None:
    root = tree("a.jpg")
    nfd = unicodedata.normalize("NFD", "é.jpg")
    for raw in (b"caf\xe9.jpg", nfd.encode(), "é.jpg".encode()):
        Path(os.fsdecode(os.path.join(os.fsencode(root), raw))).write_bytes(raw)
    entries = [Entry.from_json(entry.to_json()) for entry in listing(root)]
    assert {e.name: open_entry(e)[0].content for e in entries} == {
        "a.jpg": b"a.jpg",
        "caf\\xe9.jpg": b"caf\xe9.jpg",
        "é.jpg": "é.jpg".encode(),
        told_name(nfd): nfd.encode(),
    }


FORMS = ("\u1e69.jpg", "s\u0323\u0307.jpg", "s\u0307\u0323.jpg", "\u1e63\u0307.jpg")  # one letter, NFC first


@pytest.mark.parametrize("order", [FORMS, FORMS[::-1]])
@pytest.mark.parametrize("captions", [(), FORMS, FORMS[1::2]])
def test_a_twin_in_another_form_that_comes_or_goes_renames_nothing(
    listing: Lister, tree: Tree, order: tuple[str, ...], captions: tuple[str, ...]
) -> None:
    root = tree("plain.jpg")

    def found() -> dict[str, str]:
        opened = {entry.name: open_entry(entry) for entry in listing(root)}
        for raw, sidecars in opened.values():
            form = raw.content.decode()
            assert sidecars == ({"txt": raw.content} if form in captions else {}), "each has its own"
        return {raw.content.decode(): name for name, (raw, _) in opened.items()}

    names = found()  # form -> what it is called from the day it came
    for form in order:
        (root / form).write_text(form)
        if form in captions:
            (root / form).with_suffix(".txt").write_text(form)
        before, names = names, found()
        assert before.items() < names.items()
    assert len({*names.values()}) == len(FORMS) + 1
    assert names[FORMS[0]] == FORMS[0]
    for form in order[:-1]:
        (root / form).unlink()
        (root / form).with_suffix(".txt").unlink(missing_ok=True)
        assert found().items() < names.items()


def test_a_tar_in_another_form_keeps_its_name(listing: Lister, tmp_path: Path) -> None:
    def put(form: str) -> None:
        with tarfile.open(tmp_path / form.replace("jpg", "tar"), "w") as tar:
            tar.addfile(tarfile.TarInfo("a.jpg"))

    names = set[str]()
    for form in FORMS[::-1]:
        put(form)
        now = {entry.name for entry in listing(tmp_path)}
        assert names < now
        names = now
    assert FORMS[0].replace(".jpg", ".tar/a.jpg") in names


def test_sidecars_and_captions_are_found_in_any_form(listing: Lister, tree: Tree) -> None:
    root = tree("plain.jpg")
    (root / FORMS[1]).write_text("x")
    (root / FORMS[0]).with_suffix(".txt").write_text("a caption")
    names = {entry.name: list(entry.sidecars) for entry in listing(root)}
    assert names == {"plain.jpg": [], told_name(FORMS[1]): ["txt"]}


@pytest.mark.parametrize("forms", [[FORMS[1]], [*FORMS[:2]]])
def test_an_object_in_another_form_keeps_its_companions(
    listing: Lister, tmp_path: Path, forms: list[str]
) -> None:
    for form in forms:
        for extension in ("hdr", "img"):
            (tmp_path / form).with_suffix(f".{extension}").write_text(form)
    alone = [listing(tmp_path / f"{form[:-3]}hdr", "hyperspectral") for form in forms]
    every = [[entry] for entry in listing(tmp_path, "hyperspectral")]
    assert len(every) == len(forms)
    for [entry] in (*alone, *every):
        raw, _ = open_entry(entry)
        [(body, content)] = raw.companions.items()
        assert (body, content) == (raw.filename.replace(".hdr", ".img"), raw.read())
    assert [open_entry(entry)[0].read().decode() for [entry] in alone] == forms


def test_compressed_archives_are_refused_with_a_way_out(listing: Lister, tree: Tree) -> None:
    root = tree("a.jpg", "b.tar.gz", "c.TGZ")
    with pytest.raises(ValueError, match=r"decompress it to \.tar"):
        listing(root / "b.tar.gz")
    _, *refused = listing(root)
    assert len(refused) == 2
    for entry in refused:
        with pytest.raises(BadSample, match=r"unsupported: .*decompress"):
            open_entry(entry)


def test_unreadable_folder_is_an_entry_not_an_end(
    listing: Lister, tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tree("a/1.jpg", "b/1.jpg", "c/1.jpg")
    real = os.scandir

    def scandir(path: os.PathLike[str]) -> object:
        if str(path).endswith("/b"):  # root may read everything, so the disk cannot be made to say no
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    entries = listing(root, labels="none")
    assert [entry.name for entry in entries] == ["a/1.jpg", "b/", "c/1.jpg"]
    with pytest.raises(BadSample, match="unreadable: the folder cannot be listed"):
        open_entry(entries[1])
