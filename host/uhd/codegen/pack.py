"""Filters in the order and cut into the chunks that the C++ kernels want, and the proofs that their sums fit.

The kernels add products in 32-bit words: two int8 pixels in the halves of a word, or one int16 pixel. A chunk is a run
of products whose sum, for every input in [low, high], lies in [-centre, limit - centre]; the kernel starts each sum at
``centre``, so that it stays in 0..limit and neither half ever disturbs the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]

#: Output channels that the matrix kernel works on at once.
GROUP = 4
#: Largest sum of a chunk, above its smallest, by bytes of an element.
LIMITS = {1: 0xFFFF, 2: 0xFFFFFFFF}
#: How a depthwise channel is summed (kSumsWhole, kSumsByRow, kSumsWide).
SUMS_WHOLE, SUMS_BY_ROW, SUMS_WIDE = 0, 1, 2


@dataclass(frozen=True)
class Stream:
    """A packed dense filter: the kernel's byte stream, and per output channel the sum of its chunks' centres."""

    content: bytes
    centres: Int64
    chunks: int


def product_range(weight: Int64, low: int, high: int) -> tuple[Int64, Int64]:
    """Smallest and largest product of each weight with an input in [low, high], the padding's 0 included."""
    low, high = min(low, 0), max(high, 0)
    return np.minimum(weight * low, weight * high), np.maximum(weight * low, weight * high)


def sum_bound(weight: Int64, low: int, high: int) -> Int64:
    """Largest magnitude that the sum over the last axis can have."""
    smallest, largest = product_range(weight, low, high)
    bound: Int64 = np.maximum(-smallest.sum(-1), largest.sum(-1))
    return bound


def cut_chunks(width: Int64, limit: int) -> list[int]:
    """Lengths of the longest even runs of rows whose column sums stay within ``limit``.

    ``width`` is [even number of products, channels]: by how much each product can vary; no two exceed ``limit``.
    """
    width = width[0::2] + width[1::2]
    total = np.concatenate([np.zeros((1, width.shape[1]), np.int64), np.cumsum(width, axis=0)])
    lengths, start = [], 0
    while start < len(width):
        reach = zip(total.T, total[start] + limit, strict=True)
        ends = [int(np.searchsorted(column, most, side="right")) - 1 for column, most in reach]
        end = min(*ends, start + 0x7FFF)
        if end <= start:
            raise AssertionError("two products exceed the limit")
        lengths.append(2 * (end - start))
        start = end
    return lengths


def pack_dense(weight: Int64, element_bytes: int, low: int, high: int) -> Stream:
    """``weight`` [N, products] -> the stream that ``uhd::nn::conv_gemm`` reads (see kernels.hpp)."""
    channels, products = weight.shape
    padded = np.zeros((-(-channels // GROUP) * GROUP, products + products % 2), np.int64)
    padded[:channels, :products] = weight
    smallest, largest = product_range(padded, low, high)
    centres = np.zeros(len(padded), np.int64)
    parts: list[bytes] = []
    chunks = 0
    for first in range(0, len(padded), GROUP):
        group = slice(first, first + GROUP)
        start = 0
        for length in cut_chunks((largest - smallest)[group].T, LIMITS[element_bytes]):
            run = slice(start, start + length)
            centre = -smallest[group, run].sum(axis=1)
            centres[group] += centre
            if element_bytes == 1:
                parts.append(np.concatenate([[length], centre]).astype("<u2").tobytes())
                parts.append(padded[group, run].T.astype("<i1").tobytes())
            else:
                parts.append(np.array([length, 0], "<u2").tobytes() + centre.astype("<u4").tobytes())
                parts.append(padded[group, run].T.astype("<i2").tobytes())
            start += length
            chunks += 1
    return Stream(b"".join(parts), centres, chunks)


@dataclass(frozen=True)
class DepthwiseSums:
    """How far each channel's sums fit: ``mode`` [N] and ``centre`` [N, rows] of ``uhd::nn::DepthwiseConv``.

    ``folded`` [N] is the sum of the centres that the kernel really uses.
    """

    mode: Int64
    centre: Int64
    folded: Int64


def depthwise_sums(weight: Int64, rows: int, element_bytes: int, low: int, high: int) -> DepthwiseSums:
    """``weight`` [N, taps], row by row of the kernel -> modes and centres."""
    smallest, largest = product_range(weight.reshape(len(weight), rows, -1), low, high)
    by_row = -smallest.sum(axis=2)
    widths = (largest - smallest).sum(axis=2)
    whole_fits = widths.sum(axis=1) <= LIMITS[element_bytes]
    rows_fit = widths.max(axis=1) <= LIMITS[element_bytes]
    mode = np.where(whole_fits, SUMS_WHOLE, np.where(rows_fit, SUMS_BY_ROW, SUMS_WIDE))
    centre = np.where((mode == SUMS_BY_ROW)[:, None], by_row, 0)
    centre[:, 0] = np.where(mode == SUMS_WHOLE, by_row.sum(axis=1), centre[:, 0])
    return DepthwiseSums(mode, centre, centre.sum(axis=1))
