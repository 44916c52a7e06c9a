"""What a model needs of each memory, by buffer, and whether a board has it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uhd.codegen.plan import plan_memory
from uhd.errors import ConfigError
from uhd.espdl.inspect import peak_activation_bytes, weight_bytes
from uhd.espdl.model import EspdlModel
from uhd.predict.latency import Memory


@dataclass(frozen=True)
class Board:
    """Bytes that a board leaves to the model: internal SRAM beside tasks, stacks and camera buffers, PSRAM, flash."""

    name: str
    sram: int
    psram: int
    flash: int


#: 512 and 768 KB of SRAM, of which about 300 and 500 are free once the system, its tasks and the camera driver run
#: (an estimate, to be replaced by what STATS says on a board); 8 and 32 MB of PSRAM, 8 and 16 MB of flash.
BOARDS = {
    "esp32s3": Board("ESP32-S3-EYE", 300_000, 8 << 20, 8 << 20),
    "esp32p4": Board("ESP32-P4-Function-EV-Board", 500_000, 32 << 20, 16 << 20),
}


@dataclass(frozen=True)
class Buffer:
    """Bytes of one buffer and where it lies."""

    name: str
    memory: Memory
    bytes: int


@dataclass(frozen=True)
class MemoryNeed:
    """All buffers of a model on a board."""

    board: Board
    buffers: tuple[Buffer, ...]

    def of(self, memory: Memory) -> int:
        """Bytes needed of one memory."""
        return sum(buffer.bytes for buffer in self.buffers if buffer.memory == memory)

    @property
    def fits(self) -> bool:
        """Whether the board has them all."""
        room: dict[Memory, int] = {"sram": self.board.sram, "psram": self.board.psram, "flash": self.board.flash}
        return all(self.of(memory) <= size for memory, size in room.items())


def memory_need(
    model: EspdlModel, file: Path, board: str, *, weights: Memory = "psram", activations: Memory = "psram"
) -> MemoryNeed:
    """Buffers of the ``.espdl`` file on a board: the file in flash, weights where they run from, activations as the
    reference backend plans them (ESP-DL's own plan needs at least what lives at once). Raises ``ConfigError`` for an
    unknown board."""
    if board not in BOARDS:
        raise ConfigError(f"no board known for {board}", hint=f"choose one of {', '.join(BOARDS)}")
    buffers = [Buffer("model file", "flash", file.stat().st_size)]
    if weights != "flash":
        buffers.append(Buffer("weights", weights, weight_bytes(model)))
    arena = max(plan_memory(model).arena_bytes, peak_activation_bytes(model))
    buffers.append(Buffer("activations", activations, arena))
    return MemoryNeed(BOARDS[board], tuple(buffers))
