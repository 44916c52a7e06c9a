"""What makes esp-ppq faster and changes no byte of what it writes.

Imported by processes that run esp-ppq only.
"""

from __future__ import annotations

import functools
import gc
from typing import Any

from esp_ppq.parser.espdl import helper

#: Bytes of an element in which .espdl files store constants and test vectors, and their alignment.
_BLOCK = 16


@functools.cache
def hasten() -> None:
    """Call once torch and esp-ppq are loaded; more calls do nothing.

    esp-ppq collects garbage around every step, which takes long because torch's own objects are looked through each
    time: they are set aside. And it writes constants byte by byte: they are written by the block.
    """
    gc.collect()
    gc.freeze()
    helper.AlignedBytes.CreateAlignedBytes = _create_aligned_bytes


def _create_aligned_bytes(builder: Any, block: bytes) -> int:
    builder.Prep(_BLOCK, _BLOCK)
    builder.head -= _BLOCK
    builder.Bytes[builder.head : builder.head + _BLOCK] = block
    return int(builder.Offset())
