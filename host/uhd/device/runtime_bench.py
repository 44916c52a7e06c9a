"""Measuring the reference runtime: instructions on the emulated RISC-V machine, sizes, speed of the host twin."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from uhd.device import compile as compiling
from uhd.device.twin import Twin
from uhd.errors import DeviceError, ToolMissingError, UhdError
from uhd.paths import PACKAGE

MAIN = compiling.RUNTIME / "bench" / "main.cpp"
_SECONDS = 300


@dataclass(frozen=True)
class Emulated:
    """One inference on the emulated machine, counted by ``minstret`` under ``-icount shift=0``: no board, no cycles.

    ``steps``: instructions of each step of the generated code; empty unless asked for. ``checksum``: of the outputs.
    ``code_bytes``: instructions of the linked model and kernels; ``constant_bytes``: the runtime's weights and tables.
    """

    instructions: int
    steps: tuple[int, ...]
    checksum: int
    elf: Path


def input_bytes(size: int) -> NDArray[np.uint8]:
    """The benchmark's input, as bench/main.cpp makes it."""
    state, values = 1, np.empty(size, np.uint8)
    for index in range(size):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        values[index] = state >> 24
    return values


def checksum(outputs: list[NDArray[np.generic]]) -> int:
    """FNV-1a over the outputs' bytes, as bench/main.cpp computes it."""
    value = 2166136261
    for output in outputs:
        for byte in output.tobytes():
            value = ((value ^ byte) * 16777619) & 0xFFFFFFFF
    return value


def run_emulated(component: Path, *, steps: bool = False) -> Emulated:
    """Build the benchmark around ``component`` and run it once in QEMU.

    Raises ``ToolMissingError`` where the emulator or its compiler is missing, ``DeviceError`` if the program fails.
    """
    from uhd.device import cross

    emulator = cross.find_tool(cross.EMULATOR)
    sources = [*compiling.component_sources(component), *compiling.runtime_sources(), MAIN]
    elf = compiling.build(
        compiling.bare_toolchain(), sources, "uhd-bench.elf", includes=[component],
        data=compiling.component_data(component), defines=["UHD_TRACE"] if steps else [],
    )  # fmt: skip
    command = [
        *(emulator, "-M", "virt", "-m", "256M", "-bios", "none", "-display", "none", "-nodefaults"),
        *("-chardev", "stdio,id=out", "-semihosting-config", "enable=on,target=native,chardev=out"),
        *("-icount", "shift=0", "-kernel", str(elf)),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise DeviceError(f"the emulated benchmark still runs after {_SECONDS} s") from None
    words = [line.split() for line in done.stdout.splitlines()]
    found: dict[str, list[int]] = {}
    for name, value in (w for w in words if len(w) == 2):
        found.setdefault(name, []).append(int(value))
    if done.returncode != 0 or "total" not in found or "checksum" not in found:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise DeviceError(f"the emulated benchmark ended with status {done.returncode}, saying {said[-1][:200]}")
    return Emulated(found["total"][0], tuple(found.get("step", ())), found["checksum"][0], elf)


def section_sizes(elf: Path) -> dict[str, int]:
    """Bytes of the kernels' and the model's code in a linked benchmark, by symbol; {} without the ``nm`` program."""
    from uhd.device import cross

    try:
        tool = cross.find_tool("riscv64-unknown-elf-nm")
    except ToolMissingError:
        return {}
    lines = subprocess.run([tool, "-S", "-C", str(elf)], capture_output=True, text=True, check=True).stdout.splitlines()
    code = 0
    for line in lines:
        fields = line.split(maxsplit=3)
        if len(fields) == 4 and fields[2] in "tTwW" and "uhd::" in fields[3]:
            code += int(fields[1], 16)
    return {"code_bytes": code}


def twin_checksum(twin: Twin) -> int:
    """The checksum of the twin's outputs for the benchmark's input."""
    place = twin.info.input
    source = input_bytes(place.size).view(place.dtype).reshape(place.shape)
    return checksum(list(twin.run({place.name: source}).values()))


def time_twin(twin: Twin, seconds: float = 1.0) -> list[float]:
    """Seconds of each inference on one thread, for about ``seconds``, input and output copies included."""
    place = twin.info.input
    source = {place.name: input_bytes(place.size).view(place.dtype).reshape(place.shape)}
    twin.run(source)
    taken: list[float] = []
    while sum(taken) < seconds:
        started = time.perf_counter()
        twin.run(source)
        taken.append(time.perf_counter() - started)
    return taken


def time_executor(onnx: Path, target: str, images: int = 20) -> list[float]:
    """Seconds of each inference of esp-ppq's executor on one thread, in a process of its own.

    Raises ``ToolMissingError`` if esp-ppq is not installed, ``UhdError`` if it fails.
    """
    from importlib.util import find_spec

    if find_spec("esp_ppq") is None:
        raise ToolMissingError("esp-ppq is not installed", hint="run tools/quickstart.sh")
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]),
    }  # fmt: skip
    command = [sys.executable, "-m", "uhd.device.executor_worker", str(onnx.resolve()), target, str(images)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines() or ["no message"]
        raise UhdError(
            f"{onnx}: esp-ppq's executor failed: {last[-1][:200]}", hint="is it the parts ONNX of a detector?"
        )
    seconds: list[float] = json.loads(done.stdout.splitlines()[-1])
    return seconds


def images_per_second(seconds: list[float]) -> float:
    """From the median, which other programs on the machine disturb least."""
    return 1.0 / statistics.median(seconds)
