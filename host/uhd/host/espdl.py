"""``espdl``: look into a .espdl file, and run it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uhd.host.espdl_predict import command as predict_command
from uhd.host.ui import emit_json, human_bytes, print_table

if TYPE_CHECKING:
    from uhd.codegen.package_reader import Package
    from uhd.espdl.inspect import Layer, Report

EPILOG = """\b
Examples:
  python -m uhd.host espdl inspect model.espdl
  python -m uhd.host espdl run model.espdl --input in.npz --output out.npz --engine twin
"""
INSPECT_EPILOG = """\b
Examples:
  python -m uhd.host espdl inspect model.espdl
  python -m uhd.host espdl inspect model.espdl --json | jq .peak_activation_bytes
  python -m uhd.host espdl inspect build/R-esp32s3-speed/model.uhdm
  python -m uhd.host espdl inspect model.espdl --target esp32s3    # fails if it was quantized for another
"""
RUN_EPILOG = """\b
Examples:
  python -m uhd.host espdl run model.espdl --input in.npz --output out.npz
  python -m uhd.host espdl run model.espdl --input in.npz --output out.npz --engine qemu --json

\b
Arrays are named as the graph's inputs and outputs (see inspect), [1, H, W, C] or [H, W, C] integers;
the real value is integer * 2**exponent.

\b
Engines:
  oracle  NumPy, the definition
  twin    the C++ runtime compiled for this machine
  qemu    the same C++ on an emulated RISC-V device
"""

_MODEL = click.argument("model", type=click.Path(path_type=Path))
_TARGET = click.option(
    "--target",
    type=click.Choice(["c", "esp32s3", "esp32p4"]),
    help="What it must be quantized for. Default: what the file shows.",
)


@click.group(epilog=EPILOG)
def command() -> None:
    """Inspect or run a .espdl file."""


@command.command("inspect", epilog=INSPECT_EPILOG)
@_MODEL
@_TARGET
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def inspect_command(model: Path, target: str | None, as_json: bool) -> None:
    """Show layers, exponents, sizes, memory and warnings of MODEL: a .espdl, or a model package (.uhdm)."""
    from uhd.codegen.package_reader import is_package, read_package
    from uhd.espdl.inspect import inspect_model
    from uhd.espdl.reader import read_espdl

    package = read_package(model) if is_package(model) else None
    if package:
        report = inspect_model(read_espdl(package.espdl, target or package.description.target))
    else:
        report = inspect_model(read_espdl(model, target))
    if as_json:
        emit_json({**report.as_dict(), **({"package": _package(package)} if package else {})})
        return
    header = ("layer", "op", "bits", "in", "out", "exponents", "parameters", "MACs", "")
    print_table(f"{model}: {len(report.layers)} layers", [_row(layer) for layer in report.layers], header)
    print_table("summary", _summary(report))
    if package:
        print_table("package", [(key.replace("_", " "), value) for key, value in _package(package).items()])
    for warning in report.warnings:
        click.echo(f"warning: {warning}")


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[1:] if len(shape) > 1 and shape[0] == 1 else shape))


def _row(layer: Layer) -> tuple[object, ...]:
    exponents = f"{layer.input_exponent} -> {layer.output_exponent}"
    if layer.weight_exponents:
        low, high = layer.weight_exponents
        exponents = f"{layer.input_exponent} * {low if low == high else f'{low}..{high}'} -> {layer.output_exponent}"
    return (
        layer.name, layer.op, layer.bits, _shape(layer.input_shape), _shape(layer.output_shape), exponents,
        f"{layer.parameter_bytes:,}" if layer.parameter_bytes else "", f"{layer.macs:,}" if layer.macs else "",
        layer.note,
    )  # fmt: skip


def _interface(tensor: dict[str, Any]) -> str:
    return f"{tensor['name']} {list(tensor['shape'])} {tensor['dtype']} * 2^{tensor['exponent']}"


def _summary(report: Report) -> list[tuple[str, str]]:
    rows = [("target", report.target), ("sha256", report.sha256), ("file", human_bytes(report.file_bytes))]
    rows += [("input", _interface(tensor)) for tensor in report.inputs]
    rows += [("output", _interface(tensor)) for tensor in report.outputs]
    rows += [
        ("operators", ", ".join(f"{count} {op}" for op, count in report.operators.items())),
        ("int16 layers", str(report.int16_layers)),
        ("MACs", f"{report.macs:,}"),
        ("weights", human_bytes(report.weight_bytes)),
        ("peak live activations", human_bytes(report.peak_activation_bytes)),
        ("largest filter", f"{human_bytes(report.largest_filter_bytes)} {report.largest_filter}"),
        ("embedded test vectors", str(report.test_vectors)),
    ]
    return rows + [(f"metadata {key}", value if len(value) <= 60 else f"{value[:57]}...") for key, value in
                   report.metadata.items()]  # fmt: skip


def _package(package: Package) -> dict[str, str]:
    about, decode = package.description, package.description.decode
    return {
        "model": f"{about.name}, variant {about.variant or 'none'}, for {about.target}",
        "sha256": package.sha256,
        "file": human_bytes(package.size),
        "sections": ", ".join(f"{kind} {human_bytes(size)}" for kind, size in package.sections.items()),
        "activations": human_bytes(about.arena_size),
        "decoder": f"{decode.anchor_count} anchors, {decode.grid[0]}x{decode.grid[1]} cells" if decode else "none",
    }


@command.command("run", epilog=RUN_EPILOG)
@_MODEL
@click.option("--input", "source", required=True, type=click.Path(path_type=Path), help=".npz with the inputs.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help=".npz to write the outputs to.")
@click.option(
    "--engine",
    default="oracle",
    show_default=True,
    type=click.Choice(["oracle", "twin", "qemu"]),
    help="What computes.",
)
@_TARGET
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def run_command(model: Path, source: Path, output: Path, engine: str, target: str | None, as_json: bool) -> None:
    """Run MODEL once on integers and write its outputs."""
    from uhd.errors import ConfigError, DataError
    from uhd.espdl import oracle
    from uhd.espdl.inputs import coerce_inputs
    from uhd.espdl.npz import load_npz, save_npz
    from uhd.espdl.reader import read_espdl

    if output.resolve() in (source.resolve(), model.resolve()):
        raise ConfigError(f"{output}: this would replace what is read", hint="choose another --output")
    parsed = read_espdl(model, target)
    try:
        inputs = coerce_inputs(parsed, load_npz(source))
    except DataError as error:
        raise error if str(source) in str(error) else DataError(f"{source}: {error}") from None
    started = time.monotonic()
    if engine == "oracle":
        outputs = oracle.run(parsed, inputs)
    else:
        from uhd.device.engines import run_engine

        outputs = run_engine(parsed, model.read_bytes(), inputs, engine)
    seconds = time.monotonic() - started
    save_npz(output, {name: outputs[name] for name in parsed.outputs})
    tensors = {name: parsed.tensors[name] for name in parsed.outputs}
    if as_json:
        emit_json({
            "model": str(model), "sha256": parsed.sha256, "target": parsed.target, "engine": engine,
            "output": str(output), "seconds": round(seconds, 4),
            "outputs": {n: {"shape": t.shape, "dtype": t.dtype, "exponent": t.exponent} for n, t in tensors.items()},
        })  # fmt: skip
        return
    rows = [(n, list(t.shape), t.dtype, t.exponent, outputs[n].min(), outputs[n].max()) for n, t in tensors.items()]
    print_table(
        f"{output} ({engine}, {seconds:.2f} s)", rows, ("output", "shape", "dtype", "exponent", "lowest", "highest")
    )


command.add_command(predict_command)
