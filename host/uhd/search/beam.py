"""Which operators to compute in int16: sensitivity of each, then a beam over sets of them under a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from uhd.search.candidate import Base, Candidate, in_order
from uhd.search.journal import Measured

#: Sets that go on to the next round, and operators that each of them tries to add.
WIDTH, BRANCH = 4, 4
#: Sizes of the sets that are tried first: that many operators with the most gain.
PREFIXES = (2, 3, 4, 6, 8, 12, 16, 24, 32)
#: Rounds without a better set after which the beam ends.
PATIENCE = 2
#: A set's time is estimated from its operators' own, which counts requantizations between neighbours that vanish.
SLACK = 1.1

MeasureAll = Callable[[str, Sequence[Candidate]], list[Measured]]


@dataclass(frozen=True)
class Budget:
    """Predicted milliseconds, and bytes of SRAM for activations."""

    max_ms: float
    max_sram: int

    def allows(self, measured: Measured) -> bool:
        """Whether it ran, and fits."""
        return not measured.refused and measured.predicted_ms <= self.max_ms and measured.sram_bytes <= self.max_sram


@dataclass(frozen=True)
class Sensitivity:
    """What one operator in int16 alone changes against the int8 model: less map error, more mAP, more time."""

    name: str
    map_error: float
    map50: float
    ms: float

    @property
    def gain(self) -> float:
        """Map error removed per predicted millisecond."""
        return self.map_error / max(self.ms, 1e-3)


def rank(measured: Measured) -> tuple[float, float, str]:
    """Sorts the best first: mAP@0.5, then time; the key decides between equals, so that the order is always one."""
    return (-measured.map50, measured.predicted_ms, measured.candidate.key)


def sensitivities(base: Measured, names: Sequence[str], measure_all: MeasureAll) -> list[Sensitivity]:
    """Of every operator that can be int16, the most gain first."""
    alone = measure_all("sensitivity", [Candidate(base.candidate.base, (name,)) for name in names])
    found = [
        Sensitivity(name, base.map_error - m.map_error, m.map50 - base.map50, m.predicted_ms - base.predicted_ms)
        for name, m in zip(names, alone, strict=True)
        if not m.refused
    ]
    return sorted(found, key=lambda s: (-s.gain, s.name))


def search_beam(
    base: Measured, names: Sequence[str], found: Sequence[Sensitivity], budget: Budget, limit: int,
    measure_all: MeasureAll,
) -> None:  # fmt: skip
    """Measure sets of int16 operators, ``limit`` at most, the best of each round enlarged in the next."""
    worth = [s for s in found if s.map_error > 0]
    times = {s.name: s.ms for s in found}

    def affordable(chosen: set[str]) -> bool:
        return base.predicted_ms + sum(times[name] for name in chosen) <= SLACK * budget.max_ms

    def tried(sets: Sequence[set[str]]) -> list[Measured]:
        return measure_all("beam", [_candidate(base.candidate.base, names, chosen) for chosen in sets])

    sets = [{s.name for s in worth[:size]} for size in PREFIXES if size <= len(worth)]
    sets = [chosen for chosen in sets if affordable(chosen)][:limit]
    seen = {frozenset(chosen) for chosen in sets}
    singles = measure_all("beam", [_candidate(base.candidate.base, names, {s.name}) for s in worth])
    known = [m for m in (*tried(sets), *singles) if budget.allows(m)]
    left, waited = limit - len(sets), 0
    while left > 0 and known and waited < PATIENCE:
        known.sort(key=rank)
        best = known[0].map50
        sets = _enlarged(known[:WIDTH], worth, seen, affordable)[:left]
        if not sets:
            break
        left -= len(sets)
        known += [m for m in tried(sets) if budget.allows(m)]
        waited = 0 if max(m.map50 for m in known) > best else waited + 1


def _enlarged(
    front: Sequence[Measured], worth: Sequence[Sensitivity], seen: set[frozenset[str]],
    affordable: Callable[[set[str]], bool],
) -> list[set[str]]:  # fmt: skip
    """Each set of the front with each of its ``BRANCH`` next operators; what is new, noted in ``seen``."""
    made = []
    for measured in front:
        have = set(measured.candidate.int16)
        more = [have | {s.name} for s in worth if s.name not in have]
        for chosen in [c for c in more if frozenset(c) not in seen and affordable(c)][:BRANCH]:
            seen.add(frozenset(chosen))
            made.append(chosen)
    return made


def _candidate(base: Base, names: Sequence[str], chosen: set[str]) -> Candidate:
    return Candidate(base, in_order(names, chosen))
