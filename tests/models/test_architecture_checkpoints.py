"""Checkpoints of every architecture: round trips, published files, partial loading, and what is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.architectures import SMALL, small, with_recipe
from uhd.errors import ModelError
from uhd.manifest import ModelManifest, ResizeMode
from uhd.models import CnnConfig, TransformerConfig, build_model
from uhd.models.checkpoint import (
    load_checkpoint,
    load_ultratinyod,
    load_weights,
    manifest_path,
    read_weights,
    save_checkpoint,
)
from uhd.models.detector import Detector
from uhd.models.reference_cnn import arch_of, infer_cnn, infer_transformer

MODES: dict[int, ResizeMode] = {1: "opencv_inter_nearest_y", 2: "opencv_inter_nearest_yuv422", 3: "torch_bilinear"}


def manifest_for(model: Detector) -> ModelManifest:
    return ModelManifest(name="tiny", resize_mode=MODES[model.config.in_channels])


def stored(model: Detector, **settings: Any) -> dict[str, Any]:
    """A published file's content; transformers' sizes are not in it."""
    config = model.config
    common = {"model": model.state_dict(), "arch": config.arch, "resize_mode": MODES[config.in_channels], "ema": None}
    if isinstance(config, CnnConfig):
        common |= {key: value for key, value in config.options().items() if key not in ("in_channels", "anchors")}
    else:
        common |= {"activation": "swish"}
    return {**common, "img_size": "64x64", "epoch": 3, **settings}


def write(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("name", SMALL)
def test_round_trip_is_equal_to_the_bit(tmp_path: Path, name: str) -> None:
    model = small(name)
    written = save_checkpoint(tmp_path / "a.safetensors", model, manifest_for(model))
    again, manifest = load_checkpoint(tmp_path / "a.safetensors")
    assert manifest == written
    assert manifest.architecture == again.config.arch == model.config.arch
    assert again.config.model_dump(exclude={"anchors"}) == model.config.model_dump(exclude={"anchors"})
    assert torch.equal(again.anchors, model.anchors)
    assert not again.training
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value)
    x = torch.rand(2, model.config.in_channels, 16, 16)
    with torch.no_grad():
        for key, value in model.maps(x).items():
            assert torch.equal(again.maps(x)[key], value)
    assert len(manifest.anchors) == len(model.anchors)
    save_checkpoint(tmp_path / "b.safetensors", again, manifest)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("name", [name for name in SMALL if name != "utod"])
def test_published_file(tmp_path: Path, name: str) -> None:
    model = small(name)
    heads = getattr(model.config, "heads", None)
    path = write(tmp_path / "model.pt", stored(model))
    imported, manifest = load_checkpoint(path, heads=heads)
    x = torch.rand(2, model.config.in_channels, 16, 24)
    with torch.no_grad():
        for key, value in model.maps(x).items():
            assert torch.equal(imported.maps(x)[key], value)
    assert (manifest.architecture, manifest.name, manifest.variant) == (model.config.arch, "model", None)
    assert manifest.training["epoch"] == 3
    assert {k: v.shape for k, v in read_weights(path).items()} == {k: v.shape for k, v in model.state_dict().items()}


@st.composite
def cnn_configs(draw: st.DrawFn) -> CnnConfig:
    options: dict[str, Any] = {
        "cnn_width": draw(st.integers(1, 4)),
        "in_channels": draw(st.integers(1, 3)),
        "num_classes": draw(st.integers(1, 3)),
        "use_batchnorm": draw(st.booleans()),
        "use_skip": draw(st.booleans()),
        "last_se": draw(st.sampled_from(["none", "se", "ese"])),
        "last_width_scale": draw(st.sampled_from([1.0, 1.25, 1.7])),
        "output_stride": draw(st.sampled_from([4, 8, 16])),
        "activation": draw(st.sampled_from(["relu", "silu"])),
        "use_anchor": draw(st.booleans()),
        "backbone": draw(st.sampled_from([None, "ultratinyresnet", "ultratinyresnet"])),
        "backbone_channels": draw(st.sampled_from([[3, 4], [2, 3, 5]])),
        "backbone_se": draw(st.sampled_from(["none", "se", "ese"])),
        "backbone_fpn": draw(st.booleans()),
        "backbone_out_stride": draw(st.sampled_from([None, 8, 16])),
    }
    options["backbone_blocks"] = [draw(st.integers(0, 2)) for _ in options["backbone_channels"]]
    skip = draw(st.sampled_from(["", "backbone_skip", "backbone_skip_cat", "backbone_skip_shuffle_cat",
                                 "backbone_skip_s2d_cat"]))  # fmt: skip
    return CnnConfig.model_validate({**options, **({skip: True} if skip else {})})


@settings(max_examples=50, deadline=None)
@given(config=cnn_configs())
def test_architecture_from_weights_and_two_settings(config: CnnConfig) -> None:
    """Names and shapes tell everything but activation, output stride, and a skip without weights."""
    model = with_recipe(build_model("cnn", config.options())).eval()
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert arch_of(shapes) == "cnn"
    settings = {"activation": config.activation, "output_stride": config.output_stride, "use_skip": config.use_skip}
    found = build_model("cnn", infer_cnn(shapes, settings, model.anchors.tolist(), "x").options()).eval()
    load_weights(found, model.state_dict())
    assert (found.config.out_stride, found.config.class_count) == (config.out_stride, config.class_count)
    x = torch.rand(1, config.in_channels, 18, 26)
    with torch.no_grad():
        for key, value in model.maps(x).items():
            assert torch.equal(found.maps(x)[key], value)


@pytest.mark.parametrize("backbone", ["microcspnet", "enhanced-shufflenet"])
@pytest.mark.parametrize("se", ["none", "ese"])
@pytest.mark.parametrize("skip", [True, False])
def test_fixed_backbones_from_weights(backbone: str, se: str, skip: bool) -> None:
    with torch.device("meta"):
        model = build_model(
            "cnn", {"backbone": backbone, "backbone_se": se, "backbone_skip": skip, "in_channels": 2, "num_classes": 3}
        )
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = infer_cnn(shapes, {}, [], "x")
    assert (found.backbone, found.backbone_se, found.in_channels, found.num_classes) == (backbone, se, 2, 3)
    assert (found.skip_mode != "none") == (skip and backbone == "enhanced-shufflenet")


@pytest.mark.parametrize("use_fpn", [True, False])
def test_sizes_of_a_transformer_from_weights(use_fpn: bool) -> None:
    config = TransformerConfig(num_queries=7, d_model=24, heads=4, layers=2, dim_feedforward=10, num_classes=2,
                               use_fpn=use_fpn, use_batchnorm=not use_fpn, in_channels=1)  # fmt: skip
    shapes = {
        key: tuple(value.shape) for key, value in build_model("transformer", config.options()).state_dict().items()
    }
    assert infer_transformer(shapes, {}, "x") == config
    assert infer_transformer(shapes, {"activation": "relu"}, "x", heads=6).heads == 6


def test_unknown_number_of_heads(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt", stored(small("detr")))
    model, manifest = load_checkpoint(path)
    assert model.config.heads == 4
    assert manifest.training["assumed"] == "4 attention heads"
    assert "assumed" not in load_checkpoint(path, heads=2)[1].training
    with pytest.raises(ModelError, match="d_model 8 is not a multiple of heads 3"):
        load_checkpoint(path, heads=3)
    shapes = {"query_embed.weight": (2, 6), "class_head.weight": (2, 6), "encoder.layers.0.linear1.weight": (3, 6)}
    with pytest.raises(ModelError, match="x: does not tell its number of attention heads, and 4 do not divide 6; say"):
        infer_transformer({**shapes, "patch.weight": (6, 3, 3, 3)}, {}, "x")


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    plain, ema = small("cnn").state_dict(), small("cnn").state_dict()
    ema["head_wh.bias"] = plain["head_wh.bias"] + 1
    path = write(tmp_path / "a.pt", stored(small("cnn"), ema=ema))
    assert torch.equal(load_checkpoint(path)[0].state_dict()["head_wh.bias"], ema["head_wh.bias"])
    assert torch.equal(read_weights(path)["head_wh.bias"], ema["head_wh.bias"])
    path = write(tmp_path / "b.pt", stored(small("cnn"), ema=ema, use_ema=False))
    assert torch.equal(load_checkpoint(path)[0].state_dict()["head_wh.bias"], plain["head_wh.bias"])


def test_partial_loading() -> None:
    """Missing and unknown weights are reported, a wrong shape is an error before anything changes."""
    source, target = small("cnn"), build_model("cnn", {**SMALL["cnn"][1], "last_se": "se"})
    before = {key: value.clone() for key, value in target.state_dict().items()}
    with pytest.raises(ModelError, match=r"w: weights do not fit the architecture: 4 missing \(e.g. se.fc1.bias\)"):
        load_weights(target, source.state_dict(), "w")
    report = load_weights(target, source.state_dict(), "w", strict=False)
    assert report.missing == ("se.fc1.bias", "se.fc1.weight", "se.fc2.bias", "se.fc2.weight")
    assert report.unexpected == ("se.fc.bias", "se.fc.weight")
    assert not report.fits and report.mismatched == ()
    for key, value in target.state_dict().items():
        assert torch.equal(value, before[key] if key in report.missing else source.state_dict()[key])
    wider = build_model("cnn", {**SMALL["cnn"][1], "num_classes": 5})
    kept = wider.state_dict()["stem.0.weight"].clone()
    with pytest.raises(ModelError, match=r"2 of another shape \(e.g. head_hm.bias\)"):
        load_weights(wider, source.state_dict(), "w", strict=False)
    assert torch.equal(wider.state_dict()["stem.0.weight"], kept)
    with pytest.raises(ModelError, match="w: none of its [0-9]+ weights belongs"):
        load_weights(small("detr"), source.state_dict(), "w", strict=False)
    assert str(load_weights(target, target.state_dict())) == "all fit"
    bad = {"stem.0.weight": source.state_dict()["stem.0.weight"] * float("nan")}
    with pytest.raises(ModelError, match="not finite"):
        load_weights(target, bad, strict=False)


def test_weights_of_our_files_without_manifest(tmp_path: Path) -> None:
    model = small("anchor")
    save_checkpoint(tmp_path / "a.safetensors", model, manifest_for(model))
    manifest_path(tmp_path / "a.safetensors").unlink()
    weights = read_weights(tmp_path / "a.safetensors")
    assert all(torch.equal(weights[key], value) for key, value in model.state_dict().items())


def test_only_ultratinyod_is_deployed(tmp_path: Path) -> None:
    for name in ("cnn", "utod"):
        model = small(name)
        save_checkpoint(tmp_path / f"{name}.safetensors", model, manifest_for(model))
    assert load_ultratinyod(tmp_path / "utod.safetensors")[0].config.width == 2
    with pytest.raises(ModelError, match=r"cnn.safetensors: holds architecture 'cnn'; only 'ultratinyod' goes to"):
        load_ultratinyod(tmp_path / "cnn.safetensors")


@pytest.mark.parametrize(
    "change", [{"architecture": "transformer"}, {"options": {"cnn_width": 5}}, {"options": {"x": 1}}]
)
def test_manifest_at_odds_with_the_weights(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, small("cnn"), manifest_for(small("cnn")))
    manifest = json.loads(manifest_path(path).read_text())
    manifest_path(path).write_text(json.dumps(manifest | change))
    with pytest.raises(ModelError, match="option|weights do not fit") as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (lambda s: {"model": {"head.weight": s["head_hm.weight"]}, "arch": "cnn"}, "holds no anchors"),
        (lambda s: {"model": {"head.weight": torch.ones(7, 4, 1, 1), "stem.0.weight": torch.ones(4, 3, 3, 3)},
                    "anchors": [[0.1, 0.1], [0.2, 0.2]]}, "head of 7 channels does not fit 2 anchors"),
        (lambda s: {"model": {"head_hm.weight": s["head_hm.weight"]}}, "stem.0.weight is missing"),
        (lambda s: {"model": {"head_hm.weight": torch.ones(3)}}, "its head is no convolution"),
        (lambda s: {"model": {**s, "backbone.conv9.weight": torch.ones(3)}}, "an unknown backbone"),
        (lambda s: {"model": {k: v for k, v in s.items() if k != "stage1.pw.weight"}}, "1 missing"),
        (lambda s: {"model": {**s, "extra": torch.ones(1)}}, "1 unknown"),
        (lambda s: {"model": {"query_embed.weight": torch.ones(2, 8)}}, "class_head.weight is missing"),
        (lambda s: {"model": s, "activation": "gelu"}, "option activation"),
        (lambda s: {"model": s, "output_stride": 5}, "option output_stride"),
        (lambda s: {"model": s, "resize_mode": "opencv_inter_nearest_y"}, "makes 1 channels"),
    ],
)  # fmt: skip
def test_published_files_that_do_not_fit(tmp_path: Path, content: Any, match: str) -> None:
    path = write(tmp_path / "odd.pt", content(small("cnn").state_dict()))
    with pytest.raises(ModelError, match=match) as caught:
        load_checkpoint(path)
    assert "odd.pt" in str(caught.value)
    assert "\n" not in str(caught.value)


class Bomb:
    """Runs a command when unpickled by anything that executes what it reads."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("form", ["settings", "weights", "bare", "stream", "hidden"])
def test_a_pickle_bomb_is_refused_unexecuted(tmp_path: Path, form: str) -> None:
    marker, path = tmp_path / "executed", tmp_path / "bomb.pt"
    bomb, good = Bomb(marker), stored(small("cnn"))
    if form == "settings":
        torch.save({**good, "augment_cfg": bomb}, path)
    elif form == "weights":
        torch.save({**good, "model": {**good["model"], "x": bomb}}, path)
    elif form == "bare":
        torch.save(bomb, path)
    elif form == "stream":
        torch.save({**good, "x": bomb}, path, _use_new_zipfile_serialization=False)
    else:  # a plain archive whose pickle is the bomb alone, named like a checkpoint of ours
        path = tmp_path / "bomb.safetensors"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("bomb/data.pkl", pickle.dumps(bomb, protocol=2))
            archive.writestr("bomb/version", "3\n")
            archive.writestr("bomb/byteorder", "little")
    for load in (load_checkpoint, read_weights, load_ultratinyod):
        with pytest.raises(ModelError, match="bomb") as caught:
            load(path)
        assert "\n" not in str(caught.value)
    assert not marker.exists()
    with io.BytesIO(pickle.dumps(bomb)) as stream:  # the bomb is armed: what executes pickles sets it off
        pickle.load(stream)
    assert marker.exists()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_published_files_never_raise_anything_else(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "a.pt"
    if not path.exists():
        write(path, stored(small("cnn")))
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    broken = tmp_path / "b.pt"
    broken.write_bytes(bytes(content))
    try:
        load_checkpoint(broken)
    except ModelError as error:
        assert "\n" not in str(error)


def test_weights_of_any_dtype_survive_in_our_format(tmp_path: Path) -> None:
    model = small("cnn").double()
    save_checkpoint(tmp_path / "a.safetensors", model, manifest_for(model))
    assert safetensors.torch.load_file(tmp_path / "a.safetensors")["stem.0.weight"].dtype == torch.float64
    assert load_checkpoint(tmp_path / "a.safetensors")[0].state_dict()["stem.0.weight"].dtype == torch.float32
