"""The ``train`` command on generated scenes, and what it says to mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from support.scenes import write_scenes
from uhd.errors import ConfigError, UhdError
from uhd.host.train import command, pick_device
from uhd.models.checkpoint import load_checkpoint
from uhd.train.config import TrainConfig, parse_class_ids, parse_train_config


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    base = tmp_path_factory.mktemp("scenes")
    return write_scenes(base / "train", 6), write_scenes(base / "val", 4, first_seed=50), base / "cache"


def arguments(folders: tuple[Path, Path, Path], output: Path, *more: str) -> list[str]:
    train, val, cache = map(str, folders)
    fixed = ["--images", train, "--val", val, "--cache-dir", cache, "--output", str(output)]
    return [
        *fixed,
        "--epochs",
        "2",
        "--batch-size",
        "3",
        "--eval-interval",
        "1",
        "--threads",
        "1",
        "--device",
        "cpu",
        *more,
    ]


def test_trains_resumes_and_prints_json(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "run"
    done = CliRunner().invoke(command, arguments(folders, output, "--json"), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["epoch"] in (1, 2) and 0 <= result["map50"] <= 1
    model, manifest = load_checkpoint(Path(result["weights"]))
    assert manifest.accuracy[0].images == 4 and manifest.training["data"]["photos"] == 6
    assert len(model.config.anchors) == 8
    assert "epoch 2/2" in done.stderr and "left" in done.stderr
    again = CliRunner().invoke(command, arguments(folders, output, "--resume", "--json"), catch_exceptions=False)
    assert json.loads(again.stdout) == result


def fails(folders: tuple[Path, Path, Path], output: Path, *more: str) -> str:
    with pytest.raises(UhdError) as error:
        CliRunner().invoke(command, arguments(folders, output, *more), catch_exceptions=False, standalone_mode=False)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_mistakes_are_one_line_and_leave_nothing(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "run"
    assert "lr" in fails(folders, output, "--lr", "-1")
    assert "resize_mode" in fails(folders, output, "--resize-mode", "sideways")
    assert "unknown variant 'Q'" in fails(folders, output, "--variant", "Q")
    assert "unknown device" in fails(folders, output, "--device", "toaster")
    assert "no training state" in fails(folders, output, "--resume")
    assert "give one of them" in fails(folders, output, "--resume", "--ckpt", "x.safetensors")
    assert "cannot read the checkpoint" in fails(folders, output, "--ckpt", str(tmp_path / "none.safetensors"))
    assert "classes '0,0'" in fails(folders, output, "--classes", "0,0")
    assert not output.exists()


def test_bad_labels_are_named(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    bad = write_scenes(tmp_path / "bad", 2)
    (bad / "001.txt").write_text("0 0.5 0.5 0.2 0.2\n0 0.5 1.7 0.2 0.2\n")
    message = fails((bad, folders[1], folders[2]), tmp_path / "run")
    assert "001.txt:2" in message and not (tmp_path / "run").exists()


def test_every_setting_is_a_flag_with_help() -> None:
    text = CliRunner().invoke(command, ["--help"]).stdout
    for name, field in TrainConfig.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert field.description


def test_strict_configuration() -> None:
    with pytest.raises(ConfigError, match="run.yaml: epoch: Extra inputs are not permitted"):
        parse_train_config({"epoch": 3}, "run.yaml")
    with pytest.raises(ConfigError, match=r"epochs: Input should be a valid integer \(given: '3'\)"):
        parse_train_config({"epochs": "3"}, "run.yaml")
    with pytest.raises(ConfigError, match="lr: .*given: nan"):
        parse_train_config({"lr": float("nan")}, "run.yaml")
    assert parse_train_config({"classes": "2, 0"}, "x").class_ids == (2, 0)


@given(ids=st.lists(st.integers(0, 999), min_size=1, max_size=6, unique=True))
def test_class_ids(ids: list[int]) -> None:
    assert parse_class_ids(",".join(map(str, ids))) == tuple(ids)


@pytest.mark.parametrize("text", ["", "0,", "a", "-1", "1,1", "01,1", "²"])
def test_class_ids_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a comma-separated list"):
        parse_class_ids(text)


def test_devices() -> None:
    import torch

    assert pick_device("cpu") == "cpu"
    assert pick_device("") in ("cpu", "cuda")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no such device here: cuda"):
            pick_device("cuda")
    with pytest.raises(ConfigError, match="unknown device"):
        pick_device("meta")
