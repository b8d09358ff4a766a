# mypy: ignore-errors
# fmt: off
"""Triton kernels of local attention. A program holds one block of one window of one head.

Axes are t, h, w. G: raster, C: windows, W: tokens of a window, S: shift, D: 1 if strided, L: window of the
bias table. Strides are those of batch, t, h, w and head; channels lie side by side.
"""

import triton
import triton.language as tl

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def on_axis(
    place, window, G: tl.constexpr, C: tl.constexpr, W: tl.constexpr, S: tl.constexpr, D: tl.constexpr
):
    """Position on one axis of a token of a window, and whether the shift wrapped it around."""
    if D:
        return place * C + window, place * 0
    moved = window * W + place + S
    return moved % (C * W), (moved >= C * W).to(tl.int32)


@triton.jit
def locate(
    j, window,
    GT: tl.constexpr, CT: tl.constexpr, WT: tl.constexpr, ST: tl.constexpr, DT: tl.constexpr,
    GH: tl.constexpr, CH: tl.constexpr, WH: tl.constexpr, SH: tl.constexpr, DH: tl.constexpr,
    GW: tl.constexpr, CW: tl.constexpr, WW: tl.constexpr, SW: tl.constexpr, DW: tl.constexpr,
):  # fmt: skip
    """Where token j of a window lies: t, h, w, whether it is in the raster, and its region after the shift."""
    t, t_wrap = on_axis(j // (WH * WW), window // (CH * CW), GT, CT, WT, ST, DT)
    h, h_wrap = on_axis((j // WW) % WH, (window // CW) % CH, GH, CH, WH, SH, DH)
    w, w_wrap = on_axis(j % WW, window % CW, GW, CW, WW, SW, DW)
    inside = (j < WT * WH * WW) & (t < GT) & (h < GH) & (w < GW)
    return t, h, w, inside, t_wrap * 4 + h_wrap * 2 + w_wrap


@triton.jit
def load(base, t, h, w, inside, sT, sH, sW, E: tl.constexpr, BLOCK_E: tl.constexpr):
    """(block, e) of the tokens at t, h, w; zeros outside."""
    e = tl.arange(0, BLOCK_E)
    at = (t * sT + h * sH + w * sW)[:, None] + e[None]
    return tl.load(base + at, mask=inside[:, None] & (e < E)[None], other=0.0)


@triton.jit
def store(base, value, t, h, w, inside, sT, sH, sW, E: tl.constexpr, BLOCK_E: tl.constexpr):
    e = tl.arange(0, BLOCK_E)
    at = (t * sT + h * sH + w * sW)[:, None] + e[None]
    tl.store(base + at, value.to(base.dtype.element_ty), mask=inside[:, None] & (e < E)[None])


@triton.jit
def table_rows(
    i, j, WH: tl.constexpr, WW: tl.constexpr, LT: tl.constexpr, LH: tl.constexpr, LW: tl.constexpr
):
    """Row of the bias table for queries i and keys j of a window: (block, block)."""
    t = (i // (WH * WW))[:, None] - (j // (WH * WW))[None] + LT - 1
    h = ((i // WW) % WH)[:, None] - ((j // WW) % WH)[None] + LH - 1
    w = (i % WW)[:, None] - (j % WW)[None] + LW - 1
    return (t * (2 * LH - 1) + h) * (2 * LW - 1) + w


@triton.jit
def scores(
    q, k, i, j, q_in, k_in, q_region, k_region, table, head, scale, N: tl.constexpr, HEADS: tl.constexpr,
    WH: tl.constexpr, WW: tl.constexpr, LT: tl.constexpr, LH: tl.constexpr, LW: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Scores in units of log 2, -inf where a query may not look: (queries, keys)."""
    s = tl.dot(q, tl.trans(k), input_precision="ieee") * (scale * LOG2E)
    if HAS_BIAS:
        both = (i < N)[:, None] & (j < N)[None]
        rows = table_rows(i, j, WH, WW, LT, LH, LW)
        s += tl.load(table + rows * HEADS + head, mask=both, other=0.0).to(tl.float32) * LOG2E
    return tl.where(k_in[None] & (q_region[:, None] == k_region[None]), s, float("-inf"))


@triton.jit
def visible(hidden, b, t, h, w, inside, GT: tl.constexpr, GH: tl.constexpr, GW: tl.constexpr):
    """Keys that are in the raster and not hidden by the caller."""
    at = ((b * GT + t) * GH + h) * GW + w
    return inside & (tl.load(hidden + at, mask=inside, other=1) == 0)


@triton.jit
def forward(
    Q, K, V, Y, LSE, TABLE, HIDDEN, scale,
    qB, qT, qH, qW, qh, kB, kT, kH, kW, kh, vB, vT, vH, vW, vh, yB, yT, yH, yW, yh,
    GT: tl.constexpr, CT: tl.constexpr, WT: tl.constexpr, ST: tl.constexpr, DT: tl.constexpr, LT: tl.constexpr,
    GH: tl.constexpr, CH: tl.constexpr, WH: tl.constexpr, SH: tl.constexpr, DH: tl.constexpr, LH: tl.constexpr,
    GW: tl.constexpr, CW: tl.constexpr, WW: tl.constexpr, SW: tl.constexpr, DW: tl.constexpr, LW: tl.constexpr,
    HEADS: tl.constexpr, E: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr, BLOCK_E: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_HIDDEN: tl.constexpr,
):  # fmt: skip
    """One pass over the keys of the window with a running maximum."""
    blocks: tl.constexpr = (N + BLOCK - 1) // BLOCK
    window, b = tl.program_id(0) // blocks, (tl.program_id(1) // HEADS).to(tl.int64)
    head = tl.program_id(1) % HEADS
    i = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    t, h, w, inside, region = locate(i, window, GT, CT, WT, ST, DT, GH, CH, WH, SH, DH, GW, CW, WW, SW, DW)
    q = load(Q + b * qB + head * qh, t, h, w, inside, qT, qH, qW, E, BLOCK_E)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    y = tl.zeros((BLOCK, BLOCK_E), tl.float32)
    for start in range(0, N, BLOCK):
        j = start + tl.arange(0, BLOCK)
        kt, k_h, kw, k_in, k_region = locate(
            j, window, GT, CT, WT, ST, DT, GH, CH, WH, SH, DH, GW, CW, WW, SW, DW
        )
        k = load(K + b * kB + head * kh, kt, k_h, kw, k_in, kT, kH, kW, E, BLOCK_E)
        v = load(V + b * vB + head * vh, kt, k_h, kw, k_in, vT, vH, vW, E, BLOCK_E)
        if HAS_HIDDEN:
            k_in = visible(HIDDEN, b, kt, k_h, kw, k_in, GT, GH, GW)
        s = scores(
            q, k, i, j, inside, k_in, region, k_region, TABLE, head, scale, N, HEADS, WH, WW, LT, LH,
            LW, HAS_BIAS,
        )
        top = tl.maximum(best, tl.max(s, 1))
        safe = tl.where(top == float("-inf"), 0.0, top)  # nothing seen yet: keep NaN out
        p = tl.exp2(s - safe[:, None])
        keep = tl.exp2(best - safe)
        total = total * keep + tl.sum(p, 1)
        y = y * keep[:, None] + tl.dot(p.to(v.dtype), v, input_precision="ieee")
        best = top
    y = y / tl.where(total == 0, 1.0, total)[:, None]
    store(Y + b * yB + head * yh, y, t, h, w, inside, yT, yH, yW, E, BLOCK_E)
    lse = tl.where(total == 0, float("inf"), best + tl.log2(tl.where(total == 0, 1.0, total)))
    at = (((b * GT + t) * GH + h) * GW + w) * HEADS + head
    tl.store(LSE + at, lse, mask=inside)


@triton.jit
def weights(
    q, k, v, dy, i, j, q_in, k_in, q_region, k_region, lse, delta, table, head, scale,
    N: tl.constexpr, HEADS: tl.constexpr, WH: tl.constexpr, WW: tl.constexpr,
    LT: tl.constexpr, LH: tl.constexpr, LW: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    """Attention weights and the gradient of the scores: p and ds, (queries, keys)."""
    s = scores(
        q, k, i, j, q_in, k_in, q_region, k_region, table, head, scale, N, HEADS, WH, WW, LT, LH, LW, HAS_BIAS
    )
    p = tl.where(q_in[:, None], tl.exp2(s - lse[:, None]), 0.0)
    dp = tl.dot(dy, tl.trans(v), input_precision="ieee")
    return p, p * (dp - delta[:, None])


@triton.jit
def backward_q(
    Q, K, V, DY, LSE, DELTA, TABLE, HIDDEN, scale, DQ,
    qB, qT, qH, qW, qh, kB, kT, kH, kW, kh, vB, vT, vH, vW, vh, yB, yT, yH, yW, yh,
    GT: tl.constexpr, CT: tl.constexpr, WT: tl.constexpr, ST: tl.constexpr, DT: tl.constexpr, LT: tl.constexpr,
    GH: tl.constexpr, CH: tl.constexpr, WH: tl.constexpr, SH: tl.constexpr, DH: tl.constexpr, LH: tl.constexpr,
    GW: tl.constexpr, CW: tl.constexpr, WW: tl.constexpr, SW: tl.constexpr, DW: tl.constexpr, LW: tl.constexpr,
    HEADS: tl.constexpr, E: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr, BLOCK_E: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_HIDDEN: tl.constexpr,
):  # fmt: skip
    """dq_i = scale sum_j ds_ij k_j."""
    blocks: tl.constexpr = (N + BLOCK - 1) // BLOCK
    window, b = tl.program_id(0) // blocks, (tl.program_id(1) // HEADS).to(tl.int64)
    head = tl.program_id(1) % HEADS
    i = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    t, h, w, inside, region = locate(i, window, GT, CT, WT, ST, DT, GH, CH, WH, SH, DH, GW, CW, WW, SW, DW)
    q = load(Q + b * qB + head * qh, t, h, w, inside, qT, qH, qW, E, BLOCK_E)
    dy = load(DY + b * yB + head * yh, t, h, w, inside, yT, yH, yW, E, BLOCK_E)
    at = (((b * GT + t) * GH + h) * GW + w) * HEADS + head
    lse = tl.load(LSE + at, mask=inside, other=float("inf"))
    delta = tl.load(DELTA + at, mask=inside, other=0.0)
    dq = tl.zeros((BLOCK, BLOCK_E), tl.float32)
    for start in range(0, N, BLOCK):
        j = start + tl.arange(0, BLOCK)
        kt, k_h, kw, k_in, k_region = locate(
            j, window, GT, CT, WT, ST, DT, GH, CH, WH, SH, DH, GW, CW, WW, SW, DW
        )
        k = load(K + b * kB + head * kh, kt, k_h, kw, k_in, kT, kH, kW, E, BLOCK_E)
        v = load(V + b * vB + head * vh, kt, k_h, kw, k_in, vT, vH, vW, E, BLOCK_E)
        if HAS_HIDDEN:
            k_in = visible(HIDDEN, b, kt, k_h, kw, k_in, GT, GH, GW)
        p, ds = weights(
            q, k, v, dy, i, j, inside, k_in, region, k_region, lse, delta, TABLE, head, scale, N,
            HEADS, WH, WW, LT, LH, LW, HAS_BIAS,
        )
        dq += tl.dot(ds.to(k.dtype), k, input_precision="ieee")
    store(DQ + b * yB + head * yh, dq * scale, t, h, w, inside, yT, yH, yW, E, BLOCK_E)


@triton.jit
def backward_kv(
    Q, K, V, DY, LSE, DELTA, TABLE, HIDDEN, scale, DK, DV,
    qB, qT, qH, qW, qh, kB, kT, kH, kW, kh, vB, vT, vH, vW, vh, yB, yT, yH, yW, yh,
    GT: tl.constexpr, CT: tl.constexpr, WT: tl.constexpr, ST: tl.constexpr, DT: tl.constexpr, LT: tl.constexpr,
    GH: tl.constexpr, CH: tl.constexpr, WH: tl.constexpr, SH: tl.constexpr, DH: tl.constexpr, LH: tl.constexpr,
    GW: tl.constexpr, CW: tl.constexpr, WW: tl.constexpr, SW: tl.constexpr, DW: tl.constexpr, LW: tl.constexpr,
    HEADS: tl.constexpr, E: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr, BLOCK_E: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_HIDDEN: tl.constexpr,
):  # fmt: skip
    """dk_j = scale sum_i ds_ij q_i;  dv_j = sum_i p_ij dy_i."""
    blocks: tl.constexpr = (N + BLOCK - 1) // BLOCK
    window, b = tl.program_id(0) // blocks, (tl.program_id(1) // HEADS).to(tl.int64)
    head = tl.program_id(1) % HEADS
    j = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    kt, k_h, kw, inside, k_region = locate(
        j, window, GT, CT, WT, ST, DT, GH, CH, WH, SH, DH, GW, CW, WW, SW, DW
    )
    k = load(K + b * kB + head * kh, kt, k_h, kw, inside, kT, kH, kW, E, BLOCK_E)
    v = load(V + b * vB + head * vh, kt, k_h, kw, inside, vT, vH, vW, E, BLOCK_E)
    k_in = inside
    if HAS_HIDDEN:
        k_in = visible(HIDDEN, b, kt, k_h, kw, inside, GT, GH, GW)
    dk = tl.zeros((BLOCK, BLOCK_E), tl.float32)
    dv = tl.zeros((BLOCK, BLOCK_E), tl.float32)
    for start in range(0, N, BLOCK):
        i = start + tl.arange(0, BLOCK)
        t, h, w, q_in, region = locate(i, window, GT, CT, WT, ST, DT, GH, CH, WH, SH, DH, GW, CW, WW, SW, DW)
        q = load(Q + b * qB + head * qh, t, h, w, q_in, qT, qH, qW, E, BLOCK_E)
        dy = load(DY + b * yB + head * yh, t, h, w, q_in, yT, yH, yW, E, BLOCK_E)
        at = (((b * GT + t) * GH + h) * GW + w) * HEADS + head
        lse = tl.load(LSE + at, mask=q_in, other=float("inf"))
        delta = tl.load(DELTA + at, mask=q_in, other=0.0)
        p, ds = weights(
            q, k, v, dy, i, j, q_in, k_in, region, k_region, lse, delta, TABLE, head, scale, N,
            HEADS, WH, WW, LT, LH, LW, HAS_BIAS,
        )
        dk += tl.dot(tl.trans(ds).to(q.dtype), q, input_precision="ieee")
        dv += tl.dot(tl.trans(p).to(dy.dtype), dy, input_precision="ieee")
    store(DK + b * yB + head * yh, dk * scale, kt, k_h, kw, inside, yT, yH, yW, E, BLOCK_E)
    store(DV + b * yB + head * yh, dv, kt, k_h, kw, inside, yT, yH, yW, E, BLOCK_E)


@triton.jit
def backward_bias(
    Q, K, V, DY, LSE, DELTA, TABLE, HIDDEN, scale, PARTIAL, rounds,
    qB, qT, qH, qW, qh, kB, kT, kH, kW, kh, vB, vT, vH, vW, vh, yB, yT, yH, yW, yh,
    GT: tl.constexpr, CT: tl.constexpr, WT: tl.constexpr, ST: tl.constexpr, DT: tl.constexpr, LT: tl.constexpr,
    GH: tl.constexpr, CH: tl.constexpr, WH: tl.constexpr, SH: tl.constexpr, DH: tl.constexpr, LH: tl.constexpr,
    GW: tl.constexpr, CW: tl.constexpr, WW: tl.constexpr, SW: tl.constexpr, DW: tl.constexpr, LW: tl.constexpr,
    HEADS: tl.constexpr, E: tl.constexpr, N: tl.constexpr, BLOCK: tl.constexpr, BLOCK_E: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_HIDDEN: tl.constexpr, TURNS: tl.constexpr,
):  # fmt: skip
    """Sums of ds over the windows and samples of one chunk, always in the same order: (chunk, h, n, n)."""
    blocks: tl.constexpr = (N + BLOCK - 1) // BLOCK
    windows: tl.constexpr = CT * CH * CW
    head, chunk = tl.program_id(1), tl.program_id(2)
    i = (tl.program_id(0) // blocks) * BLOCK + tl.arange(0, BLOCK)
    j = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    sums = tl.zeros((BLOCK, BLOCK), tl.float32)
    for step in range(TURNS):
        turn = chunk * TURNS + step
        window, b = turn % windows, (turn // windows).to(tl.int64)
        t, h, w, q_in, region = locate(i, window, GT, CT, WT, ST, DT, GH, CH, WH, SH, DH, GW, CW, WW, SW, DW)
        kt, k_h, kw, k_in, k_region = locate(
            j, window, GT, CT, WT, ST, DT, GH, CH, WH, SH, DH, GW, CW, WW, SW, DW
        )
        q_in = q_in & (turn < rounds)  # the last chunk may be short
        k_in = k_in & (turn < rounds)
        q = load(Q + b * qB + head * qh, t, h, w, q_in, qT, qH, qW, E, BLOCK_E)
        k = load(K + b * kB + head * kh, kt, k_h, kw, k_in, kT, kH, kW, E, BLOCK_E)
        v = load(V + b * vB + head * vh, kt, k_h, kw, k_in, vT, vH, vW, E, BLOCK_E)
        dy = load(DY + b * yB + head * yh, t, h, w, q_in, yT, yH, yW, E, BLOCK_E)
        if HAS_HIDDEN:
            k_in = visible(HIDDEN, b, kt, k_h, kw, k_in, GT, GH, GW)
        at = (((b * GT + t) * GH + h) * GW + w) * HEADS + head
        lse = tl.load(LSE + at, mask=q_in, other=float("inf"))
        delta = tl.load(DELTA + at, mask=q_in, other=0.0)
        p, ds = weights(
            q, k, v, dy, i, j, q_in, k_in, region, k_region, lse, delta, TABLE, head, scale, N,
            HEADS, WH, WW, LT, LH, LW, HAS_BIAS,
        )
        sums += ds  # fixed order: the same bits every time
    n: tl.constexpr = blocks * BLOCK
    base = (chunk * HEADS + head).to(tl.int64) * n * n
    tl.store(PARTIAL + base + i[:, None] * n + j[None], sums)
