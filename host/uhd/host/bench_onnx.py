"""``bench onnx``: how long ONNX files take in ONNX Runtime, side by side."""

from __future__ import annotations

from pathlib import Path

import click

from uhd.host.ui import emit_json, print_table

EPILOG = """\b
Examples:
  python -m uhd.host bench onnx parts.onnx fast.onnx
  python -m uhd.host bench onnx published.onnx ours.onnx --rounds 1000 --json
"""


@click.command("onnx", epilog=EPILOG)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--rounds", type=click.IntRange(1, 1_000_000), default=300, show_default=True, help="Runs of each file.")
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def command(files: tuple[Path, ...], rounds: int, as_json: bool) -> None:
    """Time FILES in turn, on noise and one thread, and compare each with the first.

    The ratio is the median over rounds in which all files ran one after the other, so that what else the machine does
    counts for all of them.
    """
    from uhd.errors import DataError
    from uhd.export.timing import time_files

    try:
        models = {str(path): path.read_bytes() for path in files}
    except OSError as error:
        raise DataError(f"{error.filename}: cannot read the file ({error.strerror})") from None
    times = time_files(models, rounds)
    if as_json:
        figures = [{"file": n, "median_ms": t.median, "least_ms": t.least, "ratio": t.ratio} for n, t in times.items()]
        emit_json({"rounds": rounds, "threads": 1, "files": figures})
        return
    rows = [(name, f"{t.median:.3f}", f"{t.least:.3f}", f"{t.ratio:.2f}") for name, t in times.items()]
    print_table(f"{rounds} rounds, 1 thread", rows, ("", "median ms", "least ms", "to the first"))
