"""Where weights can lie and how many cores can work on a model: what each is predicted to take, and whether it fits.

ESP-DL copies all weights or none into internal memory. Placing a part there, the filters that save most for their
bytes, is what it could do; the row says how much that would be worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from uhd.codegen.plan import plan_memory
from uhd.espdl import shapes
from uhd.espdl.inspect import peak_activation_bytes, weight_bytes
from uhd.espdl.model import EspdlModel
from uhd.predict.latency import Chip, OpTime, predict
from uhd.predict.memory import BOARDS
from uhd.predict.workload import workload

Weights = Literal["psram", "part in sram", "sram"]

#: ESP-DL gives each core half of a convolution's rows if its input has more than so many times the rows of its kernel.
_ROWS_PER_KERNEL = 4


@dataclass(frozen=True)
class Choice:
    """Predicted milliseconds with the weights in a memory, on so many cores. ``sram``: bytes of internal memory, for
    weights, and for all activations where there is room left. ``fits``: whether the board has them.

    Two cores: convolutions that ESP-DL divides take half the time of computing; what is fetched takes as long as
    before, and starting the second core costs nothing. The most that can be hoped for.
    """

    weights: Weights
    cores: int
    ms: float
    sram: int
    fits: bool
    offered: bool = True

    def __str__(self) -> str:
        what = {"psram": "in PSRAM", "part in sram": "partly in internal memory", "sram": "in internal memory"}
        fits = "" if self.fits else ", does not fit"
        offered = "" if self.offered else ", which ESP-DL does not offer"
        cores = "one core" if self.cores == 1 else "both cores"
        return f"weights {what[self.weights]}{offered}, {cores}: {self.ms:.1f} ms ({self.sram // 1000} KB{fits})"


def choices(model: EspdlModel, chip: Chip) -> tuple[Choice, ...]:
    """All of them, weights in PSRAM and one core, as the published figures were measured, first."""
    times = predict(workload(model), chip).ops
    divided = divided_convolutions(model)
    board = BOARDS[chip.name]
    activations = max(plan_memory(model).arena_bytes, peak_activation_bytes(model))
    inside = activations if activations <= board.sram else 0
    part, saved = _part(times, board.sram - inside)
    every = weight_bytes(model)
    found = []
    for cores in (1, 2) if divided else (1,):
        half = sum(t.compute_ms for t in times if t.op.name in divided) / 2 if cores == 2 else 0.0
        total = sum(t.total_ms for t in times) - half
        fetched = sum(t.fetch_ms for t in times)
        # activations make way for weights where both do not fit
        needed = every + (activations if every + activations <= board.sram else 0)
        found.append(Choice("psram", cores, total, inside, True))
        if needed > board.sram:
            found.append(Choice("part in sram", cores, total - saved, inside + part, True, offered=False))
        found.append(Choice("sram", cores, total - fetched, needed, needed <= board.sram))
    return tuple(found)


def fastest(found: tuple[Choice, ...]) -> Choice:
    """The fastest of those that fit and that ESP-DL offers."""
    return min((choice for choice in found if choice.fits and choice.offered), key=lambda choice: choice.ms)


def divided_convolutions(model: EspdlModel) -> frozenset[str]:
    """Names of the convolutions that ESP-DL divides between two cores."""
    found = set()
    for node in model.nodes:
        if node.op == "Conv":
            window, rows = shapes.window(node), model.tensors[node.inputs[0]].shape[1]
            if rows > _ROWS_PER_KERNEL * window.dilations[0] * window.kernel[0]:
                found.add(node.name)
    return frozenset(found)


def _part(times: tuple[OpTime, ...], room: int) -> tuple[int, float]:
    """(bytes, milliseconds saved) of filters moved into ``room`` bytes, those that save most a byte first."""
    used, saved = 0, 0.0
    filters = [time for time in times if time.op.filter_bytes]
    for time in sorted(filters, key=lambda t: (-t.fetch_ms / t.op.filter_bytes, -t.op.filter_bytes)):
        if used + time.op.filter_bytes <= room:
            used += time.op.filter_bytes
            saved += time.fetch_ms
    return used, saved
