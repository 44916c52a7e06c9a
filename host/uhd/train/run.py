"""A whole run from its settings: device and processes, photos, training or one evaluation, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from uhd.data.cache import PhotoCache
from uhd.data.problems import Problem, refuse_if_mostly_broken
from uhd.data.yolo import Sample
from uhd.errors import ConfigError
from uhd.train.config import TrainConfig
from uhd.train.distributed import Team, join_team, local_device
from uhd.train.photos import PhotoStore
from uhd.train.progress import Watcher
from uhd.train.sources import Sources
from uhd.train.trainer import Trainer

Decoding = Callable[[str, int, int], None]
"""Called with what is decoded, photos done, photos in all."""


def run_folder(config: TrainConfig) -> Path:
    """Where the run is: the folder that ``resume`` names, ``output``, or ``runs/`` and ``exp_name``."""
    if isinstance(config.resume, str):
        path = Path(config.resume)
        return path if path.is_dir() or not path.suffix else path.parent
    return Path(config.output) if config.output else Path("runs") / config.exp_name


def pick_device(name: str) -> str:
    """The device to train on. Raises ``ConfigError`` for an unknown one and for CUDA where there is none."""
    if not name:
        return local_device("cuda") if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"unknown device {name!r}", hint="choose cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"unknown device {name!r}", hint="choose cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"no such device here: {name}", hint="choose cpu, or leave --device out")
    return local_device(str(device))


def decode_photos(
    samples: Sequence[Sample], config: TrainConfig, problems: list[Problem], progress: Callable[[int, int], None] | None
) -> tuple[PhotoStore, list[Sample]]:
    """The photos of ``samples``, decoded once and cached on disk, and the samples that could be used.

    What is broken is told in ``problems`` and left out, unless the settings are ``strict_data``; then, and where more
    than a fifth is broken, ``DataError`` is raised.
    """
    broken: list[Problem] | None = None if config.strict_data else []
    directory = Path(config.cache_dir) if config.cache_dir else None
    images = [sample.image for sample in samples]
    cache = PhotoCache(images, directory=directory, progress=progress, problems=broken)
    kept = list(samples)
    if broken:
        readable = set(cache.images)
        kept = [sample for sample in samples if sample.image.absolute() in readable]
        refuse_if_mostly_broken(broken, len(kept), str(samples[0].image.parent))
        problems += broken
    return PhotoStore.build(zip(cache, (_relabelled(sample.boxes, config) for sample in kept), strict=True)), kept


def _relabelled(boxes: NDArray[np.float32], config: TrainConfig) -> NDArray[np.float32]:
    """Rows class, cx, cy, w, h with classes numbered as the network has them: objects first, then attributes."""
    order = (*config.det_ids, *config.attr_ids)
    if order == config.class_ids:
        return boxes
    place = np.array([order.index(number) if number in order else -1 for number in config.class_ids])
    moved = boxes.copy()
    moved[:, 0] = place[boxes[:, 0].astype(np.int64)]
    return moved[moved[:, 0] >= 0]


def run_training(
    config: TrainConfig, sources: Sources, watcher: Watcher | None = None, decoding: Decoding | None = None
) -> dict[str, Any]:
    """Train (or with ``val_only`` evaluate) as configured; returns the best row of metrics and where the weights are.

    Started by torchrun, every process runs this; those that do not lead are silent, write nothing and return nothing.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    device = pick_device(config.device)
    team = join_team(torch.device(device))
    try:
        return _run(config, sources, (watcher or Watcher()) if team.leads else Watcher(), decoding, device, team)
    finally:
        team.close()


def _run(
    config: TrainConfig, sources: Sources, watcher: Watcher, decoding: Decoding | None, device: str, team: Team
) -> dict[str, Any]:
    output, problems = run_folder(config), list(sources.problems)

    def photos(what: str, samples: list[Sample]) -> tuple[PhotoStore, list[Sample]]:
        def tell(done: int, total: int) -> None:
            if decoding is not None and team.leads:
                decoding(what, done, total)

        store, kept = decode_photos(samples, config, problems, tell)
        watcher.say(f"{what}: {len(store)} photos, {len(store.boxes)} boxes")
        return store, kept

    if config.val_only:
        from uhd.train.val_only import evaluate_checkpoint

        store, kept = photos("validation", sources.val)
        names = [sample.image.name for sample in kept]
        return evaluate_checkpoint(config, store, names, output, device, sources.val_name, watcher)
    train, _ = photos("training", sources.train)
    val, kept = photos("validation", sources.val)
    for problem in problems:
        watcher.say(f"left out: {problem.reason}")
    trainer = Trainer(
        config,
        train,
        val,
        output,
        device=device,
        resume=bool(config.resume),
        ckpt=Path(config.ckpt) if config.ckpt else None,
        ckpt_non_strict=config.ckpt_non_strict,
        data_name=sources.val_name,
        watcher=watcher,
        team=team,
        val_names=[sample.image.name for sample in kept],
    )
    best = trainer.run()
    if not team.leads:
        return {}
    return {**best, "weights": str(output / "best.safetensors"), "manifest": str(output / "best.json")}
