"""Flags of ``train``: spellings, short forms, help."""

from __future__ import annotations

import resource
import subprocess
import sys
from typing import Any

import click
import pytest
from click.testing import CliRunner

from uhd.errors import ConfigError
from uhd.host.train import command
from uhd.host.train_flags import SectionedCommand, given_settings, setting_flags
from uhd.train.config import TrainConfig, parse_train_config
from uhd.train.config.describe import sections


@click.command(cls=SectionedCommand)
@setting_flags
def probe(**values: Any) -> dict[str, Any]:
    """Returns what is given."""
    return given_settings(values)


def parse(*words: str) -> dict[str, Any]:
    given: dict[str, Any] = probe.main(list(words), standalone_mode=False)
    return given


ALL = [setting for group in sections().values() for setting in group]


@pytest.mark.parametrize("setting", ALL, ids=lambda setting: setting.name)
def test_every_setting_is_a_flag_in_both_spellings(setting: Any) -> None:
    for flag in (setting.flag, f"--{setting.name}"):
        if setting.kind == "switch":
            assert parse(flag) == {setting.name: True}
            assert parse(f"--no-{flag[2:]}") == {setting.name: False}
            continue
        value = setting.choices[0] if setting.choices else {"int": "7", "float": "0.5"}.get(setting.kind, "a b")
        kind = {"int": int, "float": float}.get(setting.kind, str)
        assert parse(flag, value) == {setting.name: (value,) if setting.kind == "texts" else kind(value)}
        if setting.optional:
            assert parse(flag, "none") == {setting.name: None}


def test_nothing_given_is_nothing() -> None:
    assert parse() == {}


def test_short_forms() -> None:
    assert parse("--opencv_inter_nearest_yuv422") == {"resize_mode": "opencv_inter_nearest_yuv422"}
    assert parse("--opencv-inter-nearest-y-bin") == {"resize_mode": "opencv_inter_nearest_y_bin"}
    assert parse("--with-heatmap-sum", "--lr", "1e-3") == {"heatmap_mode": "sum", "lr": 1e-3}
    for words in (("--torch_nearest", "--torch_bilinear"), ("--resize-mode", "torch_nearest", "--torch_nearest")):
        with pytest.raises(ConfigError, match="say the same; give one of them"):
            parse(*words)


def test_resume_with_and_without_a_path() -> None:
    assert parse("--resume") == {"resume": True}
    assert parse("--resume", "--lr", "1") == {"resume": True, "lr": 1.0}
    assert parse("--resume", "runs/a") == {"resume": "runs/a"}
    assert parse("--resume=true") == {"resume": "true"}


def test_the_last_of_a_repeated_flag_counts_and_patterns_add_up() -> None:
    assert parse("--epochs", "3", "--epochs=4") == {"epochs": 4}
    assert parse("--qat-int16-op-pattern", "a", "--qat_int16_op_pattern", "b") == {"qat_int16_op_pattern": ("a", "b")}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--epoch", "3"], "--epoch"),
        (["--epochs", "3.5"], "'3.5' is not a whole number"),
        (["--lr", "fast"], "'fast' is not a number"),
        (["--cnn-width", "none"], "'none' is not a whole number"),
        (["--epochs"], "--epochs"),
    ],
)
def test_wrong_words(words: list[str], message: str) -> None:
    with pytest.raises(click.UsageError) as error:
        parse(*words)
    assert message in error.value.format_message()


def test_a_misspelt_flag_names_the_nearest() -> None:
    with pytest.raises(click.NoSuchOption) as error:
        parse("--iou-los", "ciou")
    assert "--iou-loss" in error.value.format_message()


def test_help_shows_every_setting_in_its_section_with_default_and_range() -> None:
    text = CliRunner().invoke(command, ["--help"]).stdout
    for name, field in TrainConfig.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text and field.description
    flat = " ".join(text.split())
    titles = [flat.index(f" {title}: --") for title in sections()]
    assert titles == sorted(titles)
    assert "[default: 0.5; from 0 to 1]" in flat and "[default: 32; variant R: 16; from 1 to 1024]" in flat
    assert "Examples:" in text and "--opencv_inter_nearest_yuv422" in text


def test_help_is_quick_and_needs_no_heavy_library() -> None:
    code = (
        "import sys\nfrom uhd.host.__main__ import main\nmain(['train', '--help'])\n"
        "sys.exit(f'imported {x}' if (x := {'torch', 'cv2', 'numpy', 'onnx'} & set(sys.modules)) else 0)\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 1.5  # 0.3 s on an idle core


def test_flags_make_the_same_configuration_as_values() -> None:
    words = ["--variant", "z", "--iou_loss", "giou", "--no-use-ema", "--img-size", "32x64", "--classes", "2,0"]
    expected = TrainConfig(variant="Z", iou_loss="giou", use_ema=False, img_size="32x64", classes="2,0")
    assert parse_train_config(parse(*words), "train") == expected
