"""The training loop: epochs, evaluation, checkpoints, resume."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uhd.data.anchors_plot import write_anchor_plot
from uhd.detect.coco_curve import best_threshold
from uhd.errors import ConfigError, UhdError
from uhd.image.resize import input_channels
from uhd.manifest import Accuracy, ModelManifest
from uhd.models.checkpoint import save_checkpoint
from uhd.train.batches import Batch, BatchMaker
from uhd.train.chip import as_float, begin_epoch
from uhd.train.config import TrainConfig
from uhd.train.dataset import fingerprint
from uhd.train.distributed import Team
from uhd.train.evaluate import Found, Validation, figures
from uhd.train.guard import Guard
from uhd.train.learner import Learner
from uhd.train.outputs import class_names, write_evaluation, write_page
from uhd.train.photos import PhotoStore
from uhd.train.prefetch import Prefetcher
from uhd.train.progress import Watcher
from uhd.train.records import Row, RunFolder, machine
from uhd.train.report.board import Board
from uhd.train.resume import check_same_run
from uhd.train.state import load_state, save_state, unpack
from uhd.train.stop import StopSignals, TrainingStopped
from uhd.train.task import make_task

#: After so many evaluations without any hit, the run says so.
HOPEFUL_EVALUATIONS = 3
NOTHING = 1e-3

#: In the row of an evaluated epoch: the score threshold of the best F1, which the weights carry to the device.
THRESHOLD = "score_threshold"

#: Among the sums of an epoch: the steps that count.
COUNTED = "steps"

ANCHOR_PLOT = "auto_anchors_wh"

#: Part of the time that saving the state may take between evaluations; short epochs on a GPU would save all the time.
SAVING = 0.05


class Trainer:
    """One run in one folder: ``state.safetensors`` (to resume), ``best`` and ``last`` weights, ``metrics.jsonl``.

    ``best`` are the weights of the evaluated epoch with the highest mAP@0.5, of equals the earliest. On the CPU, a run
    that was interrupted and resumed ends with the same weights to the bit as one that was not, with the same number
    of threads.
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
        ckpt_non_strict: bool = False,
        data_name: str = "val",
        watcher: Watcher | None = None,
        team: Team | None = None,
        val_names: Sequence[str] = (),
    ) -> None:
        """``ckpt`` starts from the weights of a checkpoint (``ckpt_non_strict``: from those that fit).

        Nothing is written yet. Raises ``ConfigError`` when the folder holds a run already, or another one than is to
        be resumed.
        """
        self.config, self.output, self.device = config, output, torch.device(device)
        self.val_names = list(val_names) or [f"{number:04d}" for number in range(len(val))]
        self.data_name, self.watcher, self.team = data_name, watcher or Watcher(), team or Team()
        self.train, self.val = train.to(self.device), val.to(self.device)
        self.validation = Validation(self.val, config)
        self.folder = RunFolder(output)
        self.board: Board | None = None
        self.batches = BatchMaker(self.train, config)
        self.batch_count = min(config.batch_size, len(train))
        if self.batch_count < self.team.size:
            raise ConfigError(
                f"a batch of {self.batch_count} photos cannot be shared by {self.team.size} processes",
                hint="raise --batch-size or start fewer",
            )
        self.steps = min(self.batches.steps, config.max_steps or self.batches.steps)
        self.data = fingerprint(train)
        self.epoch = self.step = 0
        self.sums: dict[str, Tensor] = {}
        self.history: list[Row] = []
        self._found: Found | None = None
        self.best: Row = {}
        self._saved = (0.0, 0.0)  # when the state was last saved, and what that took
        state = load_state(output) if resume else None
        if state is None and any(output.glob("state*.safetensors")):
            raise ConfigError(
                f"{output}: holds a run already", hint="continue it with --resume or choose another --output"
            )
        if state is not None:
            check_same_run(state.info, state.source, config, self.data)
            if state.skipped:
                self.watcher.say(f"warning: {state.skipped}; continuing from {state.source.name}")
        start = None if state is None else unpack(state.tensors, "start")
        task, lines = make_task(config, train, ckpt, strict=not ckpt_non_strict, start=start)
        for line in lines:
            self.watcher.say(line)
        if config.qat and self.team.size > 1:
            raise ConfigError("qat trains in one process", hint="start without torchrun")
        self.learner = Learner(config, task, self.device, self.team, self.batch_count, self.steps)
        self.batches.keeps_rgb = task.distiller is not None and task.distiller.needs_rgb
        if state is not None:
            self.learner.restore(state.tensors, state.info)
            self.epoch, self.history, self.best = (state.info[k] for k in ("epoch", "history", "best"))
            self.step = state.info.get("step", 0)
            self.sums = {k: value.to(self.device) for k, value in unpack(state.tensors, "sums").items()}

    @property
    def model(self) -> Any:
        """The weights being trained."""
        return self.learner.model

    @property
    def evaluated(self) -> Any:
        """The weights that are evaluated and kept: the average, or without it the trained ones."""
        return self.learner.evaluated

    def run(self, *, stop_after: int | None = None) -> Row:
        """Train to the last epoch (or only ``stop_after`` more) and return the best evaluated epoch's metrics.

        SIGINT and SIGTERM end it after the present step, with the state saved; then ``TrainingStopped`` is raised.
        """
        last = self.config.epochs if stop_after is None else min(self.config.epochs, self.epoch + stop_after)
        if self.team.leads:
            self.folder.hold()
        try:
            self._start()
            done = self.epoch * self.steps + self.step
            with StopSignals() as signals, self.watcher.running(self.config.epochs, self.steps, done, self.batch_count):
                while self.epoch < last:
                    self._run_epoch(signals, last)
            if self.epoch == self.config.epochs and self.team.leads:
                write_page(self.output)
        except UhdError as error:
            if self.team.leads:
                self._log_quietly(str(error))
            raise
        except OSError as error:
            raise UhdError(f"{self.output}: cannot write ({error.strerror or error})") from None
        finally:
            if self.board is not None:
                self.board.close()
            self.folder.release()
        return self.best

    def _start(self) -> None:
        """The first files of a run; what a crash may have kept from being written is written again."""
        if not self.team.leads:
            return
        self.folder.write_settings(self.config)
        begun = f"resumed after epoch {self.epoch}" if self.epoch or self.step else "started"
        if self.config.auto_anchors_plot and self.config.searches_anchors:
            self._plot_anchors()
        self.board = Board(self.output, history=self.history)
        self.folder.log(f"{begun}: {machine(self.device)}, {self.team.size} processes, {self.data['photos']} photos")
        if self.history and not self.step:
            self._save_results(self.history[-1])

    def _plot_anchors(self) -> None:
        config = self.config
        base = Path(config.auto_anchors_plot_path) if config.auto_anchors_plot_path else self.output / ANCHOR_PLOT
        boxes, anchors = self.train.boxes[:, 2:].numpy(), self.model.anchors.detach().cpu().numpy()
        write_anchor_plot(base, boxes, anchors, config.auto_anchors_alg, bias=config.auto_anchors_bias)

    def _run_epoch(self, signals: StopSignals, last: int) -> None:
        order = self.batches.order(self.epoch)
        rows = self.team.rows(self.batch_count)
        guard = Guard(self.device, self.output, self.team.rank)

        def make(step: int) -> Batch:
            if rows is None:
                return self.batches.batch(order, self.epoch, step)
            return self.batches.batch(order, self.epoch, step, rows)

        started, first, stop = time.monotonic(), self.step, False
        self.model.train()
        begin_epoch(self.model, self.epoch)
        with Prefetcher(make, first, self.steps, device=self.device) as batches:
            for batch in batches:
                number = self.epoch * self.steps + self.step
                values, stop = self.learner.learn(batch, number, bool(signals.received))
                if not self.learner.precision.scales:  # there, overflow happens, and the scaler leaves the step out
                    guard.watch(self.step, values)
                    guard.look(self.epoch, make)
                self._add(values)
                self.step += 1
                self.watcher.step(self.epoch, self.step, values["loss"])
                if stop and self.step < self.steps:
                    guard.look(self.epoch, make, now=True)
                    self._stop(signals.received)
        guard.look(self.epoch, make, now=True)
        self.learner.check()
        seconds = time.monotonic() - started
        counted = float(self.sums.pop(COUNTED))
        means = {name: float(value) / max(1.0, counted) for name, value in self.sums.items()}
        self.epoch, self.step, self.sums = self.epoch + 1, 0, {}
        row: Row = {"epoch": self.epoch, "lr": self.learner.rate, **means}
        if self.epoch % self.config.eval_interval == 0 or self.epoch == self.config.epochs:
            row |= self._evaluate()
        self.history.append(row)
        saved = self._save(row, last=self.epoch in (last, self.config.epochs))
        rate = (self.steps - first) * self.batch_count / seconds
        line = self.watcher.epoch(row, rate, self.best)
        if self.team.leads and self.board is not None:
            self.folder.log(line)
            self.board.row({**row, "images_per_second": rate})
        stop = stop or (self.team.size == 1 and bool(signals.received))
        if stop and self.epoch < self.config.epochs:
            self._stop(signals.received, saved=saved)

    def _add(self, values: dict[str, Tensor]) -> None:
        """Add a step's figures up for the epoch's means; those of a step that overflowed do not count."""
        values = {COUNTED: torch.ones_like(values["loss"]), **values}
        values.pop("gradient", None)
        if self.learner.precision.scales:
            finite = values["loss"].isfinite()
            values = {name: torch.where(finite, value, torch.zeros_like(value)) for name, value in values.items()}
        for name, value in values.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def _write_best(self) -> None:
        """The best weights, which are the present ones, with figures and pictures of what they find."""
        self._save_weights("best", self.best)
        found = self._found or self.validation.run(self.evaluated, Team())
        info = {"epoch": self.best["epoch"], "data": self.data_name, "photos": len(self.val)}
        write_evaluation(self.output, self.validation, self.val_names, found, self.evaluated, info)

    def _evaluate(self) -> Row:
        self._found = self.validation.run(self.evaluated, self.team)
        result, rows, truth = self._found
        found: Row = figures(result, self.config)
        threshold = best_threshold(truth, rows)
        if threshold is not None:
            found |= {THRESHOLD: round(threshold, 4)}
        if found["map50"] > self.best.get("map50", -2.0):
            self.best = {"epoch": self.epoch, **found}
        evaluations = 1 + sum("map50" in row for row in self.history)
        if evaluations == HOPEFUL_EVALUATIONS and self.best["map50"] < NOTHING:
            self.watcher.say(
                f"warning: nothing is found after {self.epoch} epochs (best mAP@0.5 {self.best['map50']:.4f});"
                " are the labels and --classes right, is --lr too high?"
            )
        return found

    def _stop(self, number: int, *, saved: bool = False) -> None:
        """Save and raise ``TrainingStopped``."""
        if not saved:
            self._save_state()
        where = f"epoch {self.epoch + 1}, step {self.step}" if self.step else f"epoch {self.epoch}"
        name = {2: "Ctrl-C", 15: "SIGTERM"}.get(number, "another process")
        raise TrainingStopped(
            number or 15, f"stopped by {name} after {where}, state saved in {self.output}", hint="go on with --resume"
        )

    def _save(self, row: Row, *, last: bool) -> bool:
        """State first: whatever else a crash leaves half done is made again from it.

        Between evaluations the state is saved only as often as keeps within ``SAVING``; returns whether it was.
        """
        when, took = self._saved
        if not (last or "map50" in row or (time.monotonic() - when) * SAVING > took):
            return False
        if self.team.leads:
            self._save_state()
            self._save_results(row)
        return True

    def _save_results(self, row: Row) -> None:
        self.folder.write_metrics(self.history)
        if "map50" in row:
            self._save_weights("last", row)
            if self.best["epoch"] == self.epoch:
                self._write_best()

    def _save_state(self) -> None:
        if not self.team.leads:
            return
        info = {
            "epoch": self.epoch,
            "step": self.step,
            "config": self.config.settings(),
            "data": self.data,
            "history": self.history,
            "best": self.best,
            **self.learner.info(),
        }
        sums = {f"sums/{name}": value for name, value in self.sums.items()}
        began = time.monotonic()
        save_state(self.output, {**self.learner.tensors(), **sums}, info)
        self._saved = (time.monotonic(), time.monotonic() - began)

    def _save_weights(self, name: str, row: Row) -> None:
        path = self.output / f"{name}.safetensors"
        try:
            save_checkpoint(path, *as_float(self.evaluated, self.manifest(row)))
        except OSError as error:
            raise UhdError(f"{path}: cannot write the weights ({error.strerror})") from None

    def _log_quietly(self, text: str) -> None:
        try:
            self.folder.log(f"ended: {text}")
        except UhdError:
            return  # the disk may be what ended it

    def manifest(self, row: Row) -> ModelManifest:
        """The manifest of the evaluated weights, with the accuracy that ``row`` holds."""
        config = self.config
        accuracy = Accuracy(
            data=self.data_name, images=len(self.val), map50=row["map50"], map50_95=row["map50_95"], engine="torch"
        )
        height, width = config.input_size
        return ModelManifest(
            name=f"{config.arch}_{config.variant.lower()}" if config.variant else config.arch,
            variant=config.variant,
            class_names=class_names(config),
            input_height=height,
            input_width=width,
            input_channels=input_channels(config.resize_mode),
            resize_mode=config.resize_mode,
            **{name: row[name] for name in (THRESHOLD,) if name in row},
            training={"config": config.settings(), "data": self.data, "epoch": row["epoch"]},
            accuracy=[accuracy],
        )
