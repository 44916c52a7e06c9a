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
#: Centre that marks a depthwise channel whose sum does not fit (kDepthwiseWide8, kDepthwiseWide16).
WIDE = {1: 0xFFFF, 2: 0xFFFFFFFF}


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
    """Lengths of the longest runs of rows whose column sums stay within ``limit``.

    ``width`` is [products, channels]: by how much each product can vary; a single one never exceeds ``limit``.
    """
    total = np.concatenate([np.zeros((1, width.shape[1]), np.int64), np.cumsum(width, axis=0)])
    lengths, start = [], 0
    while start < len(width):
        reach = zip(total.T, total[start] + limit, strict=True)
        ends = [int(np.searchsorted(column, most, side="right")) - 1 for column, most in reach]
        end = min(*ends, start + 0xFFFF)
        if end <= start:
            raise AssertionError("a single product exceeds the limit")
        lengths.append(end - start)
        start = end
    return lengths


def pack_dense(weight: Int64, element_bytes: int, low: int, high: int) -> Stream:
    """``weight`` [N, products] -> the stream that ``uhd::nn::conv_gemm`` reads (see kernels.hpp)."""
    channels, products = weight.shape
    padded = np.zeros((-(-channels // GROUP) * GROUP, products), np.int64)
    padded[:channels] = weight
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


def depthwise_centres(weight: Int64, element_bytes: int, low: int, high: int) -> tuple[Int64, NDArray[np.bool_]]:
    """``weight`` [N, taps] -> per channel the centre that the kernel starts at, and whether it is marked wide."""
    smallest, largest = product_range(weight, low, high)
    wide = (largest - smallest).sum(axis=1) >= LIMITS[element_bytes]
    return np.where(wide, WIDE[element_bytes], -smallest.sum(axis=1)), wide
