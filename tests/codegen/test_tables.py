"""Decode tables: boxes and scores from integers equal those of the float decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support.components import detector_manifest, made_component, made_detector, need_compiler
from support.made_models import Maker
from uhd.codegen.tables import Decode, Table, build_decode, input_table
from uhd.detect.decode import decode_maps
from uhd.errors import ModelError
from uhd.espdl.model import EspdlModel, Tensor
from uhd.manifest import ModelManifest

Array = NDArray[Any]


def at(table: Table, q: Array) -> Array:
    """``table_at`` of uhd/model.hpp."""
    values = np.array(table.values, np.int64)
    if table.shift == 0:
        return values[q + 128]
    u = q.astype(np.int64) + 32768
    i, frac = u >> table.shift, u & ((1 << table.shift) - 1)
    return values[i] + (((values[i + 1] - values[i]) * frac + (1 << (table.shift - 1))) >> table.shift)


def decode_integers(decode: Decode, outputs: dict[str, Array]) -> tuple[Array, Array]:
    """(scores [H, W, A, classes], boxes [H, W, A, 4]) in 1/65535, by the formulas of uhd/model.hpp."""
    height, width = decode.grid
    anchors = decode.anchor_count
    box = outputs["box"].astype(np.int64).reshape(height, width, anchors, 4)
    gx, gy = np.arange(width)[None, :, None], np.arange(height)[:, None, None]
    cx = (at(decode.box_xy, box[..., 0]) + gx * 65535 + width // 2) // width
    cy = (at(decode.box_xy, box[..., 1]) + gy * 65535 + height // 2) // height
    sizes = [np.stack([at(decode.box_wh[2 * a + i], box[..., a, 2 + i]) for a in range(anchors)], -1) for i in (0, 1)]
    score: Array | None = None
    for name in ("obj", "quality", "cls"):
        if name in decode.scores:
            q = outputs[name].astype(np.int64).reshape(height, width, anchors, -1)
            factor = at(decode.scores[name], q)
            if score is None:
                score = factor
            else:
                product = score * factor + 32768
                score = (product + (product >> 16)) >> 16
    assert score is not None
    return score, np.stack([cx, cy, *sizes], -1)


def decode_floats(model: EspdlModel, manifest: ModelManifest, outputs: dict[str, Array]) -> tuple[Array, Array]:
    """The same by the one Python decoder, in float64."""
    maps = {
        name: (value.astype(np.float64) * 2.0 ** model.tensors[name].exponent).transpose(0, 3, 1, 2)
        for name, value in outputs.items()
    }
    scores, boxes = decode_maps(
        maps, np.array(manifest.anchors), np.array(manifest.wh_scale), manifest.score_mode, manifest.quality_power
    )
    anchors, (_, _, height, width) = len(manifest.anchors), maps["box"].shape
    shape = (anchors, height, width, -1)
    return scores[0].reshape(shape).transpose(1, 2, 0, 3), boxes[0].reshape(shape).transpose(1, 2, 0, 3)


def head(bits: dict[str, int], exponents: dict[str, int], anchors: int = 3, classes: int = 1) -> EspdlModel:
    """A model of outputs only; no node makes them, since only their shapes matter here."""
    make = Maker(0)
    make.input(24, 40, 2)
    channels = {"box": 4 * anchors, "cls": anchors * classes}
    for name, width in bits.items():
        shape = (1, 3, 5, channels.get(name, anchors))
        make.tensors[name] = Tensor(name, shape, f"int{width}", (exponents[name],))
    return make.model(*bits)


def head_manifest(anchors: int = 3, classes: int = 1, **changes: Any) -> ModelManifest:
    fields: dict[str, Any] = dict(
        name="head", anchors=[(0.04 + 0.3 * i, 0.1 + 0.4 * i) for i in range(anchors)],
        wh_scale=[(1.2, 0.8)] * anchors, class_names=[f"c{i}" for i in range(classes)],
    )  # fmt: skip
    return ModelManifest(**(fields | changes))


MODES = ["obj_quality_cls", "quality_cls", "obj_cls", "obj_quality", "quality", "obj", "cls"]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1 << 30),
    st.sampled_from(MODES),
    st.sampled_from([1.0, 0.5, 2.5]),
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_int8_agrees_with_float(seed: int, mode: str, power: float, classes: int, anchors: int) -> None:
    """Within 2/65535 of the float decoder, for every exponent an int8 head may have."""
    rng = np.random.default_rng(seed)
    names = ("box", "obj", "quality", "cls")
    model = head(dict.fromkeys(names, 8), {n: int(rng.integers(-7, 0)) for n in names}, anchors, classes)
    manifest = head_manifest(anchors, classes, score_mode=mode, quality_power=power)
    decode = build_decode(model, manifest)
    assert decode is not None and all(t.shift == 0 and len(t.values) == 256 for t in (decode.box_xy, *decode.box_wh))
    outputs = {n: rng.integers(-128, 128, model.tensors[n].shape) for n in names}
    scores, boxes = decode_integers(decode, outputs)
    wanted_scores, wanted_boxes = decode_floats(model, manifest, outputs)
    assert np.abs(scores / 65535 - wanted_scores).max() <= 2 / 65535
    assert np.abs(boxes / 65535 - np.minimum(wanted_boxes, 4.0)).max() <= 2 / 65535


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from(MODES), st.sampled_from([1.0, 2.0]))
def test_int16_interpolates(seed: int, mode: str, power: float) -> None:
    """Between knots that lie 64 steps apart the error is that of a chord: below 64**2 * 2**2e / 8 * |f''|."""
    rng = np.random.default_rng(seed)
    bits = {"box": 16, "obj": 8, "quality": 16, "cls": 16}
    exponents = {"box": int(rng.integers(-15, -11)), "obj": -4, "quality": -13, "cls": -12}
    model, manifest = head(bits, exponents), head_manifest(score_mode=mode, quality_power=power)
    decode = build_decode(model, manifest)
    assert decode is not None and decode.box_xy.shift == 6 and len(decode.box_xy.values) == 1025
    outputs = {n: rng.integers(-(1 << (b - 1)), 1 << (b - 1), model.tensors[n].shape) for n, b in bits.items()}
    scores, boxes = decode_integers(decode, outputs)
    wanted_scores, wanted_boxes = decode_floats(model, manifest, outputs)
    chord = (64 * 2.0 ** max(exponents["box"], -12)) ** 2 / 8
    assert np.abs(scores / 65535 - wanted_scores).max() <= 3 / 65535 + chord * max(1.0, power) ** 2
    scale = np.array(manifest.anchors).max() * 1.2
    small = wanted_boxes < 3.9  # where the cut at four pictures bends nothing
    assert np.abs(boxes / 65535 - wanted_boxes)[small].max() <= 2 / 65535 + chord * max(0.25 * scale, 0.1)
    assert (boxes[~small] > 3.8 * 65535).all()


def test_large_boxes_are_cut_at_four_pictures() -> None:
    model, manifest = head({"box": 8, "obj": 8}, {"box": 0, "obj": 0}), head_manifest(score_mode="obj")
    decode = build_decode(model, manifest)
    assert decode is not None
    assert max(max(table.values) for table in decode.box_wh) == 4 * 65535
    assert all(list(t.values) == sorted(t.values) for t in (decode.box_xy, *decode.box_wh, *decode.scores.values()))


@pytest.mark.parametrize(("dtype", "exponents"), [("int8", range(-9, 1)), ("int16", range(-17, -8))])
def test_input_table(dtype: str, exponents: range) -> None:
    for exponent in exponents:
        table = input_table(Tensor("x", (1, 1, 1, 1), dtype, (exponent,)))
        top = np.iinfo(dtype).max
        exact = [v * 2.0**-exponent / 255 for v in range(256)]
        assert len(table) == 256
        assert all(abs(t - e) < 0.5 or (t == top and e > top) for t, e in zip(table, exact, strict=True))


BAD = [
    (dict(wh_scale=[(1.0, 1.0)]), {}, "3 anchors and 1 wh_scale"),
    (dict(class_names=["a", "b"]), {}, "map cls has 3 channels"),
    (dict(anchors=2), {}, "map box has 12 channels"),
    (dict(score_mode="obj"), {"drop": "obj"}, "needs the map obj"),
    ({}, {"drop": "box"}, "no map named box"),
]


@pytest.mark.parametrize(("changes", "options", "message"), BAD, ids=[m for _, _, m in BAD])
def test_manifests_that_do_not_fit(changes: dict[str, Any], options: dict[str, str], message: str) -> None:
    names = [n for n in ("box", "obj", "quality", "cls") if n != options.get("drop")]
    model = head(dict.fromkeys(names, 8), dict.fromkeys(names, -4))
    with pytest.raises(ModelError, match=message):
        build_decode(model, head_manifest(**changes))


def test_no_anchors_no_tables() -> None:
    assert build_decode(head({"box": 8}, {"box": -4}), ModelManifest(name="m")) is None


def test_compiled_tables_are_these(tmp_path: Any) -> None:
    """The device's decoder on the compiled component: same boxes and scores as the formulas above."""
    need_compiler()
    from uhd.device.twin import Twin

    model, content = made_detector(7)
    manifest = detector_manifest(model, score_mode="quality_cls", quality_power=1.5, score_threshold=0.25)
    twin = Twin(made_component(tmp_path / "m", model, content, manifest))
    assert twin.info.decode is not None
    assert twin.info.decode["score_threshold_q16"] == 16384 and twin.info.decode["anchor_count"] == 3
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 2), dtype=np.uint8)
    rows, outputs = twin.detect(picture, 0.0, 1.0, 192)
    decode = build_decode(model, manifest)
    assert decode is not None
    scores, boxes = decode_integers(decode, outputs)
    assert len(rows) == scores.size == 192
    units = (65535, 65535, 65535, 16384, 16384)
    found = sorted(map(tuple, np.rint(rows[:, [0, 2, 3, 4, 5]] * units).astype(int).tolist()))
    wanted = np.concatenate([scores.reshape(-1, 1), boxes.reshape(-1, 4)], 1)
    wanted[:, 3:] = np.minimum((wanted[:, 3:] + 2) >> 2, 65535)  # sides are in the units of the link
    assert found == sorted(map(tuple, wanted.tolist()))
    table = np.array(input_table(model.tensors["input"]))
    np.testing.assert_array_equal(outputs["box"], twin.run({"input": table[picture][None]})["box"])
