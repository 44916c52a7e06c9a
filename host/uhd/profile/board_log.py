"""What ESP-DL prints when it profiles a model, as data.

Read from the sources of esp-dl 3.3.9 (``dl_model_base.cpp``: ``print_memory_info``, ``print_module_info``; the same
text since 3.2.0). ``Model::profile()`` prints two tables through ESP_LOGI:

    I (812) dl::Model: |   name   |  type | latency |
    I (813) dl::Model: +----------+-------+---------+
    I (814) dl::Model: | /a/Conv  | Conv  | 1234us  |
    ...
    I (990) dl::Model: | total    |       | 11280us |

in the order of the graph, or the slowest first with the total before all. The unit is ``cycle`` where the library was
built with DL_LOG_LATENCY_UNIT. The total is the sum of all rows, by which a table is known to be whole.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from uhd.predict.latency import Memory

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
#: Either table's title, a row of times, or a row of the memory table: wherever they stand in a line, and however often.
_PIECE = re.compile(
    r"\|[ ]*(?P<title>module summary|memory summary)[ ]*\|"
    r"|\|[ ]+(?P<name>[^|\s][^|\n]*?)[ ]+\|[ ]+(?P<kind>[^|\s]*)[ ]*\|[ ]+(?P<time>-?\d+)(?P<unit>us|cycle)[ ]*\|"
    r"|\|[ ](?P<part>fbs_model|[ ]-- parameter|parameter_copy|variable|others|total)[ ]*"
    r"\|(?P<sizes>[^|\n]*\|[^|\n]*\|[^|\n]*)\|"
)
_TOTAL = "total"
_COLUMNS: tuple[Memory, ...] = ("sram", "psram", "flash")
_SIZE = re.compile(r"(?:-- )?(\d+(?:\.\d+)?)KB")


@dataclass
class BoardRun:
    """One table of times: (operator, type, time) as printed, the total (None: lost), the unit. ``memory``: bytes by
    part of the model and memory, from the table before it (empty: there was none)."""

    rows: list[tuple[str, str, int]] = field(default_factory=list)
    total: int | None = None
    unit: str = "us"
    memory: dict[str, dict[Memory, float]] = field(default_factory=dict)

    @property
    def whole(self) -> bool:
        """Whether no row is lost."""
        return self.total is not None and sum(time for _, _, time in self.rows) == self.total

    def has(self, name: str) -> bool:
        """Whether there is a row of that name, or the total."""
        return self.total is not None if name == _TOTAL else any(row[0] == name for row in self.rows)

    @property
    def weights(self) -> Memory | None:
        """The memory that weights run from. A small copy is not theirs: the S3's kernels rearrange all biases."""
        return self._most("parameter_copy" if self._copied else "parameter")

    @property
    def activations(self) -> Memory | None:
        """The memory that most of the activations lie in."""
        return self._most("variable")

    @property
    def parameter_bytes(self) -> float:
        """Bytes of the constants, each padded to 16; 0 if unknown."""
        return self._bytes("parameter_copy") + (0 if self._copied else self._bytes("parameter"))

    def milliseconds(self, clock_hz: float) -> list[float]:
        """Times of the rows."""
        per_ms = 1000.0 if self.unit == "us" else clock_hz / 1000
        return [time / per_ms for _, _, time in self.rows]

    @property
    def _copied(self) -> bool:
        return self._bytes("parameter_copy") >= 0.5 * self._bytes("parameter")

    def _bytes(self, part: str) -> float:
        return sum(self.memory.get(part, {}).values())

    def _most(self, part: str) -> Memory | None:
        sizes = self.memory.get(part, {})
        return max(sizes.items(), key=lambda item: item[1])[0] if any(sizes.values()) else None


def parse(text: str) -> list[BoardRun]:
    """All tables of times in a console's text, in order, tables without a row left out.

    Colours, prefixes and time stamps of lines, other lines between, and several rows in a line do not matter. A row
    that another text tore apart is lost, which ``BoardRun.whole`` shows.
    """
    runs: list[BoardRun] = []
    memory: dict[str, dict[Memory, float]] = {}
    current: BoardRun | None = None
    for piece in _PIECE.finditer(_ANSI.sub("", text).replace("\r", "")):
        if piece["title"]:
            current = None
            if piece["title"] == "memory summary":
                memory = {}
        elif piece["part"]:
            sizes = [_SIZE.search(cell) for cell in piece["sizes"].split("|")]
            memory[piece["part"].removeprefix(" -- ")] = {
                name: 1024 * float(size[1]) for name, size in zip(_COLUMNS, sizes, strict=True) if size
            }
        else:
            name, time = piece["name"], int(piece["time"])
            if current is None or current.has(name):  # the second is where a title was lost
                current = BoardRun(unit=piece["unit"], memory=memory)
                runs.append(current)
            if name == _TOTAL:
                current.total = time
            else:
                current.rows.append((name, piece["kind"], time))
    return [run for run in runs if run.rows]
