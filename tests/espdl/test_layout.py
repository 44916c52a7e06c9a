"""Filter layouts against the address of every single weight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.espdl_reference import logical_filter
from uhd.errors import ModelError
from uhd.espdl.layout import LANES, filter_dims, pack_filter, unpack_filter

sizes = st.tuples(st.integers(1, 40), st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))


@given(sizes, st.sampled_from(sorted(LANES)), st.booleans())
@settings(max_examples=60)
def test_unpacking_finds_every_weight(nhwc: tuple[int, int, int, int], layout: str, grouped: bool) -> None:
    flat = np.arange(np.prod(nhwc), dtype=np.int32)
    lanes = LANES[layout]
    expected = logical_filter(flat, *nhwc, lanes=lanes, plain=lanes == 1, grouped=grouped)
    assert np.array_equal(unpack_filter(flat, nhwc, layout, grouped), expected)


@given(sizes, st.sampled_from(sorted(LANES)), st.booleans())
@settings(max_examples=60)
def test_packing_is_the_inverse(nhwc: tuple[int, int, int, int], layout: str, grouped: bool) -> None:
    logical = np.random.default_rng(0).integers(-128, 128, nhwc).astype(np.int8)
    assert np.array_equal(unpack_filter(pack_filter(logical, layout, grouped), nhwc, layout, grouped), logical)


def test_dims_in_the_file_end_with_the_output_channels_or_the_group() -> None:
    assert filter_dims((3, 5, 7, 11), grouped=False) == (11, 3, 5, 7)
    assert filter_dims((3, 5, 64, 1), grouped=True) == (64, 3, 5, 1)


def test_an_unknown_layout_is_refused() -> None:
    flat = np.zeros(4, np.int8)
    with pytest.raises(ModelError, match="unknown filter layout 'NCHW'"):
        unpack_filter(flat, (4, 1, 1, 1), "NCHW", False)
    with pytest.raises(ModelError, match="unknown filter layout"):
        pack_filter(flat.reshape(4, 1, 1, 1), "UNK", False)
