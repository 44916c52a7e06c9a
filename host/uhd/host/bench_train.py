"""``bench train``: what training costs on this machine, piece by piece and end to end, in one run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.ui import Steps, emit_json, print_table

if TYPE_CHECKING:
    from uhd.train.photos import PhotoStore

EPILOG = """\b
Examples:
  python -m uhd.host bench train
  python -m uhd.host bench train --images photos/train --variant A --threads 2 --json
"""

#: The reference's figures, measured elsewhere: 2 shared cores, torch 2.13 on the CPU, its commit 4731a49.
REFERENCE = {
    "machine": "another machine: 2 shared cores, torch 2.13.0 on the CPU",
    "data_path_images_per_second": 366.0,
    "training_images_per_second": [110.0, 120.0],
    "loss_ms": {"legacy": 17.0, "simota": 63.0},
    "map_seconds": 14.4,
}


@click.command("train", epilog=EPILOG)
@click.option("--images", type=click.Path(path_type=Path), help="Labelled photos. Default: 256 generated scenes.")
@click.option("--variant", default="R", show_default=True, help="Letter of the variant to train.")
@click.option("--batch-size", type=click.IntRange(1, 65536), default=64, show_default=True, help="Photos a step.")
@click.option("--steps", type=click.IntRange(1, 100000), default=20, show_default=True, help="Steps to time.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads.")
@click.option("--device", default="", help="cpu, cuda or cuda:N for the training step.  [default: cuda if there]")
@click.option("--amp/--no-amp", default=None, help="Train in bfloat16.  [default: on a GPU]")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(
    images: Path | None,
    variant: str,
    batch_size: int,
    steps: int,
    threads: int,
    device: str,
    amp: bool | None,
    as_json: bool,
) -> None:
    """Time the data path, the loss, a training step end to end, and the mAP, side by side.

    Best and median are given: other programs on the machine disturb the median first. The reference's figures beside
    them were measured on another machine.
    """
    import torch

    from uhd.detect.coco_bench import time_map
    from uhd.train.augment.bench import time_data_path
    from uhd.train.bench import describe_machine, time_training
    from uhd.train.config import parse_train_config
    from uhd.train.losses.bench import time_losses
    from uhd.train.run import pick_device

    where = pick_device(device)
    amp = where != "cpu" if amp is None else amp
    settings = {"variant": variant, "batch_size": batch_size, "use_amp": amp}
    config = parse_train_config(settings, "bench train")
    torch.set_num_threads(threads)
    progress = Steps(4, quiet=as_json)
    store = _photos(images, batch_size)
    figures: dict[str, Any] = {
        "machine": describe_machine(torch.device(where)),
        "photos": {"source": str(images) if images else "generated scenes", "count": len(store)},
        "reference": REFERENCE,
    }
    progress.start(f"data path, {len(store)} photos")
    figures["data_path"] = time_data_path(store.to(where), config)
    progress.done(f"{figures['data_path']['images_per_second']:,.0f} images/s")
    progress.start("assignment and loss")
    figures["loss_ms"] = time_losses(batch_size, threads=threads)
    progress.done(f"{figures['loss_ms']['aligned']:.1f} ms a step")
    progress.start(f"training of {variant.upper()} on {where}")
    figures["training"] = time_training(store, config, where, steps=steps)
    progress.done(f"{figures['training']['images_per_second']:,.0f} images/s")
    progress.start("mAP of 1,000 images with 100 detections each")
    figures["map"] = time_map(1000, 100)
    progress.done(f"{figures['map']['best_seconds']:.2f} s")
    if as_json:
        emit_json(figures)
    else:
        _print(figures)


def _photos(images: Path | None, batch_size: int) -> PhotoStore:
    from uhd.data.synthetic import make_scene
    from uhd.train.dataset import open_photos
    from uhd.train.photos import PhotoStore

    if images is not None:
        return open_photos(images, (0,))[0]
    return PhotoStore.build(make_scene(seed, (240, 320)) for seed in range(max(256, batch_size)))


def _print(figures: dict[str, Any]) -> None:
    data, training, loss, score = (figures[name] for name in ("data_path", "training", "loss_ms", "map"))
    known = figures["reference"]
    low, high = known["training_images_per_second"]
    rows = [
        (
            "data path, default augmentation",
            f"{data['images_per_second']:,.0f} images/s",
            f"{data['images_per_second_median']:,.0f}",
            f"{known['data_path_images_per_second']:,.0f}",
        ),
        (
            f"training {training['variant']}, batch {training['batch']}, end to end",
            f"{training['images_per_second']:,.0f} images/s",
            f"{training['images_per_second_median']:,.0f}",
            f"{low:.0f} to {high:.0f} (R)",
        ),
        ("  by processor time", f"{training['images_per_cpu_second']:,.0f} images/s", "", ""),
        ("assignment and loss, aligned", f"{loss['aligned']:.1f} ms", f"{loss['aligned_median']:.1f}", ""),
        ("  legacy", f"{loss['legacy']:.1f} ms", f"{loss['legacy_median']:.1f}", "17"),
        ("  SimOTA", f"{loss['simota']:.1f} ms", f"{loss['simota_median']:.1f}", "63"),
        ("mAP of 1,000 images", f"{score['best_seconds']:.2f} s", f"{score['median_seconds']:.2f}", "14.4"),
    ]
    if training.get("utilisation") is not None:
        rows.append(("GPU utilisation", f"{training['utilisation']:.0%}", "", ""))
    print_table(figures["machine"], rows, ("", "best", "median", "reference, elsewhere"))
    click.echo(f"reference measured on {known['machine']}")
