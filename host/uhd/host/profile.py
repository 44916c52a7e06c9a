"""``profile``: what a model costs, counted, predicted, or told by a board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from uhd.profile.cost import ModelCost

EPILOG = """\b
Examples:
  python -m uhd.host profile best.safetensors --top 10
  python -m uhd.host profile model.onnx --json
  python -m uhd.host profile model.espdl --weights sram
  python -m uhd.host profile --all-variants
  python -m uhd.host profile model.espdl --log console.txt
  python -m uhd.host profile model.espdl --port /dev/ttyACM0 --output latency_esp32s3.json

\b
FLOPs count as the published tables do: a multiply-accumulate is two, a bias or activation one for each value.
Times of a .espdl are predicted, unless a board told them (docs/profile.md).
"""


@click.command(epilog=EPILOG)
@click.argument("model", required=False, type=click.Path(path_type=Path))
@click.option("--all-variants", is_flag=True, help="Count every published variant and compare with the tables.")
@click.option("--size", metavar="HxW", help="Input size, where a checkpoint or ONNX file leaves it open.")
@click.option("--target", type=click.Choice(["esp32s3", "esp32p4"]), help="Chip of a .espdl. Default: what it shows.")
@click.option("--weights", type=click.Choice(["psram", "sram", "flash"]),
              help="Memory that weights run from. Default: what the board says, else psram.")  # fmt: skip
@click.option("--rates", type=click.Path(path_type=Path), help="Predict with these rates, written by an earlier call.")
@click.option("--log", "logs", multiple=True, type=click.Path(path_type=Path),
              help="Console text with ESP-DL's profile of MODEL; several: medians.")  # fmt: skip
@click.option("--port", help="Wait on this port for a board's profile of MODEL.")
@click.option("--baud", type=click.IntRange(300), default=115200, show_default=True, help="Speed; USB ports ignore it.")
@click.option("--seconds", type=click.FloatRange(min=0.1), default=120.0, show_default=True, help="Wait so long.")
@click.option("--runs", type=click.IntRange(min=1), default=1, show_default=True, help="Wait for so many profiles.")
@click.option("--output", type=click.Path(path_type=Path, dir_okay=False),
              help="Where refitted rates go.  [default: latency_<target>.json]")  # fmt: skip
@click.option("--no-refit", is_flag=True, help="Compare with a board only.")
@click.option("--top", type=click.IntRange(min=1), help="Show only the most expensive operators.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(
    model: Path | None,
    all_variants: bool,
    size: str | None,
    target: str | None,
    weights: str | None,
    rates: Path | None,
    logs: tuple[Path, ...],
    port: str | None,
    baud: int,
    seconds: float,
    runs: int,
    output: Path | None,
    no_refit: bool,
    top: int | None,
    as_json: bool,
) -> int:
    """Count parameters, multiply-accumulates, FLOPs and memory of MODEL, layer by layer.

    MODEL is a checkpoint (.safetensors, or a published .pt), an .onnx or a .espdl; of the last, times are predicted,
    too. With --log or --port a board's own times of a .espdl stand beside the predicted ones, and the rates behind
    these are fitted again and written to a file.

    Exit code 1 if a count contradicts the published tables (--all-variants).
    """
    from uhd.errors import ConfigError
    from uhd.host.profile_print import print_calibration, print_cost, print_tables

    if all_variants == (model is not None):
        raise ConfigError("give a MODEL, or --all-variants")
    if model is None:
        if logs or port:
            raise ConfigError("--log and --port need the MODEL that the board runs")
        return print_tables(as_json)
    board = bool(logs) or port is not None
    if model.suffix != ".espdl":
        if board or target or weights or rates:
            raise ConfigError(f"{model}: times are told and predicted of a .espdl only", hint="quantize it first")
        print_cost(_float_cost(model, size), top, as_json)
        return 0
    if size:
        raise ConfigError("--size: a .espdl has a fixed size")
    if board:
        text = _text(logs, port, baud, seconds, runs)
        print_calibration(model, text, target, weights, rates, output, not no_refit, top, as_json)
    else:
        _predicted(model, target, weights or "psram", rates, top, as_json)
    return 0


def _float_cost(model: Path, size: str | None) -> ModelCost:
    wanted = None if size is None else _size(size)
    if model.suffix == ".onnx":
        from uhd.profile.onnx_cost import onnx_cost

        return onnx_cost(model, wanted)
    from uhd.profile.torch_cost import checkpoint_cost

    return checkpoint_cost(model, wanted)


def _size(text: str) -> tuple[int, int]:
    from uhd.errors import ConfigError

    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and 0 < int(height) <= 4096 and 0 < int(width) <= 4096):
        raise ConfigError(f"--size {text}: not a size", hint="write it as 64x64")
    return int(height), int(width)


def _predicted(
    model: Path, target: str | None, weights: str, rates: Path | None, top: int | None, as_json: bool
) -> None:
    from typing import cast

    from uhd.espdl.reader import read_espdl
    from uhd.host.profile_print import print_cost
    from uhd.predict.chips import chip_with
    from uhd.predict.latency import Memory, Placement, predict
    from uhd.predict.workload import workload
    from uhd.profile.espdl_cost import espdl_cost

    read = read_espdl(model, target)
    name = target or (read.target if read.target != "c" else "esp32s3")
    prediction = predict(workload(read), chip_with(name, rates), Placement(cast(Memory, weights)))
    print_cost(espdl_cost(read, str(model), prediction.ops), top, as_json, prediction)


def _text(logs: tuple[Path, ...], port: str | None, baud: int, seconds: float, runs: int) -> str:
    """What boards said, read now or earlier."""
    from uhd.errors import DataError

    parts = []
    for log in logs:
        try:
            parts.append(log.read_bytes().decode("utf-8", "replace"))
        except OSError as error:
            raise DataError(f"{log}: cannot read the log ({error.strerror})") from None
    if port is not None:
        from uhd.device.ports import open_port
        from uhd.device.serial_ports import check_access
        from uhd.profile.board import read_profiles

        check_access(port)
        click.echo(f"waiting on {port}; press the board's reset button", err=True)
        parts.append(read_profiles(lambda: open_port(port, baud=baud), seconds, runs))
    return "\n".join(parts)
