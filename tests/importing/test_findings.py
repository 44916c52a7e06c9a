"""Facts out of published file names."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uhd.errors import ModelError
from uhd.importing.findings import DEFAULT, GIVEN, NAME, STATED, mode_in_name, size_in_name
from uhd.importing.stated import choose_colours
from uhd.manifest import ResizeMode
from uhd.models.weights import channels_of


@pytest.mark.parametrize(
    ("name", "mode", "size"),
    [
        ("ultratinyod_res_anc8_w64_64x64_opencv_inter_nearest_y_static_nopost.onnx", "opencv_inter_nearest_y", "64x64"),
        ("ultratinyod_res_anc8_w16_64x64_opencv_inter_nearest_yuv422_distill_static.onnx",
         "opencv_inter_nearest_yuv422", "64x64"),
        ("ultratinyod_res_anc8_w96_64x64_torch_bilinear_dynamic.onnx", "torch_bilinear", "64x64"),
        ("ultratinyod_res_anc8_w64_se_iou_64x64_quality_nopost.onnx", None, "64x64"),
        ("ultratinyod_anc8_w32_64x48_opencv_inter_nearest_static_nopost.onnx", "opencv_inter_nearest", "64x48"),
        ("model.onnx", None, None),
    ],
)  # fmt: skip
def test_published_names(name: str, mode: str | None, size: str | None) -> None:
    assert (mode_in_name(Path(name)), size_in_name(Path(name))) == (mode, size)


word = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)


@given(word, st.sampled_from(get_args(ResizeMode)), st.sampled_from(["", "_static", "_dynamic_nopost", "_distill"]))
def test_any_mode_in_any_name(before: str, mode: ResizeMode, after: str) -> None:
    assert mode_in_name(Path(f"{before}_64x64_{mode}{after}.onnx")) == mode
    assert mode_in_name(Path(f"{before}x{mode}{after}.onnx")) is None


@given(st.sampled_from(get_args(ResizeMode)), st.sampled_from((None, *get_args(ResizeMode))))
def test_order_of_what_is_believed(stated: ResizeMode, named: ResizeMode | None) -> None:
    """What the file states, what the user says, what the name says, what is usual."""
    path, channels = Path(f"a_{named}.onnx" if named else "a.onnx"), channels_of(stated)
    assert choose_colours(path, channels, stated, None) == (stated, STATED)
    assert choose_colours(path, channels, None, stated) == (stated, GIVEN)
    mode, how = choose_colours(path, channels, None, None)
    if named and channels_of(named) == channels:
        assert (mode, how) == (named, NAME)
    else:
        assert how == DEFAULT and channels_of(mode) == channels
    other = next(mode for mode in get_args(ResizeMode) if channels_of(mode) != channels)
    with pytest.raises(ModelError, match="a"):
        choose_colours(path, channels, None, other)
    with pytest.raises(ModelError, match="leave --resize-mode out"):
        choose_colours(path, channels, stated, other)
