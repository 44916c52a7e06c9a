"""``compare-resize``: how the ways of making a picture smaller differ, and what that costs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.ui import emit_json, print_table, track

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from uhd.resizing.cost import ModelCosts
    from uhd.resizing.study import Difference, Study

    Photo = tuple[str, NDArray[np.uint8]]

EPILOG = """\b
Examples:
  python -m uhd.host compare-resize
  python -m uhd.host compare-resize --photos photos/val --output resize/
  python -m uhd.host compare-resize --val photos/val --variants R,A --output resize/
  python -m uhd.host compare-resize --json | jq '.claims[] | [.text, .holds]'

Without --photos: public-domain photographs that installed libraries carry, and a generated scene. See docs/resize.md.
"""

#: Photos in the gallery of the page.
SHOWN = 4


@click.command(epilog=EPILOG)
@click.option("--photos", type=click.Path(path_type=Path), help="Folder of photos to compare on.")
@click.option("--limit", type=click.IntRange(min=1), default=24, show_default=True,
              help="Photos to compare on, evenly spread.")  # fmt: skip
@click.option("--size", default="64x64", show_default=True, metavar="HxW", help="Height and width to resize to.")
@click.option("--val", type=click.Path(path_type=Path), help="Labelled photos: measure what each way costs in mAP.")
@click.option("--variants", default="R,A", show_default=True, help="Shipped models to measure with --val.")
@click.option("--no-times", is_flag=True, help="Leave the times out.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False),
              help="Folder for resize.html and resize.png.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(
    photos: Path | None,
    limit: int,
    size: str,
    val: Path | None,
    variants: str,
    no_times: bool,
    output: Path | None,
    as_json: bool,
) -> None:
    """Compare OpenCV, torch, Pillow, ONNX and the resize modes of this package on photos."""
    from uhd.data.yolo import load_split
    from uhd.resizing.colour import camera_device, colour_study
    from uhd.resizing.cost import measure
    from uhd.resizing.study import measure_times, study
    from uhd.zoo import checkpoint_path

    target = _size(size)
    letters = [letter.strip().upper() for letter in variants.split(",")] if val else []
    for letter in letters:
        checkpoint_path(letter)  # before anything is measured
    samples = load_split(val) if val else []
    pictures = _pictures(photos, limit)
    found = study((rgb for _, rgb in track(pictures, "photos", quiet=as_json)), target)
    device, problem = camera_device()
    colour = colour_study((rgb for _, rgb in pictures), target, device)
    if not no_times:
        found.timed_on = pictures[0][1].shape[:2]
        found.times = measure_times(found.ways, pictures[0][1], target)
    costs = [measure(letter, samples, lambda s, title: track(s, title, quiet=as_json)) for letter in letters]
    again = _again(photos, size, val, variants, output)
    if output:
        _write(output, found, colour, costs, pictures[:SHOWN], again)
    if as_json:
        emit_json(_document(found, colour, costs, [name for name, _ in pictures], output))
        return
    _print(found, colour, costs, problem)
    if output:
        click.echo(f"page: {output / 'resize.html'}, chart: {output / 'resize.png'}")


def _size(text: str) -> tuple[int, int]:
    from uhd.errors import ConfigError

    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and 1 <= int(part) <= 4096 for part in parts):
        raise ConfigError(f"size {text!r} is not two numbers from 1 to 4096", hint="write it as 64x64")
    return int(parts[0]), int(parts[1])


def _pictures(photos: Path | None, limit: int) -> list[Photo]:
    """(name, RGB) of the photos, or of the samples."""
    from uhd.data.yolo import find_images
    from uhd.host.samples import sample_photos, sample_scene
    from uhd.image.files import read_rgb
    from uhd.quantize.calibration import spread

    if photos is not None:
        paths = find_images(photos)
        return [(paths[i].name, read_rgb(paths[i])) for i in spread(len(paths), limit)]
    named = [(text, read_rgb(path)) for text, path in sample_photos()] + [("generated scene", sample_scene())]
    return named[:limit]


def _again(photos: Path | None, size: str, val: Path | None, variants: str, output: Path | None) -> str:
    words = ["compare-resize", "--size", size]
    words += ["--photos", str(photos)] if photos else []
    words += ["--val", str(val), "--variants", variants] if val else []
    words += ["--output", str(output)] if output else []
    return "python -m uhd.host " + shlex.join(words)


def _write(
    folder: Path,
    found: Study,
    colour: dict[str, Difference | None],
    costs: list[ModelCosts],
    photos: list[Photo],
    again: str,
) -> None:
    from uhd.files import write_bytes
    from uhd.resizing.chart import png, summary_chart
    from uhd.resizing.page import write_page

    write_bytes(folder / "resize.png", png(summary_chart(found)))
    write_page(folder / "resize.html", found, colour, costs, photos, again)


def _document(
    found: Study,
    colour: dict[str, Difference | None],
    costs: list[ModelCosts],
    names: list[str],
    output: Path | None,
) -> dict[str, Any]:
    from dataclasses import asdict

    from uhd.image.deploy import deploy_paths
    from uhd.image.resize import RESIZE_MODES
    from uhd.resizing.study import PUBLISHED, claims

    return {
        "photos": names,
        "size": list(found.size),
        "ways": {way.name: way.text for way in found.ways},
        "not_installed": [way.name for way in found.missing],
        "pairs": [{"first": a, "second": b, **gap.as_dict()} for (a, b), gap in found.pairs.items()],
        "published": [
            {"text": row.text, "published": asdict(row), "found": gap.as_dict() if gap else None}
            for row, gap in zip(PUBLISHED, found.published, strict=True)
        ],
        "claims": [asdict(claim) for claim in claims(found)],
        "colour": {name: gap.as_dict() if gap else None for name, gap in colour.items()},
        "times_ms": found.times,
        "costs": [asdict(model) for model in costs],
        "deploy": {mode: [asdict(path) for path in deploy_paths(mode)] for mode in RESIZE_MODES},
        "output": str(output) if output else None,
    }


def _print(found: Study, colour: dict[str, Difference | None], costs: list[ModelCosts], problem: str) -> None:
    from uhd.resizing.study import PUBLISHED, claims, ratios

    yes = {True: "yes", False: "no", None: "-"}
    title = f"{found.photos} photos to {found.size[1]} x {found.size[0]}"
    print_table(title, [(yes[c.holds], c.text, c.why) for c in claims(found)], ("holds", "statement", "difference"))
    rows: list[tuple[str, ...]] = []
    for row, gap in zip(PUBLISHED, found.published, strict=True):
        here = (str(gap.max), f"{gap.mean:.4f}", f"{gap.std:.4f}") if gap else ("not installed", "", "")
        rows.append((row.text, *here, f"{row.max}, {row.mean:.4f}, {row.std:.4f}"))
    print_table("as published (of another photo)", rows, ("", "max", "mean", "std", "published"))
    named = [(name, gap.kind, str(gap.max), f"{gap.mean:.4f}") if gap else (name, "not compared", "", "")
             for name, gap in colour.items()]  # fmt: skip
    print_table("colour modes and camera", named, ("", "", "max", "mean"))
    if found.times:
        times = [(name, f"{ms:.4f}", f"{ratios(found.times)[name]:.1f}") for name, ms in found.times.items()]
        print_table(f"ms on {found.timed_on[1]} x {found.timed_on[0]}", times, ("", "ms", "of opencv nearest"))
    for model in costs:
        lines = [
            (p.way, f"{p.map50:.4f}", f"{p.map50_95:.4f}", f"{p.cost.map50:+.4f}" if p.cost else "",
             f"± {p.cost.map50_error:.4f}" if p.cost and p.cost.map50_error is not None else "")
            for p in model.paths
        ]  # fmt: skip
        header = ("", "mAP@0.5", "mAP@0.5:0.95", "lost", "")
        print_table(f"{model.model}, trained with {model.mode}, {model.photos} photos", lines, header)
    for way in found.missing:
        click.echo(f"not installed: {way.package}, so not compared: {way.name}")
    if problem:
        click.echo(f"the device's C++ was not compared: {problem}")
