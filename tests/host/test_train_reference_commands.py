"""The reference's training commands, as they stand in its users' notes, behind ``python -m uhd.host train``."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from click.testing import CliRunner

from support.reference_commands import training_commands, value_of
from support.reference_runs import config_of_name, write_reference_checkpoint
from support.scenes import write_scenes
from support.shared import ROOT, shared_dir
from uhd.host.train import command
from uhd.host.train_flags import SectionedCommand, given_settings, setting_flags
from uhd.models import UltraTinyODConfig
from uhd.models.checkpoint import load_checkpoint
from uhd.models.ultratinyod import UltraTinyOD
from uhd.train.config import TrainConfig, parse_train_config

#: Nothing but the length: the rest of every command stands as written.
SHORT = ["--epochs", "1", "--max-steps", "2", "--json"]
WIDE = 96
WIDEST = 256
"""Between these widths, a run writes hundreds of megabytes of state and shows nothing that the widest do not."""
LONG = bool(os.environ.get("UHD_LONG"))


def commands() -> list[list[str]]:
    try:
        return training_commands(shared_dir("spec", "readme-commands.md"))
    except pytest.skip.Exception:
        return []


def name_of(arguments: list[str]) -> str:
    ckpt = value_of(arguments, "--ckpt")
    name = value_of(arguments, "--exp-name") or "val_only"
    return name + ("" if ckpt is None else f"-from-{Path(ckpt).parent.name}")


ALL = commands()


def settings_of(arguments: list[str]) -> TrainConfig:
    @click.command(cls=SectionedCommand)
    @setting_flags
    def probe(**values: Any) -> dict[str, Any]:
        return given_settings(values)

    return parse_train_config(probe.main(arguments, standalone_mode=False), "train")


def built_width(arguments: list[str]) -> int:
    """Width of the widest model that the command builds."""
    paths = [path for flag in ("--ckpt", "--teacher-ckpt") if (path := value_of(arguments, flag))]
    return max(
        [int(value_of(arguments, "--cnn-width") or 0)] + [config_of_name(Path(p).parent.name).width for p in paths]
    )


def family(config: TrainConfig) -> str:
    if config.utod_large_obj_branch:
        return "legacy_loese_relu"
    if config.use_iou_aware_head:
        return f"legacy_ese_iou_{config.activation}"
    return "legacy_ese_swish" if config.utod_head_ese else "legacy_noese_swish"


def test_the_commands_are_found() -> None:
    if not ALL:
        pytest.skip("fixtures not here")
    text = shared_dir("spec", "readme-commands.md").read_text()
    assert len(ALL) == text.count("python train.py") == 36
    assert not any("$" in word for arguments in ALL for word in arguments)


@pytest.mark.parametrize("arguments", ALL, ids=map(name_of, ALL))
def test_command_means_the_published_architecture(arguments: list[str]) -> None:
    config = settings_of(arguments)
    assert config.arch == "ultratinyod" and config.variant is None and config.resize_mode == "torch_bilinear"
    if config.val_only:
        assert config.heatmap_mode == "mean" and config.use_ema
        return
    assert (config.epochs, config.batch_size, config.num_anchors, config.iou_loss) == (300, 64, 8, "ciou")
    assert config.exp_name == value_of(arguments, "--exp-name") and config.lr == float(value_of(arguments, "--lr") or 0)
    with torch.device("meta"):
        model = UltraTinyOD(UltraTinyODConfig(**config.architecture()[1]))
    published = json.loads(shared_dir("spec", "variants.json").read_text())["families"]
    expected = published[family(config)]["per_width"][str(config.cnn_width)]["trainable_params"]
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "obj_train_data", 5)


def run_as_written(arguments: list[str], scenes: Path, folder: Path) -> tuple[dict[str, Any], str]:
    """The command in a folder with what it names; returns its result and what it told."""
    (folder / "data" / "wholebody34").mkdir(parents=True)
    shutil.copytree(scenes, folder / "data" / "wholebody34" / "obj_train_data")
    for flag in ("--ckpt", "--teacher-ckpt"):
        path = value_of(arguments, flag)
        if path is not None and not (folder / path).exists():
            write_reference_checkpoint(folder / path)
    environment = {"XDG_CACHE_HOME": str(folder / "cache")}
    done = CliRunner().invoke(command, [*arguments, *SHORT], env=environment, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    result: dict[str, Any] = json.loads(done.stdout)
    return result, done.stderr


def param(arguments: list[str]) -> Any:
    middle = WIDE <= built_width(arguments) < WIDEST
    marks = [pytest.mark.skipif(not LONG, reason="set UHD_LONG to run the widths in the middle")] if middle else []
    return pytest.param(arguments, id=name_of(arguments), marks=marks)


@pytest.mark.parametrize("arguments", [param(arguments) for arguments in ALL])
def test_command_runs_as_written(
    arguments: list[str], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        result, told = run_as_written(arguments, scenes, tmp_path)
        config = settings_of(arguments)
        assert 0 <= result["map50"] <= 1
        if config.val_only:
            assert "no photos named: evaluating on those of data/wholebody34/obj_train_data" in told
            return
        if not torch.cuda.is_available():
            assert "no CUDA device here: training on the CPU" in told
        model, manifest = load_checkpoint(tmp_path / "runs" / config.exp_name / "last.safetensors")
        assert manifest.training["data"]["photos"] == 4 and manifest.accuracy[0].images == 1
        assert manifest.training["config"]["lr"] == config.lr
        width = config_of_name(Path(config.ckpt).parent.name).width if config.ckpt else config.cnn_width
        assert model.config.width == width and len(model.config.anchors) == 8
        if config.ckpt:  # the checkpoint's, told where the command says another
            meant = config_of_name(Path(config.ckpt).parent.name)
            assert model.config.with_anchors(meant.anchors) == meant
            assert sum(model.config.anchors, ()) == pytest.approx(sum(meant.anchors, ()))
            assert ("warning: cnn_width" in told) == (width != config.cnn_width)
        rows = [json.loads(line) for line in (tmp_path / "runs" / config.exp_name / "metrics.jsonl").open()]
        if config.teacher_ckpt:
            assert all(rows[0][name] > 0 for name in ("distill_box_l1", "distill_feat", "distill_kl"))
    finally:
        for entry in tmp_path.iterdir():
            shutil.rmtree(entry)  # hundreds of megabytes for the wide ones


def test_nothing_of_it_lands_in_the_workspace() -> None:
    assert not (ROOT / "runs").exists()
