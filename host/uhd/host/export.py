"""``export``: a checkpoint as ONNX."""

from __future__ import annotations

from pathlib import Path

import click

from uhd.host.ui import emit_json, human_bytes, print_table

EPILOG = """\b
Examples:
  python -m uhd.host export best.safetensors --output r.onnx
  python -m uhd.host export best.safetensors --output r_post.onnx --flavour post --topk 50
  python -m uhd.host export published.pt --output r_raw.onnx --flavour raw --json

\b
Flavours:
  parts  each map is an output; what quantization starts from
  raw    the same maps in one, the channels of an anchor following each other
  post   rows [score, class, cx, cy, w, h], best first, not suppressed
"""


@click.command(epilog=EPILOG)
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--output", required=True, type=click.Path(path_type=Path, dir_okay=False), help="ONNX file to write.")
@click.option(
    "--flavour",
    default="parts",
    show_default=True,
    type=click.Choice(["parts", "raw", "post"]),
    help="Which outputs.",
)
@click.option("--opset", default=17, show_default=True, help="ONNX operator set.")
@click.option("--topk", type=click.IntRange(min=1), help="Rows of flavour post. Default: the model's own, usually 100.")
@click.option("--verify/--no-verify", default=True, show_default=True, help="Compare with the model in ONNX Runtime.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    checkpoint: Path, output: Path, flavour: str, opset: int, topk: int | None, verify: bool, as_json: bool
) -> None:
    """Write CHECKPOINT (.safetensors, or a published .pt) as ONNX."""
    from uhd.errors import ConfigError
    from uhd.export.onnx_export import FLAVOURS, export_onnx
    from uhd.models.checkpoint import load_ultratinyod

    if output.resolve() == checkpoint.resolve():
        raise ConfigError(f"{output}: this would replace the checkpoint", hint="choose another --output")
    model, manifest = load_ultratinyod(checkpoint)
    chosen = next(known for known in FLAVOURS if known == flavour)
    result = export_onnx(model, manifest, output, chosen, opset=opset, top_k=topk, verify=verify)
    summary = {
        "output": str(result.path),
        "flavour": result.flavour,
        "opset": result.opset,
        "score_mode": result.score_mode,
        "nodes": result.nodes,
        "parameters": result.parameters,
        "bytes": result.size,
        "input": {result.input[0]: list(result.input[1])},
        "outputs": {name: list(shape) for name, shape in result.outputs},
        "verified": result.verified,
    }
    if as_json:
        emit_json(summary)
        return
    rows = [(key, summary[key]) for key in ("opset", "score_mode", "nodes", "parameters")]
    rows += [("size", human_bytes(result.size)), ("input", _tensor(*result.input))]
    rows += [("output", _tensor(name, shape)) for name, shape in result.outputs]
    rows.append(("verified", "outputs equal the model's" if result.verified else "no"))
    print_table(f"{result.path} ({result.flavour})", rows)


def _tensor(name: str, shape: tuple[int, ...]) -> str:
    return f"{name} {list(shape)}"
