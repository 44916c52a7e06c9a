"""``train``: train a detector on labelled photos."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.train_flags import SectionedCommand, given_settings, setting_flags

if TYPE_CHECKING:
    from uhd.train.config import TrainConfig
    from uhd.train.progress import Watcher

EXAMPLES = """Train a detector on labelled photos (YOLO text labels beside the pictures).

    \b
    The run folder receives best.safetensors and last.safetensors with their manifests, metrics.jsonl, config.yaml,
    and the state from which --resume continues after any interruption.

    \b
    Examples:
      python -m uhd.host train --variant R --images photos/train --val photos/val --output runs/r
      python -m uhd.host train --resume runs/r
      python -m uhd.host train --image-dir photos --exp-name z --variant Z --epochs 300 --batch-size 256 --device cuda
      python -m uhd.host train --config runs/r/config.yaml --output runs/r2 --lr 0.002 --ckpt runs/r/best.safetensors
      python -m uhd.host train --arch cnn --backbone ultratinyresnet --use-anchor --image-dir photos --exp-name cnn
      python -m uhd.host train --val-only --ckpt runs/r/best.safetensors --val photos/val --json

    \b
    Every setting below is also a key of a --config file (iou_loss: ciou); flags win. Flags may be written with
    underscores (--iou_loss). A variant fills the architecture; without one, a given setting of the architecture
    makes the others' defaults hold, and with neither, variant R is trained.
"""


@click.command(cls=SectionedCommand, help=EXAMPLES)
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="settings as a YAML file")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
@setting_flags
def command(config_file: Path | None, as_json: bool, **values: Any) -> None:
    from uhd.host.ui import emit_json, print_table
    from uhd.train.setup import configure, find_photos, start_from_checkpoint
    from uhd.train.sources import choose_photos

    given = given_settings(values)
    config, told = find_photos(configure(given, config_file))
    config, more = start_from_checkpoint(config, given, config_file)
    config, none = usable_device(config)
    for line in [*told, *more, *none]:
        _say(f"warning: {line}")
    sources = choose_photos(config)

    from uhd.train.run import run_training

    result = run_training(config, sources, _watcher(config), _decoding)
    if not result:  # one of several processes, and not the one that speaks
        return
    if as_json:
        emit_json(result)
    else:
        print_table("result" if config.val_only else "best", [[name, value] for name, value in result.items()])


def usable_device(config: TrainConfig) -> tuple[TrainConfig, list[str]]:
    """``config`` as this machine can run it, and lines that say what is different from what was asked for.

    The command lines that users have in their notes all say ``--device cuda --use-amp``, and must run anywhere. Half
    precision is for GPUs (the reference ignores it elsewhere, too): on a CPU it takes ten times longer.
    """
    import torch

    change: dict[str, Any] = {}
    lines = []
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        change["device"] = "cpu"
        lines.append(f"device {config.device} was asked for, but there is no CUDA device here: training on the CPU")
    on_cpu = change.get("device", config.device) == "cpu" or not torch.cuda.is_available()
    if config.use_amp and on_cpu:
        change["use_amp"] = False
        lines.append("use_amp is for GPUs, on a CPU half precision is slower: computing in float32")
    return config.model_copy(update=change), lines


def _decoding(what: str, done: int, total: int) -> None:
    if done == total or done % 1000 == 0:
        _say(f"decoding {what} photos: {done}/{total}")


def _watcher(config: TrainConfig) -> Watcher:
    from uhd.train.progress import Bar, Lines

    if not sys.stderr.isatty():
        return Lines(_say)
    from rich.console import Console

    return Bar(Console(stderr=True), config.log_interval)


def _say(text: str) -> None:
    click.echo(text, err=True)
