"""Damaged files: every one is refused with a ModelError or parses, quickly and in little memory, and what parses is
inspected, run and compiled, or refused.

``UHD_FUZZ_FILES`` sets how many files; the suite makes few, always the same. 50,000 take an hour or so.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from support.tiny_espdl import make_espdl
from uhd.codegen import generate
from uhd.device.engines import plain_manifest
from uhd.errors import UhdError
from uhd.espdl import oracle
from uhd.espdl.inspect import inspect_model
from uhd.espdl.reader import read_espdl

COUNT = int(os.environ.get("UHD_FUZZ_FILES", "600"))
MEMORY = 200 << 20

WORDS = [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x01\0\0\0", b"\0\0\0\x80"]


def truncate(data: bytearray, rng: random.Random) -> bytearray:
    return data[: rng.randrange(len(data))]


def flip_bits(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 1, 1, 2, 8, 64])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def set_words(data: bytearray, rng: random.Random) -> bytearray:
    for _ in range(rng.choice([1, 1, 4])):
        at = rng.randrange(16, len(data) - 4) & ~3
        data[at : at + 4] = rng.choice([*WORDS, rng.randbytes(4)])
    return data


def nudge_words(data: bytearray, rng: random.Random) -> bytearray:
    """Small changes of offsets, counts, dimensions and exponents: the ones that look sound."""
    at = rng.randrange(16, len(data) - 4) & ~3
    value = int.from_bytes(data[at : at + 4], "little") + rng.choice([-16, -8, -4, -1, 1, 4, 8, 16])
    data[at : at + 4] = (value & 0xFFFFFFFF).to_bytes(4, "little")
    return data


def copy_span(data: bytearray, rng: random.Random) -> bytearray:
    size = rng.choice([4, 8, 32, 200])
    source, at = (rng.randrange(16, len(data) - size) for _ in range(2))
    data[at : at + size] = data[source : source + size]
    return data


MUTATIONS: list[Callable[[bytearray, random.Random], bytearray]] = [
    truncate, flip_bits, set_words, nudge_words, nudge_words, copy_span,
]  # fmt: skip


def examine(data: bytes, folder: Path | None = None) -> str:
    """Parse, and if that works inspect, run and (into ``folder``) compile; only a UhdError of one line may escape.

    Returns how far it came.
    """
    try:
        model = read_espdl(data)
    except UhdError as error:
        assert "\n" not in str(error)
        return "refused"
    reached = "parsed"
    try:
        inspect_model(model)
        oracle.run(model, {n: np.zeros(model.tensors[n].shape, np.int8) for n in model.inputs})
        reached = "ran"
    except UhdError as error:
        assert "\n" not in str(error)
    if folder is not None:
        try:
            generate(model, data, plain_manifest(model), folder)
            return f"{reached}, compiled"
        except UhdError as error:
            assert "\n" not in str(error)
    return reached


@contextlib.contextmanager
def limited_memory(more: int) -> Iterator[None]:
    """A request for more than ``more`` bytes on top of what is in use raises ``MemoryError``."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(("target", "bits"), [("c", 8), ("esp32s3", 16), ("esp32p4", 8)])
def test_mutated_files(target: str, bits: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = make_espdl(target, bits, channels=9, size=8, test_values=target == "c").read_bytes()
    rng = random.Random(f"{target}{bits}")
    examine(original, tmp_path / "m")  # what is loaded once is not the files' doing
    outcomes: Counter[str] = Counter()
    slowest = 0.0
    with limited_memory(MEMORY):
        for _ in range(COUNT // 3):
            data = bytes(rng.choice(MUTATIONS)(bytearray(original), rng))
            started = time.thread_time()
            outcomes[examine(data, tmp_path / "m")] += 1
            slowest = max(slowest, time.thread_time() - started)
    if COUNT > 600:
        with capsys.disabled():
            print(f"\n  {target} int{bits}: {dict(outcomes)}, slowest {slowest:.3f} s", end="")
    share = {reached: count / (COUNT // 3) for reached, count in outcomes.items()}
    assert share["refused"] > 0.2
    assert share["ran, compiled"] > 0.05  # about 0.12; the order of bytes in the file varies from run to run
    assert slowest < 1.0  # a file of this size takes milliseconds; what hangs or explodes takes more


def test_the_limit_of_memory_is_one() -> None:
    with limited_memory(MEMORY), pytest.raises(MemoryError):
        np.ones(2 * MEMORY, np.int8)
    assert np.ones(2 * MEMORY, np.int8).size == 2 * MEMORY


def test_damage_in_the_structure_is_mostly_noticed() -> None:
    """Single flipped bits outside the weights: names, offsets, shapes and attributes are checked against each other."""
    original = make_espdl("c", 8, channels=9, size=8, test_values=False).read_bytes()
    rng = random.Random(1)
    damaged = [bytes(flip_bits(bytearray(original), rng)) for _ in range(200)]
    noticed = sum(examine(data) == "refused" for data in damaged)
    assert noticed > 60


def test_memory_stays_bounded() -> None:
    original = make_espdl("c", 8, channels=9, size=8, test_values=False).read_bytes()
    rng = random.Random(2)
    tracemalloc.start()
    try:
        for _ in range(60):
            examine(bytes(rng.choice(MUTATIONS[1:])(bytearray(original), rng)))
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()
