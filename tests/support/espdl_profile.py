"""Console text as ``dl::Model::profile()`` of esp-dl 3.3.9 writes it, for times and sizes made up by a test.

Constructed from the format in ESP-DL's sources (``dl_model_base.cpp``: ``print_memory_info``, ``print_module_info``),
never measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

#: What ESP-IDF's ``ESP_LOGI`` puts round a message where colours are on.
_GREEN, _OFF = "\x1b[0;32m", "\x1b[0m"
PARTS = ("fbs_model", "parameter", "parameter_copy", "variable", "others", "total")
COLUMNS = ("sram", "psram", "flash")

Rows = Sequence[tuple[str, str, int]]


def _separator(widths: Sequence[int]) -> str:
    return "+-" + "-+-".join("-" * width for width in widths) + "-+"


def _named(title: str, separator: str) -> list[str]:
    room = len(separator) - 2 - len(title)
    return [separator, "|" + " " * (room // 2) + title + " " * (room - room // 2) + "|", separator]


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def module_table(rows: Rows, unit: str = "us", slowest_first: bool = False) -> list[str]:
    """Lines of the table of times. Slowest first, the total stands before all."""
    every = [*rows, ("total", "", sum(time for _, _, time in rows))]
    if slowest_first:
        every.sort(key=lambda row: -row[2])
    header = ("name", "type", "latency")
    total = f"{every[-1][2] if not slowest_first else every[0][2]}{unit}"
    widths = [max(len(str(row[i])) for row in (header, *every)) for i in range(2)]
    widths.append(max(len("latency"), len(total)))
    separator = _separator(widths)
    lines = [*_named("module summary", separator), _row(header, widths), separator]
    for name, kind, time in every:
        lines += [_row((name, kind, f"{time}{unit}"), widths), separator]
    return lines


def memory_table(sizes: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Lines of the table of bytes. ``sizes``: by part and memory; the rest is empty."""

    def cell(part: str, memory: str) -> str:
        text = f"{sizes.get(part, {}).get(memory, 0.0) / 1024:.2f}KB"
        return "" if text == "0.00KB" else f" -- {text}" if part == "parameter" else text

    header = ("", "internal RAM", "PSRAM", "FLASH")
    widths = [len("parameter_copy")]
    for title, memory in zip(header[1:], COLUMNS, strict=True):
        widths.append(max(len(title), len(cell("total", memory)), len(cell("parameter", memory))))
    separator = _separator(widths)
    lines = [*_named("memory summary", separator), _row(header, widths), separator]
    for part in PARTS:
        first = f" -- {part}" if part == "parameter" else part
        lines.append(_row((first, *(cell(part, memory) for memory in COLUMNS)), widths))
        lines += [] if part == "fbs_model" else [separator]
    return lines


def logged(lines: Sequence[str], colour: bool = False, start: int = 800, end: str = "\n") -> str:
    """The lines as ESP-IDF's log prints them."""
    texts = (f"I ({start + index}) dl::Model: {line}" for index, line in enumerate(lines))
    return "".join((f"{_GREEN}{text}{_OFF}" if colour else text) + end for text in texts)


def in_psram(parameter_bytes: int, activations: int) -> dict[str, dict[str, float]]:
    """Sizes of a model whose weights run from the copy of its file in PSRAM, activations beside them."""
    return {
        "fbs_model": {"psram": parameter_bytes + 60_000},
        "parameter": {"psram": parameter_bytes - 10_000},
        "parameter_copy": {"sram": 10_000},  # biases, rearranged for the S3
        "variable": {"psram": activations},
        "total": {"psram": parameter_bytes + activations + 60_000, "sram": 10_000},
    }


def profile_text(rows: Rows, memory: Mapping[str, Mapping[str, float]] | None = None, colour: bool = False) -> str:
    """All that ``profile()`` prints, after a start of the firmware."""
    lines = ["model:main_graph, version:0", "MODEL LOCATION IN FLASH RODATA"]
    text = "I (312) uhd: backend esp-dl\n\n" + logged(lines, colour)
    if memory is not None:
        text += logged(memory_table(memory), colour, 810)
    return text + "\n" + logged(module_table(rows), colour, 830) + "\n"
