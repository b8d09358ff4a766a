"""PNG with 16 bits a sample, in numpy: Pillow reads and writes only the grey ones that deep.

Filters that look left and up depend on both neighbours, so the pixels of one anti-diagonal are independent
of each other and are undone together: about rows + columns numpy steps for a block of rows.
Source: PNG (third edition), W3C 2025, sec. 8 (interlacing), 9 (filtering).
"""

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modalities.base import BadSample
from modalities.image.readers.png import SIGNATURE, chunks
from modalities.image.readers.span import Span

Bytes = NDArray[np.uint8]
BLOCK_ROWS = 256

_SAMPLES = {0: 1, 2: 3, 4: 2, 6: 4}
_COLOURS = {1: 0, 3: 2, 4: 6}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def decode(data: bytes, channels: int) -> NDArray[np.uint16]:
    """(h, w, channels) of a probed 16-bit PNG; 4 channels for grey with alpha and for a colour key."""
    span = Span(len(data), data=data)
    width, height, _, colour, _, _, interlace = struct.unpack(">IIBBBBB", data[16:29])
    samples = _SAMPLES[colour]
    passes = _ADAM7 if interlace else ((0, 0, 1, 1),)
    shapes = [(-(-(height - y) // dy), -(-(width - x) // dx)) for x, y, dx, dy in passes]
    want = sum(rows * (1 + 2 * samples * columns) for rows, columns in shapes if rows > 0 and columns > 0)
    stream = _inflate(span, want)
    image = np.empty((height, width, samples), np.uint16)
    at = 0
    for (x, y, dx, dy), (rows, columns) in zip(passes, shapes, strict=True):
        if rows > 0 and columns > 0:
            end = at + rows * (1 + 2 * samples * columns)
            plain = unfilter(stream[at:end].reshape(rows, -1), 2 * samples)
            image[y::dy, x::dx] = plain.view(">u2").reshape(rows, columns, samples)
            at = end
    return _with_alpha(image, _transparent(span, samples)) if channels == 4 else image


def _inflate(span: Span, want: int) -> Bytes:
    pieces = [span.at(at, size) for kind, at, size in chunks(span) if kind == b"IDAT"]
    stream = zlib.decompressobj().decompress(b"".join(pieces), want)
    if len(stream) != want:
        raise BadSample("truncated", f"PNG picture data ends after {len(stream)} of {want} bytes")
    return np.frombuffer(stream, np.uint8)


def _transparent(span: Span, samples: int) -> NDArray[np.uint16] | None:
    for kind, at, size in chunks(span):
        if kind == b"tRNS":
            if size != 2 * samples:
                raise BadSample("corrupt", f"PNG transparent colour of {size} bytes, want {2 * samples}")
            return np.frombuffer(span.at(at, size), ">u2").astype(np.uint16)
    return None


def _with_alpha(image: NDArray[np.uint16], transparent: NDArray[np.uint16] | None) -> NDArray[np.uint16]:
    """(h, w, 4): grey is repeated; the transparent colour gets alpha 0."""
    if image.shape[2] == 4:
        return image
    if transparent is None:
        alpha, colours = image[..., 1:], image[..., :1]
    else:
        alpha = np.where((image == transparent).all(axis=2, keepdims=True), 0, 65535).astype(np.uint16)
        colours = image
    return np.concatenate([np.broadcast_to(colours, (*image.shape[:2], 3)), alpha], axis=2)


def unfilter(lines: Bytes, step: int) -> Bytes:
    """Undo the filters: (h, 1 + n * step), filter type first, -> (h, n * step). `step` bytes are a pixel."""
    kinds = lines[:, 0]
    if kinds.max() > 4:
        raise BadSample("corrupt", f"PNG filter {kinds.max()} does not exist")
    plain = np.empty((len(lines), lines.shape[1] - 1), np.uint8)
    above = np.zeros(plain.shape[1], np.uint8)
    for start in range(0, len(lines), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        undo = _by_rows if kinds[block].max() <= 2 else _by_diagonals
        undo(lines[block, 1:], kinds[block], above, step, plain[block])
        above = plain[block][-1]
    return plain


def _by_rows(
    raw: Bytes,
    kinds: Bytes,
    above: Bytes,
    step: int,
    out: Bytes,
) -> None:
    """Filters none, sub and up: a running sum along or down the rows, modulo 256."""
    for y, kind in enumerate(kinds):
        if kind == 1:
            out[y] = np.cumsum(raw[y].reshape(-1, step), axis=0, dtype=np.uint8).ravel()
        else:
            out[y] = raw[y] + above if kind == 2 else raw[y]
        above = out[y]


def _by_diagonals(
    raw: Bytes,
    kinds: Bytes,
    above: Bytes,
    step: int,
    out: Bytes,
) -> None:
    """All five filters. With a border of one pixel, a step along the anti-diagonal is `columns` pixels."""
    rows, columns = len(raw), raw.shape[1] // step
    padded = np.zeros((rows + 1, columns + 1, step), np.int16)
    padded[0, 1:] = above.reshape(columns, step)
    padded[1:, 1:] = raw.reshape(rows, columns, step)
    flat = padded.reshape(-1, step)
    pick = kinds.astype(np.intp)[:, None]
    for diagonal in range(rows + columns - 1):
        first, last = max(0, diagonal - columns + 1), min(rows - 1, diagonal)
        here = (first + 1) * (columns + 1) + diagonal - first + 1
        stop = here + (last - first) * columns + 1

        def neighbours(back: int, here: int = here, stop: int = stop) -> NDArray[np.int16]:
            return flat[here - back : stop - back : columns]

        left, up, corner = neighbours(1), neighbours(columns + 1), neighbours(columns + 2)
        guess = _predict(left, up, corner, pick[first : last + 1])
        neighbours(0)[...] = (neighbours(0) + guess) & 255
    out[...] = padded[1:, 1:].reshape(rows, -1)


def _predict(left: Any, up: Any, corner: Any, kind: NDArray[np.intp]) -> NDArray[np.int16]:
    to_left, to_up = np.abs(up - corner), np.abs(left - corner)
    to_corner = np.abs(left + up - 2 * corner)
    paeth = np.where(
        (to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner)
    )
    return np.asarray(np.choose(kind, (np.zeros_like(left), left, up, (left + up) >> 1, paeth)), np.int16)


def encode(image: NDArray[np.uint16], profile: bytes | None = None) -> bytes:
    """Lossless PNG of (h, w, c) uint16, c 1, 3 or 4; each row takes the better of two filters, sub and up."""
    height, width, samples = image.shape
    raw = np.ascontiguousarray(image, ">u2").view(np.uint8).reshape(height, width * samples * 2)
    step = 2 * samples
    lines = np.empty((2, height, 1 + raw.shape[1]), np.uint8)
    lines[0, :, 0], lines[1, :, 0] = 1, 2
    lines[0, :, 1:] = raw
    lines[0, :, 1 + step :] -= raw[:, :-step]
    lines[1, :, 1:] = raw
    lines[1, 1:, 1:] -= raw[:-1]
    cost = np.abs(lines[:, :, 1:].view(np.int8).astype(np.int16)).sum(axis=2)
    best = np.where((cost[1] < cost[0])[:, None], lines[1], lines[0])
    head = struct.pack(">IIBBBBB", width, height, 16, _COLOURS[samples], 0, 0, 0)
    parts = [SIGNATURE, _chunk(b"IHDR", head)]
    if profile:
        parts.append(_chunk(b"iCCP", b"icc\0\0" + zlib.compress(profile)))
    return b"".join([*parts, _chunk(b"IDAT", zlib.compress(best.tobytes())), _chunk(b"IEND", b"")])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
