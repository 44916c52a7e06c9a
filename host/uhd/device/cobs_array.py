"""COBS for data full of zeros, in operations on whole arrays: a loop over its many short blocks takes ten times longer.

``uhd.device.link`` says what COBS is, and comes here only for such data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: The decoder jumps over 2**this many blocks at once when it looks for where blocks begin.
_LEVELS = 5


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
    size = len(data)
    out = np.zeros(size + 1, np.uint8)
    out[:size] = np.frombuffer(data, np.uint8)
    codes = _block_starts(out)
    lengths = out[codes]
    if (codes + lengths).max() > size:
        return None
    full = codes[lengths == 0xFF]
    out[codes] = 0
    if not full.size:
        return out[1:size].tobytes()
    keep = np.ones(size + 1, bool)
    keep[[0, size]] = False
    keep[full + 255] = False
    return out[keep].tobytes()


def _block_starts(source: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Positions of the codes, in any order: 0, then each where the one before points to; the end, where 0 stands, too.

    The chain is walked in long jumps, and the links that a jump passes are filled in for all jumps at once.
    """
    end = len(source) - 1
    step = np.arange(end + 1)
    step += source
    np.minimum(step, end, out=step)
    jumps = [step]
    for _ in range(_LEVELS):
        jumps.append(jumps[-1].take(jumps[-1]))
    far, position, walked = jumps.pop().item, 0, []
    while position < end:
        walked.append(position)
        position = far(position)
    found = np.array(walked)
    for jump in reversed(jumps):
        found = np.concatenate((found, jump.take(found)))
    return found
