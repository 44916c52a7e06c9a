"""``bench``: what the reference runtime costs, what training does, and ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from uhd.host.bench_onnx import command as onnx_files
from uhd.host.bench_search import command as search
from uhd.host.bench_train import command as train
from uhd.host.ui import Steps, emit_json, human_bytes, print_table

EPILOG = """\b
Examples:
  python -m uhd.host bench runtime
  python -m uhd.host bench runtime --model model.espdl --layers
  python -m uhd.host bench runtime --model model.espdl --onnx model.onnx --json
  python -m uhd.host bench train --json
  python -m uhd.host bench onnx parts.onnx fast.onnx
"""


@click.group("bench", epilog=EPILOG)
def command() -> None:
    """Measure the reference runtime, training, or ONNX files."""


command.add_command(train)
command.add_command(search)
command.add_command(onnx_files)


@command.command("runtime", epilog=EPILOG)
@click.option("--model", type=click.Path(path_type=Path), help="A .espdl instead of the shipped variant R.")
@click.option("--onnx", type=click.Path(path_type=Path), help="Its float model, for esp-ppq's executor to be timed on.")
@click.option("--layers", is_flag=True, help="Also count the instructions of each step.")
@click.option(
    "--images", type=click.IntRange(1, 10000), default=20, show_default=True, help="Runs of esp-ppq's executor."
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def runtime(model: Path | None, onnx: Path | None, layers: bool, images: int, as_json: bool) -> int:
    """Count instructions and memory of one inference, and time the host twin beside esp-ppq's executor.

    Instructions are counted on an emulated RISC-V machine (rv32imafc): a figure to compare versions by, not a
    prediction of any chip's time. Both speeds are of this machine, one thread each.

    Exit code 1 if emulator and twin disagree.
    """
    import tempfile

    from uhd.codegen import generate
    from uhd.device import runtime_bench as bench
    from uhd.device.engines import plain_manifest
    from uhd.device.twin import Twin
    from uhd.espdl.reader import read_espdl
    from uhd.paths import build_root

    path, onnx = _subject(model, onnx)
    progress = Steps(3 if onnx else 2)
    parsed = read_espdl(path)
    build_root().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=build_root()) as folder:
        component = Path(folder) / "uhd_model"
        generate(parsed, path.read_bytes(), plain_manifest(parsed), component)
        progress.start("count instructions in QEMU")
        emulated = bench.run_emulated(component)
        steps = bench.run_emulated(component, steps=True).steps if layers else ()
        progress.done(f"{emulated.instructions:,} instructions")
        progress.start("time the host twin")
        twin = Twin(component)
        times = bench.time_twin(twin, 1.0)
        progress.done(f"{bench.images_per_second(times):,.0f} images/s")
        agree = bench.twin_checksum(twin) == emulated.checksum
        executor: list[float] = []
        if onnx:
            progress.start("time esp-ppq's executor")
            executor = bench.time_executor(onnx, parsed.target, images)
            times += bench.time_twin(twin, 1.0)  # once more, in case the machine has changed its pace
            progress.done(f"{bench.images_per_second(executor):,.1f} images/s")
        figures = _figures(path, component, emulated, times, executor)
    figures |= {"twin_equals_emulator": agree, "activation_bytes": twin.info.arena_size}
    if layers:
        figures["layers"] = _layers(parsed, steps)
    if as_json:
        emit_json(figures)
    else:
        _print(figures)
    return 0 if agree else 1


def _subject(model: Path | None, onnx: Path | None) -> tuple[Path, Path | None]:
    """What to measure: the given files, or the shipped R with the float model of its checkpoint."""
    from uhd import zoo
    from uhd.device.build import float_onnx
    from uhd.errors import DataError, ModelError

    if onnx is not None and not onnx.is_file():
        raise DataError(f"{onnx}: no such file", hint="give the parts ONNX of the model")
    if model is not None:
        return model, onnx
    shipped = zoo.shipped_espdl("R", "c", "speed")
    if shipped is None:
        raise ModelError("no .espdl of variant R is shipped", hint="pass --model with a .espdl")
    return shipped.path, onnx or float_onnx(zoo.checkpoint_path("R"))


def _figures(path: Path, component: Path, emulated: Any, twin: list[float], executor: list[float]) -> dict[str, Any]:
    from uhd.device import runtime_bench as bench
    from uhd.espdl.reader import read_espdl
    from uhd.espdl.shapes import macs

    parsed = read_espdl(path)
    total = sum(macs(node, parsed.tensors) for node in parsed.nodes)
    figures: dict[str, Any] = {
        "model": str(path),
        "sha256": parsed.sha256,
        "target": parsed.target,
        "macs": total,
        "emulated": {
            "machine": "QEMU virt, rv32imafc, minstret under -icount shift=0",
            "instructions": emulated.instructions,
            "instructions_per_mac": round(emulated.instructions / max(total, 1), 3),
        },
        "weight_bytes": (component / "weights.bin").stat().st_size,
        **bench.section_sizes(emulated.elf),
        "twin_images_per_second": round(bench.images_per_second(twin), 1),
    }
    if executor:
        rate = bench.images_per_second(executor)
        figures["executor_images_per_second"] = round(rate, 2)
        figures["twin_times_executor"] = round(bench.images_per_second(twin) / rate, 1)
    return figures


def _layers(parsed: Any, steps: tuple[int, ...]) -> list[dict[str, Any]]:
    """Instructions of each step of the generated code, which has one or more steps a node."""
    from uhd.codegen.lower import lower
    from uhd.espdl.shapes import macs

    nodes = {node.name: node for node in parsed.nodes}
    return [
        {
            "node": step.node,
            "kernel": step.kernel,
            "instructions": count,
            "macs": macs(nodes[step.node], parsed.tensors) if step.kernel.startswith("conv") else 0,
        }
        for step, count in zip(lower(parsed).steps, steps, strict=True)
    ]


def _print(figures: dict[str, Any]) -> None:
    emulated = figures["emulated"]
    rows: list[tuple[str, str]] = [
        ("multiply-accumulates", f"{figures['macs']:,}"),
        ("instructions, emulated rv32imafc", f"{emulated['instructions']:,}"),
        ("  per multiply-accumulate", f"{emulated['instructions_per_mac']:.2f}"),
        ("activation memory", human_bytes(figures["activation_bytes"])),
        ("weights of the runtime", human_bytes(figures["weight_bytes"])),
    ]
    if "code_bytes" in figures:
        rows.append(("code of kernels and graph", human_bytes(figures["code_bytes"])))
    rows += [
        ("emulator and twin agree", "yes" if figures["twin_equals_emulator"] else "NO"),
        ("host twin, 1 thread", f"{figures['twin_images_per_second']:,.0f} images/s"),
    ]
    if "executor_images_per_second" in figures:
        rows.append(("esp-ppq executor, 1 thread", f"{figures['executor_images_per_second']:,.1f} images/s"))
        rows.append(("twin / executor", f"{figures['twin_times_executor']:.0f}x"))
    print_table(f"{figures['model']} ({figures['target']})", rows)
    if "layers" in figures:
        lines = [
            (
                f"{x['instructions']:,}",
                f"{x['instructions'] / x['macs']:.2f}" if x["macs"] else "",
                x["kernel"],
                x["node"],
            )
            for x in figures["layers"]
        ]
        print_table("steps", lines, ("instructions", "per MAC", "kernel", "node"))
