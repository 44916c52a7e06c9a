"""The flavours that decode, against the decoder of training; all flavours against each other."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from support.architectures import with_recipe
from support.golden import with_recipe_weights
from uhd.detect.decode import SCORE_MODES, decode_maps, decode_scores
from uhd.detect.nms import detections, top_k_rows
from uhd.errors import ModelError
from uhd.export.fast import Fast
from uhd.export.flavours import multi_label_mode, wrap
from uhd.export.onnx_export import Built, ExportOptions, build
from uhd.export.outputs import find_boxes
from uhd.export.postprocess import Post, Primitive
from uhd.export.record import FLAVOURS, ExportRecord, read_record
from uhd.export.verify import row_difference, run_onnx
from uhd.manifest import ModelManifest
from uhd.models import UltraTinyODConfig, build_model
from uhd.models.detector import Detector
from uhd.models.ultratinyod import UltraTinyOD

torch.set_num_threads(1)
MANIFEST = ModelManifest(name="tiny", resize_mode="opencv_inter_nearest", input_height=32, input_width=48)
IMAGES = torch.from_numpy(np.random.default_rng(5).random((2, 3, 32, 48), np.float32))
options = st.fixed_dictionaries(
    {
        "improved_head": st.booleans(),
        "iou_aware_head": st.booleans(),
        "num_classes": st.sampled_from([1, 3]),
        "disable_cls": st.booleans(),
        "score_mode": st.sampled_from([None, *SCORE_MODES]),
        "quality_power": st.sampled_from([1.0, 0.5, 2.0]),
        "out_stride": st.sampled_from([4, 8, 16]),
    }
)


def tiny(**changes: Any) -> UltraTinyOD:
    model = with_recipe_weights(UltraTinyOD(UltraTinyODConfig(width=2, **changes))).eval()
    if not model.config.improved_head:
        model.wh_scale.fill_(1)  # not learnt
    return model.requires_grad_(False)


def decoded(model: Detector, maps: dict[str, torch.Tensor]) -> tuple[Any, Any]:
    config = model.config
    return decode_maps(maps, model.anchors, model.wh_scale, config.resolved_score_mode, config.quality_power)


@given(options, st.sampled_from([1, 20, 5000]), st.sampled_from([0.0, 0.2]))
@settings(max_examples=20, deadline=None)
def test_rows_are_those_of_the_training_decoder(changes: dict[str, Any], top_k: int, conf: float) -> None:
    """In every score mode, for every head."""
    model = tiny(**changes)
    want = top_k_rows(*decoded(model, model.maps(IMAGES)), k=top_k, score_threshold=conf)
    for kind in (Post, Fast):
        got = kind(model, top_k, conf=conf)(IMAGES).numpy()
        assert got.shape == want.shape
        assert max(row_difference(one, other) for one, other in zip(want, got, strict=True)) <= 1e-5


@given(options)
@settings(max_examples=8, deadline=None)
def test_primitive_maps_are_the_training_decoders(changes: dict[str, Any]) -> None:
    model = tiny(**changes)
    scores, boxes = decoded(model, model.maps(IMAGES))
    wrapper = Primitive(model)
    out = dict(zip(wrapper.output_names, wrapper(IMAGES), strict=True))
    got = torch.stack([out[name].flatten(1) for name in ("cx", "cy", "bw", "bh")], -1)
    torch.testing.assert_close(got, boxes, atol=1e-6, rtol=1e-5)
    base = out["score"].flatten(1).unsqueeze(-1)
    product = base * out["cls_scores"].flatten(1, 3) if "cls_scores" in out else base
    torch.testing.assert_close(product, scores, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", [Post, Fast])
def test_attributes_get_rows_of_their_own(kind: Any) -> None:
    model = tiny(improved_head=True, num_classes=2, attr_classes=3)
    assert multi_label_mode(model.config, MANIFEST) == "separate"
    maps = model.maps(IMAGES)
    scores, boxes = decoded(model, maps)
    chances = decode_scores(maps | {"cls": maps["attr"]}, len(model.anchors), "obj_quality_cls")
    want = top_k_rows(torch.cat((scores, chances), -1), boxes, k=40, multi_label=True)
    got = kind(model, 40, multi_label="separate")(IMAGES).numpy()
    assert set(np.unique(got[..., 1])) > {3.0}
    assert max(row_difference(one, other) for one, other in zip(want, got, strict=True)) <= 1e-5


@pytest.mark.parametrize("kind", [Post, Fast])
def test_every_class_gets_a_row_where_training_said_so(kind: Any) -> None:
    model = tiny(iou_aware_head=True, num_classes=3)
    single = MANIFEST.model_copy(update={"training": {"config": {"multi_label_mode": "single"}}})
    assert multi_label_mode(model.config, MANIFEST) == "none"
    assert multi_label_mode(model.config, single) == "single"
    assert multi_label_mode(tiny(num_classes=3, score_mode="obj").config, single) == "none"
    want = top_k_rows(*decoded(model, model.maps(IMAGES)), k=50, multi_label=True, score_threshold=0.2)
    got = kind(model, 50, conf=0.2, multi_label="single")(IMAGES).numpy()
    assert max(row_difference(one, other) for one, other in zip(want, got, strict=True)) <= 1e-5


@cache
def exported(flavour: str, batch: int = 1) -> Built:
    model = tiny(improved_head=True, num_classes=2)
    return build(model, MANIFEST, flavour, ExportOptions(top_k=5000, batch=batch))


def outputs_of(built: Built, images: np.ndarray) -> dict[str, np.ndarray]:
    names = [output.name for output in built.onnx.graph.output]
    return dict(zip(names, run_onnx(built.onnx, images), strict=True))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_flavour_finds_the_same_boxes(flavour: str) -> None:
    """A reader needs nothing but the file."""
    built = exported(flavour)
    record = read_record(built.onnx, "file")
    assert record == built.record
    assert record is not None
    rows = find_boxes(record, built.manifest, outputs_of(built, IMAGES[:1].numpy()), score_threshold=0.1)[0]
    model = tiny(improved_head=True, num_classes=2)
    want = detections(*decoded(model, model.maps(IMAGES[:1])), score_threshold=0.1)[0]
    assert len(want) > 3
    np.testing.assert_allclose(rows, want, atol=1e-5)


@pytest.mark.parametrize("flavour", ["parts", "post", "fast"])
def test_a_batch_is_its_pictures_one_by_one(flavour: str) -> None:
    both = outputs_of(exported(flavour, 2), IMAGES.numpy())
    assert exported(flavour, 2).record.input.shape == [2, 3, 32, 48]
    for number in range(2):
        one = outputs_of(exported(flavour), IMAGES[number : number + 1].numpy())
        for name, values in one.items():
            if name not in ("anchors", "wh_scale"):
                np.testing.assert_allclose(both[name][number], values[0], atol=1e-5)


def test_outputs_that_are_missing_are_named() -> None:
    built = exported("parts")
    with pytest.raises(ModelError, match="output box is missing"):
        find_boxes(built.record, built.manifest, {"obj": np.zeros((1, 3, 4, 6))})


def test_broken_records_are_refused() -> None:
    file = build(tiny(), MANIFEST, verify=False).onnx
    next(prop for prop in file.metadata_props if prop.key == "uhd_export").value = '{"flavour": "other"}'
    with pytest.raises(ModelError, match=r"a\.onnx: export record key flavour"):
        read_record(file, "a.onnx")
    del file.metadata_props[:]
    assert read_record(file, "a.onnx") is None


def test_the_record_says_how_to_feed_and_to_read() -> None:
    record = exported("raw").record
    assert ExportRecord.model_validate_json(record.dumps()) == record
    assert record.channels == ["red", "green", "blue"]
    assert (record.fields, record.score_maps) == (["box", "obj", "quality", "cls"], ["obj", "quality", "cls"])
    assert exported("fast").record.top_k == 5000
    assert exported("raw").record.top_k is None


@pytest.mark.parametrize(
    ("arch", "flavour", "message"),
    [
        ("cnn", "raw", "a centernet head has no anchors, which flavour raw is made of; take flavour parts or fast"),
        ("transformer", "post", "a detr head has no anchors"),
        ("cnn anchor", "whole", "flavour whole is of architecture ultratinyod, not cnn; take flavour raw"),
    ],
)
def test_flavours_that_an_architecture_lacks(arch: str, flavour: str, message: str) -> None:
    name, _, anchor = arch.partition(" ")
    with pytest.raises(ModelError, match=message):
        build(build_model(name, {"use_anchor": True} if anchor else {}), MANIFEST, flavour)


def test_wrappers_are_in_evaluation_mode() -> None:
    model = with_recipe(build_model("cnn", {"cnn_width": 4})).train()
    assert not wrap(model, "fast", 3).training
