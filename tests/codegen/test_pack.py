"""Packed filters: the kernel's modular arithmetic, replayed here on the stream, gives the true sums."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from uhd.codegen import pack

RANGES = {1: [(-128, 127), (0, 127), (-7, 20), (0, 0)], 2: [(-32768, 32767), (0, 32767), (-300, 9)]}


def filters(seed: int, size: int, channels: int, products: int, spread: float) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    top = 127 if size == 1 else 32767
    if spread > 1:
        return rng.choice([-top - 1, top, 0], (channels, products)).astype(np.int64)
    return np.clip(np.rint(rng.normal(0, spread * top, (channels, products))), -top - 1, top).astype(np.int64)


def replay(stream: bytes, products: int, groups: int, size: int, x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums + centres of all channels for two pixels ``x`` [2, products], with 32-bit words as the kernel has them."""
    x = np.concatenate([x, np.full((2, products % 2), 99)], axis=1)  # the odd one out meets weights of 0
    at, sums = 0, []
    for _ in range(groups):
        total, k = np.zeros((4, 2), np.int64), 0
        while k < x.shape[1]:
            if size == 1:
                length, *centres = struct.unpack_from("<5H", stream, at)
                at += 10
            else:
                length, _, *centres = struct.unpack_from("<2H4I", stream, at)
                at += 20
            assert length > 0 and length % 2 == 0
            weight = np.frombuffer(stream, "<i1" if size == 1 else "<i2", 4 * length, at).reshape(length, 4)
            at += 4 * length * size
            for c in range(4):
                if size == 1:
                    word = centres[c] * 0x10001
                    for w, low, high in zip(weight[:, c].tolist(), x[0, k:].tolist(), x[1, k:].tolist(), strict=False):
                        word = (word + (low + (high << 16)) * w) & 0xFFFFFFFF
                    total[c] += word & 0xFFFF, word >> 16
                else:
                    for p in (0, 1):
                        word = centres[c] + int((weight[:, c].astype(np.int64) * x[p, k : k + length]).sum())
                        assert 0 <= word <= 0xFFFFFFFF, "a word overflowed"
                        total[c, p] += word
            k += length
        assert k == x.shape[1]
        sums.append(total)
    assert at == len(stream), "bytes are left over"
    return np.concatenate(sums)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from([1, 2]), st.integers(1, 9), st.integers(1, 40), st.data())
def test_streams_give_true_sums(seed: int, size: int, channels: int, products: int, data: st.DataObject) -> None:
    low, high = data.draw(st.sampled_from(RANGES[size]))
    weight = filters(seed, size, channels, products, data.draw(st.sampled_from([0.01, 0.3, 2.0])))
    made = pack.pack_dense(weight, size, low, high)
    groups = -(-channels // 4)
    assert made.centres.shape == (4 * groups,) and made.chunks >= groups
    rng = np.random.default_rng(seed)
    worst = np.where(weight[0] > 0, high, low)
    for x in (rng.integers(low, high + 1, (2, products)), np.stack([worst, low + high - worst]),
              rng.choice([low, high], (2, products))):  # fmt: skip
        sums = replay(made.content, products, groups, size, x)[:channels] - made.centres[:channels, None]
        np.testing.assert_array_equal(sums, weight @ x.T)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.lists(st.integers(0, 50), min_size=2, max_size=2), min_size=2, max_size=30), st.integers(200, 300))
def test_chunks_are_the_longest_that_fit(rows: list[list[int]], limit: int) -> None:
    width = np.array(rows[: len(rows) // 2 * 2])
    lengths = pack.cut_chunks(width, limit)
    assert sum(lengths) == len(width) and all(n % 2 == 0 for n in lengths)
    start = 0
    for length in lengths:
        assert width[start : start + length].sum(0).max() <= limit
        longer = width[start : start + length + 2]
        assert len(longer) == length or longer.sum(0).max() > limit
        start += length


@pytest.mark.parametrize("size", [1, 2])
def test_two_products_always_fit(size: int) -> None:
    """What cut_chunks relies on: the worst two products of the full range."""
    low, high = RANGES[size][0]
    smallest, largest = pack.product_range(np.array([[low, low], [low, high], [high, high]]), low, high)
    assert (largest - smallest).sum(1).max() <= pack.LIMITS[size]


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from([1, 2]), st.integers(1, 4), st.integers(1, 5), st.data())
def test_depthwise_modes(seed: int, size: int, rows: int, columns: int, data: st.DataObject) -> None:
    """Each channel's sums stay within a word as its mode promises, and no channel is slower than it must be."""
    low, high = data.draw(st.sampled_from(RANGES[size]))
    weight = filters(seed, size, 7, rows * columns, data.draw(st.sampled_from([0.05, 0.4, 2.0])))
    made = pack.depthwise_sums(weight, rows, size, low, high)
    assert made.centre.shape == (7, rows) and made.mode.shape == (7,)
    low, high = min(low, 0), max(high, 0)
    for channel in range(7):
        parts = weight[channel].reshape(rows, columns)
        least = np.minimum(parts * low, parts * high).sum(1)
        most = np.maximum(parts * low, parts * high).sum(1)
        whole_fits = most.sum() - least.sum() <= pack.LIMITS[size]
        rows_fit = (most - least).max() <= pack.LIMITS[size]
        wanted = pack.SUMS_WHOLE if whole_fits else pack.SUMS_BY_ROW if rows_fit else pack.SUMS_WIDE
        assert made.mode[channel] == wanted
        used = {pack.SUMS_WHOLE: [-least.sum()] + [0] * (rows - 1), pack.SUMS_BY_ROW: list(-least),
                pack.SUMS_WIDE: [0] * rows}[wanted]  # fmt: skip
        assert made.centre[channel].tolist() == used and made.folded[channel] == sum(used)


def test_sum_bound() -> None:
    weight = np.array([[3, -5, 2], [0, 0, 0], [-1, -1, -1]])
    np.testing.assert_array_equal(pack.sum_bound(weight, -128, 127), [3 * 128 + 5 * 127 + 2 * 128, 0, 3 * 128])
    np.testing.assert_array_equal(pack.sum_bound(weight, 0, 127), [5 * 127, 0, 3 * 127])
