"""The beam, the front, the budget and the cross-check, on made-up figures whose best is known."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uhd.search.beam import Budget, rank, search_beam, sensitivities
from uhd.search.candidate import Base, Candidate, bases
from uhd.search.inputs import Figures
from uhd.search.journal import Measured
from uhd.search.result import as_dict, cross_check, loss_of, table
from uhd.search.search import Found, best

BASE = Base("kl")
NAMES = tuple(f"/conv{i}" for i in range(6))


class Additive:
    """Candidates in which every int16 operator adds its own gain and its own time."""

    def __init__(self, gains: Sequence[float], times: Sequence[float]) -> None:
        self.gains, self.times = dict(zip(NAMES, gains, strict=True)), dict(zip(NAMES, times, strict=True))
        self.asked: dict[Candidate, Measured] = {}

    def one(self, candidate: Candidate) -> Measured:
        gain = sum(self.gains[name] for name in candidate.int16)
        time = 10.0 + sum(self.times[name] for name in candidate.int16)
        return Measured(candidate, "s", 1, 0.3 + gain, 0.1, (), (0.3, 0.3), 1.0 - gain, time, 100)

    def __call__(self, what: str, candidates: Sequence[Candidate]) -> list[Measured]:
        self.asked.update((c, self.one(c)) for c in candidates)
        return [self.asked[c] for c in candidates]


gain_lists = st.lists(st.floats(-0.01, 0.05), min_size=6, max_size=6)
time_lists = st.lists(st.floats(0.1, 3.0), min_size=6, max_size=6)


def run(gains: Sequence[float], times: Sequence[float], budget: Budget, limit: int) -> Additive:
    asked = Additive(gains, times)
    base = asked.one(Candidate(BASE))
    found = sensitivities(base, NAMES, asked)
    assert [s.gain for s in found] == sorted((s.gain for s in found), reverse=True)
    search_beam(base, NAMES, found, budget, limit, asked)
    return asked


@given(gain_lists, time_lists, st.floats(10.0, 20.0))
@settings(deadline=None, max_examples=30)
def test_the_beam_comes_near_the_best_set(gains: list[float], times: list[float], most: float) -> None:
    """Never worse than the best of one or none, and never beyond what trying every set could give."""
    budget = Budget(most, 1000)
    asked = run(gains, times, budget, 40)
    everything = Additive(gains, times)
    sets = [c for size in range(7) for c in itertools.combinations(NAMES, size)]
    top = best(everything("", [Candidate(BASE, c) for c in sets]), budget)
    reached = best([*asked.asked.values(), asked.one(Candidate(BASE))], budget)
    assert top is not None and reached is not None
    single = best(everything("", [Candidate(BASE, c) for c in sets if len(c) < 2]), budget)
    assert single is not None and single.map50 <= reached.map50 <= top.map50 + 1e-12
    again = run(gains, times, budget, 40)
    assert list(again.asked) == list(asked.asked), "the same figures give the same candidates in the same order"


def test_without_a_tight_budget_every_gain_is_taken() -> None:
    asked = run([0.01, 0.02, -0.01, 0.03, 0.005, 0.001], [1.0] * 6, Budget(100.0, 1000), 60)
    winner = best(list(asked.asked.values()), Budget(100.0, 1000))
    assert winner is not None and set(winner.candidate.int16) == set(NAMES) - {"/conv2"}


@given(gain_lists, time_lists, st.integers(0, 12))
@settings(deadline=None, max_examples=30)
def test_the_limit_holds(gains: list[float], times: list[float], limit: int) -> None:
    asked = run(gains, times, Budget(100.0, 1000), limit)
    assert sum(len(c.int16) > 1 for c in asked.asked) <= limit
    assert all(c.int16 == tuple(sorted(c.int16)) for c in asked.asked), "in the order of the graph"


figure = st.integers(0, 20).map(lambda v: v / 20)


def measured(place: int, map50: float, ms: float, halves: tuple[float, float] = (0.0, 0.0)) -> Measured:
    base = Base("kl") if place == 0 else Base("minmax", bias_correction=True)
    int16 = tuple(f"/c{i}" for i in range(place)) if place > 1 else ()
    return Measured(Candidate(base, int16), "s", 5, map50, map50 / 2, (map50, map50 + 0.01), halves, 0.1, ms, 7)


@given(st.lists(st.tuples(figure, figure), min_size=1, max_size=12))
@settings(deadline=None)
def test_the_front_is_what_nothing_beats(points: list[tuple[float, float]]) -> None:
    every = tuple(measured(i, map50, ms) for i, (map50, ms) in enumerate(points))
    front = Found(every, every[0], Budget(1.0, 100), ()).front

    def beaten(m: Measured) -> bool:
        return any(
            o.map50 >= m.map50 and o.predicted_ms <= m.predicted_ms
            and (o.map50, -o.predicted_ms) != (m.map50, -m.predicted_ms) for o in every
        )  # fmt: skip

    wanted = {(m.map50, m.predicted_ms) for m in every if not beaten(m)}
    assert {(m.map50, m.predicted_ms) for m in front} == wanted and len(front) == len(wanted)


def test_equal_map_goes_to_the_faster_then_to_the_key() -> None:
    slow, fast = measured(0, 0.5, 2.0), measured(1, 0.5, 1.0)
    assert best([slow, fast], Budget(9.0, 100)) is fast
    assert best([slow, fast], Budget(9.0, 6)) is None, "too much memory"
    assert best([measured(0, 0.9, 10.0), fast], Budget(9.0, 100)) is fast
    twin = measured(3, 0.5, 1.0)
    assert best([twin, fast], Budget(9.0, 100)) is best([fast, twin], Budget(9.0, 100))
    refused = Measured(fast.candidate, refused="no")
    assert best([refused], Budget(9.0, 100)) is None and rank(fast) < rank(slow)


def test_the_cross_check_measures_where_it_did_not_choose() -> None:
    floating = Figures(0.40, 0.2, (0.40, 0.42), (0.38, 0.42))
    first = measured(0, 0.39, 1.0, (0.39, 0.36))  # best on the even photos
    second = measured(1, 0.38, 1.0, (0.35, 0.41))  # best on the odd ones
    found = Found((first, second), first, Budget(9.0, 100), ())
    check = cross_check(floating, found)
    assert check is not None
    assert check.titles == (first.candidate.title, second.candidate.title)
    assert check.losses == pytest.approx((0.42 - 0.36, 0.38 - 0.35)) and check.loss == pytest.approx(0.045)
    loss, error = loss_of(floating, first)
    assert loss == pytest.approx(0.01)
    assert error == pytest.approx((0.5 * 2 * 0.005**2) ** 0.5), "losses left out: 0.01 and 0.02"
    content = as_dict(floating, found, ["quantize"], 20)
    assert content["winner"]["title"] == first.candidate.title and "seconds" not in content["winner"]
    kinds = [row[0] for row in table(floating, found)]
    assert kinds == ["float", "best int8", "best in budget", "front"]
    assert cross_check(floating, Found((first,), first, Budget(0.5, 100), ())) is None


def test_all_base_settings_are_there() -> None:
    found = bases(100, trained=True)
    assert len(found) == len(set(found)) == (4 * 2 + 1) * 4
    assert len(bases(0, trained=False)) == 4 * 2 * 2
    plain = [base for base in found if base == base.plain]
    assert found[: len(plain)] == plain, "what others build on comes first"
    assert {base.plain for base in found} == set(plain)
