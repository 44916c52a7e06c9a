"""From what the user gives to the configuration of a run: files of settings, a run to resume, a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uhd.errors import ConfigError
from uhd.train.config import TrainConfig, combine, parse_train_config, read_settings
from uhd.train.config.adopt import adopt_checkpoint
from uhd.train.sources import NAMES, only_labelled_folder, recorded_photos

#: Where runs are that name no folder.
RUNS = Path("runs")


def run_folder(settings: Mapping[str, Any]) -> Path:
    """The run folder: ``output``, else ``exp_name`` in ``runs``."""
    output, name = settings.get("output"), settings.get("exp_name")
    return Path(str(output)) if output else RUNS / str(name or "default")


def configure(given: Mapping[str, Any], file: Path | None) -> TrainConfig:
    """The configuration of the command line's settings ``given`` over those of a YAML ``file``.

    A resumed run brings the settings that it was started with, under both. Raises ``ConfigError``.
    """
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if file is not None:
        layers.append((str(file), read_settings(file)))
    layers.append(("train", given))
    wanted: dict[str, Any] = {}
    for _, layer in layers:
        wanted |= layer
    if not wanted.get("resume"):
        return combine(layers)
    if wanted.get("ckpt"):
        raise ConfigError("ckpt: it starts a run and resume continues one", hint="give one of them")
    folder = _resumed_folder(wanted)
    if wanted.get("val_only"):
        layers.append(("train", {"resume": False, "ckpt": str(_weights_of(wanted["resume"], folder))}))
    else:
        layers.append(("train", {"resume": True, "output": str(folder)}))
    known = folder / "config.yaml"
    if known.is_file():
        before = {key: value for key, value in read_settings(known).items() if key not in ("exp_name", "val_only")}
        layers.insert(0, (str(known), before))
    return combine(layers)


def _resumed_folder(wanted: Mapping[str, Any]) -> Path:
    target = wanted["resume"]
    if not isinstance(target, str):
        return run_folder(wanted)
    path = Path(target)
    if not path.exists():
        raise ConfigError(f"resume: {path}: no such run", hint="give a run folder, or a file in it")
    folder = path if path.is_dir() else path.parent
    if (wanted.get("output") or wanted.get("exp_name")) and not wanted.get("val_only"):
        named = run_folder(wanted)
        if named.resolve() != folder.resolve():
            raise ConfigError(
                f"resume: {folder} is continued in its own folder, not in {named}",
                hint="leave --output and --exp-name out, or start another run from its weights with --ckpt",
            )
    if path.is_file() and path.suffix == ".pt" and not wanted.get("val_only"):
        raise ConfigError(
            f"resume: {path} is a checkpoint of another program, which cannot be continued exactly",
            hint="start from its weights with --ckpt",
        )
    return folder


def _weights_of(target: bool | str, folder: Path) -> Path:
    """The checkpoint to evaluate: the file itself, or the best of the run."""
    path = Path(target) if isinstance(target, str) else folder
    return path if path.is_file() and not path.name.startswith("state") else folder / "best.safetensors"


def start_from_checkpoint(
    config: TrainConfig, given: Mapping[str, Any], file: Path | None
) -> tuple[TrainConfig, list[str]]:
    """``config`` with the architecture of its ``ckpt``, and lines to tell about it; unchanged without one.

    Raises ``ModelError`` for a file that cannot be used and ``ConfigError`` where it contradicts the flags ``given`` or
    the settings ``file``.
    """
    if config.ckpt is None or config.ckpt_non_strict:
        return config, []
    from uhd.models.checkpoint import load_checkpoint

    model, manifest = load_checkpoint(Path(config.ckpt))
    chosen = {*given, *(read_settings(file) if file is not None else ())}
    return adopt_checkpoint(config, chosen, model.config, manifest, Path(config.ckpt).name, flags=given)


def find_photos(config: TrainConfig) -> tuple[TrainConfig, list[str]]:
    """``config`` with photos to evaluate on, where ``val_only`` names none: those of the run that made the checkpoint,
    else the only folder of labelled photos below ``data``; and lines that tell which."""
    if not config.val_only or any(getattr(config, name) is not None for name in NAMES):
        return config, []
    found = recorded_photos(Path(config.ckpt or ""))
    if not found and (folder := only_labelled_folder(Path("data"))) is not None:
        found = {"image_dir": str(folder)}
    if not found:
        return config, []
    where = next(found[name] for name in ("val", "val_list", "image_dir", *NAMES) if name in found)
    return parse_train_config({**config.model_dump(), **found}, "config.yaml"), [
        f"no photos named: evaluating on those of {where}"
    ]
