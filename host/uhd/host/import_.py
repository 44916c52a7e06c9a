"""``import``: a published checkpoint or ONNX file becomes a checkpoint of ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.ui import emit_json, print_table

if TYPE_CHECKING:
    from uhd.importing.importer import Imported

EPILOG = """\b
Examples:
  python -m uhd.host import ultratinyod_w16.pt --output r.safetensors
  python -m uhd.host import ultratinyod_w16.pt --output r.safetensors --weights raw --json
  python -m uhd.host import ultratinyod_res_anc8_w16_64x64_opencv_inter_nearest_yuv422_distill_static.onnx --output r.safetensors
  python -m uhd.host import published.onnx --output r.safetensors --photos photos/
  python -m uhd.host import other.onnx --as onnx --resize-mode opencv_inter_nearest --output other_uhd.onnx

\b
What FILE may be:
  .pt    of all three architectures; only tensors and plain values are read, nothing is executed
  .onnx  an UltraTinyOD with or without post-process, of fixed or dynamic size
"""  # noqa: E501 - a published name


@click.command(name="import", epilog=EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path, dir_okay=False),
              help="Checkpoint to write (.safetensors); its manifest goes beside it.")  # fmt: skip
@click.option("--as", "kind", default="auto", show_default=True, type=click.Choice(["auto", "checkpoint", "onnx"]),
              help="onnx: keep the graph, add a manifest; auto: only if no architecture of ours fits.")  # fmt: skip
@click.option("--weights", default="auto", show_default=True, type=click.Choice(["auto", "ema", "raw"]),
              help="Of a .pt: averaged weights, those as trained, or the file's own choice.")  # fmt: skip
@click.option("--resize-mode", help="How photos are resized, for files that do not say it.")
@click.option("--heads", type=click.IntRange(min=1), help="Attention heads of a transformer, which no file tells.")
@click.option("--photos", type=click.Path(path_type=Path),
              help="Measure folded normalisations of an ONNX file on these, so that it can be trained on.")  # fmt: skip
@click.option("--force", is_flag=True, help="Replace an output that exists.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    file: Path,
    output: Path,
    kind: Any,
    weights: Any,
    resize_mode: str | None,
    heads: int | None,
    photos: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make a checkpoint of FILE, and say what it holds and how that is known.

    The result is compared with FILE before it is written: an ONNX file's maps, and boxes if it decodes them, with
    those of the imported model.
    """
    from uhd.importing.importer import import_file

    found = import_file(
        file, output, kind=kind, which=weights, resize_mode=resize_mode, heads=heads, photos=photos, force=force
    )
    if as_json:
        emit_json(_summary(found))
        return
    rows = [(finding.what, _text(finding.value), finding.how) for finding in found.findings]
    print_table(f"{found.output} ({found.kind}, {_variant(found)})", rows, ("", "value", "known how"))
    for note in found.notes:
        click.echo(f"note: {note}")
    click.echo(f"verified: {found.verified}{_difference(found)}")


def _summary(found: Imported) -> dict[str, Any]:
    difference = found.comparison
    return {
        "source": str(found.source),
        "output": str(found.output),
        "kind": found.kind,
        "variant": found.manifest.variant,
        "architecture": found.manifest.architecture,
        "findings": [{"what": f.what, "value": f.value, "how": f.how} for f in found.findings],
        "notes": list(found.notes),
        "verified": found.verified,
        "difference": {"maps": difference.maps, "boxes": difference.boxes} if difference else None,
    }


def _variant(found: Imported) -> str:
    letter = found.manifest.variant
    return f"variant {letter}" if letter else found.manifest.architecture


def _difference(found: Imported) -> str:
    if found.comparison is None:
        return ""
    boxes = found.comparison.boxes
    return f", largest difference {found.comparison.maps:.1e}" + ("" if boxes is None else f", of boxes {boxes:.1e}")


def _text(value: Any) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)
