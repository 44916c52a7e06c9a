"""What is trained: a model of any architecture, the loss of its head, and how its maps become detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from uhd.data.anchors import auto_anchors
from uhd.errors import ModelError
from uhd.models import build_model
from uhd.models.checkpoint import load_checkpoint
from uhd.train.chip import prepared
from uhd.train.config import TrainConfig
from uhd.train.config.adopt import FREE
from uhd.train.distill import Distiller, DistillSettings, load_backbone, load_teacher
from uhd.train.losses.criterion import Criterion, make_criterion
from uhd.train.losses.parts import LossParts
from uhd.train.photos import PhotoStore
from uhd.train.targets import Targets


@dataclass
class Task:
    """A model with the loss that fits its head."""

    model: Any
    criterion: Criterion
    distiller: Distiller | None = None
    start: Mapping[str, Tensor] = field(default_factory=dict)
    """The weights from which ``model`` was prepared for the chip's grid, where it was."""

    @property
    def names(self) -> tuple[str, ...]:
        """The maps that training computes."""
        return self.criterion.map_names

    def loss(self, maps: Mapping[str, Tensor], targets: Targets) -> LossParts:
        """The loss of a whole batch from the ``names`` maps, each [B,A*n,H,W] (transformer: [B,Q,n])."""
        return self.criterion(self.model, maps, targets)


def make_model(config: TrainConfig, store: PhotoStore, anchors: Tensor | None = None) -> nn.Module:
    """A fresh model as configured, with ``anchors`` [A,2], or those of the boxes of ``store`` where they are searched.

    Raises ``ConfigError`` for options that do not go together and ``DataError`` when there are no boxes to take
    anchors from. The global random state is left as it was.
    """
    pairs = None if anchors is None else anchors.tolist()
    if pairs is None and config.searches_anchors:
        sizes = store.boxes[:, 2:].numpy()
        pairs = auto_anchors(sizes, config.num_anchors, config.auto_anchors_alg, bias=config.auto_anchors_bias).tolist()
    arch, options = config.architecture(pairs)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return build_model(arch, options)


def make_task(
    config: TrainConfig,
    store: PhotoStore,
    ckpt: Path | None = None,
    *,
    strict: bool = True,
    start: Mapping[str, Tensor] | None = None,
) -> tuple[Task, list[str]]:
    """The configured model, fresh or with the weights of ``ckpt``, its loss and its teacher; and lines to tell.

    See ``start_weights`` for ``strict``. With ``qat`` the model is prepared for the chip's grid. Which tensors
    share one depends on the weights, so a resumed run gives those that it started with (``Task.start``).
    """
    settings = DistillSettings.from_config(config)
    teacher = load_teacher(Path(config.teacher_ckpt), settings) if config.teacher_ckpt else None
    taken = teacher.anchors if teacher is not None and config.override_from_teacher_anchors else None
    model: Any = make_model(config, store, taken)
    lines: list[str] = []
    if ckpt is not None:
        model, lines = start_weights(model, ckpt, config, strict=strict)
    criterion = make_criterion(config, model.config)
    distiller, first = None, {}
    if config.qat:
        if start:
            model.load_state_dict(start)
        first = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model = prepared(model, store, config)
    if settings.active:
        backbone = None
        if config.teacher_backbone:
            backbone = load_backbone(Path(config.teacher_backbone), settings)
        distiller = Distiller(settings, teacher, model, backbone=backbone, resize_mode=config.resize_mode)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            reset = getattr(distiller.adapter, "reset_parameters", None)
            if reset is not None:
                reset()
        lines += [f"warning: {line}" for line in distiller.warnings]
    return Task(model, criterion, distiller, first), lines


def start_weights(fresh: Any, path: Path, config: TrainConfig, *, strict: bool) -> tuple[nn.Module, list[str]]:
    """``fresh`` with the weights of a checkpoint, and lines about what of it was not used.

    ``strict`` wants the same architecture and colour contract; the anchors are the checkpoint's, and how scores and
    roundings are made (``FREE``) is as configured.
    Otherwise what has the same name and shape is taken and the rest stays fresh. Raises ``ModelError`` for a file
    that cannot be used, and where nothing in it fits.
    """
    source, manifest = load_checkpoint(path)
    if strict:
        free = dict.fromkeys(FREE)
        mine, theirs = ({**model.config.options(), **free} for model in (fresh, source))
        if type(fresh) is not type(source) or mine != theirs or manifest.resize_mode != config.resize_mode:
            what = f"variant {config.variant}" if config.variant else f"{config.arch} of these settings"
            raise ModelError(
                f"{path}: is no {what} for {config.resize_mode}",
                hint="give the settings of the checkpoint, or --ckpt-non-strict to take what fits",
            )
        kept = {name: value for name, value in fresh.config.options().items() if name in FREE and name != "anchors"}
        model = build_model(config.arch, {**source.config.options(), **kept})
        model.load_state_dict(source.state_dict())
        return model.train(), []
    wanted, given = fresh.state_dict(), source.state_dict()
    fits = {name: value for name, value in given.items() if name in wanted and wanted[name].shape == value.shape}
    if not fits:
        raise ModelError(f"{path}: none of its weights fit", hint="give the architecture of the checkpoint")
    fresh.load_state_dict({**wanted, **fits})
    left = [name for name in wanted if name not in fits]
    unused = [name for name in given if name not in fits]
    lines = [f"{path.name}: {len(fits)} of {len(wanted)} tensors taken"]
    lines += [f"{path.name}: fresh, as none fits: {_some(left)}"] if left else []
    return fresh, lines + ([f"{path.name}: left out, as no place fits: {_some(unused)}"] if unused else [])


def _some(names: Sequence[str], most: int = 8) -> str:
    """The names, or the first and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
