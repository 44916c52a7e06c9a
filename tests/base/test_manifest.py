"""The manifest: round trip, strictness, schema in docs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.shared import ROOT
from uhd.errors import ModelError
from uhd.manifest import ModelManifest, Quantization, TensorSpec, load_manifest, parse_manifest

finite = st.floats(0.001, 4, allow_nan=False)
pairs = st.lists(st.tuples(finite, finite), min_size=1, max_size=9)


@given(
    name=st.text(min_size=1, max_size=20),
    anchors=pairs,
    threshold=st.floats(0, 1),
    exponent=st.integers(-20, 20),
)
def test_round_trip(name: str, anchors: list[tuple[float, float]], threshold: float, exponent: int) -> None:
    quantization = Quantization(
        target="c",
        calibration="12 photos",
        inputs=[TensorSpec(name="in", shape=[1, 64, 64, 2], dtype="int8", exponent=exponent)],
    )
    manifest = ModelManifest(name=name, anchors=anchors, score_threshold=threshold, quantization=quantization)
    again = parse_manifest(manifest.dumps(), "here")
    assert again == manifest
    assert again.dumps() == manifest.dumps()


def test_text_is_deterministic_and_sorted() -> None:
    keys = list(json.loads(ModelManifest(name="a").dumps()))
    assert keys == sorted(keys)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"anchor": []}, "anchor"),
        ({"input_width": "64"}, "input_width"),
        ({"score_threshold": 1.5}, "score_threshold"),
        ({"resize_mode": "bicubic"}, "resize_mode"),
        ({"quantization": {"target": "c", "calibration": "x", "bit": 8}}, "quantization.bit"),
        ({"format_version": 2}, "format_version"),
    ],
)
def test_a_wrong_key_is_named(change: dict[str, object], key: str) -> None:
    document = json.loads(ModelManifest(name="a").dumps()) | change
    with pytest.raises(ModelError) as caught:
        parse_manifest(json.dumps(document), "model.json")
    message = str(caught.value)
    assert key in message and "model.json" in message and "\n" not in message


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot read"):
        load_manifest(tmp_path / "none.json")
    broken = tmp_path / "broken.json"
    broken.write_text('{"name": "a"')
    with pytest.raises(ModelError, match="broken.json"):
        load_manifest(broken)


def test_saved_file_loads(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    manifest = ModelManifest(name="a", options={"out_stride": 16})
    manifest.save(path)
    assert load_manifest(path) == manifest
    assert load_manifest(path).stride == 16


def test_schema_in_docs_is_current() -> None:
    written = json.loads((ROOT / "docs" / "manifest.schema.json").read_text())
    assert written == ModelManifest.model_json_schema()
