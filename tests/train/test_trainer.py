"""The loop: it learns, an interrupted run ends as an uninterrupted one, mistakes are told in one line."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from support.scenes import scene_store
from support.train_runs import assert_same_run, in_parts, same_files, tiny
from uhd.data.synthetic import make_scene
from uhd.errors import ConfigError, ModelError, UhdError
from uhd.models.checkpoint import load_checkpoint
from uhd.train.config import TrainConfig
from uhd.train.evaluate import detect_photos, map_of
from uhd.train.photos import PhotoStore
from uhd.train.progress import Lines
from uhd.train.records import METRICS
from uhd.train.state import PREVIOUS, STATE
from uhd.train.trainer import Trainer


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def photos() -> PhotoStore:
    return scene_store(12)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"optimizer": "sgd", "lr": 0.01, "use_ema": False, "mild_epochs": 2},
        {"use_amp": True, "amp_dtype": "float16", "epochs": 2, "eval_interval": 1},
    ],
    ids=["adamw-ema", "sgd-mild", "float16"],
)
def test_resumed_run_equals_uninterrupted_one(tmp_path: Path, photos: PhotoStore, settings: dict[str, Any]) -> None:
    config = tiny(**settings)
    whole = Trainer(config, photos, photos, tmp_path / "whole")
    whole.run()
    part = in_parts(config, photos, tmp_path / "parts")
    assert part.epoch == whole.epoch == config.epochs
    assert_same_run(part, whole)
    names = ("best.safetensors", "last.safetensors", "best.json", METRICS, "config.yaml", "evaluation.json")
    same_files(tmp_path / "parts", tmp_path / "whole", names)


def test_resumes_from_the_generation_before_when_the_newest_is_damaged(tmp_path: Path, photos: PhotoStore) -> None:
    config = tiny()
    whole = Trainer(config, photos, photos, tmp_path / "whole")
    whole.run()
    Trainer(config, photos, photos, tmp_path / "run").run(stop_after=3)
    newest = tmp_path / "run" / STATE
    data = bytearray(newest.read_bytes())
    data[-1000] ^= 4
    newest.write_bytes(data)
    lines: list[str] = []
    again = Trainer(config, photos, photos, tmp_path / "run", resume=True, watcher=Lines(lines.append))
    assert again.epoch == 2 and len(again.history) == 2
    assert any("damaged" in line and PREVIOUS in line for line in lines)
    again.run()
    assert_same_run(again, whole)


def test_same_seed_same_weights_other_seed_others(tmp_path: Path, photos: PhotoStore) -> None:
    runs = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        runs[name] = Trainer(tiny(seed=seed, epochs=1), photos, photos, tmp_path / name)
        torch.manual_seed(len(name) + seed)  # the global generator must not matter
        runs[name].run()
    assert_same_run(runs["a"], runs["b"])
    name = "head.weight"
    assert not torch.equal(runs["a"].model.state_dict()[name], runs["c"].model.state_dict()[name])


def test_learns_a_few_scenes_by_heart(tmp_path: Path) -> None:
    """8 scenes, 240 steps of 8, no augmentation: mAP@0.5 of at least 0.6 on the same scenes."""
    scenes = [make_scene(seed, (96, 128), max_people=2) for seed in range(8)]
    photos, repeated = PhotoStore.build(scenes), PhotoStore.build(scenes * 6)
    config = TrainConfig(
        variant="R", cnn_width=8, epochs=40, batch_size=8, lr=0.01, warmup_steps=10, ema_decay=0.9, eval_interval=40,
        crop_prob=0.0, flip_prob=0.0,
        brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, channel_gain=0.0, grey_prob=0.0, single_chroma=0.0,
    )  # fmt: skip
    trainer = Trainer(config, repeated, photos, tmp_path / "run")
    before = map_of(photos, detect_photos(trainer.evaluated, photos, config.resize_mode, config.img_size)).map50
    best = trainer.run()
    assert before < 0.1
    assert best["map50"] >= 0.6

    model, manifest = load_checkpoint(tmp_path / "run" / "best.safetensors")
    again = map_of(photos, detect_photos(model, photos, manifest.resize_mode, manifest.input_height))
    assert again.map50 == pytest.approx(manifest.accuracy[0].map50, abs=1e-9)
    assert manifest.variant == "R" and manifest.score_mode == "quality_cls" and manifest.input_channels == 2
    assert manifest.training["config"]["epochs"] == 40


def test_weights_carry_the_threshold_of_the_best_f1(tmp_path: Path, photos: PhotoStore) -> None:
    trainer = Trainer(tiny(epochs=2, eval_interval=1), photos, photos, tmp_path / "run")
    trainer.run()
    measured = json.loads((tmp_path / "run" / "evaluation.json").read_text())["best_threshold"]
    manifest = load_checkpoint(tmp_path / "run" / "best.safetensors")[1]
    assert manifest.score_threshold == pytest.approx(measured, abs=1e-4) != 0.15


def test_metrics_are_one_line_an_epoch(tmp_path: Path, photos: PhotoStore) -> None:
    trainer = Trainer(tiny(), photos, photos, tmp_path / "run")
    trainer.run(stop_after=1)
    (tmp_path / "run" / METRICS).write_text("left over from a crash\n")
    Trainer(tiny(), photos, photos, tmp_path / "run", resume=True).run()
    rows = [json.loads(line) for line in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]
    assert ["map50" in row for row in rows] == [False, True, False, True]


def test_a_lost_best_is_written_again(tmp_path: Path, photos: PhotoStore) -> None:
    """As after a crash between the state and the best weights."""
    config = tiny(epochs=1)
    trainer = Trainer(config, photos, photos, tmp_path / "run")
    assert trainer.run()["epoch"] == trainer.epoch == 1
    kept = (tmp_path / "run" / "best.safetensors").read_bytes()
    (tmp_path / "run" / "best.safetensors").write_bytes(b"half")
    Trainer(config, photos, photos, tmp_path / "run", resume=True).run()
    assert (tmp_path / "run" / "best.safetensors").read_bytes() == kept


def test_starts_from_weights(tmp_path: Path, photos: PhotoStore) -> None:
    first = Trainer(tiny(epochs=1), photos, photos, tmp_path / "first")
    first.run()
    path = tmp_path / "first" / "last.safetensors"
    second = Trainer(tiny(epochs=1, seed=9), photos, photos, tmp_path / "second", ckpt=path)
    for name, value in second.model.state_dict().items():
        assert torch.equal(value, first.evaluated.state_dict()[name]), name
    with pytest.raises(ModelError, match="is no cnn of these settings"):
        Trainer(tiny(use_skip=True), photos, photos, tmp_path / "third", ckpt=path)


def test_refuses_to_mix_runs(tmp_path: Path, photos: PhotoStore) -> None:
    Trainer(tiny(), photos, photos, tmp_path / "run").run(stop_after=1)
    with pytest.raises(ConfigError, match="holds a run already; continue it with --resume"):
        Trainer(tiny(), photos, photos, tmp_path / "run")
    with pytest.raises(ConfigError, match="was started with lr = 0.004, not 0.01"):
        Trainer(tiny(lr=0.01), photos, photos, tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match="other photos or labels"):
        Trainer(tiny(), scene_store(11), photos, tmp_path / "run", resume=True)
    with pytest.raises(ModelError, match="no training state to resume from"):
        Trainer(tiny(), photos, photos, tmp_path / "nothing", resume=True)


def test_a_run_in_half_precision_goes_on_where_that_is_left_out(tmp_path: Path, photos: PhotoStore) -> None:
    """As one of a GPU does on a CPU."""
    Trainer(tiny(use_amp=True, epochs=2), photos, photos, tmp_path / "run").run(stop_after=1)
    again = Trainer(tiny(use_amp=False, epochs=2), photos, photos, tmp_path / "run", resume=True)
    again.run()
    assert len(again.history) == 2 and math.isfinite(again.history[1]["loss"])
    with pytest.raises(ConfigError, match="was started with amp_dtype = bfloat16, not float16"):
        Trainer(tiny(use_amp=True, amp_dtype="float16", epochs=2), photos, photos, tmp_path / "run", resume=True)


def test_a_diverging_run_stops_and_keeps_the_last_good_state(tmp_path: Path, photos: PhotoStore) -> None:
    trainer = Trainer(tiny(), photos, photos, tmp_path / "run")
    trainer.run(stop_after=1)
    state = (tmp_path / "run" / STATE).read_bytes()
    with torch.no_grad():
        trainer.model.head.weight.fill_(float("nan"))
    with pytest.raises(UhdError, match="not finite in epoch 2, step 1; the batch is in .*nan_batch.npz; lower --lr"):
        trainer.run()
    assert (tmp_path / "run" / STATE).read_bytes() == state


def test_fewer_photos_than_a_batch(tmp_path: Path) -> None:
    photos = scene_store(3)
    trainer = Trainer(tiny(epochs=1, batch_size=64), photos, photos, tmp_path / "run")
    assert trainer.run()["epoch"] == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"resize_mode": "opencv_inter_nearest", "img_size": 96, "score_loss": "separate", "iou_loss": "giou"},
        {"resize_mode": "opencv_inter_nearest_y_tri", "classes": "0,1", "auto_anchors": False, "use_amp": True},
    ],
)
def test_other_inputs_and_classes_train(tmp_path: Path, settings: dict[str, Any]) -> None:
    scenes = [make_scene(seed, (96, 128), max_people=2) for seed in range(4)]
    for rgb, boxes in scenes:
        boxes[::2, 0] = 1 if "classes" in settings else 0
        assert rgb.shape == (96, 128, 3)
    photos = PhotoStore.build(scenes)
    trainer = Trainer(tiny(epochs=1, **settings), photos, photos, tmp_path / "run")
    trainer.run()
    _, manifest = load_checkpoint(tmp_path / "run" / "last.safetensors")
    assert manifest.resize_mode == settings["resize_mode"]
    assert manifest.input_height == settings.get("img_size", 64)
    assert len(manifest.class_names) == len(trainer.config.class_ids) == trainer.model.config.class_count
