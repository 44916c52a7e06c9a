"""The frame codec in Python keeps up with any link, whatever the payload holds.

The aim is 50 MB/s each way, printed beside what this machine reaches. What must hold on any machine, however slow or
busy, is relative to Python's own speed on it: a loop that only steps over blocks of one byte.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from uhd.device.link import Decoder, Frame, encode_frame
from uhd.device.messages import MAX_PAYLOAD

AIM = 50.0  # MB/s of payload
LEAST = 1.5  # times as fast as the loop
COUNT = 100
PATIENCE = 2.0  # seconds of trying, on a machine that has other things to do


def payloads(kind: str) -> list[bytes]:
    generator = random.Random(2)
    made = [generator.randbytes(MAX_PAYLOAD) for _ in range(COUNT)]
    if kind == "zeros":
        return [bytes(MAX_PAYLOAD)] * COUNT
    if kind == "int16":  # small numbers: half of the high bytes are zero
        return [bytes(x for low in p[: MAX_PAYLOAD // 2] for x in (low, 0 if low < 128 else 255)) for p in made]
    return made


def step_over_blocks() -> None:
    blocks = b"\1" * MAX_PAYLOAD
    for _ in range(COUNT // 10):
        position = 0
        while position < len(blocks):
            position += blocks[position]


def best_rates(*works: tuple[Callable[[], None], int]) -> list[float]:
    """MB/s of the fastest of many runs of each work, which take turns, in the time of this thread alone."""
    end, best = time.monotonic() + PATIENCE, [0.0] * len(works)
    while time.monotonic() < end:
        for index, (work, count) in enumerate(works):
            started = time.thread_time_ns()
            work()
            best[index] = max(best[index], count * MAX_PAYLOAD * 1e3 / (time.thread_time_ns() - started))
    return best


@pytest.mark.parametrize("kind", ["random", "int16", "zeros"])
def test_codec_speed(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = payloads(kind)
    frames = [encode_frame(0x83, i, payload) for i, payload in enumerate(made)]
    stream = b"".join(frames)
    pieces = [stream[i : i + 65536] for i in range(0, len(stream), 65536)]

    def encode() -> None:
        assert [encode_frame(0x83, i, payload) for i, payload in enumerate(made)] == frames

    def decode() -> None:
        decoder = Decoder()
        found = [item.payload for piece in pieces for item in decoder.feed(piece) if isinstance(item, Frame)]
        assert found == made

    encoded, decoded, stepped = best_rates((encode, COUNT), (decode, COUNT), (step_over_blocks, COUNT // 10))
    with capsys.disabled():
        print(
            f"\n  {kind}: encoded at {encoded:.0f} MB/s, decoded at {decoded:.0f} MB/s (aim {AIM:.0f}),"
            f" blocks stepped over at {stepped:.0f} MB/s", end="",
        )  # fmt: skip
    assert min(encoded, decoded) >= LEAST * stepped
