"""``train``: train a detector on labelled photos."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

EXAMPLES = """Train a detector on a folder of labelled photos (YOLO text labels beside the pictures).

    \b
    The run folder receives best.safetensors and last.safetensors with their manifests, metrics.jsonl, and the
    state from which --resume continues after any interruption.

    \b
    Examples:
      python -m uhd.host train --variant R --images photos/train --val photos/val --output runs/r
      python -m uhd.host train --variant R --images photos/train --val photos/val --output runs/r --resume
      python -m uhd.host train --images a.txt --val b.txt --epochs 300 --batch-size 256 --lr 0.008 --device cuda \\
        --output runs/long --json
"""


def _setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """One flag for each field of ``TrainConfig``."""
    from uhd.train.config import TrainConfig

    own = {"images", "val", "image_dir", "output", "resume", "ckpt", "device", "threads", "cache_dir"}
    for name, field in reversed(TrainConfig.model_fields.items()):
        if name in own:
            continue
        flag = name.replace("_", "-")
        text = f"{field.description}  [default: {field.default}]"
        if field.annotation is bool:
            option = click.option(f"--{flag}/--no-{flag}", name, default=None, help=text)
        else:
            kind = field.annotation if field.annotation in (int, float) else str
            option = click.option(f"--{flag}", name, type=kind, default=None, help=text)
        command = option(command)
    return command


@click.command(help=EXAMPLES)
@click.option("--images", type=click.Path(path_type=Path), required=True, help="training photos: folder or list file")
@click.option("--val", type=click.Path(path_type=Path), required=True, help="validation photos: folder or list file")
@click.option("--image-dir", type=click.Path(path_type=Path), help="where list files' entries are looked for")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="run folder")
@click.option("--resume", is_flag=True, help="continue the run in the output folder")
@click.option("--ckpt", type=click.Path(path_type=Path), help="start from these weights")
@click.option("--device", default="", help="cpu, cuda or cuda:N  [default: cuda where there is one]")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads  [default: all]")
@click.option("--cache-dir", type=click.Path(path_type=Path), help="where decoded photos are kept")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
@_setting_options
def command(
    images: Path,
    val: Path,
    image_dir: Path | None,
    output: Path,
    resume: bool,
    ckpt: Path | None,
    device: str,
    threads: int | None,
    cache_dir: Path | None,
    as_json: bool,
    **settings: Any,
) -> None:
    from uhd.errors import ConfigError
    from uhd.host.ui import emit_json, print_table
    from uhd.train.config import parse_train_config

    given = {name: value for name, value in settings.items() if value is not None}
    config = parse_train_config(given, "train")
    if resume and ckpt:
        raise ConfigError("--ckpt starts a run and --resume continues one", hint="give one of them")

    import torch

    from uhd.train.dataset import open_photos
    from uhd.train.photos import PhotoStore
    from uhd.train.trainer import Trainer

    chosen = pick_device(device)
    if threads:
        torch.set_num_threads(threads)

    def photos(what: str, path: Path) -> PhotoStore:
        options = {"image_dir": image_dir, "cache_dir": cache_dir}
        store, _ = open_photos(path, config.class_ids, progress=_decoding(what), **options)
        click.echo(f"{what}: {len(store)} photos, {len(store.boxes)} boxes", err=True)
        return store

    trainer = Trainer(
        config,
        photos("training", images),
        photos("validation", val),
        output,
        device=chosen,
        resume=resume,
        ckpt=ckpt,
        data_name=f"{val.resolve().parent.name}/{val.name}",
        report=_report,
        on_step=_show_step if sys.stderr.isatty() else _silent,
    )
    best = trainer.run()
    result = {**best, "weights": str(output / "best.safetensors"), "manifest": str(output / "best.json")}
    if as_json:
        emit_json(result)
    else:
        print_table("best", [[name, value] for name, value in result.items()])


def pick_device(name: str) -> str:
    """The device to train on. Raises ``ConfigError`` for an unknown one and for CUDA where there is none."""
    import torch

    from uhd.errors import ConfigError

    if not name:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f"unknown device {name!r}", hint="choose cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"unknown device {name!r}", hint="choose cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"no such device here: {name}", hint="choose cpu, or leave --device out")
    return str(device)


def _decoding(what: str) -> Callable[[int, int], None]:
    def progress(done: int, total: int) -> None:
        if done == total or done % 1000 == 0:
            click.echo(f"decoding {what} photos: {done}/{total}", err=True)

    return progress


def _report(text: str) -> None:
    clear = "\r\033[K" if sys.stderr.isatty() else ""
    click.echo(f"{clear}{text}", err=True)


def _show_step(epoch: int, step: int, steps: int) -> None:
    if step % 10 == 0 or step == steps:
        click.echo(f"\repoch {epoch + 1}: step {step}/{steps}", err=True, nl=False)


def _silent(epoch: int, step: int, steps: int) -> None:
    return None
