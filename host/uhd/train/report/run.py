"""What a run folder holds, read as far as it is there."""

from __future__ import annotations

import json
import math
import shlex
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from uhd.errors import ConfigError, UhdError
from uhd.manifest import ModelManifest, load_manifest
from uhd.train.report import evaluation as evaluations
from uhd.train.report import metrics
from uhd.train.report.evaluation import Evaluation
from uhd.train.report.log import pace, read_log

REPORT = "report.html"
#: What the files of a run are, by name (first match counts); "/" ends the name of a folder.
KINDS = (
    ("best.safetensors", "weights of the best evaluated epoch"),
    ("best.json", "their manifest: what they are and how to read their numbers"),
    ("last.safetensors", "weights of the last evaluated epoch"),
    ("last.json", "their manifest"),
    ("state.safetensors", "what --resume continues from"),
    ("state.previous.safetensors", "the generation before, should the newest be damaged"),
    ("metrics.jsonl", "one line an epoch: losses, learning rate, mAP"),
    ("config.yaml", "all settings; train --config takes it"),
    ("evaluation.npz", "boxes, detections and curves of the evaluation in this report"),
    ("evaluation.json", "its figures"),
    ("train.log", "what was printed"),
    ("events.out.tfevents*", "the metrics for TensorBoard"),
    ("samples/", "validation photos with the boxes found"),
    ("nan_batch.npz", "the batch at which the loss was not finite"),
    ("val_only/", "evaluation of a checkpoint without training"),
    ("auto_anchors*.png", "box sizes and anchors"),
    ("*.onnx", "the network for other runtimes"),
    ("*.espdl", "the quantized network"),
)


@dataclass(frozen=True)
class Run:
    """A run folder. ``complaints`` say what is missing or broken, in whole sentences without a full stop."""

    folder: Path
    rows: list[dict[str, Any]]
    config: dict[str, Any]
    manifest: ModelManifest | None
    evaluation: Evaluation | None
    log: list[str]
    complaints: list[str] = field(default_factory=list)

    @property
    def epochs_done(self) -> int:
        """Epochs that ``metrics.jsonl`` tells of."""
        return int(max((metrics.epoch_of(row, i) for i, row in enumerate(self.rows, start=1)), default=0))

    @property
    def epochs_wanted(self) -> int | None:
        """Epochs that the configuration asks for."""
        epochs = self.config.get("epochs")
        return epochs if isinstance(epochs, int) and not isinstance(epochs, bool) else None

    @property
    def seconds(self) -> float | None:
        """Time of all epochs, where rows or log tell it."""
        known = [s for _, s in metrics.plain(self.rows, "seconds") if math.isfinite(s)]
        return sum(known) if known else pace(self.log)[0]

    @property
    def rates(self) -> list[tuple[float, float]]:
        """(epoch, images a second), where rows or log tell it."""
        return metrics.plain(self.rows, "images_per_second") or pace(self.log)[1]

    @property
    def throughput(self) -> float | None:
        """Median of the epochs' images a second."""
        known = [rate for _, rate in self.rates if math.isfinite(rate)]
        return statistics.median(known) if known else None

    @property
    def only_evaluated(self) -> bool:
        """True for the evaluation of a checkpoint, without training."""
        return not self.rows and self.evaluation is not None and "checkpoint" in self.evaluation.info


def read_run(folder: Path) -> Run:
    """Everything a report needs from ``folder``. Nothing is required to be there; what is not, is complained of."""
    rows, no_rows = metrics.read_metrics(folder)
    manifest, no_manifest = _manifest(folder)
    config, no_config = _config(folder, manifest)
    evaluation, no_evaluation = _evaluation(folder)
    run = Run(folder, rows, config, manifest, evaluation, read_log(folder))
    if run.only_evaluated:
        no_rows = no_manifest = ""
    broken = metrics.not_finite(rows)
    unfinished = run.epochs_wanted is not None and run.epochs_done < run.epochs_wanted and not run.only_evaluated
    stopped = ""
    if broken:
        epoch, name = broken[0]
        stopped = f"{name} was not finite (NaN or infinite) in epoch {epoch:g}: the run cannot be trusted"
    elif unfinished and (folder / "nan_batch.npz").exists():
        stopped = "the run stopped because the loss was not finite; nan_batch.npz holds the batch"
    elif unfinished and any("not finite" in line for line in run.log[-3:]):
        stopped = "the run stopped because the loss was not finite"
    short = f"{run.epochs_done} of {run.epochs_wanted} epochs are done: the run has not ended" if unfinished else ""
    run.complaints.extend(filter(None, (stopped, no_rows, short, no_manifest, no_config, no_evaluation)))
    return run


def _manifest(folder: Path) -> tuple[ModelManifest | None, str]:
    """The manifest of the best weights, or None and why not."""
    try:
        return load_manifest(folder / "best.json"), ""
    except UhdError as error:
        missing = not (folder / "best.json").exists()
        return None, "best.json is missing: no weights have been kept as the best" if missing else str(error)


def _evaluation(folder: Path) -> tuple[Evaluation | None, str]:
    """The stored evaluation, or None and why not."""
    try:
        return evaluations.load(folder), ""
    except UhdError as error:
        missing = not (folder / evaluations.ARRAYS).exists()
        told = f"{evaluations.ARRAYS} is missing: there are no curves, tables and pictures of an evaluation"
        return None, told if missing else str(error)


def _config(folder: Path, manifest: ModelManifest | None) -> tuple[dict[str, Any], str]:
    """Settings from ``config.yaml``, or from the manifest of the weights."""
    told = ""
    path = folder / "config.yaml"
    if path.exists():
        from uhd.train.config.yaml_file import read_settings

        try:
            values = read_settings(path)
            if values:
                return {str(name): value for name, value in values.items()}, ""
            told = "config.yaml holds no settings"
        except ConfigError as error:
            told = str(error)
    stored = manifest.training.get("config") if manifest else None
    if isinstance(stored, dict):
        return dict(stored), told
    return {}, told or "config.yaml is missing: the settings are not known"


@dataclass(frozen=True)
class Setting:
    """One line of the configuration table."""

    name: str
    value: str
    default: str
    changed: bool
    text: str


def settings(config: Mapping[str, Any]) -> list[Setting]:
    """The settings with their defaults and explanations from ``TrainConfig``; unknown names have neither."""
    from uhd.train.config import TrainConfig

    fields, defaults = TrainConfig.model_fields, _defaults(config)
    lines = []
    for name, value in config.items():
        known = name in defaults
        default = _shown(defaults[name]) if known else ""
        text = (fields[name].description or "") if name in fields else ""
        lines.append(Setting(name, _shown(value), default, known and _shown(value) != default, text))
    return lines


def _defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults as JSON values. A variant fills settings of its own, so its defaults are those of a run with it."""
    from uhd.train.config import TrainConfig, parse_train_config

    try:
        plain = parse_train_config({}, "defaults").model_dump(mode="json")
        variant = config.get("variant")
        filled = parse_train_config({"variant": variant}, "defaults").model_dump(mode="json") if variant else plain
        return filled | {"variant": plain.get("variant")}
    except ConfigError:  # something has no default
        own = {name: field.get_default(call_default_factory=False) for name, field in TrainConfig.model_fields.items()}
        return {name: json.loads(json.dumps(value, default=str)) for name, value in own.items()}


def _shown(value: Any) -> str:
    """A setting's value as text; equal values have equal text, so tuples are lists."""
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str, ensure_ascii=False)


@dataclass(frozen=True)
class File:
    """One line of the table of files."""

    name: str
    size: int
    text: str


def files(folder: Path) -> list[File]:
    """Files of the run and its folders (with the size of all they hold), the known kinds first."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name == REPORT:
            continue
        try:
            inside = path.rglob("*") if path.is_dir() else (path,)
            size = sum(part.stat().st_size for part in inside if part.is_file())
        except OSError:  # gone in the meantime
            continue
        name = f"{path.name}/" if path.is_dir() else path.name
        place = next((i for i, (kind, _) in enumerate(KINDS) if fnmatch(name, kind)), len(KINDS))
        found.append((place, File(name, size, KINDS[place][1] if place < len(KINDS) else "")))
    return [file for _, file in sorted(found, key=lambda pair: (pair[0], pair[1].name))]


def next_commands(run: Run) -> list[tuple[str, str]]:
    """(what for, command) to go on with the weights of this run, ready to be pasted but for the folder of photos."""
    best = run.folder / "best.safetensors"
    if not best.exists() or run.manifest is None:
        return []
    weights, program = shlex.quote(str(best)), "python -m uhd.host"
    onnx, espdl = (shlex.quote(str(run.folder / name)) for name in ("model.onnx", "model_esp32s3.espdl"))
    commands = [("write ONNX", f"{program} export {weights} --output {onnx}")]
    if run.manifest.architecture == "ultratinyod":
        quantize = f"{program} quantize {weights} --target esp32s3 --calibration PHOTOS --output {espdl}"
        commands.append(("quantize for ESP32-S3", quantize))
        if run.manifest.variant:
            build = f"{program} build-fw --variant {shlex.quote(run.manifest.variant)} --target esp32s3"
            commands.append(("build the firmware", f"{build} --checkpoint {weights} --calibration PHOTOS"))
        commands.append(("see it find people", f"{program} demo --target onnx --checkpoint {weights} --photos PHOTOS"))
    return commands
