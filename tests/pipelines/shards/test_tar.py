import io
import tarfile

import blake3
import crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.shards.tar import MAX_MEMBER, TarWriter, header, walk

NAME = st.from_regex(r"[A-Za-z0-9_/-]{1,60}\.[a-z]{1,8}", fullmatch=True).filter(
    lambda name: not name.startswith("/") and "//" not in name
)


def written(members: dict[str, bytes]) -> tuple[bytes, list[tuple[int, int, int]], str]:
    tar = TarWriter(file := io.BytesIO())
    places = [tar.add(name, content) for name, content in members.items()]
    digest = tar.finish()
    return file.getvalue(), [(p.offset, p.size, p.crc32c) for p in places], digest


@given(st.dictionaries(NAME, st.binary(max_size=2000), max_size=8))
def test_tarfile_reads_what_was_written_and_nothing_of_this_machine(members: dict[str, bytes]) -> None:
    content, places, digest = written(members)
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        infos = tar.getmembers()
        read = {info.name: tar.extractfile(info).read() for info in infos}  # type: ignore[union-attr]
    assert read == members
    assert {(i.mtime, i.uid, i.gid, i.uname, i.gname, i.mode) for i in infos} <= {(0, 0, 0, "", "", 0o644)}
    assert digest == blake3.blake3(content).hexdigest()
    for (offset, size, checksum), expected in zip(places, members.values(), strict=True):
        assert content[offset : offset + size] == expected
        assert checksum == crc32c.crc32c(expected)
    assert [(name, size) for name, _, size in walk(content)] == [(n, len(c)) for n, c in members.items()]


def test_long_names_are_split_at_a_slash_as_ustar_has_it() -> None:
    name = "a" * 60 + "/" + "b" * 60 + "/" + "c" * 90 + ".jpg"
    content, _, _ = written({name: b"x"})
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert tar.getnames() == [name]
    assert [found for found, _, _ in walk(content)] == [name]


def test_names_and_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="does not fit a USTAR header"):
        header("x" * 101, 0)
    with pytest.raises(ValueError, match="more than a USTAR member holds"):
        header("x", MAX_MEMBER + 1)


def test_every_truncation_is_noticed() -> None:
    content, _, _ = written({"a.jpg": b"1" * 700, "b.jpg": b"", "c.cls": b"7"})
    for end in range(0, len(content), 64):
        with pytest.raises(ValueError, match=r"truncated|other bytes follow|damaged"):
            list(walk(content[:end]))


def test_every_flipped_bit_of_a_header_is_noticed() -> None:
    content, places, _ = written({"a.jpg": b"1" * 700, "b.jpg": b"22"})
    data = {i for offset, size, _ in places for i in range(offset, offset + size + -size % 512)}
    for i in set(range(len(content))) - data:
        broken = bytearray(content)
        broken[i] ^= 1
        with pytest.raises(ValueError, match=r"truncated|other bytes follow|damaged"):
            list(walk(bytes(broken)))
