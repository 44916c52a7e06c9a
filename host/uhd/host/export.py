"""``export``: a checkpoint as ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.export_flags import check_files, choose_checkpoint, choose_flavour, published_flags
from uhd.host.ui import emit_json, human_bytes, print_table, track

if TYPE_CHECKING:
    from uhd.export.onnx_export import ExportResult
    from uhd.export.validate import Validation
    from uhd.manifest import ModelManifest
    from uhd.models.detector import Detector

EPILOG = """\b
Examples:
  python -m uhd.host export best.safetensors --output r.onnx
  python -m uhd.host export best.safetensors --output r_fast.onnx --flavour fast --topk 50 --val photos/val
  python -m uhd.host export published.pt --output r_any_size.onnx --flavour post --dynamic-resize
  python -m uhd.host export published.pt --output r_raw.onnx --flavour raw --json

\b
Flavours:
  parts      each map is an output; what quantization starts from
  raw        the same maps in one, the channels of an anchor following each other
  whole      as raw with all maps of the head; operators are named /model/...
  primitive  boxes and scores of all cells, as maps
  post       rows [score, class, cx, cy, w, h], best first, not suppressed
  fast       the same rows in fewer operators
"""


@click.command(epilog=EPILOG)
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="ONNX file to write.")
@click.option(
    "--flavour",
    type=click.Choice(["parts", "raw", "whole", "primitive", "post", "fast"]),
    help="Which outputs.  [default: parts; post where the checkpoint is given as --checkpoint]",
)
@click.option("--opset", default=17, show_default=True, help="ONNX operator set.")
@click.option(
    "--topk", type=click.IntRange(min=1), help="Rows of post and fast. Default: the model's own, usually 100."
)
@click.option("--conf-thresh", default=0.0, show_default=True, help="Rows with a lower score have score 0.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Pictures at a time.")
@click.option("--dynamic-resize", is_flag=True, help="Take pictures of any size, resize in the graph.")
@click.option("--allow-mismatch", is_flag=True, help="With it: even where that Resize cannot do what training did.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Compare with the model in ONNX Runtime.")
@click.option(
    "--val",
    "--validate",
    "val",
    type=click.Path(path_type=Path),
    help="Labelled photos: mAP of the file must equal the checkpoint's within 1e-4.",
)
@click.option("--classes", help="Class ids of the labels that the model detects, such as 0,2.  [default: as trained]")
@click.option("--heads", type=click.IntRange(min=1), help="Attention heads of a published transformer.  [default: 4]")
@published_flags
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    checkpoint: Path | None,
    output: Path,
    flavour: str | None,
    opset: int,
    topk: int | None,
    conf_thresh: float,
    batch_size: int,
    dynamic_resize: bool,
    allow_mismatch: bool,
    verify: bool,
    val: Path | None,
    classes: str | None,
    heads: int | None,
    as_json: bool,
    **published: Any,
) -> None:
    """Write CHECKPOINT (.safetensors, or a published .pt) as ONNX."""
    from uhd.export.onnx_export import ExportOptions, export_onnx

    path = choose_checkpoint(checkpoint, published)
    chosen = choose_flavour(flavour, published)
    check_files(path, output)
    options = ExportOptions(
        opset=opset,
        top_k=topk,
        conf=conf_thresh,
        batch=batch_size,
        dynamic_resize=dynamic_resize,
        allow_mismatch=allow_mismatch,
        simplify=not published["no_simplify"],
        decompose_bn=not published["no_decompose_bn"],
    )
    options.check(chosen)
    model, manifest, weights = _load(path, heads, strict=not published["non_strict"])
    measured: list[Validation] = []

    def inspect(file: Path) -> None:
        if val is not None:
            measured.append(_validate(file, model, manifest, val, classes, quiet=as_json))

    result = export_onnx(model, manifest, output, chosen, options, verify=verify, inspect=inspect)
    summary = _summary(result, options.batch, dynamic_resize, weights)
    if measured:
        summary["validation"] = _figures(measured[0], val)
    if as_json:
        emit_json(summary)
    else:
        _print(result, summary)
    if dynamic_resize and manifest.resize_mode.endswith("yuv422"):
        click.echo(
            "note: where this file makes a packed picture smaller, U and V change places; hand it pictures of "
            f"{manifest.input_height}x{manifest.input_width}, packed after resizing, for the mAP of the checkpoint",
            err=True,
        )


def _load(path: Path, heads: int | None, *, strict: bool) -> tuple[Detector, ModelManifest, str]:
    """Model, manifest, and where not ``strict`` what of the weights did not fit."""
    from uhd.models.checkpoint import load_checkpoint, read_weights
    from uhd.models.weights import compare_weights

    model, manifest = load_checkpoint(path, heads=heads, strict=strict)
    if strict:
        return model, manifest, ""
    report = compare_weights(model, read_weights(path))
    return model, manifest, "" if report.fits else str(report)


def _validate(
    file: Path, model: Detector, manifest: ModelManifest, val: Path, classes: str | None, *, quiet: bool
) -> Validation:
    from uhd.data.yolo import load_split
    from uhd.errors import ConfigError
    from uhd.export.validate import validate
    from uhd.train.config.texts import parse_class_ids

    trained = manifest.training.get("config")
    ids = tuple(range(model.config.class_count or 1))
    stated = classes or (trained.get("multi_label_det_classes") or trained.get("classes") if trained else None)
    if stated:
        try:
            ids = parse_class_ids(str(stated))[: len(ids)] if classes is None else parse_class_ids(classes)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    samples = load_split(val, class_ids=ids)
    return validate(file, model, samples, lambda items: track(items, "mAP", quiet=quiet))


def _summary(result: ExportResult, batch: int, dynamic_resize: bool, weights: str) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "output": str(result.path),
        "flavour": result.flavour,
        "opset": result.opset,
        "score_mode": result.score_mode,
        "batch": batch,
        "dynamic_resize": dynamic_resize,
        "nodes": result.nodes,
        "parameters": result.parameters,
        "bytes": result.size,
        "input": {result.input[0]: list(result.input[1])},
        "outputs": {name: list(shape) for name, shape in result.outputs},
        "verified": result.verified,
        "max_difference": result.difference,
    }
    return summary | ({"weights": weights} if weights else {})


def _figures(measured: Validation, val: Path | None) -> dict[str, Any]:
    pairs = {"torch": measured.torch, "onnx": measured.onnx, "onnx_own_size": measured.own_size}
    return {
        "photos": str(val),
        "images": measured.images,
        "boxes": measured.boxes,
        **{name: {"map50": f.map50, "map50_95": f.map50_95} for name, f in pairs.items() if f is not None},
        "difference": measured.difference,
    }


def _print(result: ExportResult, summary: dict[str, Any]) -> None:
    rows = [(key, str(summary[key])) for key in ("opset", "score_mode", "nodes", "parameters")]
    rows += [("size", human_bytes(result.size)), ("input", _tensor(*result.input))]
    rows += [("output", _tensor(name, shape)) for name, shape in result.outputs]
    equal = f"outputs equal the model's within {result.difference:.1g}" if result.difference is not None else "no"
    rows.append(("verified", equal))
    if "weights" in summary:
        rows.append(("weights", f"{summary['weights']}; what is missing is random"))
    if "validation" in summary:
        found = summary["validation"]
        named = {"torch": "checkpoint", "onnx": "file", "onnx_own_size": "file, photos not resized before"}
        rows.append(("validated", f"{found['images']} photos, {found['boxes']} boxes"))
        rows += [
            (f"  {text}", f"mAP@0.5 {found[name]['map50']:.5f}, mAP@0.5:0.95 {found[name]['map50_95']:.5f}")
            for name, text in named.items()
            if name in found
        ]
    print_table(f"{result.path} ({result.flavour})", rows)


def _tensor(name: str, shape: tuple[int | str, ...]) -> str:
    return f"{name} [{', '.join(str(size) for size in shape)}]"
