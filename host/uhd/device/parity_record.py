"""What a parity run keeps of one photo: enough to tell everything again without asking any engine."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uhd.device.frames import FrameChange

#: Differences beyond so many steps are counted at the ends of a histogram.
MOST_STEPS = 128
#: Parts of one in which engines tell score, class, cx, cy, w and h: the columns of ``rows_from_q16``.
_UNITS = np.array([65535, 1, 65535, 65535, 16384, 16384], np.float64)


@dataclass(frozen=True)
class Answer:
    """What an engine said: rows [n, 6] of a ``Detection``, hashes of its integers and of the network input it made of
    a frame ("" where there are none), and a device's timings.
    """

    rows: NDArray[np.float64]
    integers: str = ""
    network: str = ""
    timings: dict[str, float] = field(default_factory=dict)


@dataclass
class PhotoRecord:
    """One photo, or why it is missing (``lost``).

    ``size``: height and width in pixels; ``network``: hash of the network input by the image contract; ``unequal``:
    for each pair of integer engines that disagree, how many integers and by how many steps at most (-1: other
    tensors); ``steps``: for each output map a histogram of integer minus float in steps, from -``MOST_STEPS``;
    ``link``: what the transfers took, as counts.
    """

    size: tuple[int, int] = (0, 0)
    network: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    unequal: dict[str, tuple[int, int]] = field(default_factory=dict)
    steps: dict[str, list[int]] = field(default_factory=dict)
    change: FrameChange | None = None
    link: dict[str, int] = field(default_factory=dict)
    lost: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON. Nothing is rounded."""
        return {
            "size": list(self.size),
            "network": self.network,
            "answers": {
                name: {
                    "rows": pack_rows(answer.rows),
                    "integers": answer.integers,
                    "network": answer.network,
                    "timings": answer.timings,
                }
                for name, answer in self.answers.items()
            },
            "unequal": {name: list(found) for name, found in self.unequal.items()},
            "steps": self.steps,
            "change": asdict(self.change) if self.change else None,
            "link": self.link,
            "lost": self.lost,
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> PhotoRecord:
        """The record of ``as_dict``. Raises ``KeyError``, ``TypeError`` or ``ValueError`` for anything else."""
        return cls(
            size=(int(entry["size"][0]), int(entry["size"][1])),
            network=str(entry["network"]),
            answers={
                name: Answer(unpack_rows(a["rows"]), a["integers"], a["network"], a["timings"])
                for name, a in entry["answers"].items()
            },
            unequal={name: (int(found[0]), int(found[1])) for name, found in entry["unequal"].items()},
            steps={name: [int(count) for count in counts] for name, counts in entry["steps"].items()},
            change=FrameChange(**entry["change"]) if entry["change"] else None,
            link={name: int(count) for name, count in entry["link"].items()},
            lost=str(entry["lost"]),
        )


def pack_rows(rows: NDArray[np.float64]) -> dict[str, list[list[float]]]:
    """Rows for JSON: as the integers of the link where they are such, else as they are. Exact either way."""
    whole = np.rint(rows * _UNITS)
    if np.array_equal(whole / _UNITS, rows):
        return {"whole": whole.astype(np.int64).tolist()}
    return {"real": rows.tolist()}


def unpack_rows(entry: Mapping[str, Any]) -> NDArray[np.float64]:
    """The rows of ``pack_rows``, [n, 6]. Raises ``ValueError`` if they are none."""
    rows = np.array(entry["whole"] if "whole" in entry else entry["real"], np.float64)
    if not rows.size:
        return np.zeros((0, 6))
    if rows.ndim != 2 or rows.shape[1] != 6:
        raise ValueError(f"rows of shape {rows.shape}")
    return rows / _UNITS if "whole" in entry else rows


def digest(outputs: Mapping[str, NDArray[Any]]) -> str:
    """A hash over named integer tensors that does not depend on their container type."""
    state = hashlib.sha256()
    for name in sorted(outputs):
        values = np.ascontiguousarray(np.asarray(outputs[name]).astype("<i4").reshape(-1))
        state.update(f"{name}:{values.size};".encode() + values.tobytes())
    return state.hexdigest()


def unequal_integers(first: Mapping[str, NDArray[Any]], second: Mapping[str, NDArray[Any]]) -> tuple[int, int]:
    """How many integers differ and by how much at most; -1 as the latter where the tensors are not the same ones."""
    if first.keys() != second.keys() or any(np.size(first[name]) != np.size(second[name]) for name in first):
        return max(sum(np.size(v) for v in first.values()), sum(np.size(v) for v in second.values()), 1), -1
    count = most = 0
    for name in first:
        difference = np.abs(first[name].astype(np.int64).reshape(-1) - second[name].astype(np.int64).reshape(-1))
        count += int(np.count_nonzero(difference))
        most = max(most, int(difference.max(initial=0)))
    return count, most


def step_histograms(
    real: Mapping[str, NDArray[Any]], integers: Mapping[str, NDArray[Any]], exponents: Mapping[str, int]
) -> dict[str, list[int]]:
    """For each map in all three: counts of integer minus float in steps of the integer, from -``MOST_STEPS``.

    ``real``: float maps [1, C, H, W]; ``integers``: [1, H, W, C], worth ``2 ** exponents[name]`` each. A float beyond
    the integer's range counts as its end, so that saturation is a difference only where the engine is wrong.
    """
    found = {}
    for name in sorted(real.keys() & integers.keys() & exponents.keys()):
        values = np.asarray(integers[name])
        exact = np.asarray(real[name], np.float64).transpose(0, 2, 3, 1) * 2.0 ** -exponents[name]
        limits = np.iinfo(values.dtype)
        steps = np.rint(values - np.clip(exact, limits.min, limits.max)).astype(np.int64)
        bins = np.clip(steps, -MOST_STEPS, MOST_STEPS) + MOST_STEPS
        found[name] = np.bincount(bins.reshape(-1), minlength=2 * MOST_STEPS + 1).tolist()
    return found
