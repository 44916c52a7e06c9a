"""COBS for data full of zeros, in operations on whole arrays: a loop over its many short blocks takes ten times longer.

``uhd.device.link`` says what COBS is, and comes here only for such data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: The decoder jumps over 2**this many blocks at once when it looks for where blocks begin.
_LEVELS = 6


def encode(data: bytes) -> bytes:
    """See ``link.cobs_encode``."""
    source = np.frombuffer(data, np.uint8)
    zeros = np.flatnonzero(source == 0)
    starts = np.concatenate(([0], zeros + 1))
    lengths = np.concatenate((zeros, [len(data)])) - starts  # of the runs between zeros
    if lengths.max() < 254:
        out = np.empty(len(data) + 1, np.uint8)
        out[1:] = source
        out[starts] = lengths + 1
        return out.tobytes()
    blocks = lengths // 254 + 1
    blocks[-1] -= lengths[-1] > 0 and lengths[-1] % 254 == 0  # a full block at the end stands for no zero
    first = np.repeat(np.cumsum(blocks) - blocks, blocks)  # number of the first block of the run that a block is of
    sizes = np.minimum(np.repeat(lengths, blocks) - 254 * (np.arange(len(first)) - first), 254)
    codes = np.cumsum(sizes + 1) - (sizes + 1)
    out = np.empty(len(sizes) + sizes.sum(), np.uint8)
    is_data = np.ones(len(out), bool)
    is_data[codes] = False
    out[codes] = sizes + 1
    out[is_data] = source[source != 0]
    return out.tobytes()


def decode(data: bytes) -> bytes | None:
    """See ``link.cobs_decode``."""
    source = np.frombuffer(data, np.uint8)
    codes = _block_starts(source)
    last = int(codes[-1])
    if last + data[last] != len(data):
        return None
    full = source[codes[:-1]] == 0xFF
    out = source.copy()
    out[codes] = 0
    if not full.any():
        return out[1:].tobytes()
    keep = np.ones(len(out), bool)
    keep[0] = False
    keep[codes[1:][full]] = False
    return out[keep].tobytes()


def _block_starts(source: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Positions of the codes, in order: 0, then each where the one before points to.

    The chain is walked in long jumps, and the links that a jump passes are filled in for all jumps at once.
    """
    size = len(source)
    step = np.arange(size + 1)
    step[:-1] += source
    np.minimum(step, size, out=step)
    jumps = [step]
    for _ in range(_LEVELS):
        jumps.append(jumps[-1].take(jumps[-1]))
    far, position, walked = jumps.pop().item, 0, []
    while position < size:
        walked.append(position)
        position = far(position)
    found = np.array(walked)
    for jump in reversed(jumps):
        both = np.empty(2 * len(found), np.intp)
        both[::2], both[1::2] = found, jump.take(found)
        found = both
    return found[found < size]
