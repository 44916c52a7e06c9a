"""The search from the first base setting to the winner."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from uhd.errors import ModelError
from uhd.espdl.reader import read_espdl
from uhd.quantize.job import ALGORITHMS
from uhd.search.beam import Budget, Sensitivity, rank, search_beam, sensitivities
from uhd.search.candidate import Base, Candidate, bases
from uhd.search.compose import int16_groups
from uhd.search.crew import Crew
from uhd.search.journal import Journal, Measured

#: Budget in predicted time where none is given: so many times the best int8 model's.
DEFAULT_RATIO = 1.3
#: Of the sets that the beam found, so many get the weight changes of the best base, too.
FINALISTS = 6

#: Called with what is being done, how much of it is done, how much there is, and the seconds that it will still take.
Tell = Callable[[str, int, int, float], None]


@dataclass(frozen=True)
class Plan:
    """What to search. ``candidates``: about how many to measure in all; bases and sensitivities come first.
    ``max_ms``: None for ``DEFAULT_RATIO`` times int8. ``trained``: the model carries a grid for this target."""

    tqt_steps: int
    trained: bool
    max_ms: float | None
    max_sram: int
    candidates: int
    algorithms: tuple[str, ...] = ALGORITHMS


@dataclass(frozen=True)
class Found:
    """``measured``: all candidates, in an order that depends on nothing but the input. ``int8``: the best base.
    ``int16_refused``: why no int16 operator was tried; empty if they were."""

    measured: tuple[Measured, ...]
    int8: Measured
    budget: Budget
    sensitivities: tuple[Sensitivity, ...]
    int16_refused: str = ""

    @property
    def winner(self) -> Measured | None:
        """The best within the budget, if there is one."""
        return best(self.measured, self.budget)

    @property
    def front(self) -> tuple[Measured, ...]:
        """Those than which none is both as fast and better, the fastest first."""
        front: list[Measured] = []
        for measured in sorted(self.measured, key=lambda m: (m.predicted_ms, *rank(m))):
            if not measured.refused and (not front or measured.map50 > front[-1].map50):
                front.append(measured)
        return tuple(front)


def best(measured: Sequence[Measured], budget: Budget) -> Measured | None:
    """The best within ``budget``."""
    return min((m for m in measured if budget.allows(m)), key=rank, default=None)


def search(plan: Plan, crew: Crew, journal: Journal, tell: Tell) -> Found:
    """Run the search, or what is left of it. Raises ``ModelError`` if no base setting gives a file that runs."""
    order: dict[str, Candidate] = {}

    def measure_all(what: str, candidates: Sequence[Candidate]) -> list[Measured]:
        order.update((candidate.key, candidate) for candidate in candidates)
        _measure_missing(what, list(dict.fromkeys(candidates)), crew, journal, tell)
        return [journal.known[candidate.key] for candidate in candidates]

    everything = [Candidate(base) for base in bases(plan.tqt_steps, plan.trained, plan.algorithms)]
    plain = [c for c in everything if c.base == c.base.plain]
    grids = [m for m in measure_all("base settings", plain) if not m.refused]
    _require_files([m.candidate.base for m in grids], crew)
    usable = {m.candidate.base for m in grids}
    measured = measure_all("base settings", [c for c in everything if c.base.plain in usable])
    ran = sorted((m for m in measured if not m.refused), key=rank)
    if not ran:
        raise ModelError(f"no setting gives an int8 file that runs: {journal.known[plain[0].key].refused}")
    int8 = ran[0]
    budget = Budget(plan.max_ms or DEFAULT_RATIO * int8.predicted_ms, plan.max_sram)
    # int16 is chosen on the weights as calibrated: to train them for every set would take most of the time.
    untrained = [m for m in ran if not m.candidate.base.tqt_steps]
    root = min(untrained, key=lambda m: (m.candidate.base.plain != int8.candidate.base.plain, *rank(m)))
    refused = crew.prepare_int16(root.candidate.base.equalize)
    found: list[Sensitivity] = []
    if not refused:
        names = int16_groups(read_espdl(crew.plain_file(root.candidate.base)))
        found = sensitivities(root, names, measure_all)
        search_beam(root, names, found, budget, max(0, plan.candidates - len(order) - FINALISTS), measure_all)
    if int8 is not root:
        mixed = [journal.known[key] for key, candidate in order.items() if candidate.int16]
        finalists = sorted((m for m in mixed if budget.allows(m)), key=rank)[:FINALISTS]
        measure_all("finalists", [Candidate(int8.candidate.base, m.candidate.int16) for m in finalists])
    return Found(tuple(journal.known[key] for key in order), int8, budget, tuple(found), refused)


def _measure_missing(what: str, candidates: Sequence[Candidate], crew: Crew, journal: Journal, tell: Tell) -> None:
    missing = [candidate for candidate in candidates if candidate.key not in journal.known]
    started, done = time.monotonic(), len(candidates) - len(missing)

    def heard(measured: Measured) -> None:
        nonlocal done
        journal.add(measured)
        done += 1
        now = done - (len(candidates) - len(missing))
        tell(what, done, len(candidates), (time.monotonic() - started) / now * (len(missing) - now))

    if missing:
        tell(what, done, len(candidates), 0.0)
        crew.measure(missing, heard)


def _require_files(found: Sequence[Base], crew: Crew) -> None:
    """Make the files again whose grids are built on, where an earlier run left none."""
    crew.measure([Candidate(base) for base in found if not crew.plain_file(base).exists()], lambda measured: None)
