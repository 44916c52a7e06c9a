"""Frames that have lost bytes, and which of them a decoder must still deliver."""

from __future__ import annotations

from collections.abc import Sequence

from uhd.device.lossy import Line, Loss


def lossy_frames(frames: Sequence[bytes], rate: float, seed: int) -> tuple[list[bytes], list[int]]:
    """What is left of each frame at this rate of dropped bytes, and the numbers of those that are whole.

    They are if no byte between their zeros is lost, and on each side one of two zeros (theirs, their neighbour's) is
    there.
    """
    line, kept, bodies, heads, tails = Line(Loss(drop_rate=rate), seed), [], [], [], []
    for frame in frames:
        head, body, tail = (line.carry(part) for part in (frame[:1], frame[1:-1], frame[-1:]))
        kept.append(head + body + tail)
        bodies.append(body == frame[1:-1])
        heads.append(bool(head))
        tails.append(bool(tail))
    before, after = [True, *tails[:-1]], [*heads[1:], False]
    return kept, [i for i, body in enumerate(bodies) if body and (heads[i] or before[i]) and (tails[i] or after[i])]
