"""What makes esp-ppq faster writes what it would write."""

from __future__ import annotations

import gc

import pytest

pytest.importorskip("esp_ppq", reason="esp-ppq is not installed")

import flatbuffers
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=40), st.integers(0, 30))
def test_blocks_are_those_written_byte_by_byte(blocks: list[bytes], before: int) -> None:
    """Whatever the builder holds already, and while it grows."""
    from esp_ppq.parser.espdl import helper

    from uhd.quantize.haste import hasten

    hasten()
    whole, single = flatbuffers.Builder(1), flatbuffers.Builder(1)
    for builder in (whole, single):
        builder.CreateString("x" * before)
        builder.StartVector(16, len(blocks), 16)
    for block in blocks:
        offset = helper.AlignedBytes.CreateAlignedBytes(whole, block)
        single.Prep(16, 16)
        for value in reversed(block):
            single.PrependUint8(value)
        assert offset == single.Offset()
    for builder in (whole, single):
        builder.Finish(builder.EndVector())
    assert whole.Output() == single.Output()


def test_what_torch_holds_is_not_looked_through_again() -> None:
    import torch  # noqa: F401

    from uhd.quantize.haste import hasten

    hasten.cache_clear()
    gc.unfreeze()
    hasten()
    frozen = gc.get_freeze_count()
    assert frozen > 100_000
    hasten()
    assert gc.get_freeze_count() == frozen, "once only: what jobs leave behind is still collected"
