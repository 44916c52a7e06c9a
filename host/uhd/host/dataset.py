"""``dataset``: find what is wrong with labelled photos, look at them, turn a COCO download into them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.ui import counter, emit_json, print_table

if TYPE_CHECKING:
    from uhd.data.check import Report
    from uhd.data.yolo import Sample

EPILOG = """\b
Examples:
  python -m uhd.host dataset coco-person --annotations annotations/instances_train2017.json \\
    --images train2017/ --output photos/train
  python -m uhd.host dataset check photos/train --against photos/val
  python -m uhd.host dataset show photos/train --output sheet.png
"""
CHECK_EPILOG = """\b
Examples:
  python -m uhd.host dataset check photos/train
  python -m uhd.host dataset check photos/train --classes 0 --against photos/val --json
  python -m uhd.host dataset check photos/train --good-list good.txt   # then train on good.txt

\b
Exit code 1 if pictures cannot be used: broken pictures, missing or malformed labels. Also reported: other classes,
boxes under a pixel, boxes and pictures that are there twice, labels without picture, pictures also in --against.
"""
SHOW_EPILOG = """\b
Examples:
  python -m uhd.host dataset show photos/train --output sheet.png
  python -m uhd.host dataset show photos/val --count 60 --seed 7 --output sheet.png
  python -m uhd.host dataset show photos/train --classes 0,2 --network 64x64 --output sheet.png
  python -m uhd.host dataset show photos/train --augmented default --output sheet.png
  python -m uhd.host dataset show photos/train --augmented my.yaml --network 96x96 --output sheet.png
"""
COCO_EPILOG = """\b
Example:
  python -m uhd.host dataset coco-person --annotations annotations/instances_train2017.json \\
    --images train2017/ --output photos/train

\b
Crowd boxes stand round people that were not told apart:
  auto  leave out pictures that they cover by over 5 %, elsewhere only the boxes (default)
  skip  leave out the boxes only     drop  leave out the pictures     box  take them as persons
"""

_FOLDER = click.Path(path_type=Path)


@click.group(epilog=EPILOG)
def command() -> None:
    """Check, show or convert labelled photos (one text file a picture, lines: class cx cy w h)."""


@command.command(epilog=CHECK_EPILOG)
@click.argument("path", type=_FOLDER)
@click.option("--image-dir", type=_FOLDER, help="Where a list file's pictures are.")
@click.option("--classes", help="Class ids that should occur, such as 0,2; others are reported.")
@click.option("--against", type=_FOLDER, multiple=True, help="Folder or list whose pictures must not be here too.")
@click.option("--side", default=64, show_default=True, help="Side of the network's input, for the sizes of boxes.")
@click.option("--good-list", type=_FOLDER, help="Write the usable pictures to this list file.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def check(
    path: Path,
    image_dir: Path | None,
    classes: str | None,
    against: tuple[Path, ...],
    side: int,
    good_list: Path | None,
    as_json: bool,
) -> int:
    """Open every picture and label of a folder or list file and report all that is wrong."""
    from uhd.data.check import check_dataset
    from uhd.files import write_text

    report = check_dataset(
        path, image_dir, class_ids=_ids(classes), against=against, side=side, progress=counter("pictures", as_json)
    )
    if good_list is not None:
        write_text(good_list, "".join(f"{image.absolute()}\n" for image in report.usable))
    if as_json:
        emit_json(report.as_dict())
    else:
        _print_report(str(path), report)
    return 1 if report.errors else 0


def _print_report(title: str, report: Report) -> None:
    from uhd.data.check import ERRORS

    shown: Counter[str] = Counter()
    for finding in sorted(report.findings, key=lambda f: not f.is_error):
        shown[finding.kind] += 1
        if shown[finding.kind] <= (20 if finding.kind in ERRORS else 3):
            click.echo(f"{'error' if finding.is_error else 'note '}  {finding}")
    for kind, count in shown.items():
        limit = 20 if kind in ERRORS else 3
        if count > limit:
            click.echo(f"       … {count - limit} more of the kind: {kind} (--json lists all)")
    rows: list[tuple[str, object]] = [
        ("pictures", f"{report.pictures:,}"),
        ("usable", f"{len(report.usable):,}"),
        ("without objects", f"{report.negatives:,}"),
    ]
    rows += [(f"boxes of class {label}", f"{count:,}") for label, count in sorted(report.boxes.items())]
    total = sum(report.sides.values())
    order = sorted(report.sides, key=lambda name: int(name.split()[-1]) if "under" in name else 10**6)
    rows += [(f"  {name} pixels", f"{report.sides[name]:,} ({report.sides[name] / total:.0%})") for name in order]
    rows += [(f"found: {kind}", f"{count:,}") for kind, count in sorted(shown.items())]
    print_table(title, rows)


@command.command(epilog=SHOW_EPILOG)
@click.argument("path", type=_FOLDER)
@click.option("--image-dir", type=_FOLDER, help="Where a list file's pictures are.")
@click.option("--output", required=True, type=_FOLDER, help="Picture file to write (.png or .jpg).")
@click.option("--count", default=24, show_default=True, type=click.IntRange(1, 400), help="How many pictures.")
@click.option("--seed", default=0, show_default=True, help="Which pictures are chosen.")
@click.option("--classes", help="Class ids to show, such as 0,2. Default: all.")
@click.option("--network", metavar="HxW", help="Show what the network sees at this size, such as 64x64.")
@click.option("--augmented", metavar="WHAT", help="Show what training sees: default, a preset, or a YAML file.")
@click.option("--columns", default=6, show_default=True, type=click.IntRange(1, 40), help="Pictures side by side.")
def show(
    path: Path,
    image_dir: Path | None,
    output: Path,
    count: int,
    seed: int,
    classes: str | None,
    network: str | None,
    augmented: str | None,
    columns: int,
) -> None:
    """Draw pictures of a folder or list file with their boxes on one sheet."""
    import random

    from uhd.data.sheet import sheet_of
    from uhd.data.yolo import load_split
    from uhd.image.files import write_picture

    samples = load_split(path, image_dir, _ids(classes), problems=[])
    chosen = random.Random(seed).sample(samples, min(count, len(samples)))
    if augmented is None:
        sheet = sheet_of(chosen, size=_size(network), columns=columns)
    else:
        sheet = _augmented(chosen, augmented, _size(network) or (64, 64), seed, columns)
    write_picture(output, sheet)
    click.echo(f"{output}: {len(chosen)} of {len(samples)} pictures, {sheet.shape[1]}x{sheet.shape[0]}")


def _augmented(samples: Sequence[Sample], what: str, size: tuple[int, int], seed: int, columns: int) -> Any:
    """A sheet of one training batch made of ``samples``, BGR."""
    from uhd.image.files import read_rgb
    from uhd.train.augment.preview import preview
    from uhd.train.config import parse_train_config
    from uhd.train.photos import PhotoStore

    labels = {int(label) for sample in samples for label in sample.boxes[:, 0]}
    settings = {
        "aug_config": None if what == "default" else what,
        "img_size": f"{size[0]}x{size[1]}",
        "seed": seed,
        "classes": ",".join(map(str, range(max(labels, default=0) + 1))),
    }
    store = PhotoStore.build((read_rgb(sample.image), sample.boxes) for sample in samples)
    return preview(store, parse_train_config(settings, "dataset show"), len(samples), columns=columns)[..., ::-1]


@command.command("coco-person", epilog=COCO_EPILOG)
@click.option("--annotations", required=True, type=_FOLDER, help="instances_train2017.json or the like.")
@click.option("--images", required=True, type=_FOLDER, help="Folder of the pictures that it names.")
@click.option("--output", required=True, type=_FOLDER, help="New folder for pictures and label files.")
@click.option("--category", default="person", show_default=True, help="Name of the category that becomes class 0.")
@click.option("--crowds", type=click.Choice(["auto", "skip", "drop", "box"]), default="auto", show_default=True)
@click.option("--min-pixels", default=1.0, show_default=True, help="Shortest side of a box to be kept, in pixels.")
@click.option("--negatives", default=0.25, show_default=True, help="Pictures without a person for each with one.")
@click.option("--limit", default=0, help="At most so many pictures with persons. Default: all.")
@click.option("--seed", default=42, show_default=True, help="Which pictures --negatives and --limit choose.")
@click.option("--link", type=click.Choice(["symlink", "hardlink", "copy"]), default="symlink", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the counts as JSON.")
def coco_person(annotations: Path, images: Path, output: Path, as_json: bool, **options: object) -> None:
    """Turn a COCO download into a folder of pictures with YOLO labels, and print what was kept."""
    from uhd.data.coco_person import CocoOptions, convert

    chosen = CocoOptions(**options)  # type: ignore[arg-type]
    counts = convert(annotations, images, output, chosen, counter("pictures", as_json))
    if as_json:
        emit_json(counts.as_dict())
        return
    rows = [(name.replace("_", " "), f"{v:,}") for name, v in counts.as_dict().items() if isinstance(v, int)]
    print_table(str(output), rows)
    if counts.missing:
        click.echo(
            f"missing pictures: {', '.join(counts.missing[:3])}{' …' if len(counts.missing) > 3 else ''}", err=True
        )


def _ids(classes: str | None) -> tuple[int, ...] | None:
    if classes is None:
        return None
    from uhd.errors import ConfigError

    parts = [part.strip() for part in classes.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise ConfigError(f"--classes {classes!r} is no list of class ids", hint="write them as 0 or 0,2")
    return tuple(map(int, parts))


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    from uhd.errors import ConfigError

    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and 1 <= int(part) <= 4096 for part in parts):
        raise ConfigError(f"--network {text!r} is no size", hint="write height x width, such as 64x64")
    return int(parts[0]), int(parts[-1])
