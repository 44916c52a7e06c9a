"""Augmentation files: forms, numbers, presets, and errors that name file, key and the nearest match."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from support.shared import ROOT, shared_dir
from uhd.errors import ConfigError
from uhd.train.augment import geometry
from uhd.train.augment.colour import ColourJitter, RandomHSV, RandomPhotometricDistort, SingleChroma
from uhd.train.augment.config import AugmentConfig, find_config, preset_names
from uhd.train.augment.op import CanvasOp
from uhd.train.augment.pipeline import for_evaluation
from uhd.train.augment.registry import OPS, RemoveOutliers
from uhd.train.config import TrainConfig


def names(config: AugmentConfig) -> tuple[list[str], list[str]]:
    return [type(op).__name__ for op in config.pre], [type(op).__name__ for op in config.post]


def test_order_is_that_of_the_file_and_null_switches_off(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "data_augment_post: {ToGray: 0.1, Blur: null, RandomHSV: {prob: 1, hue_gain: 0.1}}\n"
        "data_augment_pre: {RandomScale: {prob: 1}, HorizontalFlip: 1}\n"
    )
    config = AugmentConfig.load(path)
    assert names(config) == (["RandomScale", "HorizontalFlip"], ["ToGray", "RandomHSV"])
    assert config.post[0].prob == 0.1 and config.post[1] == RandomHSV(prob=1.0, hue_gain=0.1)


@pytest.mark.parametrize("wrapped", [False, True])
def test_one_list_is_split(wrapped: bool) -> None:
    flat: dict[str, Any] = {"RandomHSV": 0.5, "Mosaic": 1.0, "RemoveOutliers": 0.1, "RandomCrop": 0.8, "GaussNoise": {}}
    config = AugmentConfig.parse({"data_augment": flat} if wrapped else flat, "x")
    assert names(config) == (["Mosaic", "RandomCrop"], ["RandomHSV", "RemoveOutliers", "GaussNoise"])


def test_split_of_the_reference() -> None:
    import json

    recorded = json.loads((shared_dir("fixtures", "preprocess", "preprocess.json")).read_text())["split_cfg"]
    flat = dict.fromkeys(["RandomHSV", "Mosaic", "RemoveOutliers", "RandomCrop", "GaussNoise"], 0.5)
    assert list(names(AugmentConfig.parse(flat, "x"))) == recorded


def test_what_numbers_mean() -> None:
    parsed = AugmentConfig.parse({"RandomCrop": 0.7, "RemoveOutliers": 0.002, "Mosaic": 0.2, "Blur": 1}, "x")
    crop, mosaic = parsed.pre
    assert (
        isinstance(crop, geometry.RandomCrop) and crop.ratio == (0.7, 0.7) and crop.prob == 1.0 and mosaic.prob == 0.2
    )
    outliers, blur = parsed.post
    assert isinstance(outliers, RemoveOutliers) and outliers.min_area == 0.002 and blur.prob == 1.0


def test_defaults_are_those_of_the_reference() -> None:
    on = {"RandomCrop": 1.0, "Mosaic": 1.0, "MixUp": 1.0, "RemoveOutliers": 1.0, "CopyPaste": 0.3, "ZoomCrop": 0.9}
    on |= {"RandomPhotometricDistort": 0.5, "ColourJitter": 1.0, "SingleChroma": 0.25}
    for name, kind in OPS.items():
        assert kind().prob == on.get(name, 0.0), name
    assert OPS["RandomRain"]().model_dump()["drop_length"] == (15, 30)
    assert OPS["CopyPaste"]().model_dump()["scale_jitter"] == (0.8, 1.2)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"HorizontalFilp": 0.5}, r"file\.yaml: data_augment_post\.HorizontalFilp: .*'HorizontalFlip'"),
        ({"data_augment_pre": {"mosaic": 1}}, r"data_augment_pre\.mosaic: .*'Mosaic'"),
        ({"data_augment_pre": {"RandomCrop": {"ratoi": 1}}}, r"data_augment_pre\.RandomCrop\.ratoi: .*'ratio'"),
        ({"data_augment_pre": {}, "data_augment_psot": {}}, r"data_augment_psot: .*'data_augment_post'"),
        ({"data_augment_pre": {}, "Mosaic": 1}, "Mosaic: unknown key"),
        ({"data_augment": {}, "Mosaic": 1}, "Mosaic: unknown key"),
        ({"Mosaic": 1.5}, r"Mosaic\.prob: .*less than or equal to 1 \(given: 1\.5\)"),
        ({"Mosaic": True}, "Mosaic: expected its settings"),
        ({"Mosaic": "often"}, "Mosaic: expected its settings"),
        ({"Blur": {"blur_limit": [7, 3]}}, r"Blur\.blur_limit: a range is"),
        ({"Blur": {"blur_limit": [3, 4.5]}}, r"Blur\.blur_limit"),
        ({"RandomScale": {"scale_range": [0, 1]}}, r"scale_range: must be above zero"),
        ({"GaussNoise": {"var_limit": [-1, 1]}}, r"var_limit: must not be negative"),
        ({"RandomCrop": {"deterministic": "yes"}}, r"RandomCrop\.deterministic"),
        ({"RandomCrop": {"max_retries": 0}}, r"RandomCrop\.max_retries"),
        ({"HorizontalFlip": {"class_swap_map": {"left": 1}}}, r"HorizontalFlip\.class_swap_map"),
        ({"Translation": {"fill": [0, 0, 300]}}, r"Translation\.fill"),
        ([1, 2], "expected operations"),
        ({"data_augment_pre": [{"Mosaic": 1}]}, "data_augment_pre: expected operations"),
    ],
)
def test_errors_are_one_line_and_say_where(values: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        AugmentConfig.parse(values, "file.yaml")
    assert str(caught.value).startswith("file.yaml: ") and "\n" not in str(caught.value)


def test_files_that_are_not_there_or_not_yaml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"aug_heedpose: no such .*'aug_headpose'"):
        AugmentConfig.load("aug_heedpose")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [1,\n")
    with pytest.raises(ConfigError, match=r"broken\.yaml"):
        AugmentConfig.load(broken)
    broken.write_text("")
    assert AugmentConfig.load(broken) == AugmentConfig()
    broken.write_text("Mosaic: 1\nMosaic: 0.5\n")
    with pytest.raises(ConfigError, match="twice"):
        AugmentConfig.load(broken)
    broken.write_text("Mosaic: !!python/object/apply:os.system ['true']\n")
    with pytest.raises(ConfigError):
        AugmentConfig.load(broken)


def test_presets_by_name_and_by_the_reference_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert preset_names() == ["aug", "aug_headpose", "aug_val_l", "aug_val_s"]
    for name in preset_names():
        assert AugmentConfig.load(name) == AugmentConfig.load(f"uhd/{name}.yaml")
    config = AugmentConfig.load("aug")
    assert names(config) == (
        ["HorizontalFlip", "RandomCrop"],
        ["RandomPhotometricDistort", "RandomHSV", "CLAHE", "RemoveOutliers"],
    )
    crop = geometry.RandomCrop(prob=0.5, ratio=(1.0, 1.0), aspect_ratio=(1.0, 1.0))
    assert config.pre[1] == crop and config.post[1] == RandomHSV(
        prob=0.5, hue_gain=0.015, saturation_gain=0.7, value_gain=0.4
    )
    flip = AugmentConfig.load("aug_headpose").pre[0]
    assert isinstance(flip, geometry.HorizontalFlip)
    assert flip.class_swap_map == {9: 15, 10: 14, 11: 13, 13: 11, 14: 10, 15: 9}
    (tmp_path / "aug").write_text("Mosaic: 1\n")
    assert find_config("aug") == Path("aug"), "an existing file wins"


def test_presets_are_part_of_the_package() -> None:
    """The wheel takes everything below host/uhd that git does not ignore."""
    assert 'packages = ["host/uhd"]' in (ROOT / "pyproject.toml").read_text()
    ignored = (ROOT / ".gitignore").read_text() if (ROOT / ".gitignore").exists() else ""
    assert not re.search(r"^\*\.ya?ml$|presets", ignored, re.MULTILINE)


def test_every_operation_and_setting_is_documented() -> None:
    text = (ROOT / "docs" / "augmentation.md").read_text()
    for name, kind in OPS.items():
        row = next((line for line in text.splitlines() if line.startswith(f"| `{name}`")), "")
        missing = [key for key in kind.model_fields if key != "prob" and f"`{key}`" not in row]
        assert row and not missing, f"docs/augmentation.md: {name} lacks {missing}"


def test_what_is_dumped_is_parsed_to_the_same() -> None:
    everything = {name: kind() for name, kind in OPS.items()}
    pre = tuple(op for op in everything.values() if isinstance(op, CanvasOp))
    post = tuple(op for op in everything.values() if not isinstance(op, CanvasOp))
    for config in (AugmentConfig(pre, post), AugmentConfig.load("aug_headpose"), AugmentConfig.default(TrainConfig())):
        assert AugmentConfig.parse(config.dump(), "dumped") == config


def test_the_default_follows_the_settings_and_files_take_its_place() -> None:
    config = TrainConfig(crop_min=0.6, flip_prob=0.2, hue=0.1, single_chroma=0.4)
    crop, jitter, chroma = (*AugmentConfig.of(config).pre, *AugmentConfig.of(config).post)
    assert isinstance(crop, geometry.ZoomCrop) and crop.scale == (0.6, 1.15) and crop.mirror == 0.2
    assert isinstance(jitter, ColourJitter) and jitter.hue == 0.1
    assert chroma == SingleChroma(prob=0.4)
    assert AugmentConfig.of(TrainConfig(aug_config="uhd/aug.yaml")) == AugmentConfig.load("aug")


def test_mild_halves_what_is_ours_and_leaves_the_rest() -> None:
    config = TrainConfig(crop_min=0.4, crop_max=1.2, brightness=0.2)
    assert AugmentConfig.default(config).mild() == AugmentConfig.default(config.mild())
    assert AugmentConfig.load("aug").mild() == AugmentConfig.load("aug")


def test_evaluation_does_not_ask_for_objects() -> None:
    config = for_evaluation(AugmentConfig.parse({"RandomCrop": {}, "RandomResizedCrop": 1.0, "ToGray": 1}, "x"))
    assert all(getattr(op, "allow_empty", True) for op in config.pre)
    assert isinstance(AugmentConfig.load("aug").post[0], RandomPhotometricDistort)
