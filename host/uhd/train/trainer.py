"""The training loop: epochs, evaluation, checkpoints, resume."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from uhd.data.anchors import auto_anchors
from uhd.errors import ConfigError, ModelError, UhdError
from uhd.files import write_text
from uhd.image.resize import input_channels
from uhd.manifest import Accuracy, ModelManifest
from uhd.models import variants_config
from uhd.models.blocks import BN_MOMENTUM
from uhd.models.checkpoint import load_checkpoint, save_checkpoint
from uhd.models.ultratinyod import UltraTinyOD
from uhd.train.batches import BatchMaker
from uhd.train.config import TrainConfig
from uhd.train.dataset import fingerprint
from uhd.train.ema import EMA
from uhd.train.evaluate import detect_photos, map_of
from uhd.train.losses.ranked import DetectionLoss
from uhd.train.optimizer import make_optimizer
from uhd.train.photos import PhotoStore
from uhd.train.schedule import learning_rate
from uhd.train.state import load_state, pack, restore_optimizer, save_state, unpack

Row = dict[str, Any]
"""One line of ``metrics.jsonl``."""

METRICS = "metrics.jsonl"


def build_model(config: TrainConfig, store: PhotoStore) -> UltraTinyOD:
    """A fresh model of the configured variant, its anchors from the boxes of ``store`` unless switched off."""
    options: dict[str, Any] = {"in_channels": input_channels(config.resize_mode), "num_classes": len(config.class_ids)}
    if config.auto_anchors:
        anchors = auto_anchors(store.boxes[:, 2:].numpy(), config.num_anchors, config.auto_anchors_alg)
        options["anchors"] = tuple((float(w), float(h)) for w, h in anchors)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return UltraTinyOD(variants_config(config.variant, **options))


def channels_last(model: UltraTinyOD) -> UltraTinyOD:
    """Convolution weights laid out channels last: 1.7 times the CPU's training speed."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def set_norm_momentum(model: UltraTinyOD, step: int) -> None:
    """Let the statistics of normalisation be plain means over the first steps, so that they forget their start.

    The layers of depthwise convolutions have variances far below the initial 1, which would linger for hundreds of
    steps and spoil the averaged weights of a short run.
    """
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = max(BN_MOMENTUM, 1 / (step + 1))


class Trainer:
    """One run in one folder: ``state.safetensors`` (to resume), ``best`` and ``last`` weights, ``metrics.jsonl``.

    On the CPU, a run that was interrupted and resumed ends with the same weights to the bit as one that was not, with
    the same number of threads.
    """

    def __init__(
        self,
        config: TrainConfig,
        train: PhotoStore,
        val: PhotoStore,
        output: Path,
        *,
        device: str = "cpu",
        resume: bool = False,
        ckpt: Path | None = None,
        data_name: str = "val",
        report: Callable[[str], None] = lambda text: None,
        on_step: Callable[[int, int, int], None] = lambda epoch, step, steps: None,
    ) -> None:
        """``ckpt`` starts from the weights of a checkpoint; ``report`` gets lines, ``on_step`` the progress.

        Raises ``ConfigError`` when the folder holds a run already, or another one than is to be resumed.
        """
        self.config, self.output, self.device = config, output, torch.device(device)
        self.data_name, self.report, self.on_step = data_name, report, on_step
        self.train, self.val = train.to(self.device), val.to(self.device)
        self.batches = BatchMaker(self.train, config)
        self.data = fingerprint(train)
        self.epoch = 0
        self.history: list[Row] = []
        self.best: Row = {}
        state = load_state(output) if resume else None
        if state is None and any(output.glob("state*.safetensors")):
            raise ConfigError(
                f"{output}: holds a run already", hint="continue it with --resume or choose another --output"
            )
        model = self._start_weights(ckpt) if ckpt else build_model(config, train)
        if state is not None:
            self._check_same_run(state.info, state.source)
            if state.skipped:
                report(f"warning: {state.skipped}; continuing from {state.source.name}")
            model.load_state_dict(unpack(state.tensors, "model"))
        self.model = channels_last(model.to(self.device))
        self.ema = EMA(self.model, config.ema_decay) if config.use_ema else None
        self.optimizer = make_optimizer(self.model, config)
        self.loss = DetectionLoss(config, self.model.config.resolved_score_mode)
        if state is not None:
            restore_optimizer(self.optimizer, state.tensors)
            if self.ema is not None:
                self.ema.model.load_state_dict(unpack(state.tensors, "ema"))
                self.ema.updates = state.info["ema_updates"]
            self.epoch, self.history, self.best = (state.info[k] for k in ("epoch", "history", "best"))
            if self.best.get("epoch") == self.epoch and self.epoch:  # the crash may have hit the writing of `best`
                self._save_weights("best", self.best)

    @property
    def evaluated(self) -> UltraTinyOD:
        """The weights that are evaluated and kept: the average, or without it the trained ones."""
        return self.model if self.ema is None else self.ema.model

    def run(self, *, stop_after: int | None = None) -> Row:
        """Train to the last epoch (or only ``stop_after`` more) and return the best evaluated epoch's metrics."""
        started, first = time.monotonic(), self.epoch
        last = self.config.epochs if stop_after is None else min(self.config.epochs, first + stop_after)
        while self.epoch < last:
            row = self._run_epoch()
            done = self.epoch - first
            left = (time.monotonic() - started) / done * (last - self.epoch)
            self.report(_line(row, self.config.epochs, left))
        return self.best

    def _run_epoch(self) -> Row:
        config, steps = self.config, self.batches.steps
        order = self.batches.order(self.epoch)
        sums: dict[str, torch.Tensor] = {}
        started = time.monotonic()
        self.model.train()
        for step in range(steps):
            parts = self._step(order, step)
            for name, value in parts.items():
                sums[name] = sums[name] + value if name in sums else value
            self.on_step(self.epoch, step + 1, steps)
        means = {name: float(value) / steps for name, value in sums.items()}
        seconds = time.monotonic() - started
        finite = all(bool(value.isfinite().all()) for value in self.model.state_dict().values())
        if not finite or not all(map(math.isfinite, means.values())):
            raise UhdError(f"loss or weights are not finite in epoch {self.epoch + 1}", hint="lower --lr")
        self.epoch += 1
        row: Row = {"epoch": self.epoch, "lr": self.optimizer.param_groups[0]["lr"], **means}
        if self.epoch % config.eval_interval == 0 or self.epoch == config.epochs:
            result = map_of(self.val, detect_photos(self.evaluated, self.val, config.resize_mode, config.img_size))
            row |= {"map50": result.map50, "map50_95": result.map50_95}
            if row["map50"] > self.best.get("map50", -2.0):
                self.best = {"epoch": self.epoch, "map50": result.map50, "map50_95": result.map50_95}
        self.history.append(row)
        self._save(row)
        return {**row, "images_per_second": steps * len(order[: config.batch_size]) / seconds}

    def _step(self, order: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
        config, model = self.config, self.model
        number = self.epoch * self.batches.steps + step
        if number <= 1 / BN_MOMENTUM + 1:
            set_norm_momentum(model, number)
        rate = learning_rate(
            number,
            config.epochs * self.batches.steps,
            config.lr,
            config.warmup_steps,
            config.final_lr,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = self.batches.batch(order, self.epoch, step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.use_amp):
            maps = model.maps(batch.images, self.loss.map_names(model.config))
        parts = self.loss(maps, model.anchors, model.wh_scale, batch.targets)
        self.optimizer.zero_grad(set_to_none=True)
        parts.total.backward()  # type: ignore[no-untyped-call]
        if config.grad_clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.grad_clip_norm)
        self.optimizer.step()
        if self.ema is not None:
            self.ema.update(model)
        return parts.items()

    def _save(self, row: Row) -> None:
        """State first: whatever else a crash leaves half done is made again from it."""
        parts = {"model": self.model.state_dict()}
        if self.ema is not None:
            parts["ema"] = self.ema.model.state_dict()
        info = {
            "epoch": self.epoch,
            "config": self.config.model_dump(mode="json"),
            "data": self.data,
            "history": self.history,
            "best": self.best,
            "ema_updates": self.ema.updates if self.ema else 0,
        }
        save_state(self.output, pack(parts, self.optimizer), info)
        write_text(self.output / METRICS, "".join(json.dumps(line, sort_keys=True) + "\n" for line in self.history))
        if "map50" in row:
            self._save_weights("last", row)
            if self.best["epoch"] == self.epoch:
                self._save_weights("best", self.best)

    def _save_weights(self, name: str, row: Row) -> None:
        save_checkpoint(self.output / f"{name}.safetensors", self.evaluated, self.manifest(row))

    def manifest(self, row: Row) -> ModelManifest:
        """The manifest of the evaluated weights, with the accuracy that ``row`` holds."""
        config = self.config
        accuracy = Accuracy(
            data=self.data_name, images=len(self.val), map50=row["map50"], map50_95=row["map50_95"], engine="torch"
        )
        count = len(config.class_ids)
        return ModelManifest(
            name=f"ultratinyod_{config.variant.lower()}",
            variant=config.variant.upper(),
            class_names=["person"] if count == 1 else [f"class{number}" for number in config.class_ids],
            input_height=config.img_size,
            input_width=config.img_size,
            resize_mode=config.resize_mode,
            training={"config": config.model_dump(mode="json"), "data": self.data, "epoch": row["epoch"]},
            accuracy=[accuracy],
        )

    def _start_weights(self, path: Path) -> UltraTinyOD:
        model, _ = load_checkpoint(path)
        expected = variants_config(
            self.config.variant,
            in_channels=input_channels(self.config.resize_mode),
            num_classes=len(self.config.class_ids),
            anchors=model.config.anchors,
        )
        if model.config != expected:
            raise ModelError(
                f"{path}: is no variant {self.config.variant} for {self.config.resize_mode}",
                hint="give the --variant, --resize-mode and --classes of the checkpoint",
            )
        return model.train()

    def _check_same_run(self, info: Row, source: Path) -> None:
        mine = self.config.model_dump(mode="json")
        for name, value in info["config"].items():
            if mine.get(name) != value:
                raise ConfigError(
                    f"{source}: was started with {name} = {value}, not {mine.get(name)}",
                    hint="resume with the same settings, or start a new run with another --output",
                )
        if info["data"] != self.data:
            raise ConfigError(
                f"{source}: was started on other photos or labels ({info['data']['photos']} photos with"
                f" {info['data']['boxes']} boxes, now {self.data['photos']} with {self.data['boxes']})",
                hint="resume with the same --images",
            )


def _line(row: Row, epochs: int, seconds_left: float) -> str:
    text = f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.4f}  box {row['box']:.4f}  score {row['cls']:.4f}"
    if "map50" in row:
        text += f"  mAP@0.5 {row['map50']:.4f}  mAP@0.5:0.95 {row['map50_95']:.4f}"
    minutes, seconds = divmod(round(seconds_left), 60)
    return f"{text}  {row['images_per_second']:.0f} images/s  {minutes}:{seconds:02d} left"
