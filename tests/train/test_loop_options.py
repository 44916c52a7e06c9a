"""Teachers, the chip's grid, other heads, checkpoints that fit in part, evaluation alone: all through the loop."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from support.scenes import scene_store
from support.train_runs import NARROW, assert_same_run, in_parts, same_files, tiny
from uhd.errors import ConfigError, ModelError
from uhd.models.checkpoint import load_checkpoint
from uhd.quantize.trained import FIELD
from uhd.train.config import TrainConfig
from uhd.train.photos import PhotoStore
from uhd.train.progress import Lines, Watcher
from uhd.train.records import METRICS
from uhd.train.trainer import Trainer
from uhd.train.val_only import evaluate_checkpoint


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def photos() -> PhotoStore:
    return scene_store(8, size=(48, 64))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, photos: PhotoStore) -> Path:
    """A wider network, trained for a step."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    Trainer(tiny(cnn_width=6, epochs=1, batch_size=8, auto_anchors=False), photos, photos, folder).run()
    return folder / "best.safetensors"


def test_distillation_resumes_exactly_with_its_adapter(tmp_path: Path, photos: PhotoStore, teacher: Path) -> None:
    config = tiny(
        epochs=2, eval_interval=2, auto_anchors=False, teacher_ckpt=str(teacher), distill_kl=0.5, distill_box_l1=1.0,
        distill_feat=0.3, distill_cosine=True,
    )  # fmt: skip
    whole = Trainer(config, photos, photos, tmp_path / "whole")
    adapter = {name: value.clone() for name, value in whole.learner.distiller.state_dict().items()}
    whole.run()
    assert set(adapter) == {"weight", "bias"}
    trained = whole.learner.distiller.state_dict()
    assert not torch.equal(trained["weight"], adapter["weight"]), "the adapter learns"
    row = whole.history[0]
    assert {"distill_kl", "distill_box_l1", "distill_feat"} <= row.keys()
    assert row["loss"] > sum(row[name] for name in row if name.startswith("distill")) > 0
    part = in_parts(config, photos, tmp_path / "parts")
    assert_same_run(part, whole)
    same_files(tmp_path / "parts", tmp_path / "whole", ("best.safetensors", METRICS))


def test_anchors_of_a_teacher_may_be_taken(tmp_path: Path, photos: PhotoStore, teacher: Path) -> None:
    settings = {"teacher_ckpt": str(teacher), "distill_kl": 1.0, "override_from_teacher_anchors": True}
    student = Trainer(tiny(**settings), photos, photos, tmp_path / "run")
    assert torch.equal(student.model.anchors, load_checkpoint(teacher)[0].anchors)


def test_statistics_of_a_checkpoint_do_not_start_over(tmp_path: Path, photos: PhotoStore, teacher: Path) -> None:
    """A fresh network's normalisation takes the first batch as it is; one that was trained moves on by its momentum."""
    settings = {"cnn_width": 6, "auto_anchors": False}
    given = Trainer(tiny(**settings, ckpt=str(teacher)), photos, photos, tmp_path / "a", ckpt=teacher)
    fresh = Trainer(tiny(**settings), photos, photos, tmp_path / "b")
    for trainer, expected in ((given, 0.1), (fresh, 1.0)):
        norms = [module for module in trainer.model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        trainer.learner._set_norm_momentum(0)
        assert norms and {module.momentum for module in norms} == {expected}


def test_the_chip_s_grid_resumes_exactly_and_is_kept(tmp_path: Path, photos: PhotoStore) -> None:
    config = TrainConfig(
        variant="R", cnn_width=4, num_anchors=3, epochs=2, batch_size=4, eval_interval=1, warmup_steps=0, qat=True,
        qat_target="esp32s3", lr=1e-3,
    )  # fmt: skip
    whole = Trainer(config, photos, photos, tmp_path / "whole")
    whole.run(stop_after=1)
    shutil.copytree(tmp_path / "whole", tmp_path / "copy")
    whole.run()
    again = Trainer(config, photos, photos, tmp_path / "copy", resume=True)
    again.run()
    assert_same_run(again, whole)
    model, manifest = load_checkpoint(tmp_path / "whole" / "best.safetensors")
    assert manifest.training[FIELD] and "exponents" not in model.state_dict(), "a float model and its grid"


@pytest.mark.parametrize(
    "settings",
    [
        {"use_anchor": False},
        {"anchor_assigner": "simota", "img_size": "32x48"},
        {"arch": "transformer", "use_anchor": False, "d_model": 16, "heads": 2, "layers": 1, "dim_feedforward": 16},
    ],
    ids=["centernet", "simota-oblong", "detr-dropout"],
)
def test_other_heads_resume_exactly(tmp_path: Path, photos: PhotoStore, settings: dict[str, Any]) -> None:
    plain = {k: v for k, v in NARROW.items() if k not in ("cnn_width", "output_stride", "anchor_assigner")}
    base = plain if settings.get("arch") == "transformer" else {**NARROW}
    config = TrainConfig(**{**base, "epochs": 2, "batch_size": 4, "eval_interval": 2, **settings})
    whole = Trainer(config, photos, photos, tmp_path / "whole")
    whole.run()
    assert_same_run(in_parts(config, photos, tmp_path / "parts"), whole)
    _, manifest = load_checkpoint(tmp_path / "whole" / "best.safetensors")
    assert (manifest.input_height, manifest.input_width) == config.input_size


def test_a_checkpoint_that_fits_in_part(tmp_path: Path, photos: PhotoStore, teacher: Path) -> None:
    lines: list[str] = []
    config = tiny(cnn_width=6, use_skip=False, last_se="se", auto_anchors=False)
    with pytest.raises(ModelError, match="is no cnn of these settings"):
        Trainer(config, photos, photos, tmp_path / "strict", ckpt=teacher)
    run = Trainer(
        config, photos, photos, tmp_path / "run", ckpt=teacher, ckpt_non_strict=True, watcher=Lines(lines.append)
    )
    given, mine = load_checkpoint(teacher)[0].state_dict(), run.model.state_dict()
    shared = [name for name in given if name in mine and mine[name].shape == given[name].shape]
    assert len(shared) >= 10 and all(torch.equal(mine[name], given[name]) for name in shared)
    assert f"{len(shared)} of {len(mine)} tensors taken" in lines[0]
    assert "fresh, as none fits: se." in lines[1]
    with pytest.raises(ModelError, match="none of its weights fit"):
        narrow = TrainConfig(variant="R", cnn_width=4)
        Trainer(narrow, photos, photos, tmp_path / "other", ckpt=teacher, ckpt_non_strict=True)


def test_evaluation_alone(tmp_path: Path, photos: PhotoStore, teacher: Path) -> None:
    """Gives the mAP that the run measured, and writes pictures, heatmaps and a report of its own."""
    config = tiny(
        cnn_width=6, val_only=True, ckpt=str(teacher), val_count=3, heatmap_mode="mean", coco_eval=True,
        coco_per_class=True,
    )  # fmt: skip
    names = [f"photo{number}.jpg" for number in range(8)]
    found = evaluate_checkpoint(config, photos, names, tmp_path / "run", "cpu", "scenes", Watcher())
    manifest = load_checkpoint(teacher)[1]
    assert found["map50"] == pytest.approx(manifest.accuracy[0].map50, abs=1e-9)
    assert found["photos"] == 8 and "coco_map75" in found and "ap50_class0" in found
    folder = tmp_path / "run" / "val_only"
    assert json.loads((folder / "evaluation.json").read_text())["info"]["checkpoint"] == "best.safetensors"
    assert len(list((folder / "samples").glob("0*.png"))) == 3
    assert list((folder / "samples").glob("00_photo0/heatmap_0000_*.png"))
    assert (folder / "report.html").stat().st_size > 1000
    assert not (tmp_path / "run" / "state.safetensors").exists()


def test_a_run_leaves_what_people_look_at(tmp_path: Path, photos: PhotoStore) -> None:
    lines: list[str] = []
    config = tiny(epochs=2, eval_interval=1, auto_anchors_plot=True, val_aug_config="aug_val_s.yaml")
    Trainer(config, photos, photos, tmp_path / "run", watcher=Lines(lines.append)).run()
    names = {path.name.split(".")[0] for path in (tmp_path / "run").iterdir()}
    assert {"config", "train", "metrics", "report", "samples", "evaluation", "best", "last", "events"} <= names
    assert "auto_anchors_wh_logkmeans" in names
    log = (tmp_path / "run" / "train.log").read_text()
    assert "started: uhd" in log and "epoch 2/2" in log
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "left" in lines[0] and "mAP@0.5" in lines[0] and "lr" not in lines[0]


def test_nothing_learnt_is_told_once(tmp_path: Path, photos: PhotoStore) -> None:
    lines: list[str] = []
    config = tiny(epochs=5, eval_interval=1, lr=1e-9, use_ema=False, max_steps=1)
    Trainer(config, photos, photos, tmp_path / "run", watcher=Lines(lines.append)).run()
    told = [line for line in lines if "nothing is found" in line]
    best = max(json.loads(line)["map50"] for line in (tmp_path / "run" / METRICS).read_text().splitlines()[:3])
    assert len(told) == (best < 1e-3)


def test_a_batch_must_reach_for_all_processes(tmp_path: Path, photos: PhotoStore) -> None:
    from uhd.train.distributed import ProcessTeam

    with pytest.raises(ConfigError, match="a batch of 2 photos cannot be shared by 3 processes"):
        Trainer(tiny(batch_size=2), photos, photos, tmp_path / "run", team=ProcessTeam(0, 3))


def test_a_centre_point_head_gives_no_more_boxes_than_asked(tmp_path: Path, photos: PhotoStore) -> None:
    numbers = torch.arange(len(photos))
    for topk in (3, 40):
        config = TrainConfig(**{"arch": "cnn", "cnn_width": 8, "img_size": "64", "use_anchor": False, "topk": topk})
        trainer = Trainer(config, photos, photos, tmp_path / f"run{topk}")
        found = trainer.validation.detect(trainer.evaluated, numbers)
        most = max(len(rows) for rows, _ in found)
        assert most <= topk and (topk < 40 or most > 3)


@pytest.mark.parametrize("saving", [0.0, 1e9], ids=["at evaluations only", "always"])
def test_the_state_is_saved_as_often_as_it_costs_little(
    tmp_path: Path, photos: PhotoStore, saving: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uhd.train.trainer.SAVING", saving)
    saved: list[int] = []
    monkeypatch.setattr(Trainer, "_save_state", lambda self: saved.append(self.epoch))
    Trainer(tiny(epochs=5, eval_interval=2), photos, photos, tmp_path / "run").run()
    assert saved == ([2, 4, 5] if saving == 0 else [1, 2, 3, 4, 5])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_a_gpu_learns_what_the_cpu_learns(tmp_path: Path, photos: PhotoStore) -> None:
    losses = []
    for device in ("cpu", "cuda"):
        trainer = Trainer(tiny(epochs=2, use_amp=False), photos, photos, tmp_path / device, device=device)
        trainer.run()
        losses.append([row["loss"] for row in trainer.history])
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)
