"""``demo``: pictures with boxes, from the float model or from a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from uhd.host.ui import emit_json, print_table, track

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp"}

EPILOG = """\b
Examples:
  python -m uhd.host demo --target qemu
  python -m uhd.host demo --photos holiday/ --target onnx --output boxes/
  python -m uhd.host demo --photos holiday/ --target qemu --threshold 0.3 --json
"""


@click.command(epilog=EPILOG)
@click.option(
    "--photos",
    type=click.Path(path_type=Path),
    help="Folder or picture. Default: sample photographs and a generated scene.",
)
@click.option(
    "--target",
    default="qemu",
    show_default=True,
    type=click.Choice(["onnx", "oracle", "twin", "qemu"]),
    help="What finds the boxes.",
)
@click.option(
    "--output",
    default="demo_output",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder for the pictures.",
)
@click.option("--variant", default="R", show_default=True, help="Letter of the variant.")
@click.option("--preset", default="speed", show_default=True, help="Precision preset.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Own weights instead of the shipped.")
@click.option("--threshold", type=click.FloatRange(0, 1), help="Lowest score to draw. Default: the model's own.")
@click.option("--nms-iou", type=click.FloatRange(0, 1), help="IoU above which the weaker of two boxes is dropped.")
@click.option("--json", "as_json", is_flag=True, help="Print the boxes as JSON.")
def command(
    photos: Path | None,
    target: str,
    output: Path,
    variant: str,
    preset: str,
    checkpoint: Path | None,
    threshold: float | None,
    nms_iou: float | None,
    as_json: bool,
) -> None:
    """Draw the boxes a model finds on photos."""

    from uhd.device import build
    from uhd.device.detectors import EVERY_SCORE, Settings, open_detector
    from uhd.image.draw import contact_sheet, draw_boxes
    from uhd.image.files import write_picture
    from uhd.image.resize import network_input_u8

    pictures = _pictures(photos)
    output.mkdir(parents=True, exist_ok=True)
    component = build.prepare_component(build.Request(variant.upper(), "qemu", preset, checkpoint))
    manifest = component.manifest
    settings = Settings(
        max(EVERY_SCORE, manifest.score_threshold if threshold is None else threshold),
        manifest.nms_iou if nms_iou is None else nms_iou,
    )
    size = (manifest.input_height, manifest.input_width)
    drawn, found = [], []
    with open_detector(target, component, settings) as detector:
        for name, rgb in track(pictures, f"demo on {target}", quiet=as_json):
            rows = detector.detect(network_input_u8(rgb, size, manifest.resize_mode)).rows
            picture = draw_boxes(rgb[..., ::-1], rows, class_names=manifest.class_names)
            path = output / f"{name}.png"
            write_picture(path, picture)
            drawn.append(picture)
            found.append({"picture": str(path), "boxes": rows.tolist()})
    sheet = output / "contact_sheet.png"
    write_picture(sheet, contact_sheet(drawn))
    if as_json:
        emit_json({"target": target, "model": manifest.name, "pictures": found, "contact_sheet": str(sheet)})
        return
    rows_out = []
    for item in found:
        boxes = item["boxes"]
        best = f"{boxes[0][0]:.2f}" if boxes else "-"
        rows_out.append((item["picture"], len(boxes), best))
    print_table(f"{manifest.name} on {target}", rows_out, ("picture", "boxes", "best score"))
    click.echo(f"all together: {sheet}")


def _pictures(photos: Path | None) -> list[tuple[str, Any]]:
    """(name, RGB picture) of a folder, a file, or the samples. Names are unique."""
    from uhd.errors import DataError
    from uhd.host.samples import sample_photos, sample_scene
    from uhd.image.files import read_rgb

    if photos is None:
        found = [(path.stem, read_rgb(path)) for _, path in sample_photos()]
        return [*found, ("generated_scene", sample_scene())]
    if photos.is_file():
        return [(photos.stem, read_rgb(photos))]
    if not photos.is_dir():
        raise DataError(f"{photos}: no such folder", hint="give a folder of .jpg or .png files")
    paths = sorted(p for p in photos.iterdir() if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise DataError(
            f"{photos}: no pictures in this folder", hint=f"it needs files ending in {', '.join(sorted(SUFFIXES))}"
        )
    stems = [path.stem for path in paths]
    return [(p.stem if stems.count(p.stem) == 1 else p.name.replace(".", "_"), read_rgb(p)) for p in paths]
