"""The frame codec in Python keeps up with any link: 50 MB/s each way, whatever the payload holds.

That is the aim, printed beside what this machine reaches; zeros were decoded at 53 MB/s on one processor and at 33 on
a slower one. What fails is a codec so slow that no slow processor explains it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from uhd.device.link import Decoder, Frame, encode_frame
from uhd.device.messages import MAX_PAYLOAD

AIM = 50.0  # MB/s of payload
LEAST = 0.5 * AIM
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


def best_rate(work: Callable[[], None]) -> float:
    """MB/s of the fastest of many runs, in the time of this thread alone; ends early once it is fast enough."""
    end, best = time.monotonic() + PATIENCE, 0.0
    while time.monotonic() < end:
        started = time.thread_time_ns()
        work()
        best = max(best, COUNT * MAX_PAYLOAD * 1e3 / (time.thread_time_ns() - started))
        if best >= 1.1 * AIM:
            break
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

    rates = best_rate(encode), best_rate(decode)
    with capsys.disabled():
        print(f"\n  {kind}: encoded at {rates[0]:.0f} MB/s, decoded at {rates[1]:.0f} MB/s", end="")
    assert min(rates) >= LEAST
