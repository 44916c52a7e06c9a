"""Damaged files: every one is refused with a ModelError or parses, quickly, and what parses can be run or refused."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from support.tiny_espdl import make_espdl
from uhd.errors import UhdError
from uhd.espdl import oracle
from uhd.espdl.inspect import inspect_model
from uhd.espdl.reader import read_espdl

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


def examine(data: bytes) -> str:
    """Parse, and if that works inspect and run; anything but a UhdError of one line escapes."""
    try:
        model = read_espdl(data)
    except UhdError as error:
        assert "\n" not in str(error)
        return "refused"
    try:
        inspect_model(model)
        oracle.run(model, {n: np.zeros(model.tensors[n].shape, np.int8) for n in model.inputs})
    except UhdError as error:
        assert "\n" not in str(error)
        return "parsed"
    return "ran"


@pytest.mark.parametrize(("target", "bits"), [("c", 8), ("esp32s3", 16), ("esp32p4", 8)])
def test_mutated_files(target: str, bits: int) -> None:
    original = make_espdl(target, bits, channels=9, size=8, test_values=target == "c").read_bytes()
    rng = random.Random(f"{target}{bits}")
    outcomes = {"refused": 0, "parsed": 0, "ran": 0}
    slowest = 0.0
    for _ in range(800):
        data = bytes(rng.choice(MUTATIONS)(bytearray(original), rng))
        started = time.thread_time()
        outcomes[examine(data)] += 1
        slowest = max(slowest, time.thread_time() - started)
    assert outcomes["refused"] > 150
    assert outcomes["ran"] > 50  # about 100; the order of bytes in the file varies from run to run
    assert slowest < 2.0  # a file of this size takes milliseconds; what hangs or explodes takes more


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
