"""Which photos a run reads: a folder that is split, two folders, two list files, or those of an earlier run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from uhd.data.problems import Problem, refuse_if_mostly_broken
from uhd.data.yolo import Sample, label_path, load_split, split_samples
from uhd.errors import ConfigError
from uhd.image.files import is_image_name
from uhd.train.config import TrainConfig, read_settings

#: The settings that name photos.
NAMES = ("images", "val", "image_dir", "train_list", "val_list")


@dataclass(frozen=True)
class Sources:
    """The photos of a run. ``train`` is empty where only an evaluation was asked for."""

    train: list[Sample]
    val: list[Sample]
    train_name: str
    val_name: str
    problems: list[Problem]


def choose_photos(config: TrainConfig) -> Sources:
    """The labelled photos that the settings name, pictures not opened yet.

    One folder is split by ``train_split``, ``val_split`` and ``seed``, the same way every time. Raises ``DataError``
    for what is missing or broken and ``ConfigError`` where no photos are named.
    """
    problems: list[Problem] = []
    train_path, val_path = config.images or config.train_list, config.val or config.val_list
    train: list[Sample] = []
    if val_path is not None:
        if train_path is not None and not config.val_only:
            train = _load(config, train_path, problems)
        val = _load(config, val_path, problems)
        names = (str(train_path), _short_name(Path(val_path)))
    elif config.image_dir is not None:
        samples = _load(config, config.image_dir, problems, lists=False)
        train, val = split_samples(samples, config.train_split, config.val_split, config.seed)
        names = (config.image_dir, f"{_short_name(Path(config.image_dir))}, part {config.val_split:g}")
    else:
        raise ConfigError(
            "no photos named", hint="give --images and --val, --train-list and --val-list, or --image-dir"
        )
    if config.val_only:
        train, val = [], val[: config.val_count]
    return Sources(train, val, *names, problems)


def _load(config: TrainConfig, path: str, problems: list[Problem], *, lists: bool = True) -> list[Sample]:
    """Samples of a folder or list file; what is broken goes to ``problems``, unless ``strict_data``."""
    broken: list[Problem] | None = None if config.strict_data else []
    samples = load_split(
        path,
        config.image_dir if lists else None,
        (*config.det_ids, *config.attr_ids),  # the order of the network's classes, attributes after them
        unlabelled_as_negative=config.unlabelled_as_negative,
        problems=broken,
    )
    if broken:
        refuse_if_mostly_broken(broken, len(samples), path)
        problems += broken
    return samples


def _short_name(path: Path) -> str:
    """The last two parts: what a manifest says its accuracy was measured on, without telling where that was."""
    whole = path.resolve()
    return f"{whole.parent.name}/{whole.name}"


def recorded_photos(checkpoint: Path) -> dict[str, Any]:
    """The settings that named the photos of the run that made ``checkpoint``, from ``config.yaml`` beside it."""
    try:
        settings = read_settings(checkpoint.parent / "config.yaml")
    except ConfigError:
        return {}
    names = (*NAMES, "train_split", "val_split", "seed")
    found = {name: settings[name] for name in names if settings.get(name) is not None}
    return found if any(name in found for name in NAMES) else {}


def only_labelled_folder(base: Path) -> Path | None:
    """The one folder of labelled photos at most two levels below ``base``; ``None`` if there are none or several."""
    try:
        folders = [folder for folder in _folders(base, 2) if _is_labelled(folder)]
    except OSError:
        return None
    return folders[0] if len(folders) == 1 else None


def _folders(base: Path, depth: int) -> Iterator[Path]:
    for entry in sorted(base.iterdir()) if base.is_dir() else ():
        if entry.is_dir():
            yield entry
            if depth > 1:
                yield from _folders(entry, depth - 1)


def _is_labelled(folder: Path) -> bool:
    pictures = (path for path in folder.iterdir() if is_image_name(path))
    return any(label_path(picture).exists() for picture in islice(pictures, 20))
